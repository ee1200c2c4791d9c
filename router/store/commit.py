"""What a write gives back: its result, and what it changed for whoever keeps counts.

Differences are never worked out per operation. Every write of a session or an agent tells the :class:`Tally` the row
before and after; what each contributes is defined once here, so the sums agree with :func:`count_all` by construction.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from sqlalchemy import ColumnElement, Connection, Table, case, func, select

from router.core.messages import Change, SessionsChanged
from router.core.model import Agent, AgentState, Counters, DataCenterId, PoolId
from router.core.pools import HOLDING
from router.store.tables import LIVE, LIVE_LEG, OPEN_TO_TAKERS, agents, legs, sessions

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
                self._busy[agent.pool, agent.data_center] += sign * agent.held
                if agent.state is AgentState.READY and not agent.cordoned:
                    self._idle[agent.pool, agent.data_center] += sign * (agent.capacity - agent.held)

    def changes(self) -> tuple[Change, ...]:
        """The differences that are not zero, in id order; nothing if nothing moved."""
        change = SessionsChanged(
            {dc: n for dc, n in sorted(self._sessions.items()) if n},
            {place: n for place, n in sorted(self._idle.items()) if n},
            {place: n for place, n in sorted(self._busy.items()) if n},
            dict(sorted(self._began.items())),
        )
        return (change,) if change.sessions or change.idle or change.busy or change.began else ()


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
    return Counters({}, {where: n for where, n, _ in found if n}, {where: n for where, _, n in found if n})


def _per_edge(connection: Connection, table: Table, live: ColumnElement[bool]) -> Iterator[tuple[DataCenterId, int]]:
    query = select(table.c.edge, func.count()).where(live, table.c.edge.is_not(None)).group_by(table.c.edge)
    yield from ((DataCenterId(edge), n) for edge, n in connection.execute(query))
