"""Further legs of a session: bodies and answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from router.core.model import Leg, SessionState
from router.schemas.clients import ClientAnswer, ClientBody, client_json
from router.schemas.fields import Answer, Body, Id
from router.schemas.routes import Backups, Path
from router.schemas.sessions import BoundAgent, Edge, Labels, RankedEdgeAnswer
from router.schemas.units import known_rfc3339, rfc3339


class LegBody(Body):
    """A participant who joins a session: a person (``client``) or another agent (``pool``)."""

    client: ClientBody | None = None
    pool: Id | None = None
    metadata: Annotated[Labels, Field(max_length=32)] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        if (self.client is None) == (self.pool is None):
            raise PydanticCustomError("participant", "must have either client or pool")
        return self


class LegAnswer(Answer):
    """A leg; ``token`` is given to who adds or resumes it, and to nobody else. An agent's leg has no edge."""

    id: str
    session: str
    state: SessionState
    client: ClientAnswer | None
    edge: Edge | None
    edges: list[RankedEdgeAnswer]
    agent: BoundAgent | None
    pool: str | None
    generation: int
    forward: Path | None
    back: Path | None = Field(alias="return")
    backups: Backups
    epoch: int
    token: str | None
    created_at: str
    lease_expires_at: str | None
    grace_s: int
    moved_from: str | None
    metadata: dict[str, str]
    reasons: list[str]
    ended_at: str | None
    end_reason: str | None


_SHARED: Sequence[str] = ("generation", "forward", "return", "backups", "token", "grace_s")


def leg_json(leg: Leg, as_session: dict[str, object]) -> dict[str, object]:
    """Return the JSON form of a leg, given that of its form as a session."""
    person = leg.edge is not None
    return {
        **{name: as_session[name] for name in _SHARED},
        "id": leg.id,
        "session": leg.session,
        "state": leg.state,
        "client": client_json(leg.client) if person else None,
        "edge": as_session["edge"] if person else None,
        "edges": as_session["edges"] if person else [],
        "agent": None if person else as_session["agent"],
        "pool": leg.pool,
        "epoch": leg.epoch,
        "created_at": rfc3339(leg.created_at),
        "lease_expires_at": rfc3339(leg.lease_expires_at) if person else None,
        "moved_from": leg.moved_from,
        "metadata": dict(leg.metadata),
        "reasons": list(leg.reasons),
        "ended_at": known_rfc3339(leg.ended_at),
        "end_reason": leg.end_reason,
    }
