"""The question of regret: a change has to last until staying has cost as much as a move, whatever the probe rate."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from switching_story import Story, costs, seen
from worlds import snapshot

from router.core.solve.switching import REGRET, REGRET_MOST_US
from router.core.tables import DIRECT, HeldBack

LATELY = seen(*[(100_000, 80_000)] * 20)


def away_after_s(step_s: float, gain_us: int, extra_us: int = 0) -> float:
    """How long a lasting gain takes to move the pair 0 -> 2, judged every ``step_s``."""
    story = Story()
    story.step(0, 100_000, 120_000)
    relayed = 100_000 - gain_us
    for k in range(1, 400):
        shot = replace(snapshot(costs(100_000, relayed)), evidence=seen(*[(100_000 - extra_us, relayed)] * 20))
        if extra_us:
            extra = np.zeros((1, 3, 3), np.int64)
            extra[0, 0, 2] = extra_us
            shot = replace(shot, extra_us=extra)
        story.take(shot, k * step_s)
        if story.relay != DIRECT:
            return k * step_s
        assert story.reason is HeldBack.REGRET
    raise AssertionError("it never moved")


@pytest.mark.parametrize("step_s", [0.05, 0.1, 0.2])
def test_the_wait_is_a_time_and_not_a_number_of_looks(step_s: float) -> None:
    assert away_after_s(step_s, 20_000) == pytest.approx(REGRET / 20_000 / 1e6, abs=step_s)


def test_the_smaller_the_gain_the_longer_it_has_to_last_and_no_gain_is_too_large_to_wait() -> None:
    assert away_after_s(0.1, 5_000) > 2 * away_after_s(0.1, 20_000)
    assert away_after_s(0.05, 60_000) == pytest.approx(REGRET / REGRET_MOST_US / 1e6, abs=0.05)


def test_a_proven_loss_counts_in_full() -> None:
    assert away_after_s(0.05, 60_000, extra_us=60_000) < away_after_s(0.05, 60_000) / 2


def test_bursts_never_add_up() -> None:
    story = Story()
    story.step(0, 100_000, 120_000)
    for k in range(1, 100):
        burst = k % 20 < 10  # half a second of every second
        story.step(k * 0.05, 100_000, 20_000 if burst else 120_000, LATELY)
        assert story.relay == DIRECT
    assert story.table is not None and story.table.regret is not None and story.table.regret[0, 0, 2] < REGRET


def test_what_is_missing_is_told_with_both_numbers() -> None:
    story = Story()
    story.step(0, 100_000, 120_000)
    story.step(0.25, 100_000, 80_000, LATELY)
    assert story.reason is HeldBack.REGRET
    assert story.why() == "better by 20.00 ms; staying has cost 5.0 ms for a second, a move costs 16.0"
