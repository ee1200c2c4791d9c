"""What the targets carry for others: routes that relay over them, how much longer their ways become, and link load."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np

from router.core.kernel import UNREACHABLE
from router.core.load import carried
from router.core.model import DataCenterId, Flow, Inventory, TrafficClass
from router.core.tables import DIRECT, F64, I64, Bool, Context, RouteTable, View


@dataclass(frozen=True, slots=True)
class Busiest:
    """The fullest link or data center, and its share before and afterwards in per cent of its declared capacity."""

    name: str
    before_pct: float
    after_pct: float


def routes_through(view: View, targets: Collection[DataCenterId]) -> int:
    """Ordered pairs whose agent route in force relays over a target."""
    table = view.routes
    if table is None:
        return 0
    context = table.snapshot.contexts.index(Context(TrafficClass.AGENT))
    through = _over(table, context, _vertices(table, targets))
    return int((through & (table.cost[context] < UNREACHABLE)).sum())


def relayed_growth(view: View, targets: Collection[DataCenterId]) -> list[tuple[int, int]]:
    """``(microseconds one way, sessions)`` by which flows that relay over a target get longer: the next best way.

    The next best way is direct or over one relay beside the targets; who has neither is left out.
    """
    table, found = view.routes, list[tuple[int, int]]()
    for (edge, hub, kind), count in view.flows.items():
        if table is None or edge in targets or hub in targets or edge == hub:
            continue
        context = table.snapshot.contexts.index(Context(kind))
        ids = table.snapshot.data_centers
        if edge not in ids or hub not in ids:
            continue
        i, j = ids.index(edge), ids.index(hub)
        out, over = _vertices(table, targets), _over(table, context, _vertices(table, targets))
        if over[i, j] or over[j, i]:
            there, back = _next_best(table, context, i, j, out), _next_best(table, context, j, i, out)
            longer = there + back - int(table.cost[context, i, j]) - int(table.cost[context, j, i])
            if there + back < UNREACHABLE:
                found.append((max(0, longer) // 2, count))
    return found


def busiest(view: View, after: Mapping[Flow, int] | None, present: View | None = None) -> Busiest | None:
    """The place whose share rises highest; ``None`` where nothing declares a capacity.

    ``present``: where the flows of now are, if ``view`` is another world.
    """
    now = present or view
    was = dict(zip(_names(now.inventory), _shares(now, now.flows).tolist(), strict=True))
    names, after_pct = _names(view.inventory), _shares(view, after if after is not None else view.flows)
    if not len(after_pct):
        return None
    before_pct = np.array([was.get(name, 0.0) for name in names])
    worst = int(np.argmax(np.where(after_pct > before_pct + 0.5, after_pct, -1)))
    return Busiest(names[worst], round(float(before_pct[worst]), 1), round(float(after_pct[worst]), 1))


def _vertices(table: RouteTable, targets: Collection[DataCenterId]) -> list[int]:
    return [i for i, dc in enumerate(table.snapshot.data_centers) if dc in targets]


def _over(table: RouteTable, context: int, vertices: list[int]) -> Bool:
    """Ordered pairs whose path in force relays over one of some vertices."""
    relays = table.relays[context]
    found: Bool = ((relays[..., None] == vertices) & (relays[..., None] != DIRECT)).any(axis=(-1, -2))
    return found


def _next_best(table: RouteTable, context: int, i: int, j: int, out: list[int]) -> int:
    cost: I64 = table.snapshot.cost[context]
    over = cost[i, :] + cost[:, j] + table.snapshot.relay_cost_us[context]
    over = np.where(table.snapshot.may_relay[context], over, UNREACHABLE)
    over[[i, j, *out]] = UNREACHABLE
    return min(int(cost[i, j]), int(over.min(initial=UNREACHABLE)), int(UNREACHABLE))


def _names(inventory: Inventory) -> list[str]:
    links = [link for link in inventory.links.values() if link.capacity_mbps > 0]
    centers = [dc for dc in inventory.data_centers.values() if dc.capacity_mbps > 0]
    return [f"link {link.id}" for link in links] + [f"data center {dc.id}" for dc in centers]


def _shares(view: View, flows: Mapping[Flow, int]) -> F64:
    """Use in per cent of every link and data center with a declared capacity, on the routes in force."""
    inventory = view.inventory
    n, number = len(inventory.data_centers), {name: t for t, name in enumerate(inventory.transports)}
    links = [link for link in inventory.links.values() if link.capacity_mbps > 0]
    centers = [dc for dc in inventory.data_centers.values() if dc.capacity_mbps > 0]
    found = carried(inventory, flows, view.routes)
    flat = [
        (number[link.transport] * n + inventory.index[link.source]) * n + inventory.index[link.target] for link in links
    ]
    used = np.concatenate(
        [
            found.link[np.array(flat, np.int64)],
            found.center[np.array([inventory.index[dc.id] for dc in centers], np.int64)],
        ]
    )
    mbps = [link.capacity_mbps for link in links] + [dc.capacity_mbps for dc in centers]
    shares: F64 = 100 * used / np.array(mbps, np.float64)
    return shares
