"""The voices of the drain benchmark: real packets through real namespaces, and records that show what was not heard."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from bench._testbed import free_lab
from bench.drain.voices import Voices
from router.demo.namespaces import Lab, why_not

pytestmark = pytest.mark.skipif(why_not() is not None, reason=str(why_not()))
FLOWS = 12
BUSY_S = 30.0


@pytest.fixture
def voices() -> Iterator[Voices]:
    lab = Lab(free_lab())
    lab.build(2)
    try:
        made = Voices(lab, [0, 1], FLOWS, [0] * FLOWS, 60)
        try:
            for flow in range(FLOWS):
                made.carry(0, flow, flow)
                made.start(flow, 0)
            until(made, lambda: bool((made.tables["heard_agent"] == range(FLOWS)).all()))
            yield made
        finally:
            made.close()
    finally:
        lab.remove()


def until(voices: Voices, condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + BUSY_S
    while not condition():
        assert time.monotonic() < deadline, voices.accounts
        time.sleep(0.01)


def sent_since(voices: Voices, count: int) -> Callable[[], bool]:
    """A condition: so many more packets have gone each way."""
    up, down = voices.tables["up_next"].copy(), voices.tables["down_next"].copy()
    return lambda: bool(
        (voices.tables["up_next"] >= up + count).all() and (voices.tables["down_next"] >= down + count).all()
    )


def test_a_move_that_makes_before_it_breaks_is_not_heard(voices: Voices) -> None:
    began_us = voices.now_us()
    for flow in range(FLOWS):
        voices.carry(1, flow, flow)
        voices.tables["user_edge"][flow] = 1
    until(voices, lambda: bool((voices.tables["heard_edge"] == 1).all()))
    for flow in range(FLOWS):
        voices.carry(0, flow, -1)
    until(voices, sent_since(voices, 10))
    until_us = voices.now_us() - 50_000
    until(voices, sent_since(voices, 5))  # what was sent just before has arrived
    assert voices.gaps_ms("up", began_us, until_us).max() == 0
    assert voices.gaps_ms("down", began_us, until_us).max() == 0
    assert not voices.tables["changes"].any()


def test_an_edge_that_stops_carrying_one_flow_is_a_gap_of_that_flow_alone(voices: Voices) -> None:
    began_us = voices.now_us()
    voices.carry(0, 3, -1)
    until(voices, sent_since(voices, 20))
    voices.carry(0, 3, 3)
    until(voices, sent_since(voices, 10))
    gaps = voices.gaps_ms("up", began_us, voices.now_us() - 50_000)
    assert gaps[3] >= 19 * 20
    assert gaps[[flow for flow in range(FLOWS) if flow != 3]].max() == 0
    assert voices.gaps_ms("down", began_us, voices.now_us() - 50_000)[3] >= 19 * 20


def test_another_agent_is_noticed(voices: Voices) -> None:
    voices.carry(0, 5, 6)
    until(voices, lambda: voices.tables["heard_agent"][5] == 6)
    assert voices.tables["changes"][5] >= 1
