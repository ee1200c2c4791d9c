"""Agents of pools that register natively."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints

from router.core.model import Agent, AgentId, AgentState, DataCenterId, NodeId, PoolId
from router.schemas.fields import Answer, Body, Epoch, Id
from router.schemas.units import rfc3339


class AgentBody(Body):
    """An agent that offers itself; ``address`` is where edges send its media."""

    id: Id
    data_center: Id
    node: Id | None = None
    address: Annotated[str, StringConstraints(pattern=r"^[!-~]+$", min_length=1, max_length=255)]

    def core(self, pool: PoolId, now: int) -> Agent:
        """Map to the core type."""
        node = None if self.node is None else NodeId(self.node)
        return Agent(AgentId(self.id), pool, DataCenterId(self.data_center), node, address=self.address, seen_at=now)


class LeaseBody(Body):
    """The fencing number of the lease that an agent believes to hold."""

    epoch: Epoch


class AgentAnswer(Answer):
    """An agent as it is kept."""

    id: str
    pool: str
    data_center: str
    node: str | None
    state: AgentState
    epoch: int = Field(description="fencing number of its present lease")
    session: str | None
    address: str
    seen_at: str


class AgentList(Answer):
    """One page of agents."""

    items: list[AgentAnswer]
    next: str | None


def agent_json(agent: Agent) -> dict[str, object]:
    """Return the JSON form of an agent."""
    return {
        "id": agent.id,
        "pool": agent.pool,
        "data_center": agent.data_center,
        "node": agent.node,
        "state": agent.state,
        "epoch": agent.epoch,
        "session": agent.session,
        "address": agent.address,
        "seen_at": rfc3339(agent.seen_at),
    }
