"""Array kernel: all ordered pairs, at most two relays, the relays recovered for every pair; numpy form.

Min-plus products over integer costs: ``best[1] = min(direct, W * W)``, ``best[2] = min(best[1], best[1] * W)``. Each
product takes the smallest relay index among equals, and only when strictly cheaper than what is there, so the total
order is (cost including the per-relay cost, fewer relays, smallest relay index per product). A faster kernel must give
equal arrays; this one is also its oracle.
"""

from __future__ import annotations

import numpy as np

from router.core.tables import DIRECT, I16, I64, NO_COST, Bool

# A missing hop plus negative raw differences lands a little under NO_COST; no real path comes anywhere near half of it.
UNREACHABLE = NO_COST // 2


def solve_context(cost: I64, may_relay: Bool, max_relays: int, relay_cost_us: int) -> tuple[I64, I16]:
    """Best paths of one context.

    ``cost`` int64 ``[from, to]`` in microseconds, ``NO_COST`` where there is no link (diagonal included);
    ``may_relay`` bool ``[vertex]``. Returns total cost int64 ``[from, to]`` (``NO_COST`` where unreachable) and relays
    int16 ``[from, to, 2]``, ``DIRECT`` beyond the last relay.
    """
    n = cost.shape[0]
    total = cost.copy()
    relays = np.full((n, n, 2), DIRECT, np.int16)
    allowed = np.flatnonzero(may_relay)
    if max_relays >= 1:
        total, relays[:, :, 0] = _one_more(total, cost, allowed, relay_cost_us, relays[:, :, 0])
    if max_relays >= 2:
        first = relays[:, :, 0].copy()
        total, second = _one_more(total, cost, allowed, relay_cost_us, first)
        via = second >= 0
        source, target = np.nonzero(via)
        relay = second[source, target]
        inner = first[source, relay]
        relays[source, target, 0] = np.where(inner >= 0, inner, relay)
        relays[source, target, 1] = np.where(inner >= 0, relay, DIRECT)
    np.fill_diagonal(total, NO_COST)
    relays[np.arange(n), np.arange(n)] = DIRECT
    missing = total >= UNREACHABLE
    total[missing] = NO_COST
    relays[missing] = DIRECT
    return total, relays


def _one_more(head: I64, cost: I64, allowed: np.ndarray, relay_cost_us: int, inner: I16) -> tuple[I64, I16]:
    """Extend every best path by one hop over each relay; a relay that already is on the path's far end is skipped."""
    best = head.copy()
    relay = np.full(head.shape, DIRECT, np.int16)
    rows = np.arange(head.shape[0])
    for k in allowed:
        through = head[:, k, None] + (cost[None, k, :] + relay_cost_us)
        through[k, :] = NO_COST
        through[:, k] = NO_COST
        looped = inner[:, k] >= 0
        through[rows[looped], inner[looped, k]] = NO_COST
        better = through < best
        np.copyto(best, through, where=better)
        relay[better] = k
    return best, relay


def path_cost(cost: I64, relays: I16, relay_cost_us: int) -> I64:
    """Cost int64 ``[from, to]`` of paths given by ``relays`` under ``cost``; ``NO_COST`` if a hop is missing."""
    n = cost.shape[0]
    source, target = np.meshgrid(np.arange(n), np.arange(n), indexing="ij")
    first, second = relays[:, :, 0], relays[:, :, 1]
    after = np.where(first >= 0, first, target)
    total = cost[source, after]
    step = np.where(second >= 0, second, target)
    total = total + np.where(first >= 0, cost[after, step] + relay_cost_us, 0)
    total = total + np.where(second >= 0, cost[np.maximum(second, 0), target] + relay_cost_us, 0)
    return np.where(total >= UNREACHABLE, NO_COST, total)
