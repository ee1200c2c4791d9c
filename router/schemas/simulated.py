"""Answers to what-if questions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from router.core.drain import Headroom
from router.core.model import DataCenterId, Micros, Role, TrafficClass
from router.core.whatif import (
    Change,
    DataCenterRoom,
    FlowChange,
    Growth,
    Newcomer,
    Outcome,
    RegionRoom,
    RouteEffect,
    SessionEffect,
    summary,
)
from router.schemas.drains import ForecastAnswer, HeadroomAnswer, RefusalAnswer, ShiftAnswer, refusals_json, shifts_json
from router.schemas.fields import Answer
from router.schemas.health import headroom_pct
from router.schemas.units import known_rfc3339, ms


class LinkNameAnswer(Answer):
    """A directed link, all of its transports."""

    source: str = Field(alias="from")
    target: str = Field(alias="to")


class RemovedAnswer(Answer):
    """What the question takes away, looked up; a data center whose last node goes is gone, too."""

    data_centers: list[str]
    nodes: list[str]
    links: list[LinkNameAnswer]


class PredictedLinkAnswer(Answer):
    """A link that nobody measured, both ways alike: one-way delay, and the interval that holds it 9 times in 10."""

    data_center: str
    delay_ms: float
    low_ms: float
    high_ms: float
    provenance: Literal["geo"]


class NewcomerAnswer(Answer):
    """A data center that is not there, and how far it is believed to be from those that are."""

    id: str
    provider: str
    region: str
    roles: list[Role]
    latitude: float | None
    longitude: float | None
    position_from: str
    links: int
    nearest: list[PredictedLinkAnswer]


class GrowthAnswer(Answer):
    """By how many ms of one-way delay: half stay within `p50`, 95 % within `p95`."""

    p50: float
    p95: float
    max: float


class PairChangeAnswer(Answer):
    """One ordered pair, its best path now and then; null without a path."""

    source: str = Field(alias="from")
    target: str = Field(alias="to")
    before_path: list[str] | None
    after_path: list[str] | None
    before_ms: float | None
    after_ms: float | None
    delta_ms: float | None = Field(description="positive: one way takes longer; null: not there in both worlds")
    predicted: bool = Field(description="the new path uses links that nobody measured")


class RouteEffectAnswer(Answer):
    """One routing context: ordered pairs of data centers that are there now and stay."""

    traffic_class: TrafficClass = Field(alias="class")
    policy: str | None
    pairs: int = Field(description="that have a path now or then")
    lost: int = Field(description="have a path now and none then")
    gained: int
    rerouted: int = Field(description="another path, now and then")
    slower: int
    faster: int
    faster_at_worst: int = Field(description="faster even if every predicted link is as slow as its interval allows")
    broken: int = Field(description="routes in force that use what is removed")
    growth_ms: GrowthAnswer | None = Field(description="of the slower ones; null: none")
    saving_ms: GrowthAnswer | None = Field(description="of the faster ones; null: none")
    worst: list[PairChangeAnswer]
    best: list[PairChangeAnswer]
    lost_pairs: list[PairChangeAnswer]
    gained_pairs: list[PairChangeAnswer]


class FlowChangeAnswer(Answer):
    """Live sessions between one edge and one hub whose path changes; round trips, null without a path."""

    edge: str
    hub: str
    traffic_class: TrafficClass = Field(alias="class")
    sessions: int
    before_rtt_ms: float | None
    after_rtt_ms: float | None


class SessionEffectAnswer(Answer):
    """What happens to live sessions, by number."""

    live: int
    to_move: int = Field(description="at an edge that is removed")
    shifts: list[ShiftAnswer] = Field(description="where placement would send them")
    no_place: int = Field(description="of `to_move`: no edge has a place and a path to their agent")
    lose_agent: int = Field(description="their agent is in a data center that is removed")
    lose_path: int = Field(description="edge and agent stay, and no path joins them")
    rerouted: int = Field(description="edge and agent stay, on another path")
    rerouted_growth_ms: GrowthAnswer | None = Field(description="over sessions, of those that get slower; one way")
    moved_growth_p95_ms: float | None = Field(description="of those that move, one way; null: not known")
    flows: list[FlowChangeAnswer] = Field(description="most sessions first")


class DataCenterRoomAnswer(Answer):
    """Room of one data center, now and then."""

    id: str
    provider: str
    region: str
    roles: list[Role]
    change: Literal["kept", "removed", "added"]
    capacity_sessions: int = Field(description="0: unlimited")
    sessions_before: int
    sessions_after: int
    headroom_before_pct: float | None
    headroom_after_pct: float | None = Field(description="null: unlimited, or gone")


class NPlus1Answer(Answer):
    """Whether a region gets over losing its largest edge on top."""

    holds: bool
    next_loss: str | None = Field(description="null: no edge is left to lose")
    missing: int = Field(description="session places that lack in the region then")


class RegionRoomAnswer(Answer):
    """Room of one region's edges that take sessions; capacity null: unlimited."""

    region: str
    edges_before: int
    edges_after: int
    capacity_before: int | None
    capacity_after: int | None
    sessions_before: int
    sessions_after: int
    headroom_before_pct: float | None
    headroom_after_pct: float | None
    n_plus_1: NPlus1Answer


class PartitionsAnswer(Answer):
    """Groups of data centers that reach each other both ways; more than one: the network falls apart."""

    before: list[list[str]]
    after: list[list[str]]


class SimulationAnswer(Answer):
    """What would happen; nothing was done."""

    generation: int
    computed_at: str | None = Field(description="of the routes that were compared; null: there are none yet")
    age_ms: float | None
    stale: bool
    summary: str
    removed: RemovedAnswer
    added: list[NewcomerAnswer]
    routes: list[RouteEffectAnswer]
    partitions: PartitionsAnswer
    sessions: SessionEffectAnswer
    headroom: HeadroomAnswer
    forecast: ForecastAnswer
    data_centers: list[DataCenterRoomAnswer]
    regions: list[RegionRoomAnswer]
    refusals: list[RefusalAnswer] = Field(description="rules that a drain of the same would break")
    notes: list[str]


def simulation_json(outcome: Outcome, now: Micros) -> dict[str, object]:
    """Return the JSON form of an outcome."""
    at, scope = outcome.computed_at, outcome.scope
    return {
        "generation": outcome.generation,
        "computed_at": known_rfc3339(at),
        "age_ms": None if at is None else ms(max(0, now - at)),
        "stale": outcome.stale,
        "summary": summary(outcome),
        "removed": {
            "data_centers": list(scope.data_centers),
            "nodes": list(scope.nodes),
            "links": [{"from": link.source, "to": link.target} for link in scope.links],
        },
        "added": [_newcomer(one) for one in outcome.newcomers],
        "routes": [_routes(effect) for effect in outcome.routes],
        "partitions": {"before": _groups(outcome.parts_before), "after": _groups(outcome.parts_after)},
        "sessions": _sessions(outcome.sessions),
        "headroom": _headroom(outcome.rooms.whole),
        "forecast": {"sessions": outcome.rooms.expected.sessions, "basis": outcome.rooms.expected.basis},
        "data_centers": [_center(one) for one in outcome.rooms.data_centers],
        "regions": [_region(one) for one in outcome.rooms.regions],
        "refusals": refusals_json(outcome.refusals),
        "notes": list(outcome.notes),
    }


def _headroom(free: Headroom) -> dict[str, object]:
    return {
        "now_pct": free.now_pct,
        "after_pct": free.after_pct,
        "after_next_loss_pct": free.after_next_loss_pct,
        "next_loss": free.next_loss,
    }


def _groups(parts: Sequence[Sequence[DataCenterId]]) -> list[list[str]]:
    return [list(part) for part in parts]


def _growth(growth: Growth | None) -> dict[str, object] | None:
    if growth is None:
        return None
    return {"p50": ms(growth.p50_us), "p95": ms(growth.p95_us), "max": ms(growth.most_us)}


def _known(value_us: int | None) -> float | None:
    return None if value_us is None else ms(value_us)


def _change(change: Change) -> dict[str, object]:
    return {
        "from": change.source,
        "to": change.target,
        "before_path": None if change.before is None else list(change.before),
        "after_path": None if change.after is None else list(change.after),
        "before_ms": _known(change.before_us),
        "after_ms": _known(change.after_us),
        "delta_ms": _known(change.delta_us),
        "predicted": change.predicted,
    }


def _routes(effect: RouteEffect) -> dict[str, object]:
    counts = ("pairs", "lost", "gained", "rerouted", "slower", "faster", "faster_at_worst", "broken")
    lists = ("worst", "best", "lost_pairs", "gained_pairs")
    return (
        {"class": effect.context.traffic_class, "policy": effect.context.policy}
        | {name: getattr(effect, name) for name in counts}
        | {"growth_ms": _growth(effect.growth), "saving_ms": _growth(effect.saving)}
        | {name: [_change(change) for change in getattr(effect, name)] for name in lists}
    )


def _flow(flow: FlowChange) -> dict[str, object]:
    return {
        "edge": flow.edge,
        "hub": flow.hub,
        "class": flow.traffic_class,
        "sessions": flow.sessions,
        "before_rtt_ms": _known(flow.before_us),
        "after_rtt_ms": _known(flow.after_us),
    }


def _sessions(effect: SessionEffect) -> dict[str, object]:
    return {
        "live": effect.live,
        "to_move": effect.at_removed,
        "shifts": shifts_json(effect.moved.shifts),
        "no_place": effect.moved.homeless,
        "lose_agent": effect.lose_agent,
        "lose_path": effect.cut,
        "rerouted": effect.rerouted,
        "rerouted_growth_ms": _growth(effect.growth),
        "moved_growth_p95_ms": _known(effect.moved.growth_p95_us),
        "flows": [_flow(flow) for flow in effect.flows],
    }


def _newcomer(one: Newcomer) -> dict[str, object]:
    center = one.added.data_center
    return {
        "id": center.id,
        "provider": center.provider,
        "region": center.region,
        "roles": list(center.roles),
        "latitude": center.latitude,
        "longitude": center.longitude,
        "position_from": one.added.position_from,
        "links": one.links,
        "nearest": [
            {
                "data_center": link.target,
                "delay_ms": ms(link.delay_us),
                "low_ms": ms(link.low_us),
                "high_ms": ms(link.high_us),
                "provenance": "geo",
            }
            for link in one.nearest
        ],
    }


def _center(one: DataCenterRoom) -> dict[str, object]:
    center, limit = one.data_center, one.data_center.capacity_sessions
    return {
        "id": center.id,
        "provider": center.provider,
        "region": center.region,
        "roles": list(center.roles),
        "change": one.change,
        "capacity_sessions": limit,
        "sessions_before": one.before,
        "sessions_after": one.after,
        "headroom_before_pct": None if one.change == "added" else headroom_pct(one.before, limit),
        "headroom_after_pct": None if one.change == "removed" else headroom_pct(one.after, limit),
    }


def _region(one: RegionRoom) -> dict[str, object]:
    return {
        "region": one.region,
        "edges_before": one.edges_before,
        "edges_after": one.edges_after,
        "capacity_before": one.capacity_before,
        "capacity_after": one.capacity_after,
        "sessions_before": one.sessions_before,
        "sessions_after": one.sessions_after,
        "headroom_before_pct": headroom_pct(one.sessions_before, one.capacity_before or 0),
        "headroom_after_pct": headroom_pct(one.sessions_after, one.capacity_after or 0),
        "n_plus_1": {"holds": one.missing == 0, "next_loss": one.next_loss, "missing": one.missing},
    }
