"""What a write gives back: its result, and what it changed for whoever keeps counts.

Differences are never worked out per operation. Every write of a session or an agent tells the :class:`Tally` the row
before and after; what each contributes is defined once here, so the sums agree with :func:`count_all` by construction.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from sqlalchemy import ColumnElement, Connection, Table, case, func, select, text

from router.core.messages import Change, SessionsChanged
from router.core.model import Agent, AgentState, Counters, DataCenterId, NodeId, PoolId
from router.core.pools import HOLDING
from router.store.tables import LIVE, LIVE_LEG, ON_OPEN_MACHINE, OPEN_TO_TAKERS, READY, agents, legs, sessions

T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Commit(Generic[T_co]):
    """A durable write: its result, and the changes to put into the inbox.

    ``waiting`` is false if nobody waited for the agents that it made free; whoever came just then is seen to a second
    later.
    """

    result: T_co
    changes: tuple[Change, ...] = ()
    waiting: bool = True


class Tally:
    """Adds up how one transaction changes the counters."""

    def __init__(self) -> None:
        self._sessions: Counter[DataCenterId] = Counter()
        self._idle: Counter[tuple[PoolId, DataCenterId]] = Counter()
        self._busy: Counter[tuple[PoolId, DataCenterId]] = Counter()
        self._began: Counter[tuple[PoolId, DataCenterId]] = Counter()
        self._idle_on: Counter[NodeId] = Counter()
        self._held_on: Counter[NodeId] = Counter()

    def session(self, before: DataCenterId | None, after: DataCenterId | None) -> None:
        """A session's edge before and after; None while it does not live."""
        if before is not None:
            self._sessions[before] -= 1
        if after is not None:
            self._sessions[after] += 1

    def began(self, pool: PoolId | None, edge: DataCenterId) -> None:
        """A session began that needs an agent, or waits for one."""
        if pool is not None:
            self._began[pool, edge] += 1

    def agent(self, before: Agent | None, after: Agent | None) -> None:
        """An agent's row before and after; None while there is none."""
        for agent, sign in ((before, -1), (after, 1)):
            if agent is not None and agent.state in HOLDING:
                free = agent.capacity - agent.held if agent.state is AgentState.READY and not agent.cordoned else 0
                self._busy[agent.pool, agent.data_center] += sign * agent.held
                self._idle[agent.pool, agent.data_center] += sign * free
                if agent.node is not None:
                    self._held_on[agent.node] += sign * agent.held
                    self._idle_on[agent.node] += sign * free

    def opened(self, node: NodeId, pool: PoolId, data_center: DataCenterId, places: int) -> None:
        """So many places of a machine's agents can be taken again; below 0: no longer."""
        self._idle[pool, data_center] += places
        self._idle_on[node] += places

    def changes(self) -> tuple[Change, ...]:
        """The differences that are not zero, in id order; nothing if nothing moved."""
        change = SessionsChanged(
            {dc: n for dc, n in sorted(self._sessions.items()) if n},
            {place: n for place, n in sorted(self._idle.items()) if n},
            {place: n for place, n in sorted(self._busy.items()) if n},
            dict(sorted(self._began.items())),
            {node: n for node, n in sorted(self._idle_on.items()) if n},
            {node: n for node, n in sorted(self._held_on.items()) if n},
        )
        return (change,) if change else ()


def count_all(connection: Connection) -> Counters:
    """Count live sessions per edge, and free and held places of agents per pool and data center."""
    per_edge = Counter(dict(_per_edge(connection, sessions, LIVE)))
    per_edge.update(dict(_per_edge(connection, legs, LIVE_LEG)))
    return replace(count_agents(connection), sessions={edge: per_edge[edge] for edge in sorted(per_edge)})


def count_agents(connection: Connection) -> Counters:
    """Count free and held places of agents per pool and data center."""
    place = (agents.c.pool, agents.c.data_center)
    free = case((OPEN_TO_TAKERS, agents.c.capacity - agents.c.held), else_=0)
    query = select(*place, func.sum(free), func.sum(agents.c.held)).where(agents.c.state.in_(HOLDING)).group_by(*place)
    found = sorted(((PoolId(pool), DataCenterId(dc)), int(n), int(m)) for pool, dc, n, m in connection.execute(query))
    idle_on, held_on = machines(connection)
    idle, held = ({where: row[k] for where, *row in found if row[k]} for k in range(2))
    return Counters({}, idle, held, idle_on, held_on)


def machines(connection: Connection) -> tuple[dict[NodeId, int], dict[NodeId, int]]:
    """Free and held places of agents by their machine, where they name one."""
    free = case((OPEN_TO_TAKERS, agents.c.capacity - agents.c.held), else_=0)
    query = select(agents.c.node, func.sum(free), func.sum(agents.c.held)).where(agents.c.node.is_not(None))
    rows = connection.execute(query.where(agents.c.state.in_(HOLDING)).group_by(agents.c.node))
    found = sorted((NodeId(str(node)), int(n), int(m)) for node, n, m in rows)
    return {node: n for node, n, _ in found if n}, {node: n for node, _, n in found if n}


Closed = tuple[NodeId, PoolId, DataCenterId]


def closed(connection: Connection, nodes: Sequence[NodeId]) -> Counter[Closed]:
    """Places of agents on machines that would be free if these took new sessions: what their intent makes no use of."""
    free = func.sum(agents.c.capacity - agents.c.held)
    place = (agents.c.node, agents.c.pool, agents.c.data_center)
    query = select(*place, free).where(agents.c.node.in_(nodes), READY, ~agents.c.cordoned).group_by(*place)
    rows = connection.execute(query.where(text(f"NOT ({ON_OPEN_MACHINE})")))
    return Counter({(NodeId(str(node)), PoolId(pool), DataCenterId(dc)): int(n) for node, pool, dc, n in rows})


def _per_edge(connection: Connection, table: Table, live: ColumnElement[bool]) -> Iterator[tuple[DataCenterId, int]]:
    query = select(table.c.edge, func.count()).where(live, table.c.edge.is_not(None)).group_by(table.c.edge)
    yield from ((DataCenterId(edge), n) for edge, n in connection.execute(query))
