"""Agents of pools that register natively, and how many of them there are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from router.core.model import Agent, AgentId, AgentState, DataCenterId, Inventory, NodeId, PoolId, SessionId
from router.core.pools import COMING, HOLDING, STANDINGS, Places
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


class CapacityPlace(Answer):
    """A pool's agents in one data center; places, not agents, are counted as idle and busy."""

    data_center: str
    provider: str | None
    idle: int
    busy: int
    warming: int = Field(description="places of agents that come up or reset")
    cordoned: int = Field(description="agents that take no more sessions")
    states: dict[str, int] = Field(description="agents per state")


class CapacityAnswer(Answer):
    """How much of a pool there is."""

    pool: str
    idle: int
    busy: int
    warming: int
    queued: int = Field(description="sessions that wait for an agent")
    data_centers: list[CapacityPlace]


class CapacityList(Answer):
    """All pools in id order."""

    items: list[CapacityAnswer]
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


def capacity_json(
    inventory: Inventory, places: Sequence[Places], queued: Mapping[PoolId, int]
) -> list[dict[str, object]]:
    """Return the JSON form of all pools' capacity."""
    found = []
    for pool in inventory.pools:
        by_place: dict[DataCenterId, list[Places]] = {}
        for row in places:
            if row.pool == pool:
                by_place.setdefault(row.data_center, []).append(row)
        rows = [_place_json(inventory, dc, there) for dc, there in sorted(by_place.items())]
        sums = {name: sum(int(str(row[name])) for row in rows) for name in ("idle", "busy", "warming")}
        found.append({"pool": pool, **sums, "queued": queued.get(pool, 0), "data_centers": rows})
    return found


def _place_json(inventory: Inventory, id: DataCenterId, rows: Sequence[Places]) -> dict[str, object]:
    data_center = inventory.data_centers.get(id)
    states: Counter[str] = Counter()
    for row in rows:
        states[row.state.value] += row.agents
    free = (row.capacity - row.held for row in rows if STANDINGS[row.state].buffer and not row.cordoned)
    return {
        "data_center": id,
        "provider": None if data_center is None else data_center.provider,
        "idle": sum(free),
        "busy": sum(row.held for row in rows if row.state in HOLDING),
        "warming": sum(row.capacity for row in rows if row.state in COMING),
        "cordoned": sum(row.agents for row in rows if row.cordoned),
        "states": dict(sorted(states.items())),
    }
