"""Gates of a soft drain that read how sessions of its receivers fare."""

from __future__ import annotations

import pytest
from test_drain_states import Floor

from router.core.blame import Outcome
from router.core.messages import Observed, Tick
from router.core.model import DataCenterId, DrainId, DrainState


def outcomes(floor: Floor, dc: DataCenterId, **counts: int) -> None:
    floor.plane.handle(Observed((Outcome(dc, **counts),)), floor.now)  # type: ignore[arg-type]
    floor.plane.handle(Tick("blame"), floor.now)


@pytest.mark.parametrize(
    ("before", "after", "says"),
    [
        ({"good": 500}, {"good": 95, "bad": 5}, "of sessions go badly, 0.0% before; the gate closes at 0.2%"),
        (
            {"setup_ok": 100},
            {"setup_ok": 90, "setup_failed": 10},
            "of set-ups fail, 0.0% before; the gate closes at 1.0%",
        ),
        ({"good": 500}, {"good": 98, "bad": 2}, ""),
        ({"good": 90, "bad": 10}, {"good": 90, "bad": 10}, ""),
        ({}, {"setup_ok": 400, "setup_failed": 4}, ""),
    ],
)
def test_a_soft_drain_stops_when_sessions_of_a_receiver_surely_fare_worse_than_when_it_began(
    before: dict[str, int], after: dict[str, int], says: str
) -> None:
    floor = Floor()
    floor.live(a_1=40)
    (receiver, *_) = floor.open().receivers
    floor.step(DrainId("d-1"), "undo")
    outcomes(floor, receiver, **before)
    drain = floor.open()
    assert drain.state is DrainState.SHIFTING and receiver in drain.receivers
    floor.tick()
    assert floor.drain(drain.id).state is DrainState.SHIFTING
    outcomes(floor, receiver, **after)
    floor.tick()
    found = floor.drain(drain.id)
    assert (found.state is DrainState.PAUSED) == bool(says) and says in found.note
