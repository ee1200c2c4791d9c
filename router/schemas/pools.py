"""Agents of pools that register natively."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from router.core.model import Agent, AgentId, AgentState, DataCenterId, NodeId, PoolId, SessionId
from router.schemas.fields import Answer, Body, Epoch, Id
from router.schemas.units import known_rfc3339, rfc3339

MAX_CAPACITY = 1_000  # sessions that one agent may hold at once
_ID = r"[a-z0-9][a-z0-9-]{0,62}"
Holding = Annotated[str, StringConstraints(pattern=rf"^{_ID}(/{_ID})?$")]  # a session, or SESSION/LEG
Word = Annotated[str, StringConstraints(pattern=r"^[!-~]*$", max_length=128)]
Leases = Sequence[tuple[SessionId, int]]


class AgentBody(Body):
    """An agent that offers itself; ``address`` is where edges send its media."""

    id: Id
    data_center: Id
    node: Id | None = None
    address: Annotated[str, StringConstraints(pattern=r"^[!-~]+$", min_length=1, max_length=255)]
    state: Literal["announced", "warming", "ready"] = "ready"
    capacity: Annotated[int, Field(ge=1, le=MAX_CAPACITY, description="sessions that it can hold at once")] = 1
    nonce: Word = Field(default="", description="of this instance: another one after each start, and after each reset")
    version: Word = Field(default="", description="of its software")
    sessions: Annotated[list[Holding], Field(max_length=MAX_CAPACITY)] | None = Field(
        default=None, description="live sessions that it holds; default: those that it held when it was last heard of"
    )

    def core(self, pool: PoolId, now: int) -> Agent:
        """Map to the core type."""
        return Agent(
            id=AgentId(self.id),
            pool=pool,
            data_center=DataCenterId(self.data_center),
            node=None if self.node is None else NodeId(self.node),
            state=AgentState(self.state),
            address=self.address,
            seen_at=now,
            capacity=self.capacity,
            nonce=self.nonce,
            agent_version=self.version,
        )


class BeatBody(Body):
    """An agent lives; ``state`` says how far it has come up."""

    epoch: Epoch
    nonce: Word | None = Field(default=None, description="if given it must be the one that registered last")
    state: Literal["warming", "ready"] | None = None


class ReleaseBody(Body):
    """A lease that is given up: that of one session, or of all that the agent holds."""

    epoch: Epoch
    session: Holding | None = None


class LeaseAnswer(Answer):
    """A session that an agent holds, and the fencing number of its lease."""

    id: str
    epoch: int


class AgentAnswer(Answer):
    """An agent as it is kept."""

    id: str
    pool: str
    data_center: str
    node: str | None
    state: AgentState
    epoch: int = Field(description="fencing number of its present lease")
    session: str | None = Field(description="of an agent that holds one at a time")
    sessions: list[LeaseAnswer]
    capacity: int
    held: int
    served: int = Field(description="sessions that this instance has had")
    cordoned: bool
    version: str
    address: str
    since: str = Field(description="when it came into its state")
    deadline_at: str | None = Field(description="when it must have left it")
    seen_at: str


class RegisteredAnswer(AgentAnswer):
    """An agent that registered, and what it must do."""

    drop: list[str] = Field(description="sessions it listed that are not its own")
    heartbeat_s: float = Field(description="how often it should be heard")


class AgentList(Answer):
    """One page of agents."""

    items: list[AgentAnswer]
    next: str | None


def agent_json(agent: Agent, leases: Leases) -> dict[str, object]:
    """Return the JSON form of an agent."""
    return {
        "id": agent.id,
        "pool": agent.pool,
        "data_center": agent.data_center,
        "node": agent.node,
        "state": agent.state,
        "epoch": agent.epoch,
        "session": agent.session,
        "sessions": [{"id": id, "epoch": epoch} for id, epoch in leases],
        "capacity": agent.capacity,
        "held": agent.held,
        "served": agent.served,
        "cordoned": agent.cordoned,
        "version": agent.agent_version,
        "address": agent.address,
        "since": rfc3339(agent.since),
        "deadline_at": known_rfc3339(agent.deadline_at),
        "seen_at": rfc3339(agent.seen_at),
    }
