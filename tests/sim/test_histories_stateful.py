"""The same operations chosen by hypothesis, which shrinks what breaks a rule to the fewest that still do."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from bench.histories.acts import OPERATIONS, finish
from bench.histories.history import History
from bench.histories.planted import planted

SETTINGS = settings(
    max_examples=30, stateful_step_count=50, deadline=None, derandomize=True, database=None,
    suppress_health_check=list(HealthCheck), phases=(Phase.generate, Phase.shrink),
)  # fmt: skip


class Histories(RuleBasedStateMachine):
    """One history; every step is an operation with a seed of its own, so that both can shrink."""

    def __init__(self) -> None:
        super().__init__()
        self.history = History(0)

    @rule(operation=st.sampled_from(OPERATIONS), seed=st.integers(0, 255))
    def something_happens(self, operation: object, seed: int) -> None:
        self.history.random = Random(seed)
        self.history.play(operation)  # type: ignore[arg-type]

    @invariant()
    def no_rule_is_broken(self) -> None:
        assert self.history.rules.broken == []

    def teardown(self) -> None:
        """Calm comes back, and nothing may be stuck."""
        if not self.history.rules.broken:
            finish(self.history)
            assert self.history.rules.broken == []


def test_no_operations_that_hypothesis_finds_break_a_rule() -> None:
    run_state_machine_as_test(Histories, settings=SETTINGS)


def test_a_planted_bug_is_found_and_shrunk_to_a_few_operations(capsys: pytest.CaptureFixture[str]) -> None:
    with planted("a_leak_of_agents"), pytest.raises(AssertionError) as caught:
        run_state_machine_as_test(Histories, settings=SETTINGS)
    told = capsys.readouterr().out + "\n".join(getattr(caught.value, "__notes__", ()))
    assert 0 < told.count("something_happens(") <= 4
