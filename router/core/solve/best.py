"""The exact best path of every ordered pair and context under a snapshot's costs."""

from __future__ import annotations

import numpy as np

from router.core.kernel import NegativeCycle, path_cost, solve_context
from router.core.solve.backups import find_spares, no_spares
from router.core.tables import I16, I64, Bool, Candidate, GraphSnapshot


def solve(snapshot: GraphSnapshot) -> Candidate:
    """Solve all contexts; contexts with equal inputs (policies that change nothing) are solved once."""
    parts: list[tuple[I64, I16, I16]] = []
    done: dict[bytes, int] = {}
    for c in range(len(snapshot.contexts)):
        limits = np.array([snapshot.max_relays[c], snapshot.relay_cost_us[c]], np.int64)
        key = snapshot.cost[c].tobytes() + snapshot.may_relay[c].tobytes() + limits.tobytes()
        if key in done:
            parts.append(parts[done[key]])
            continue
        done[key] = c
        most, relay_us = int(snapshot.max_relays[c]), int(snapshot.relay_cost_us[c])
        parts.append(_context(snapshot.cost[c], snapshot.may_relay[c], most, relay_us, snapshot.provider))
    costs, relays, spares = (np.stack(arrays) for arrays in zip(*parts, strict=True))
    return Candidate(snapshot.generation, snapshot.at, costs, relays, spares)


def _context(
    cost: I64, may_relay: Bool, max_relays: int, relay_cost_us: int, provider: I16 | None
) -> tuple[I64, I16, I16]:
    """One context. For the second or two in which a clock's step is half noticed its links contradict each other.

    A round trip over several data centers then seems to take less than no time, and "the cheapest path" has no meaning.
    Links below zero count as zero until the clock is known again: choices may be wrong, what they cost is told truly.
    """
    known = cost
    try:
        total, relays = solve_context(cost, may_relay, max_relays, relay_cost_us)
    except NegativeCycle:
        known = np.maximum(cost, 0)
        _, relays = solve_context(known, may_relay, max_relays, relay_cost_us)
        total = path_cost(cost, relays, relay_cost_us)
    if provider is None:
        return total, relays, no_spares(len(cost))
    return total, relays, find_spares(known, may_relay, max_relays, relay_cost_us, provider)
