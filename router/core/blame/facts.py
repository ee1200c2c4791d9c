"""Three facts per target that never overwrite each other: what was asked of it, what is measured, what fits.

A target is a node, a data center, a provider in a region, a provider, or the agents of a hub. Nothing is kept here: it
is worked out of the View, so that the facts cannot disagree with what decisions were made of.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from router.core.model import DataCenter, DataCenterId, Micros, Node, NodeId
from router.core.tables import DataCenterHealth, Health, View
from router.core.verdicts import Component, ComponentKind, Verdict

NODE_SILENT_US = 10_000_000  # a probe agent that says nothing for so long says nothing about its node either
_WORST_FIRST = (Health.DOWN, Health.DEGRADED, Health.UNKNOWN, Health.UP)


class TargetKind(StrEnum):
    """What can be a target."""

    NODE = "node"
    DATA_CENTER = "data_center"
    PROVIDER_REGION = "provider_region"
    PROVIDER = "provider"
    AGENT_HOST = "agent_host"


@dataclass(frozen=True, slots=True)
class Measured:
    """The fact of health; ``verdict`` is the lease on a "bad", if somebody is blamed."""

    state: Health
    evidence: str
    evidence_at: Micros
    verdict: Verdict | None


@dataclass(frozen=True, slots=True)
class Fits:
    """The fact of capacity: live sessions and their limit (0: none declared), free and taken places of agents."""

    sessions: int
    limit: int
    agents_idle: int
    agents_busy: int


NOBODY = Fits(0, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class Target:
    """One target with its three facts; ``intent`` is ``mixed`` where its parts differ."""

    kind: TargetKind
    id: str
    intent: str
    health: Measured
    capacity: Fits


_BLAMED_AS = {
    TargetKind.NODE: (ComponentKind.NODE,),
    TargetKind.DATA_CENTER: (ComponentKind.EDGE_REGION,),
    TargetKind.PROVIDER_REGION: (ComponentKind.PROVIDER_REGION,),
    TargetKind.PROVIDER: (ComponentKind.PROVIDER,),
    TargetKind.AGENT_HOST: (ComponentKind.TARGET,),
}


def targets(view: View, machines: Mapping[NodeId, Fits], kind: TargetKind | None = None) -> tuple[Target, ...]:
    """All targets, or those of a kind, by kind and id; ``machines``: who is where, which only the database knows."""
    places = list(view.inventory.data_centers.values())
    found: list[Target] = []
    if kind in (None, TargetKind.NODE):
        found += [_node(view, node, machines.get(node.id, NOBODY)) for node in view.inventory.nodes.values()]
    if kind in (None, TargetKind.DATA_CENTER):
        found += [_whole(view, TargetKind.DATA_CENTER, dc.id, [dc]) for dc in places]
    for wanted, name in ((TargetKind.PROVIDER_REGION, _cell_of), (TargetKind.PROVIDER, _provider_of)):
        if kind in (None, wanted):
            for id in sorted({name(dc) for dc in places}):
                found.append(_whole(view, wanted, id, [dc for dc in places if name(dc) == id]))
    if kind in (None, TargetKind.AGENT_HOST):
        hubs = sorted({dc for _, dc in (*view.counters.idle, *view.counters.busy)} & set(view.inventory.data_centers))
        found += [_whole(view, TargetKind.AGENT_HOST, dc, [view.inventory.data_centers[dc]]) for dc in hubs]
    return tuple(found)


def verdict_on(view: View, data_centers: Sequence[DataCenter]) -> Verdict | None:
    """The surest verdict that blames one of these places, what they are part of, or their agents or machines."""
    ids = {dc.id for dc in data_centers}
    wholes = {_cell_of(dc) for dc in data_centers} | {_provider_of(dc) for dc in data_centers}
    for verdict in view.blame.verdicts:
        kind, id = verdict.component.kind, verdict.component.id
        node = next((n for n in view.inventory.nodes.values() if n.id == id), None)
        inside = kind in (ComponentKind.EDGE_REGION, ComponentKind.TARGET) and id in ids
        whole = kind in (ComponentKind.PROVIDER, ComponentKind.PROVIDER_REGION) and id in wholes
        if inside or whole or (kind is ComponentKind.NODE and node is not None and node.data_center in ids):
            return verdict
    return None


def on_component(places: Iterable[DataCenter], blamed: Component) -> list[DataCenter] | None:
    """The data centers that a verdict is about; None where it is not about whole data centers."""
    match blamed.kind:
        case ComponentKind.EDGE_REGION:
            return [dc for dc in places if dc.id == blamed.id]
        case ComponentKind.PROVIDER_REGION:
            return [dc for dc in places if _cell_of(dc) == blamed.id]
        case ComponentKind.PROVIDER:
            return [dc for dc in places if _provider_of(dc) == blamed.id]
    return None


def _cell_of(dc: DataCenter) -> str:
    return f"{dc.provider}/{dc.region}"


def _provider_of(dc: DataCenter) -> str:
    return str(dc.provider)


def _node(view: View, node: Node, fits: Fits) -> Target:
    status = view.nodes.get(node.id)
    at = 0 if status is None else status.reported_at
    silent = at == 0 or view.now - at > NODE_SILENT_US
    verdict = _verdict(view, TargetKind.NODE, node.id)
    state = Health.DEGRADED if verdict is not None else Health.UNKNOWN if silent else Health.UP
    told = verdict.text if verdict is not None else "its probe agent is silent" if silent else "its probe agent reports"
    return Target(TargetKind.NODE, node.id, node.intent.value, Measured(state, told, at, verdict), fits)


def _whole(view: View, kind: TargetKind, id: str, members: Sequence[DataCenter]) -> Target:
    verdict = _verdict(view, kind, id)
    index = view.inventory.index
    known = [view.health[index[dc.id]] if len(view.health) > index[dc.id] else DataCenterHealth() for dc in members]
    state = _state([health.state for health in known])
    if verdict is not None and state is Health.UP:
        state = Health.DEGRADED  # its machines answer, its users say otherwise; users are trusted more
    counted = ", ".join(f"{sum(h.state is s for h in known)} {s.value}" for s in _WORST_FIRST if _has(known, s))
    ids = [dc.id for dc in members]
    intents = {dc.intent.value for dc in members}
    at = max((health.evidence_at for health in known), default=0)
    return Target(
        kind,
        id,
        intents.pop() if len(intents) == 1 else "mixed",
        Measured(state, verdict.text if verdict is not None else counted, at, verdict),
        Fits(
            sum(view.counters.sessions.get(dc, 0) for dc in ids),
            0 if any(dc.capacity_sessions == 0 for dc in members) else sum(dc.capacity_sessions for dc in members),
            _agents(view.counters.idle.items(), ids),
            _agents(view.counters.busy.items(), ids),
        ),
    )


def _verdict(view: View, kind: TargetKind, id: str) -> Verdict | None:
    return next((v for name in _BLAMED_AS[kind] for v in [view.blame.of(name, id)] if v is not None), None)


def _state(states: Sequence[Health]) -> Health:
    """Down only when all of it is; one bad part of several degrades it."""
    worst = next((state for state in _WORST_FIRST if state in states), Health.UNKNOWN)
    return Health.DEGRADED if worst is Health.DOWN and set(states) != {Health.DOWN} else worst


def _has(known: Sequence[DataCenterHealth], state: Health) -> bool:
    return any(health.state is state for health in known)


def _agents(counts: Iterable[tuple[tuple[str, DataCenterId], int]], ids: Sequence[DataCenterId]) -> int:
    return sum(n for (_, dc), n in counts if dc in ids)
