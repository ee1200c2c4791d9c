"""What a changed world does to live sessions: who must move and where to, who loses an agent, whose way gets longer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from router.core.drain.receivers import Spread, spread
from router.core.model import DataCenterId, TrafficClass
from router.core.tables import Context, View
from router.core.whatif.ask import Scope
from router.core.whatif.effect import Compared, Growth


@dataclass(frozen=True, slots=True)
class FlowChange:
    """Live sessions between one edge and one hub whose way changes; round trips of their paths, ``None``: no path."""

    edge: DataCenterId
    hub: DataCenterId
    traffic_class: TrafficClass
    sessions: int
    before_us: int | None
    after_us: int | None


@dataclass(frozen=True, slots=True)
class SessionEffect:
    """Live sessions, counted; nothing is known of them by name."""

    live: int
    moved: Spread  # of those whose edge is removed
    at_removed: int
    lose_agent: int  # their agent sits in a data center that is removed
    cut: int  # edge and agent stay, and no path joins them any more
    rerouted: int  # edge and agent stay, on another path
    growth: Growth | None  # one way, of those that are rerouted and get slower
    flows: tuple[FlowChange, ...]  # most sessions first


def session_effect(view: View, changed: View, scope: Scope, found: Compared | None, named: int) -> SessionEffect:
    """Move the sessions of what is removed, and see who of the others gets another way."""
    out = scope.data_centers
    staying = replace(view, flows={flow: n for flow, n in view.flows.items() if flow[1] not in out})
    flows = [] if found is None else list(_flows(staying, scope, found))
    ways = [flow for flow in flows if flow.after_us is not None]
    return SessionEffect(
        live=sum(view.counters.sessions.values()),
        moved=spread(staying, out, changed),
        at_removed=sum(view.counters.sessions.get(dc, 0) for dc in out),
        lose_agent=sum(n for (_, at), n in view.counters.busy.items() if at in out),
        cut=sum(flow.sessions for flow in flows if flow.after_us is None),
        rerouted=sum(flow.sessions for flow in ways),
        growth=_growth(ways),
        flows=tuple(sorted(flows, key=_rank)[:named]),
    )


def _rank(flow: FlowChange) -> tuple[int, str, str, str]:
    return -flow.sessions, flow.edge, flow.hub, flow.traffic_class


def _flows(view: View, scope: Scope, found: Compared) -> list[FlowChange]:
    """Flows whose path changes in one direction or goes, between data centers that both stay."""
    shot = found.after.snapshot
    index = {dc: i for i, dc in enumerate(shot.data_centers[: found.known]) if dc not in scope.data_centers}
    contexts: Mapping[Context, int] = {context: c for c, context in enumerate(shot.contexts)}
    changes = []
    for (edge, hub, kind), sessions in view.flows.items():
        c, u, v = contexts.get(Context(kind)), index.get(edge), index.get(hub)
        if c is None or u is None or v is None or u == v or sessions <= 0:
            continue
        if any(_differs(found, c, a, b) for a, b in ((u, v), (v, u))):
            before, after = (_trip(found, c, u, v, after=late) for late in (False, True))
            changes.append(FlowChange(edge, hub, kind, sessions, before, after))
    return changes


def _differs(found: Compared, c: int, u: int, v: int) -> bool:
    was, will = found.before.reachable[c, u, v], found.after.reachable[c, u, v]
    return bool(was) and (not will or bool((found.before.relays[c, u, v] != found.after.relays[c, u, v]).any()))


def _trip(found: Compared, c: int, u: int, v: int, *, after: bool) -> int | None:
    table, delay = (found.after, found.after_us) if after else (found.before, found.before_us)
    if not (table.reachable[c, u, v] and table.reachable[c, v, u]):
        return None
    return int(delay[c, u, v] + delay[c, v, u])


def _growth(flows: list[FlowChange]) -> Growth | None:
    """Percentiles over sessions of how much longer one way gets, of those that get slower."""
    longer = [
        ((flow.after_us - flow.before_us) // 2, flow.sessions)
        for flow in sorted(flows, key=_rank)
        if flow.after_us is not None and flow.before_us is not None and flow.after_us > flow.before_us
    ]
    if not longer:
        return None
    value, weight = np.array(sorted(longer), np.int64).T
    total = np.cumsum(weight)
    p50, p95 = (int(value[np.searchsorted(total, -(-total[-1] * share // 100))]) for share in (50, 95))
    return Growth(p50, p95, int(value[-1]))


def sessions_after(view: View, effect: SessionEffect, scope: Scope) -> Mapping[DataCenterId, int]:
    """Live sessions per edge once all that can move have moved; who finds no place is nowhere."""
    live = dict(view.counters.sessions)
    for shift in effect.moved.shifts:
        live[shift.target] = live.get(shift.target, 0) + shift.sessions
    for dc in scope.data_centers:
        live[dc] = 0
    return live
