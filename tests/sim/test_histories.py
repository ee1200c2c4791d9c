"""Goal R4, a fixed part of it: what ``python -m bench histories`` plays 100,000 times is played some hundred times."""

from __future__ import annotations

import pytest

from bench.histories.coverage import missing
from bench.histories.planted import PLANTED, caught
from bench.histories.run import PLANTED_HISTORIES, some

LEAST, MORE, MOST = 500, 250, 2_000  # histories: so many, and more while some transition was never taken
OPERATIONS = 50


def test_random_histories_break_no_rule_and_take_every_transition() -> None:
    played = some(1, LEAST, OPERATIONS)
    while missing(played.taken) and played.histories < MOST:
        played.add(some(1 + played.histories, MORE, OPERATIONS))
    assert played.broken == []
    assert played.operations == played.histories * OPERATIONS
    assert played.checks > 4 * played.operations
    assert missing(played.taken) == []


@pytest.mark.parametrize("seed", [1_021_434, 1_040_951])  # drains that cut agents and find no other edge
def test_histories_that_once_broke_a_rule_keep_it(seed: int) -> None:
    assert some(seed, 1, OPERATIONS).broken == []


@pytest.mark.parametrize("bug", PLANTED)
def test_a_planted_bug_is_noticed(bug: str) -> None:
    assert caught(bug, PLANTED_HISTORIES, OPERATIONS) is not None


def test_the_same_seed_gives_the_same_history() -> None:
    assert some(5, 3, OPERATIONS) == some(5, 3, OPERATIONS)
