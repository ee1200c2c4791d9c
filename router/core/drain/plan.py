"""What is asked of a drain, and what a preflight answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from router.core.model import DataCenterId, DrainMode, Micros, Selector


@dataclass(frozen=True, slots=True)
class DrainRequest:
    """What an operator asks for."""

    selector: Selector
    mode: DrainMode = DrainMode.SOFT
    reason: str = ""
    deadline_s: int | None = None
    expires_at: Micros | None = None
    force: bool = False


@dataclass(frozen=True, slots=True)
class Shift:
    """Live sessions that would go from one edge to another."""

    source: DataCenterId
    target: DataCenterId
    sessions: int


@dataclass(frozen=True, slots=True)
class Refusal:
    """A broken constraint: what is, what must be, and how to get past it."""

    rule: str
    message: str
    value: float
    limit: float
    override: str


@dataclass(frozen=True, slots=True)
class DrainPlan:
    """What a drain would do; printable, judged before anything happens."""

    targets: tuple[DataCenterId, ...]
    sessions: Mapping[DataCenterId, int]
    shifts: tuple[Shift, ...]
    agents_behind: Mapping[DataCenterId, int] = field(default_factory=dict)
    routes_through: int = 0
    headroom_after_pct: float | None = None  # None: no remaining edge declares a capacity
    refusals: tuple[Refusal, ...] = ()
