"""Selectors, drains and their plans."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from router.core.drain import DrainPlan, DrainRequest, Practice, Refusal, Shift, in_words, next_at
from router.core.model import (
    ID_REGEX,
    DataCenterId,
    Drain,
    DrainMode,
    DrainOrigin,
    DrainState,
    Micros,
    NodeId,
    ProviderId,
    RegionId,
    Selector,
)
from router.core.tables import DrainProgress
from router.schemas.fields import PRINTABLE, Answer, Body, Flag, Id, Reason, Time
from router.schemas.units import known_rfc3339, micros, rfc3339

PARTS = ("provider", "region", "data_center", "node")


class SelectorBody(Body):
    """What to act on; all given parts must match."""

    provider: Id | None = None
    region: Id | None = None
    data_center: Id | None = None
    node: Id | None = None

    @model_validator(mode="after")
    def _something(self) -> Self:
        if not any((self.provider, self.region, self.data_center, self.node)):
            raise PydanticCustomError("selector", "must name a provider, region, data_center or node")
        return self

    def core(self) -> Selector:
        """Map to the core type."""
        return Selector(
            None if self.provider is None else ProviderId(self.provider),
            None if self.region is None else RegionId(self.region),
            None if self.data_center is None else DataCenterId(self.data_center),
            None if self.node is None else NodeId(self.node),
        )


def parse_selector(text: str) -> SelectorBody:
    """``provider=oracle,region=singapore`` -> selector. Raises ``ValueError`` with the rule that was broken."""
    parts: dict[str, str] = {}
    for part in text.split(","):
        name, equals, value = part.strip().partition("=")
        if not equals or name not in PARTS:
            raise ValueError(f"each part must be one of {', '.join(f'{known}=ID' for known in PARTS)}")
        if name in parts:
            raise ValueError(f"{name} is given twice")
        if not ID_REGEX.match(value):
            raise ValueError(f"{name} must be an id of lower-case letters, digits and dashes")
        parts[name] = value
    return SelectorBody.model_validate(parts)


def selector_text(selector: Selector) -> str:
    """Selector -> ``provider=oracle,region=singapore``."""
    values = (selector.provider, selector.region, selector.data_center, selector.node)
    return ",".join(f"{name}={value}" for name, value in zip(PARTS, values, strict=True) if value is not None)


SelectorText = Annotated[str, StringConstraints(min_length=1, max_length=300, pattern=PRINTABLE)]


class DrainBody(Body):
    """A drain to plan or to start."""

    selector: SelectorBody | SelectorText = Field(
        description="`provider=oracle,region=singapore` or the same as object"
    )
    mode: DrainMode = DrainMode.SOFT
    reason: Reason = ""
    deadline_s: Annotated[int, Field(strict=True, ge=1, le=30 * 86_400)] | None = None
    expires_at: Time | None = None
    dry_run: Flag = False
    force: Flag = False
    stage_s: Annotated[int, Field(strict=True, ge=0, le=3_600)] | None = Field(
        default=None, description="how long a soft drain keeps each share of new sessions; 0: no stages"
    )

    @model_validator(mode="after")
    def _selects(self) -> Self:
        if isinstance(self.selector, str):
            try:
                parse_selector(self.selector)
            except ValueError as error:
                raise PydanticCustomError("selector", "selector: {rule}", {"rule": str(error)}) from None
        return self

    def core(self) -> DrainRequest:
        """Map to the core type."""
        selector = parse_selector(self.selector) if isinstance(self.selector, str) else self.selector
        expires_at = None if self.expires_at is None else micros(self.expires_at)
        return DrainRequest(
            selector.core(),
            self.mode,
            self.reason,
            self.deadline_s,
            expires_at,
            self.force,
            stage_s=self.stage_s,
        )


class UndoBody(Body):
    """How to undo a drain."""

    force: Flag = Field(
        default=False, description="also when its targets are not known to be fit, and all users at once"
    )


class ShiftAnswer(Answer):
    """How many sessions would go from one data center to another."""

    source: str = Field(alias="from")
    target: str = Field(alias="to")
    sessions: int


class RefusalAnswer(Answer):
    """Why a drain is refused: the rule, the number, the limit and how to insist."""

    rule: str
    message: str
    value: float
    limit: float
    override: str
    shortfall: float
    cure: str


class HeadroomAnswer(Answer):
    """Free share of the edges' capacity in per cent: now, afterwards, and if the largest that is left fails on top."""

    now_pct: float | None
    after_pct: float | None
    after_next_loss_pct: float | None
    next_loss: str | None


class AgentsBehindAnswer(Answer):
    """Places of agents in a target, and how many sessions will lose their agent when the drain's time is over."""

    held: int
    idle: int
    cut: int


class ForecastAnswer(Answer):
    """The sessions that must fit while the drain lasts, and what that number rests on."""

    sessions: int
    basis: str


class StageAnswer(Answer):
    """What happens, and how many seconds after the start."""

    after_s: int
    what: str


class DrainAnswer(Answer):
    """A drain as it is."""

    id: str
    selector: str
    mode: DrainMode
    state: DrainState
    targets: list[str]
    previous: dict[str, str]
    reason: str
    created_at: str
    created_by: str
    deadline_at: str | None
    expires_at: str | None
    sessions_at_start: int
    sessions_left: int
    finished_at: str | None
    revision: int
    origin: DrainOrigin
    nodes: list[str]
    share_pct: float
    note: str
    expired: bool
    cut_at: str | None
    routes_through: int
    agents_behind: dict[str, int]
    agents_left: int
    rate_per_s: float
    eta_s: int | None
    blocked_by: list[str]
    outcome: str


class PracticeAnswer(Answer):
    """A drain that is practised every week."""

    selector: str
    at: str
    next_at: str


class DrainList(Answer):
    """One page of drains, newest first, and what the calendar says."""

    items: list[DrainAnswer]
    next: str | None
    practices: list[PracticeAnswer]


def practice_json(practice: Practice, now: Micros) -> dict[str, object]:
    """A practice of the calendar and when it is due next."""
    at, due = f"{in_words(practice.minute)} UTC", next_at(practice, now)
    return {"selector": selector_text(practice.selector), "at": at, "next_at": rfc3339(due)}


class DrainPlanAnswer(Answer):
    """What a drain does; ``drain`` is null when it was only planned."""

    id: str | None
    dry_run: bool
    targets: list[str]
    sessions_to_move: int
    sessions: dict[str, int]
    shifts: list[ShiftAnswer]
    agents_behind: dict[str, int]
    routes_through: int
    headroom_after_pct: float | None
    refusals: list[RefusalAnswer]
    drain: DrainAnswer | None
    nodes: list[str]
    headroom: HeadroomAnswer
    agents: dict[str, AgentsBehindAnswer]
    forecast: ForecastAnswer
    delay_growth_p95_ms: float | None
    timeline: list[StageAnswer]
    notes: list[str]


def shifts_json(shifts: Iterable[Shift]) -> list[dict[str, object]]:
    """Return the JSON form of shifts."""
    return [{"from": shift.source, "to": shift.target, "sessions": shift.sessions} for shift in shifts]


def refusals_json(refusals: Iterable[Refusal]) -> list[dict[str, object]]:
    """Return the JSON form of refusals."""
    return [
        {
            "rule": r.rule,
            "message": r.message,
            "value": r.value,
            "limit": r.limit,
            "override": r.override,
            "shortfall": r.shortfall,
            "cure": r.cure,
        }
        for r in refusals
    ]


def progress_json(progress: DrainProgress | None) -> dict[str, object]:
    """Return the JSON form of a drain's progress; of one that is not under way nothing is left."""
    found = progress or DrainProgress(0, 0, 0.0, None)
    return {
        "sessions_left": found.sessions_left,
        "agents_left": found.agents_left,
        "rate_per_s": found.rate_per_s,
        "eta_s": found.eta_s,
        "blocked_by": list(found.blocked_by),
    }


def drain_json(
    drain: Drain, sessions_left: int, progress: DrainProgress | None = None, *, expired: bool = False
) -> dict[str, object]:
    """Return the JSON form of a drain."""
    return progress_json(progress) | {
        "id": drain.id,
        "selector": selector_text(drain.selector),
        "mode": drain.mode,
        "state": drain.state,
        "targets": list(drain.targets),
        "previous": {str(dc): intent.value for dc, intent in drain.previous.items()},
        "reason": drain.reason,
        "created_at": rfc3339(drain.created_at),
        "created_by": drain.created_by,
        "deadline_at": known_rfc3339(drain.deadline_at),
        "expires_at": known_rfc3339(drain.expires_at),
        "sessions_at_start": drain.sessions_at_start,
        "sessions_left": sessions_left,
        "finished_at": known_rfc3339(drain.finished_at),
        "revision": drain.revision,
        "origin": drain.origin,
        "nodes": list(drain.nodes),
        "share_pct": drain.share_ppm / 10_000,
        "note": drain.note,
        "expired": expired,
        "cut_at": known_rfc3339(drain.cut_at),
        "routes_through": drain.routes_through,
        "agents_behind": {str(dc): count for dc, count in drain.agents_behind.items()},
        "outcome": drain.outcome,
    }


def _forethought(plan: DrainPlan) -> dict[str, object]:
    """What a plan says beyond its numbers of sessions."""
    free = plan.headroom
    return {
        "nodes": list(plan.nodes),
        "headroom": {
            "now_pct": free.now_pct,
            "after_pct": free.after_pct,
            "after_next_loss_pct": free.after_next_loss_pct,
            "next_loss": free.next_loss,
        },
        "agents": {str(dc): {"held": a.held, "idle": a.idle, "cut": a.cut} for dc, a in plan.agents.items()},
        "forecast": {"sessions": plan.forecast.sessions, "basis": plan.forecast.basis},
        "delay_growth_p95_ms": None if plan.growth_p95_us is None else plan.growth_p95_us / 1000,
        "timeline": [{"after_s": stage.after_s, "what": stage.what} for stage in plan.timeline],
        "notes": list(plan.notes),
    }


def plan_json(plan: DrainPlan, drain: dict[str, object] | None) -> dict[str, object]:
    """Return the JSON form of a drain's plan, with the drain if one was started."""
    after = plan.headroom_after_pct
    return {
        "id": None if drain is None else drain["id"],
        "dry_run": drain is None,
        "targets": list(plan.targets),
        "sessions_to_move": sum(plan.sessions.values()),
        "sessions": {str(dc): count for dc, count in plan.sessions.items()},
        "shifts": shifts_json(plan.shifts),
        "agents_behind": {str(dc): count for dc, count in plan.agents_behind.items()},
        "routes_through": plan.routes_through,
        "headroom_after_pct": None if after is None else round(after, 2),
        "refusals": refusals_json(plan.refusals),
        "drain": drain,
    } | _forethought(plan)


Verb = Literal["pause", "resume", "undo"]
