"""Preflight: what a drain would do, and which rules it would break."""

from __future__ import annotations

from collections.abc import Mapping

from router.core.drain.plan import DrainPlan, DrainRequest, Refusal, Shift
from router.core.drain.targets import remaining_edges, targets_of
from router.core.kernel import UNREACHABLE
from router.core.model import DataCenterId, Intent, Micros, Role, TrafficClass
from router.core.tables import DIRECT, Context, View

MIN_HEADROOM_PCT = 20.0  # of the remaining edges' capacity; the usual N+1 reserve of a small fleet
MAX_DRAINED_SHARE = 0.5  # of all serving edges, counting what is already drained


def preflight(view: View, request: DrainRequest, now: Micros) -> DrainPlan:
    """Judge a drain on the View. Raises ``selector_…``; broken constraints are values in the plan."""
    targets = targets_of(view.inventory, request.selector)
    remaining = remaining_edges(view, targets)
    sessions = {dc: view.counters.sessions.get(dc, 0) for dc in targets}
    headroom = _headroom_after(view, remaining, sum(sessions.values()))
    agents = {dc: sum(n for (_, at), n in view.counters.busy.items() if at == dc) for dc in targets}
    return DrainPlan(
        targets=targets,
        sessions=sessions,
        shifts=_shifts(view, sessions, remaining),
        agents_behind={dc: n for dc, n in agents.items() if n},
        routes_through=_routes_through(view, targets),
        headroom_after_pct=headroom,
        refusals=_refusals(view, targets, remaining, headroom),
    )


def _headroom_after(view: View, remaining: tuple[DataCenterId, ...], moved: int) -> float | None:
    bounded = [dc for dc in remaining if view.inventory.data_centers[dc].capacity_sessions]
    capacity = sum(view.inventory.data_centers[dc].capacity_sessions for dc in bounded)
    if not capacity:
        return None
    used = sum(view.counters.sessions.get(dc, 0) for dc in bounded) + (moved if len(bounded) == len(remaining) else 0)
    return round(100 * (capacity - used) / capacity, 1)


def _shifts(view: View, sessions: Mapping[DataCenterId, int], remaining: tuple[DataCenterId, ...]) -> tuple[Shift, ...]:
    """Where sessions would go: the remaining edge nearest to each target by measured round trip (placement decides)."""
    table, shifts = view.routes, []
    for source, count in sessions.items():
        if not count or not remaining or table is None or source not in table.snapshot.data_centers:
            continue
        context = table.snapshot.contexts.index(Context(TrafficClass.AGENT))
        i, ids = table.snapshot.data_centers.index(source), table.snapshot.data_centers
        ways = [
            (int(table.cost[context, i, ids.index(dc)] + table.cost[context, ids.index(dc), i]), dc)
            for dc in remaining
            if dc in ids
        ]
        if ways:
            shifts.append(Shift(source, min(ways)[1], count))
    return tuple(shifts)


def _routes_through(view: View, targets: tuple[DataCenterId, ...]) -> int:
    """Ordered pairs whose agent route in force relays over a target."""
    table = view.routes
    if table is None:
        return 0
    context = table.snapshot.contexts.index(Context(TrafficClass.AGENT))
    vertices = [i for i, dc in enumerate(table.snapshot.data_centers) if dc in targets]
    relays = table.relays[context]
    through = ((relays[..., None] == vertices) & (relays[..., None] != DIRECT)).any(axis=(-1, -2))
    return int((through & (table.cost[context] < UNREACHABLE)).sum())


def _refusals(
    view: View, targets: tuple[DataCenterId, ...], remaining: tuple[DataCenterId, ...], headroom: float | None
) -> tuple[Refusal, ...]:
    refusals = []
    edges = [
        dc for dc in view.inventory.data_centers.values() if Role.EDGE in dc.roles and dc.intent is not Intent.RETIRED
    ]
    if any(dc.id in targets for dc in edges):
        if not remaining:
            text = "no edge would be left to take sessions; add or undrain one first"
            refusals.append(Refusal("last_edge", text, 0, 1, "force"))
        share = 1 - len(remaining) / len(edges)
        if remaining and share > MAX_DRAINED_SHARE:
            text = f"{share:.0%} of all edges would be out of rotation; drain them one after the other"
            refusals.append(Refusal("max_drained_share", text, round(share, 3), MAX_DRAINED_SHARE, "force"))
    if headroom is not None and headroom < MIN_HEADROOM_PCT:
        text = f"the remaining edges would keep {headroom} % headroom; add capacity or wait for sessions to end"
        refusals.append(Refusal("min_headroom", text, headroom, MIN_HEADROOM_PCT, "force"))
    return tuple(refusals)
