"""Tuning on the first half of a series, judged on the second: each family's frontier of share worse against gain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.decisions.replay import scored
from bench.decisions.rules import FAMILIES
from bench.decisions.score import Judge, Metrics
from bench.decisions.workers import on_all_cores

CAPS = (0.01, 0.02, 0.04, 0.08, 0.12, 0.2, 0.3, 0.45, 1.0)  # shares worse for which a family is tuned
LIMIT = 0.08  # the one shown as "tuned" in the table, goal D3 on a noisy series


@dataclass(frozen=True, slots=True)
class Trial:
    """One family under one set of constants, scored on both halves."""

    family: str
    constants: Mapping[str, Any]
    first_half: Metrics
    second_half: Metrics
    all: Metrics

    @property
    def worse(self) -> float:
        """Share worse in the first half; a rule that never moved was never worse."""
        return self.first_half["share_worse"] or 0.0

    @property
    def gain_ms(self) -> float:
        """Mean gain in the first half."""
        return self.first_half["mean_gain_ms"] or 0.0


def trial(judge: Judge, family: str, constants: Mapping[str, Any], first: int = 0) -> Trial:
    """Replay once; halves are those of the whole series, judged from slice ``first`` on."""
    score = scored(judge, FAMILIES[family].rule(constants))
    slices = len(judge.one_way_ms)
    split = slices // 2
    halves = (score.result(min(first, split), split), score.result(max(first, split)), score.result(first))
    return Trial(family, dict(constants), *halves)


def trials(judge: Judge, jobs: Sequence[tuple[str, Mapping[str, Any], int]]) -> list[Trial]:
    """Run ``(family, constants, first slice)`` jobs on all cores, in order."""
    return on_all_cores(lambda *job: trial(judge, *job), jobs)


def frontier(tried: Sequence[Trial]) -> list[Trial]:
    """For each cap on the share worse the trial of most gain *in the first half*; each trial once."""
    chosen: list[Trial] = []
    for cap in CAPS:
        fit = [t for t in tried if t.worse <= cap and t.gain_ms > 0]
        if fit:
            best = max(fit, key=lambda t: t.gain_ms)
            chosen += [] if any(best is c for c in chosen) else [best]
    return chosen


def tuned(tried: Sequence[Trial], limit: float = LIMIT) -> Trial:
    """Most gain within the limit in the first half; with none inside, the one that was worse least often."""
    gaining = [t for t in tried if t.gain_ms > 0] or list(tried)
    within = [t for t in gaining if t.worse <= limit]
    return max(within, key=lambda t: t.gain_ms) if within else min(gaining, key=lambda t: (t.worse, -t.gain_ms))
