"""What must hold after every input, whatever the world does. Each check returns one sentence per broken rule.

The checks compute everything again by other means than the core does (costs are summed hop by hop, permissions read
from the inventory), so that a bug in the core cannot hide itself. Tables are immutable: each is looked at once, when it
comes into force; explanation and solve are computed again for a rotating sample, because they cost more.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from router.core.messages import Input, Solved
from router.core.model import DataCenterId
from router.core.solve import explain, solve
from router.core.tables import DIRECT, NO_COST, GraphSnapshot, RouteTable, View

UNREACHABLE = int(NO_COST) // 2  # above any sum of real costs, below any sum with a missing link in it
SAMPLE_EVERY = 8  # tables between two samples


class Invariants:
    """Remembers what the checks compare with; private to one simulation."""

    def __init__(self) -> None:
        self._generation = 0
        self._table: RouteTable | None = None
        self._looked = 0
        self.checks = 0

    def check(self, event: Input, awaited: int | None, before: View, after: View) -> list[str]:
        """Rules broken by one input; ``awaited`` is the generation of the solve that was outstanding before it."""
        self.checks += 1
        broken: list[str] = []
        if after.generation < self._generation:
            broken.append(f"generation went back from {self._generation} to {after.generation}")
        self._generation = max(self._generation, after.generation)
        if isinstance(event, Solved) and event.answer.generation != awaited and after.routes is not before.routes:
            broken.append(f"the late answer of generation {event.answer.generation} was adopted")
        broken += consistent(after)
        table = after.routes
        if table is not None and table is not self._table:
            self._table = table
            self._looked += 1
            broken += sound(table)
            if not table.stale:
                broken += permitted(table, after)
                if self._looked % SAMPLE_EVERY == 1:
                    broken += decided_again(table)
                    broken += explained_again(table, after, self._looked // SAMPLE_EVERY)
        return broken


def consistent(view: View) -> list[str]:
    """The parts of a view belong together: one inventory, one generation, read-only arrays."""
    broken = []
    if view.links.data_centers != tuple(view.inventory.data_centers):
        broken.append("links and inventory of a view name different data centers")
    if len(view.health) != len(view.inventory.data_centers):
        broken.append("health and inventory of a view have different sizes")
    table = view.routes
    if table is None:
        return broken
    if not table.stale and not table.generation == table.snapshot.generation == table.candidate.generation:
        broken.append(f"table {table.generation} holds parts of other generations")
    shape = table.snapshot.cost.shape
    arrays = (table.reachable, table.cost, table.since, table.challenger_since, table.candidate.cost)
    if any(array.shape != shape for array in arrays) or table.relays.shape[:-1] != shape:
        broken.append(f"arrays of table {table.generation} differ in shape")
    if any(array.flags.writeable for array in (*arrays, table.relays, view.links.rtt_us)):
        broken.append(f"an array of table {table.generation} can be written to")
    return broken


def sound(table: RouteTable) -> list[str]:
    """Every path in force visits no vertex twice and costs the sum of its parts; no more relays than allowed."""
    broken: list[str] = []
    snapshot = table.snapshot
    for c in range(len(snapshot.contexts)):
        where = np.argwhere(table.reachable[c] & ~np.eye(table.reachable.shape[-1], dtype=bool))
        if not where.size:
            continue
        u, v = where[:, 0], where[:, 1]
        relays = table.relays[c][u, v]
        broken += _walk(snapshot, c, u, v, relays, table.cost[c][u, v], table.generation)
    return broken


def _walk(
    snapshot: GraphSnapshot,
    c: int,
    u: np.ndarray,
    v: np.ndarray,
    relays: np.ndarray,
    claimed: np.ndarray,
    generation: int,
) -> list[str]:
    """Walk the paths of many pairs side by side, slot by slot."""
    broken, name = [], f"{snapshot.contexts[c].name} of table {generation}"
    used = relays != DIRECT
    if (used[:, 1:] & ~used[:, :-1]).any():
        broken.append(f"a path in force for {name} has a gap between its relays")
    if (used.sum(axis=1) > snapshot.max_relays[c]).any():
        broken.append(f"a path in force for {name} has more than {int(snapshot.max_relays[c])} relays")
    visited = np.column_stack((u, relays, v)).astype(np.int64)
    visited[visited == DIRECT] = -1 - np.tile(np.arange(visited.shape[1]), (len(u), 1))[visited == DIRECT]
    ordered = np.sort(visited, axis=1)
    twice = (ordered[:, 1:] == ordered[:, :-1]).any(axis=1)
    if twice.any():
        broken.append(f"{_pair(snapshot, u, v, twice)} for {name} visits a data center twice")
    at, cost = u.copy(), np.zeros(len(u), np.int64)
    for slot in range(relays.shape[1]):
        on = used[:, slot]
        step = np.where(on, relays[:, slot], at)
        cost += np.where(on, snapshot.cost[c][at, step] + snapshot.relay_cost_us[c], 0)
        at = step
    cost += snapshot.cost[c][at, v]
    wrong = cost != claimed
    if wrong.any():
        i = int(np.argmax(wrong))
        broken.append(
            f"{_pair(snapshot, u, v, wrong)} for {name} costs {int(cost[i])} us, the table says {int(claimed[i])} us"
        )
    return broken


def permitted(table: RouteTable, view: View) -> list[str]:
    """No path in force relays over a data center that may not relay, as far as the table can know."""
    broken, snapshot = [], table.snapshot
    settled = snapshot.inventory_count == view.inventory_count
    for c, context in enumerate(snapshot.contexts):
        for k in sorted(set(table.relays[c][table.reachable[c]].ravel().tolist()) - {DIRECT}):
            id = snapshot.data_centers[k]
            dc = view.inventory.data_centers.get(id)
            if not snapshot.may_relay[c, k]:
                broken.append(f"a route in force for {context.name} relays over {id}, which may not relay")
            elif settled and dc is not None and not dc.intent.relays:
                broken.append(f"a route in force for {context.name} relays over {id}, {dc.intent.value}")
    return broken


def decided_again(table: RouteTable) -> list[str]:
    """Solving the snapshot of a table again gives the candidate that it holds."""
    again = solve(table.snapshot)
    reached = again.cost < UNREACHABLE
    same = (again.cost == table.candidate.cost)[reached].all() and (again.relays == table.candidate.relays)[
        reached
    ].all()
    return [] if same else [f"solving generation {table.generation} again gives another candidate"]


def explained_again(table: RouteTable, view: View, turn: int) -> list[str]:
    """``explain`` of one pair names the path in force with the metric that the table has, and no better candidate."""
    broken: list[str] = []
    where = np.argwhere(table.reachable.any(axis=0) & ~np.eye(table.reachable.shape[-1], dtype=bool))
    if not where.size:
        return broken
    u, v = (int(x) for x in where[(turn * 7919) % len(where)])
    c = turn % len(table.snapshot.contexts)
    ids, context = table.snapshot.data_centers, table.snapshot.contexts[c]
    if not table.reachable[c, u, v]:
        return broken
    told = explain(view, ids[u], ids[v], context.traffic_class, context.policy, view.now).forward
    hops = (u, *(int(k) for k in table.relays[c, u, v] if k != DIRECT), v)
    path = tuple(ids[h] for h in hops)
    name = f"explain of {ids[u]} to {ids[v]} for {context.name}"
    inforce = [e for e in told if e.verdict == "in force"]
    if [e.path for e in inforce] != [path]:
        broken.append(f"{name} does not name the path in force")
    elif inforce[0].metric_us != int(table.cost[c, u, v]):
        broken.append(f"{name} says {inforce[0].metric_us} us, the table says {int(table.cost[c, u, v])} us")
    best = int(table.candidate.cost[c, u, v])
    better = [e for e in told if e.metric_us is not None and e.metric_us < best and e.verdict != "not allowed"]
    if better:
        broken.append(f"{name} lists a path better than the candidate: {' '.join(better[0].path)}")
    for e in told:
        if e.metric_us is not None and e.metric_us != sum_of_hops(table, c, e.path):
            broken.append(f"{name}: the metric of {' '.join(e.path)} is not the sum of its hops")
    return broken


def sum_of_hops(table: RouteTable, c: int, path: tuple[DataCenterId, ...]) -> int:
    """Metric of a path by the snapshot: its hops and its relays."""
    index = {dc: i for i, dc in enumerate(table.snapshot.data_centers)}
    hops = sum(int(table.snapshot.cost[c, index[a], index[b]]) for a, b in pairwise(path))
    return hops + int(table.snapshot.relay_cost_us[c]) * (len(path) - 2)


def _pair(snapshot: GraphSnapshot, u: np.ndarray, v: np.ndarray, mask: np.ndarray) -> str:
    i = int(np.argmax(mask))
    return f"the path in force from {snapshot.data_centers[int(u[i])]} to {snapshot.data_centers[int(v[i])]}"
