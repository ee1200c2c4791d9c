"""Reaction delay in a measured series: how soon a rule leaves a direct path that has lastingly become slower.

A step is a pair and a slice where the median direct delay of the next ``SPAN`` slices is at least ``STEP_MS`` (one way;
40 ms of round trip) above the median of the ``SPAN`` before, and where one and the same relay would over those next
slices have been at least half of that faster (median). Steps come from the series alone and are the same for every
rule. The reaction is the number of slices from the step to the first one in which the pair is relayed and at least a
quarter of the rise below the new direct level; 0 is a pair that had left before. A step not answered within ``HORIZON``
slices counts as missed. The first slice of a step can only be answered by who had already moved: a causal rule that
reacts to the first slow sample reacts after 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bench.decisions._paths import F64
from router.core.tables import I64, Bool

STEP_MS = 20.0
SPAN = 10
HORIZON = 30
MAX_STEPS = 4_000
MAX_CELLS = 20_000_000  # windows examined; beyond it every k-th source is looked at


@dataclass(frozen=True, eq=False)
class Reaction:
    """The steps of a series; all arrays ``[step]``, by slice."""

    at: I64
    source: I64
    target: I64
    below_ms: F64  # a relayed path this fast has answered the step

    def watch(self) -> Watch:
        """A fresh observer of one rule."""
        return Watch(self)


class Watch:
    """Notes for each step when a rule answered it."""

    def __init__(self, steps: Reaction) -> None:
        self._steps = steps
        self._after = np.full(len(steps.at), -1, np.int64)

    def add(self, t: int, path_ms: F64, moved: Bool) -> None:
        """Look at slice ``t``: delays of the paths in force, float64 ``[from, to]``, and which are relayed."""
        steps = self._steps
        first, last = np.searchsorted(steps.at, (t - HORIZON, t), side="right")
        open_ = np.arange(first, last)
        open_ = open_[self._after[open_] < 0]
        source, target = steps.source[open_], steps.target[open_]
        answered = moved[source, target] & (path_ms[source, target] <= steps.below_ms[open_])
        self._after[open_[answered]] = t - steps.at[open_[answered]]

    def result(self, first: int, last: int, slice_s: float | None) -> dict[str, float | int | None]:
        """Median and 95th percentile in slices (None: missed) and share answered, of steps in that range."""
        within = (self._steps.at >= first) & (self._steps.at < last)
        after = self._after[within].astype(np.float64)
        after[after < 0] = np.inf
        p50, p95 = (_quantile(after, q) for q in (0.5, 0.95))
        return {
            "steps": len(after),
            "share_answered": float(np.isfinite(after).mean()) if len(after) else None,
            "reaction_p50_slices": p50,
            "reaction_p95_slices": p95,
            "reaction_p50_s": None if p50 is None or slice_s is None else p50 * slice_s,
        }


def _quantile(values: F64, q: float) -> float | None:
    if not len(values):
        return None
    value = float(np.quantile(values, q, method="higher"))
    return value if np.isfinite(value) else None


def find_steps(one_way_ms: F64) -> Reaction:
    """All steps of a series, float64 ``[slice, from, to]``; at most ``MAX_STEPS``, evenly thinned."""
    slices, n = one_way_ms.shape[:2]
    span = min(SPAN, slices // 3)
    found: list[tuple[int, int, int, float]] = []
    if span >= 2:
        stride = max(1, -(-slices * n * n * span // (MAX_CELLS * SPAN)))
        for source in range(0, n, stride):
            found += _steps_from(one_way_ms, source, span)
    found.sort()
    if len(found) > MAX_STEPS:
        found = [found[i] for i in np.linspace(0, len(found) - 1, MAX_STEPS).astype(int)]
    columns = list(zip(*found, strict=True)) if found else [(), (), (), ()]
    at, src, dst = (np.array(column, np.int64) for column in columns[:3])
    return Reaction(at, src, dst, np.array(columns[3], np.float64))


def _steps_from(one_way_ms: F64, source: int, span: int) -> list[tuple[int, int, int, float]]:
    direct = np.where(np.isnan(one_way_ms[:, source]), -1.0, one_way_ms[:, source])
    windows = np.lib.stride_tricks.sliding_window_view(direct, span, axis=0)
    median = np.median(windows, axis=-1)  # [slice, to]: of the span that begins there; missing cells pull down
    median[(windows < 0).sum(axis=-1) > span // 3] = np.nan
    rise = median[span:] - median[:-span]
    found = []
    for target in np.flatnonzero((rise >= STEP_MS).any(axis=0)):
        last = -span
        for start in np.flatnonzero(rise[:, target] >= STEP_MS):
            t = int(start) + span
            if t - last < span:
                continue
            level, up = float(median[t, target]), float(rise[start, target])
            through = one_way_ms[t : t + span, source, :] + one_way_ms[t : t + span, :, target]
            through = through[:, ~np.isnan(through).any(axis=0)]
            if through.shape[1] and np.median(through, axis=0).min() <= level - up / 2:
                found.append((t, source, int(target), level - up / 4))
                last = t
    return found
