"""Arrays of paths: the fastest ones under a matrix of delays, and the delay along given ones.

Paths are int16 ``[from, to, MAX_RELAYS]``, the relays in order, ``DIRECT`` beyond the last; delays are float64
``[from, to]`` in milliseconds, NaN where there is no link. The search itself is the product's own kernel, so baselines
and engine differ in their rules alone, never in how well they search.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from router.core.kernel import solve_context
from router.core.model import MAX_RELAYS
from router.core.tables import DIRECT, I16, I64, NO_COST, Bool

F64 = NDArray[np.float64]


def direct_paths(n: int) -> I16:
    """Every pair on its direct path."""
    return np.full((n, n, MAX_RELAYS), DIRECT, np.int16)


def is_relayed(paths: I16) -> Bool:
    """Bool ``[from, to]``: pairs that are not on their direct path."""
    relayed: Bool = paths[..., 0] != DIRECT
    return relayed


def fastest(delay_ms: F64, max_relays: int = 1) -> tuple[F64, I16]:
    """Best path of every pair and its delay, exact to 1 µs; equal delays go to fewer relays, then smaller index."""
    n = delay_ms.shape[0]
    missing = np.isnan(delay_ms)
    cost: I64 = np.where(missing, NO_COST, np.rint(np.where(missing, 0.0, delay_ms) * 1000)).astype(np.int64)
    np.fill_diagonal(cost, NO_COST)
    total, relays = solve_context(cost, np.ones(n, np.bool_), max_relays, 0)
    return np.where(total >= NO_COST, np.nan, total / 1000), relays


def delay_along(delay_ms: F64, paths: I16) -> F64:
    """Delay of each pair along its path, NaN if a hop is missing."""
    n = delay_ms.shape[0]
    here = np.broadcast_to(np.arange(n)[:, None], (n, n))
    target = np.broadcast_to(np.arange(n)[None, :], (n, n))
    if not is_relayed(paths).any():
        return delay_ms.copy()
    total = np.zeros((n, n))
    for slot in range(paths.shape[-1]):
        relay = paths[..., slot]
        hop = relay != DIRECT
        if not hop.any():
            break
        after = np.where(hop, relay, here)
        total += np.where(hop, delay_ms[here, after], 0.0)
        here = after
    total += delay_ms[here, target]
    return total


def choose(take: Bool, new: I16, old: I16) -> I16:
    """``new`` where ``take`` is set, ``old`` elsewhere."""
    chosen: I16 = np.where(take[..., None], new, old)
    return chosen


def last_known(before: F64, now: F64) -> F64:
    """``now``, and where it is missing the value known before."""
    return np.where(np.isnan(now), before, now)
