"""Goal R4, a fixed part of it: what ``python -m bench histories`` plays 100,000 times is played some hundred times."""

from __future__ import annotations

import pytest

from bench.histories.coverage import missing
from bench.histories.planted import PLANTED, caught
from bench.histories.run import PLANTED_HISTORIES, some

HISTORIES, OPERATIONS = 400, 50
RARE = 6  # transitions that need more histories; the benchmark wants all of them


def test_random_histories_break_no_rule_and_take_nearly_every_transition() -> None:
    played = some(1, HISTORIES, OPERATIONS)
    assert played.broken == []
    assert played.operations == HISTORIES * OPERATIONS
    assert played.checks > 4 * played.operations
    assert len(missing(played.taken)) <= RARE


@pytest.mark.parametrize("bug", PLANTED)
def test_a_planted_bug_is_noticed(bug: str) -> None:
    assert caught(bug, PLANTED_HISTORIES, OPERATIONS) is not None


def test_the_same_seed_gives_the_same_history() -> None:
    assert some(5, 3, OPERATIONS) == some(5, 3, OPERATIONS)
