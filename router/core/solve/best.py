"""The exact best path of every ordered pair and context under a snapshot's costs."""

from __future__ import annotations

import numpy as np

from router.core.kernel import solve_context
from router.core.tables import I16, I64, Candidate, GraphSnapshot


def solve(snapshot: GraphSnapshot) -> Candidate:
    """Solve all contexts; contexts with equal inputs (policies that change nothing) are solved once."""
    costs: list[I64] = []
    relays: list[I16] = []
    done: dict[bytes, int] = {}
    for c in range(len(snapshot.contexts)):
        limits = np.array([snapshot.max_relays[c], snapshot.relay_cost_us[c]], np.int64)
        key = snapshot.cost[c].tobytes() + snapshot.may_relay[c].tobytes() + limits.tobytes()
        if key in done:
            costs.append(costs[done[key]])
            relays.append(relays[done[key]])
            continue
        done[key] = c
        cost, relay = solve_context(
            snapshot.cost[c], snapshot.may_relay[c], int(snapshot.max_relays[c]), int(snapshot.relay_cost_us[c])
        )
        costs.append(cost)
        relays.append(relay)
    return Candidate(snapshot.generation, snapshot.at, np.stack(costs), np.stack(relays))
