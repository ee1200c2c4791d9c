"""What is asked of a drain, and what a preflight answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from router.core.model import DataCenterId, DrainMode, DrainOrigin, Micros, NodeId, Selector

STAGE_S = 15  # per share of new sessions: a few rounds of reports, so that a gate sees what the last share did
LONGEST_S = 72 * 3_600  # a drain that lasts longer is a decommissioning; the same cap as AWS ARC's zonal shift
AGENTS_S = 2 * 3_600  # how long agents may finish their sessions unless a deadline is given: the longest conversation


@dataclass(frozen=True, slots=True)
class DrainRequest:
    """What somebody asks for."""

    selector: Selector
    mode: DrainMode = DrainMode.SOFT
    reason: str = ""
    deadline_s: int | None = None
    expires_at: Micros | None = None
    force: bool = False
    origin: DrainOrigin = DrainOrigin.OPERATOR
    stage_s: int | None = None  # None: ``STAGE_S`` where stages mean something; 0: no stages


@dataclass(frozen=True, slots=True)
class Shift:
    """Live sessions that would go from one edge to another."""

    source: DataCenterId
    target: DataCenterId
    sessions: int


@dataclass(frozen=True, slots=True)
class Refusal:
    """A broken constraint: what is, what must be, what is missing, what would cure it, and how to insist."""

    rule: str
    message: str
    value: float
    limit: float
    override: str
    shortfall: float = 0
    cure: str = ""


@dataclass(frozen=True, slots=True)
class Headroom:
    """Free share of the remaining edges' capacity, in per cent; ``None`` where none of them declares one."""

    now_pct: float | None = None
    after_pct: float | None = None
    after_next_loss_pct: float | None = None  # when the largest remaining edge is lost on top
    next_loss: DataCenterId | None = None


@dataclass(frozen=True, slots=True)
class AgentsBehind:
    """Held and free places of agents in one target, and how many sessions will still be held at the deadline."""

    held: int
    idle: int
    cut: int


@dataclass(frozen=True, slots=True)
class Forecast:
    """The sessions that must fit while the drain lasts, and what that number rests on."""

    sessions: int
    basis: str


@dataclass(frozen=True, slots=True)
class Stage:
    """One line of what will happen and when, counted from the start."""

    after_s: int
    what: str


@dataclass(frozen=True, slots=True)
class DrainPlan:
    """What a drain would do; printable, judged before anything happens."""

    targets: tuple[DataCenterId, ...]
    sessions: Mapping[DataCenterId, int]
    shifts: tuple[Shift, ...]
    agents_behind: Mapping[DataCenterId | NodeId, int] = field(default_factory=dict)
    routes_through: int = 0
    headroom_after_pct: float | None = None  # None: no remaining edge declares a capacity
    refusals: tuple[Refusal, ...] = ()
    nodes: tuple[NodeId, ...] = ()
    headroom: Headroom = field(default_factory=Headroom)
    agents: Mapping[DataCenterId | NodeId, AgentsBehind] = field(default_factory=dict)
    forecast: Forecast = field(default_factory=lambda: Forecast(0, ""))
    growth_p95_us: int | None = None  # of the one-way delay of the sessions that move; None: not known
    timeline: tuple[Stage, ...] = ()
    notes: tuple[str, ...] = ()  # worth knowing, and no reason to refuse
