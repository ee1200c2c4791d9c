"""The switching rule as tables of steps: every question it asks, what must move, and what is given up."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from switching_story import LOST, Story, costs, seen, two_ways
from worlds import SECOND, evidence, snapshot

from router.core.history import KEEP
from router.core.solve import Caution
from router.core.solve.switching import ACCEPTED, MARGIN_SHARE, MARGIN_US, margin_us
from router.core.tables import DIRECT, NO_COST, Evidence, HeldBack

GOOD, BAD = (100_000, 80_000), (100_000, 120_000)  # direct and relayed


# --- the questions, one by one ---------------------------------------------------------------------------------------


def test_the_first_table_takes_the_candidate() -> None:
    story = Story()
    assert story.step(0, 100_000, 60_000) == 1
    assert story.table is not None and story.table.cost[0, 0, 2] == 60_000 and story.reason is HeldBack.NOT
    assert story.changed == story.table.reachable.sum() == 6


@pytest.mark.parametrize(
    ("direct", "needed", "reason"),
    [
        (10_000, MARGIN_US, HeldBack.ABSOLUTE),
        (200_000, round(200_000 * MARGIN_SHARE), HeldBack.RELATIVE),
        (-5_000, MARGIN_US, HeldBack.ABSOLUTE),  # on clocks that are apart
    ],
)
def test_a_small_gain_never_moves(direct: int, needed: int, reason: HeldBack) -> None:
    story, gain = Story(), needed - 50
    story.step(0, direct, direct + 10_000)
    for t in range(1, 30):
        assert story.step(t, direct, direct - gain) == DIRECT
        assert story.reason is reason
    assert story.why() == f"better by {gain / 1000:.2f} ms; displacing the path in force needs {needed / 1000:.2f} ms"
    assert story.table is not None and story.table.challenger_since[0, 0, 2] == 0


def test_what_the_margins_ask_for_is_enough() -> None:
    story = Story()
    story.step(0, 100_000, 120_000)
    needed = int(margin_us(np.array([100_000]))[0])
    assert story.step(1, 100_000, 100_000 - needed + 1) == DIRECT
    assert story.step(2, 100_000, 100_000 - needed) == 1
    assert story.table is not None and story.table.since[0, 0, 2] == 2 * SECOND


def test_the_newest_bucket_must_agree_with_the_average() -> None:
    story = Story()
    story.step(0, 100_000, 120_000)
    assert story.step(1, 100_000, 90_000, seen(GOOD, GOOD, latest=(100_000, 101_000))) == DIRECT
    assert story.reason is HeldBack.WINDOWS
    assert story.why() == "better by 10.00 ms on average; the newest measurements do not agree"
    assert story.table is not None and story.table.challenger_since[0, 0, 2] == SECOND
    assert story.step(2, 100_000, 90_000, seen(GOOD, GOOD, latest=(100_000, 99_000))) == 1
    assert story.table.challenger_since[0, 0, 2] == 0


WEIGHT = KEEP * (1 - KEEP) / (1 - KEEP**20)  # of the last bucket but one, of twenty


SHARE = 20 / 250  # the gain of most tests as a share of half of there and back: the way back takes 400 ms


def doubtful() -> Evidence:
    """A history that makes the relayed path's risk ``WEIGHT``: one bad bucket of twenty."""
    return seen(*[GOOD] * 18, BAD, GOOD)


def test_a_risky_candidate_is_held_back_with_its_probability() -> None:
    story = Story()
    story.step(0, 100_000, 120_000)
    assert story.step(1, 100_000, 80_000, seen(*[GOOD] * 16, *[BAD] * 3, GOOD)) == DIRECT
    assert story.reason is HeldBack.RISK
    risk = WEIGHT * (1 + KEEP + KEEP**2)
    assert story.table is not None and story.table.risk_ppm[0, 0, 2] == pytest.approx(risk * 1e6, abs=1)
    assert story.table.risk_ppm[0, 2, 0] == -1, "nobody asked"
    chance, limit = f"{risk * 100:.1f} %", f"{ACCEPTED * SHARE**0.5 * 100:.1f} %"
    assert story.why() == (
        f"better by 20.00 ms; worse than direct with a probability of {chance}, at most {limit} is allowed "
        f"for that gain"
    )


@pytest.mark.parametrize(("risk", "moves"), [(WEIGHT - 0.001, False), (WEIGHT + 0.001, True)])
def test_how_much_risk_is_taken_is_a_matter_of_caution(risk: float, moves: bool) -> None:
    story = Story(Caution(accepted=risk / SHARE**0.5))
    story.step(0, 100_000, 120_000)
    assert (story.step(1, 100_000, 80_000, doubtful()) == 1) is moves


@pytest.mark.parametrize(("relayed_us", "moves"), [(90_000, False), (60_000, True)])
def test_the_same_risk_is_taken_for_more_gain_only(relayed_us: int, moves: bool) -> None:
    story = Story(Caution(accepted=WEIGHT / SHARE**0.5))
    story.step(0, 100_000, 120_000)
    assert (story.step(1, 100_000, relayed_us, doubtful()) == 1) is moves


def test_a_path_is_left_when_its_risk_is_no_more_worth_it() -> None:
    story = Story(Caution(accepted=(WEIGHT + 0.001) / SHARE**0.5))
    assert story.step(0, 100_000, 80_000) == 1
    assert story.step(1, 100_000, 80_000, doubtful()) == 1
    assert story.step(2, 100_000, 80_000, seen(*[GOOD] * 18, BAD, BAD, latest=GOOD)) == DIRECT
    assert story.reason is HeldBack.RISK and story.changed == 1
    assert story.step(120, 100_000, 80_000, seen(*[GOOD] * 20)) == 1


def test_a_relayed_path_is_given_up_at_once_when_direct_is_as_good() -> None:
    story = Story()
    assert story.step(0, 100_000, 80_000) == 1
    assert story.step(0.1, 80_001, 80_000) == 1, "one microsecond is a reason to stay"
    assert story.step(0.2, 80_000, 80_000) == DIRECT
    assert story.changed == 1 and story.table is not None and story.table.flaps[0, 0, 2] == 1


# --- what must move --------------------------------------------------------------------------------------------------


def test_a_lost_hop_is_left_at_once_and_silence_is_no_path() -> None:
    story = Story()
    assert story.step(0, 100_000, 60_000) == 1
    assert story.step(0.1, 100_000, 2 * LOST) == DIRECT
    assert story.table is not None and story.table.reachable[0, 0, 2] and story.table.cost[0, 0, 2] == 100_000
    assert story.table.flaps.sum() == 0, "nobody is restless who is driven out"
    story.take(snapshot(np.full((3, 3), LOST, np.int64)), 1)
    assert not story.table.reachable.any() and (story.table.cost == NO_COST).all() and story.changed == 6
    assert story.step(2, 100_000, 60_000) == 1 and story.changed == 6, "back as at the start, without waiting"


def test_who_lost_the_path_takes_a_candidate_that_stands_up_to_the_questions_else_the_direct_path() -> None:
    safe = [two_ways(100_000, LOST, 80_000)] * 3
    for ring, expected, reason in (
        (safe, 3, HeldBack.NOT),
        ([*safe[:2], two_ways(100_000, LOST, 120_000)], DIRECT, HeldBack.RISK),
    ):
        story = Story()
        story.take(snapshot(two_ways(100_000, 60_000, 80_000)), 0)
        assert story.relay == 1
        ring = [np.minimum(bucket, LOST) for bucket in ring]
        shot = snapshot(two_ways(100_000, LOST, 80_000))
        story.take(replace(shot, evidence=evidence(ring, latest=two_ways(100_000, LOST, 80_000))), 0.1)
        assert (story.relay, story.reason) == (expected, reason)


def test_without_a_direct_path_any_path_is_better_than_none() -> None:
    story = Story()
    story.take(snapshot(two_ways(LOST, 60_000, 80_000)), 0)
    doubtful = evidence([two_ways(LOST, LOST, 80_000)] * 3, latest=two_ways(LOST, LOST, LOST))
    story.take(replace(snapshot(two_ways(LOST, LOST, 80_000)), evidence=doubtful), 0.1)
    assert story.relay == 3 and story.reason is HeldBack.NOT
    assert story.table is not None and story.table.cost[0, 0, 2] == 80_000


def test_a_relay_that_may_not_relay_is_left_at_once() -> None:
    for forbidden in ({"may_relay": np.array([[True, False, True]])}, {"max_relays": np.array([0], np.int16)}):
        story = Story()
        assert story.step(0, 100_000, 60_000) == 1
        story.take(replace(snapshot(costs(100_000, 60_000)), **forbidden), 1)
        assert story.relay == DIRECT and story.reason is HeldBack.NOT
