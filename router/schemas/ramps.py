"""Ramps: what a data center on its way in has shown, and what it waits for."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from router.core.messages import Robot
from router.core.model import DataCenterId, Ramp, RampKind, RampState
from router.core.tables import Climb
from router.schemas.clients import ClientBody
from router.schemas.fields import Answer, Body, Flag, Id, Reason, Text
from router.schemas.pools import Word
from router.schemas.sessions import Metadata
from router.schemas.units import known_rfc3339, rfc3339

ERRANDS = r"^(direct|through|inward|outward|media|media_relayed|media_through)$"
MAX_ROBOTS = 1_000  # in one call


class RampBody(Body):
    """A data center that is to earn its users, or a version of a pool's agents."""

    data_center: Id | None = Field(default=None, description="for `new` and `return`")
    kind: RampKind = Field(
        default=RampKind.NEW,
        description="`new`: from nobody; `return`: from a tenth of its users; `version`: from a hundredth of a pool's",
    )
    pool: Id | None = Field(default=None, description="for `version`")
    version: Word = Field(default="", description="for `version`: as agents say when they register")
    reason: Reason = ""


class RobotBody(Body):
    """How one robot fared."""

    errand: Annotated[
        str, Field(pattern=r"^(direct|through|inward|outward|media|media_relayed|media_through)$", max_length=16)
    ]
    passed: Flag
    detail: Text = ""


class RobotsBody(Body):
    """What robots found on their way through the data center of a ramp."""

    runs: Annotated[list[RobotBody], Field(min_length=1, max_length=MAX_ROBOTS)]

    def core(self, data_center: DataCenterId) -> tuple[Robot, ...]:
        """Map to the core type."""
        return tuple(Robot(data_center, run.errand, run.passed, run.detail) for run in self.runs)


class CallBody(Body):
    """A robot that wants to call."""

    client: ClientBody = Field(description="where the robot is")
    pool: Id = Field(description="whose agent it is to talk to")
    metadata: Annotated[Metadata, Field(max_length=16)] = Field(default_factory=dict)


class HeardBody(Body):
    """How a robot's session went, as the robot saw it."""

    heard: Flag = Field(description="whether it heard its agent")
    detail: Text = Field(default="", description="what went wrong")


class ArmAnswer(Answer):
    """Sessions of one arm since the rung began."""

    begun: int
    settled: int = Field(description="of which enough is known for a verdict")
    set_up: int
    setup_failed: int
    ended: int
    dropped: int


class CourseAnswer(Answer):
    """Robots on one errand since the rung began."""

    tried: int
    failed: int


class ClimbAnswer(Answer):
    """What was seen on the present rung; lost in a restart, after which the rung begins anew."""

    canary: ArmAnswer
    control: ArmAnswer
    e_value: float = Field(description="of all tests together; at `limit` the ramp is rolled back")
    limit: float
    worst: str = Field(description="the test that speaks loudest")
    robots: dict[str, CourseAnswer]
    waits: list[str] = Field(description="what must still happen, with numbers")
    held: bool = Field(description="takes nobody until the sessions in flight have shown something")


class RampAnswer(Answer):
    """A ramp as it is; ``climb`` is null once it has ended."""

    id: str
    kind: RampKind
    data_center: str = Field(description="empty for a version")
    pool: str = Field(description="empty for a data center")
    version: str
    state: RampState
    share_pct: float
    reason: str
    attempt: int
    exposed: int = Field(description="sessions that were started there while it had to prove itself")
    created_at: str
    created_by: str
    since: str
    paused_from: RampState | None
    retry_at: str | None
    finished_at: str | None
    revision: int
    climb: ClimbAnswer | None


class RampList(Answer):
    """One page of ramps, newest first."""

    items: list[RampAnswer]
    next: str | None


def ramp_json(ramp: Ramp, climb: Climb | None) -> dict[str, object]:
    """Return the JSON form of a ramp."""
    return {
        "id": ramp.id,
        "kind": ramp.kind,
        "data_center": ramp.data_center,
        "pool": ramp.pool,
        "version": ramp.version,
        "state": ramp.state,
        "share_pct": ramp.share_ppm / 10_000,
        "reason": ramp.reason,
        "attempt": ramp.attempt,
        "exposed": ramp.exposed if climb is None else climb.exposed,
        "created_at": rfc3339(ramp.created_at),
        "created_by": ramp.created_by,
        "since": rfc3339(ramp.since),
        "paused_from": ramp.paused_from,
        "retry_at": known_rfc3339(ramp.retry_at),
        "finished_at": known_rfc3339(ramp.finished_at),
        "revision": ramp.revision,
        "climb": None if climb is None else _climb_json(climb),
    }


def _climb_json(climb: Climb) -> dict[str, object]:
    return {
        "canary": dict(climb.canary),
        "control": dict(climb.control),
        "e_value": climb.e_value,
        "limit": climb.limit,
        "worst": climb.worst,
        "robots": {name: {"tried": tried, "failed": failed} for name, (tried, failed) in climb.robots.items()},
        "waits": list(climb.waits),
        "held": climb.held,
    }
