"""Health of every data center, and of the cells (region x provider) they make up."""

from __future__ import annotations

from itertools import groupby

from pydantic import Field

from router.core.blame.facts import verdict_on
from router.core.model import DataCenter, Intent
from router.core.tables import DataCenterHealth, Health, View
from router.schemas.blame import VerdictAnswer, frozen_json, verdict_json
from router.schemas.fields import Answer
from router.schemas.units import known_rfc3339, ms


class NodeAge(Answer):
    """When a node's probe agent was last heard."""

    id: str
    age_ms: float | None


class DataCenterHealthAnswer(Answer):
    """One data center: what was asked of it, what is measured, what still fits."""

    id: str
    provider: str
    region: str
    roles: list[str]
    latitude: float | None
    longitude: float | None
    intent: Intent
    state: Health
    since: str | None
    age_ms: float | None
    vantages_ok: int
    vantages_lost: int
    reason: str
    sessions: int
    capacity_sessions: int
    headroom_pct: float | None = Field(description="null: capacity is unlimited")
    nodes: list[NodeAge]


class Cell(Answer):
    """One provider's data centers in one region."""

    region: str
    provider: str
    data_centers: list[str]
    state: Health
    sessions: int
    headroom_pct: float | None
    blame: VerdictAnswer | None = Field(description="the surest verdict that touches it")
    evidence: str


class HealthAnswer(Answer):
    """The whole fleet at one look."""

    generation: int
    now: str
    routes_age_ms: float | None
    stale: bool
    frozen: bool = Field(description="everything is bad everywhere at once: automation keeps its hands off")
    frozen_reason: str
    judged_at: str | None = Field(description="when it was last worked out who is at fault")
    verdicts: list[VerdictAnswer]
    data_centers: list[DataCenterHealthAnswer]
    cells: list[Cell]


def headroom_pct(sessions: int, capacity: int) -> float | None:
    """Share of the capacity that is left, in %; ``None`` where it is unlimited."""
    return None if capacity <= 0 else round(max(0.0, 100.0 * (1 - sessions / capacity)), 2)


def _node_ages(view: View, dc: DataCenter, now: int) -> list[dict[str, object]]:
    ages: list[dict[str, object]] = []
    for node in view.inventory.nodes_by_data_center[dc.id]:
        status = view.nodes.get(node.id)
        heard = status is not None and status.reported_at > 0
        ages.append({"id": node.id, "age_ms": ms(max(0, now - status.reported_at)) if status and heard else None})
    return ages


def _data_center(view: View, dc: DataCenter, health: DataCenterHealth, now: int) -> dict[str, object]:
    sessions = view.counters.sessions.get(dc.id, 0)
    return {
        "id": dc.id,
        "provider": dc.provider,
        "region": dc.region,
        "roles": list(dc.roles),
        "latitude": dc.latitude,
        "longitude": dc.longitude,
        "intent": dc.intent,
        "state": health.state,
        "since": known_rfc3339(health.since),
        "age_ms": ms(max(0, now - health.evidence_at)) if health.evidence_at else None,
        "vantages_ok": health.vantages_ok,
        "vantages_lost": health.vantages_lost,
        "reason": health.reason,
        "sessions": sessions,
        "capacity_sessions": dc.capacity_sessions,
        "headroom_pct": headroom_pct(sessions, dc.capacity_sessions),
        "nodes": _node_ages(view, dc, now),
    }


_WORST_FIRST = (Health.DOWN, Health.DEGRADED, Health.UNKNOWN, Health.UP)


def _cell(view: View, members: list[tuple[DataCenter, DataCenterHealth]], now: int) -> dict[str, object]:
    """A cell is down only when all of it is; one bad data center of several degrades it."""
    states = [health.state for _, health in members]
    worst = next(state for state in _WORST_FIRST if state in states)
    state = Health.DEGRADED if worst is Health.DOWN and set(states) != {Health.DOWN} else worst
    sessions = sum(view.counters.sessions.get(dc.id, 0) for dc, _ in members)
    capacities = [dc.capacity_sessions for dc, _ in members]
    seen = ", ".join(f"{states.count(s)} {s.value}" for s in _WORST_FIRST if s in states)
    reasons = [f"{dc.id}: {health.reason}" for dc, health in members if health.reason]
    verdict = verdict_on(view, [dc for dc, _ in members])
    return {
        "region": members[0][0].region,
        "provider": members[0][0].provider,
        "data_centers": [dc.id for dc, _ in members],
        "state": state,
        "sessions": sessions,
        "headroom_pct": None if 0 in capacities else headroom_pct(sessions, sum(capacities)),
        "blame": None if verdict is None else verdict_json(view, verdict, now),
        "evidence": "; ".join([seen, *reasons]),
    }


def health_of(view: View) -> list[tuple[DataCenter, DataCenterHealth]]:
    """Data centers with their health, unknown where the view has none yet."""
    data_centers = list(view.inventory.data_centers.values())
    if len(view.health) != len(data_centers):
        return [(dc, DataCenterHealth()) for dc in data_centers]
    return list(zip(data_centers, view.health, strict=True))


def health_json(view: View, now: int, iso_now: str) -> dict[str, object]:
    """Return the JSON form of the fleet's health."""
    members = health_of(view)
    by_cell = sorted(members, key=lambda member: (member[0].region, member[0].provider, member[0].id))
    cells = [list(group) for _, group in groupby(by_cell, key=lambda member: (member[0].region, member[0].provider))]
    return {
        "generation": view.generation,
        "now": iso_now,
        "routes_age_ms": None if view.routes is None else ms(max(0, now - view.routes.computed_at)),
        "stale": view.routes is None or view.routes.stale,
        **frozen_json(view.blame),
        "verdicts": [verdict_json(view, verdict, now) for verdict in view.blame.verdicts],
        "data_centers": [_data_center(view, dc, health, now) for dc, health in members],
        "cells": [_cell(view, cell, now) for cell in cells],
    }
