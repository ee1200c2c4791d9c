"""When a delay has a new level and when it is only a spike: what the history believes, and from when on it counts."""

from __future__ import annotations

import numpy as np
import pytest

from router.core.history import (
    LEAST_OF,
    STREAK_DOWN,
    STREAK_UP,
    History,
)
from router.core.tables import I64

FAST, SLOW = 10_000, 30_000


def at(*values: int) -> I64:
    return np.array(values, np.int64)


def bucket(history: History, *delays_us: int, link: tuple[int, int] = (0, 1)) -> None:
    """One bucket in which these delays come in, one after the other."""
    for delay in delays_us:
        history.put(at(0), at(link[0]), at(link[1]), at(delay))
    history.close()


def expected(history: History, link: tuple[int, int] = (0, 1)) -> int:
    return int(history.expected_us()[0][link])


def test_a_step_is_believed_after_the_streak_and_starts_the_average_anew() -> None:
    history = History(1, 2, least_of=1)
    for _ in range(10):
        bucket(history, FAST)
    for late in range(1, STREAK_UP):
        bucket(history, SLOW)
        assert history.steps == 0 and expected(history) < SLOW, late
    bucket(history, SLOW)
    assert history.steps == 1 and expected(history) == SLOW
    evidence = history.evidence()
    since, first = int(evidence.since[0, 0, 1]), evidence.bucket - len(evidence.ring)
    assert [int(b[0, 0, 1]) for b in evidence.ring[since - first :]] == [SLOW] * STREAK_UP
    assert evidence.since[0, 1, 0] == 0, "only the link that changed begins a new level"


@pytest.mark.parametrize("age", [3, 5, 8, 20, 100])
def test_a_level_of_any_age_can_end(age: int) -> None:
    history = History(1, 2, least_of=1)
    for delay in (*[FAST] * age, *[SLOW] * STREAK_UP):
        bucket(history, delay)
    assert history.steps == 1 and expected(history) == SLOW
    for _ in range(2):
        bucket(history, SLOW)
    for _ in range(STREAK_DOWN):
        bucket(history, FAST)
    assert history.steps == 2 and expected(history) == FAST, "an incident of a few buckets is over when it is over"


def test_a_step_down_is_found_sooner_because_queues_only_add() -> None:
    history = History(1, 2, least_of=1)
    for delay in (*[SLOW] * 10, *[FAST] * STREAK_DOWN):
        bucket(history, delay)
    assert STREAK_DOWN <= STREAK_UP and history.steps == 1 and expected(history) == FAST


def test_one_spike_is_no_step_and_is_soon_forgotten() -> None:
    history = History(1, 2, least_of=1)
    for delay in (*[FAST] * 20, SLOW, FAST):
        bucket(history, delay)
    assert history.steps == 0
    assert FAST <= expected(history) < FAST + 0.05 * (SLOW - FAST)
    bucket(history, SLOW)
    assert history.steps == 0, "spikes apart do not add up to a streak"


def test_spikes_up_and_down_in_turn_are_no_level() -> None:
    history = History(1, 2, least_of=1)
    for delay in (*[SLOW] * 20, SLOW + 20_000, SLOW - 20_000, SLOW + 20_000):
        bucket(history, delay)
    assert history.steps == 0


def test_a_restless_link_needs_a_larger_change_than_a_quiet_one() -> None:
    quiet, restless = History(1, 2, least_of=1), History(1, 2, least_of=1)
    for k in range(40):
        bucket(quiet, 100_000)
        bucket(restless, 90_000 if k % 2 else 110_000)
    for history in (quiet, restless):
        for _ in range(STREAK_UP):
            bucket(history, 130_000)
    assert (quiet.steps, restless.steps) == (1, 0)


def test_a_value_that_is_not_measured_again_is_repeated_but_never_makes_a_step() -> None:
    history = History(1, 2, least_of=1)
    for delay in (*[FAST] * 10, SLOW):
        bucket(history, delay)
    for _ in range(5):
        history.close()
    assert [int(b[0, 0, 1]) for b in history.evidence().ring[-6:]] == [SLOW] * 6
    assert history.steps == 0
    assert FAST < expected(history) < SLOW


@pytest.mark.parametrize("least_of", [1, LEAST_OF])
@pytest.mark.parametrize(("before", "after", "streak"), [(FAST, SLOW, STREAK_UP), (SLOW, FAST, STREAK_DOWN)])
def test_all_that_counts_after_a_step_is_of_the_new_level(least_of: int, before: int, after: int, streak: int) -> None:
    history = History(1, 2, least_of)
    for delay in (*[before] * 12, *[after] * streak):
        bucket(history, delay)
    assert history.steps == 1 and expected(history) == after
    for _ in range(3):
        evidence = history.evidence()
        first = int(evidence.since[0, 0, 1]) - (evidence.bucket - len(evidence.ring))
        values = [int(b[0, 0, 1]) for b in evidence.ring[first:]]
        assert values and set(values) == {after}
        bucket(history, after)
