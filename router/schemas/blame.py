"""Verdicts and targets as the API shows them."""

from __future__ import annotations

from pydantic import Field

from router.core.blame.facts import Target, TargetKind, on_component
from router.core.blame.selves import selves
from router.core.tables import Health, View
from router.core.verdicts import Action, Blame, ComponentKind, Verdict
from router.schemas.fields import Answer
from router.schemas.units import known_rfc3339, ms, rfc3339


class AlternativeAnswer(Answer):
    """Something else that would explain the same."""

    kind: ComponentKind
    id: str
    confidence: float


class VerdictEvidence(Answer):
    """What speaks for a verdict, counted."""

    vantages_bad: int
    vantages: int
    providers: int = Field(description="that the bad vantages belong to")
    loss_pct: float = Field(description="of probes across it, late ones included")
    failed_pct: float = Field(description="of session outcomes across it")
    probes: int
    outcomes: int
    sources: list[str] = Field(description="kinds of evidence that agree, most trusted first")
    self_report: str = Field(description="what its machines say of themselves; shown, and given no weight")
    age_ms: float | None = Field(description="of the newest bad observation by an independent vantage")


class VerdictAnswer(Answer):
    """Somebody is blamed; a lease that fresh evidence must renew."""

    kind: ComponentKind
    id: str
    confidence: float
    sure: bool = Field(description="whether automation may act on it")
    windows: int
    since: str
    expires_at: str
    action: Action
    evidence: VerdictEvidence
    alternatives: list[AlternativeAnswer]
    sessions: int | None = Field(description="live sessions on it now; null where sessions are not counted")
    sessions_moved: int = Field(description="moved off it since it is blamed, by this control plane since its start")
    finding: str = Field(description="what is wrong, in a sentence")
    text: str = Field(description="`finding`, how many it touches, and what follows from it")


class TargetHealth(Answer):
    """What is measured."""

    state: Health
    evidence: str
    age_ms: float | None
    blame: VerdictAnswer | None


class TargetCapacity(Answer):
    """What fits."""

    sessions: int
    capacity_sessions: int = Field(description="0: none is declared; machines have none of their own")
    headroom_pct: float | None
    agents_idle: int = Field(description="free places of agents")
    agents_busy: int = Field(description="places of agents that hold a session")


class TargetAnswer(Answer):
    """One target and its three facts."""

    kind: TargetKind
    id: str
    intent: str = Field(description="`mixed` where its parts differ")
    health: TargetHealth
    capacity: TargetCapacity


class TargetList(Answer):
    """Targets by kind and id."""

    items: list[TargetAnswer]
    next: str | None


def verdict_json(view: View, verdict: Verdict, now: int) -> dict[str, object]:
    """Return the JSON form of a verdict."""
    found, own = verdict.evidence, selves(view, verdict.component)
    sessions = _sessions(view, verdict)
    return {
        "kind": verdict.component.kind,
        "id": verdict.component.id,
        "confidence": round(verdict.confidence_ppm / 1e6, 4),
        "sure": verdict.is_sure and not view.blame.frozen,
        "windows": verdict.windows,
        "since": rfc3339(verdict.since),
        "expires_at": rfc3339(verdict.expires_at),
        "action": verdict.action,
        "evidence": {
            "vantages_bad": found.vantages_bad,
            "vantages": found.vantages,
            "providers": found.providers,
            "loss_pct": round(found.loss_ppm / 1e4, 2),
            "failed_pct": round(found.failed_ppm / 1e4, 2),
            "probes": found.probes,
            "outcomes": found.outcomes,
            "sources": [*found.sources, *(["self_report"] if own.agrees else [])],
            "self_report": own.text,
            "age_ms": ms(max(0, now - found.newest_at)) if found.newest_at else None,
        },
        "alternatives": [
            {"kind": a.component.kind, "id": a.component.id, "confidence": round(a.confidence_ppm / 1e6, 4)}
            for a in verdict.alternatives
        ],
        "sessions": sessions,
        "sessions_moved": view.moved.get(verdict.component, 0),
        "finding": verdict.text,
        "text": f"{verdict.text} {_outlook(view, verdict, sessions)}",
    }


def _outlook(view: View, verdict: Verdict, sessions: int | None) -> str:
    """How many it touches, how many were brought away, and whether anybody must do anything."""
    moved = view.moved.get(verdict.component, 0)
    touched = f"{moved} sessions moved; " if moved else ""
    touched += "" if sessions is None else f"{sessions} sessions are on it; "
    if view.blame.frozen:
        return f"{touched}automation is frozen: {view.blame.frozen_reason}."
    if moved and not sessions:
        return f"{touched}nothing to do."
    if not verdict.is_sure:
        return f"{touched}probes are being sent to make sure."
    return f"{touched}{_ADVICE[verdict.action]}."


_ADVICE = {
    Action.EJECT_NODE: "cordon the node, its data center is well",
    Action.DRAIN_DATA_CENTER: "drain the data center if it lasts",
    Action.DRAIN_PROVIDER_REGION: "drain the provider in this region if it lasts",
    Action.DRAIN_PROVIDER: "drain the provider",
    Action.EJECT_TARGET: "take its agents out of use; the edges are well",
    Action.STEER_GROUP: "nothing to drain, another way is better",
    Action.TELL_SUPPORT: "nothing to drain, every provider is affected alike",
    Action.DISCARD_VANTAGE: "nothing to do but repair the prober, what it speaks of is well",
    Action.WATCH: "nothing to do yet",
    Action.NONE: "nothing to do",
}


def _sessions(view: View, verdict: Verdict) -> int | None:
    """Live sessions on what is blamed, where they are counted."""
    chosen = on_component(view.inventory.data_centers.values(), verdict.component)
    return None if chosen is None else sum(view.counters.sessions.get(dc.id, 0) for dc in chosen)


def target_json(view: View, target: Target, now: int) -> dict[str, object]:
    """Return the JSON form of a target's three facts."""
    health, fits = target.health, target.capacity
    left = None if fits.limit <= 0 else round(max(0.0, 100.0 * (1 - fits.sessions / fits.limit)), 2)
    return {
        "kind": target.kind,
        "id": target.id,
        "intent": target.intent,
        "health": {
            "state": health.state,
            "evidence": health.evidence,
            "age_ms": ms(max(0, now - health.evidence_at)) if health.evidence_at else None,
            "blame": None if health.verdict is None else verdict_json(view, health.verdict, now),
        },
        "capacity": {
            "sessions": fits.sessions,
            "capacity_sessions": fits.limit,
            "headroom_pct": left,
            "agents_idle": fits.agents_idle,
            "agents_busy": fits.agents_busy,
        },
    }


def frozen_json(blame: Blame) -> dict[str, object]:
    """Return whether automation is frozen, why, and when blame was last judged."""
    return {"frozen": blame.frozen, "frozen_reason": blame.frozen_reason, "judged_at": known_rfc3339(blame.at)}
