"""Potentials that make negative costs non-negative without changing any choice (Johnson, J. ACM 24(1), 1977).

A raw one-way difference is the delay plus the difference of two clocks, so it may be negative, but round any cycle the
clocks cancel and the sum is a real delay. With ``h`` from `johnson`, ``cost[u, v] + h[u] - h[v] >= 0``, and every path
from u to v shifts by the same ``h[u] - h[v]``.
"""

from __future__ import annotations

import numpy as np

from router.core.kernel.engine import ENGINE, Engine
from router.core.tables import DIRECT, I16, I64, NO_COST

# A missing hop plus negative raw differences lands a little under NO_COST; no real path comes anywhere near half of it.
UNREACHABLE = NO_COST // 2
# Of reduced costs: no link is as long (NO_COST / 2 plus the largest potential), and no path that counts as reachable.
REDUCED_LIMIT = int(NO_COST) * 2
ROUNDS_BETWEEN_CHECKS = 8


class NegativeCycle(ValueError):
    """Some cycle of links has a negative total, so that there is no cheapest path; such measurements cannot be true."""


def johnson(cost: I64, *, engine: Engine = ENGINE) -> I64:
    """Potentials int64 ``[vertex]`` in microseconds, all <= 0: cheapest path to each vertex from a virtual source.

    ``cost`` int64 ``[from, to]``, ``NO_COST`` where there is no link. Raises NegativeCycle, and ValueError if costs are
    so negative that potentials would leave ``-NO_COST``.
    """
    n = cost.shape[0]
    least = cost.min(initial=0)
    if least <= -NO_COST:
        raise ValueError(f"costs must lie above {-NO_COST} us, the least is {least} us")
    h = np.zeros(n, np.int64)
    before = np.full(n, -1, np.int64)
    for done in range(n + 1 if least < 0 else 0):
        if not engine.relax(cost, int(UNREACHABLE), h, before):
            break
        check_now = done == n or done % ROUNDS_BETWEEN_CHECKS == ROUNDS_BETWEEN_CHECKS - 1 or h.min() < -NO_COST
        if check_now and _has_cycle(before):
            raise NegativeCycle("a cycle of links has a negative total cost")
        if h.min() < -NO_COST:
            raise ValueError(f"costs add up to {h.min()} us along a path, below {-NO_COST} us")
    return h


def _has_cycle(before: I64) -> bool:
    """Do the predecessors of Bellman-Ford form a cycle? They do eventually if, and only if, there is a negative one."""
    n = len(before)
    jump = np.append(np.where(before < 0, n, before), n)
    for _ in range(n.bit_length()):
        jump = jump[jump]
    return bool((jump < n).any())


def reduce(cost: I64, potential: I64, threads: int = 1, *, engine: Engine = ENGINE) -> I64:
    """Costs plus the potential of their start, minus that of their end; ``2 * REDUCED_LIMIT`` if no link."""
    reduced = np.empty_like(cost)
    engine.shift(cost, int(UNREACHABLE), potential, REDUCED_LIMIT, threads, reduced)
    return reduced


def restore(
    total: I64, potential: I64, relays: I16, threads: int = 1, limit: int = REDUCED_LIMIT, *, engine: Engine = ENGINE
) -> I64:
    """The inverse for totals of paths; ``NO_COST`` where unreachable, and there ``relays`` become ``DIRECT``."""
    actual = np.empty_like(total)
    if engine.shift(total, limit, -potential, int(UNREACHABLE), threads, actual):
        relays[actual >= NO_COST] = DIRECT
    return actual
