"""Three-node series for hand-computed cases: from a (0) to b (1), direct or over c (2)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bench.decisions.rules import Rule

FAR_MS = 5_000.0  # the links that a case does not speak of
GONE = float("nan")


def series(direct_ms: Sequence[float], relay_ms: Sequence[float] | None = None) -> np.ndarray:
    """One-way series float64 ``[slice, 3, 3]``: a -> b as given, a -> c and c -> b half of ``relay_ms`` each."""
    relay_ms = [FAR_MS] * len(direct_ms) if relay_ms is None else relay_ms
    one_way_ms = np.full((len(direct_ms), 3, 3), FAR_MS)
    one_way_ms[:, 0, 1] = direct_ms
    one_way_ms[:, 0, 2] = one_way_ms[:, 2, 1] = np.array(relay_ms) / 2
    one_way_ms[:, range(3), range(3)] = np.nan
    return one_way_ms


def relays_of(rule: Rule, one_way_ms: np.ndarray) -> str:
    """What the rule has in force for a -> b: ``d`` direct, ``r`` over c; one letter per slice, plus the slice after."""
    decided = (rule.decide(one_way_ms[:t]) for t in range(len(one_way_ms) + 1))
    return "".join("d" if paths[0, 1, 0] < 0 else "r" for paths in decided)
