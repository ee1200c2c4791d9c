"""Live sessions in bulk: rows as the store writes them, without the requests that would have made them.

Every row goes through the store's own mapping (:func:`router.store.rows.session_row`) and its own bulk insert, with the
agents that hold them, the leases of their nodes and the first two events of their trails. What is left out is the way
there: placing, taking and attaching a million users one by one takes an hour and shows nothing that ``take`` does not.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

from sqlalchemy import Connection, delete, func, insert, select, update

from bench._case import progress
from router.core.model import (
    Agent,
    AgentId,
    AgentState,
    Client,
    DataCenterId,
    Event,
    NodeId,
    PoolId,
    Session,
    SessionId,
    SessionState,
    TrafficClass,
)
from router.store import bulk
from router.store.engine import Database
from router.store.rows import row_of, session_row
from router.store.tables import agents, events, node_leases, sessions

PER_AGENT, ROOM = 50, 20  # sessions that each agent holds, and places that it has left
AT_ONCE = 5_000
HEARD_S = 3_600
HELD_S = 60  # the first leases, from the end of the filling


def fill(url: str, pool: str, hubs: list[str], nodes: list[tuple[str, str]], count: int) -> float:
    """Write ``count`` active sessions, spread over the nodes (id, data center); the seconds that it took."""
    database, started = Database(url), time.monotonic()
    now = int(time.time() * 1e6)
    holders = [_agent(number, pool, hubs, now) for number in range(-(-count // PER_AGENT))]
    for start in range(0, len(holders), AT_ONCE):
        part = [row_of(agent) for agent in holders[start : start + AT_ONCE]]
        database.write(lambda c, part=part: bulk.insert(c, agents, part))  # type: ignore[misc]
    for start in range(0, count, AT_ONCE):
        made = list(_sessions(range(start, min(count, start + AT_ONCE)), holders, nodes, now))
        trail = [row_of(event) for session in made for event in _trail(session, now)]
        database.write(lambda c, made=made: bulk.insert(c, sessions, [session_row(one) for one in made]))  # type: ignore[misc]
        database.write(lambda c, trail=trail: bulk.insert(c, events, trail))  # type: ignore[misc]
        if start % (20 * AT_ONCE) == 0:
            progress(f"sessions: {start} rows written")
    until = int(time.time() * 1e6) + HELD_S * 1_000_000
    leases = [{"node": node, "epoch": 1, "expires_at": until} for node, _ in nodes]

    def hold(connection: Connection) -> None:
        connection.execute(delete(node_leases))
        connection.execute(insert(node_leases), leases)
        # Nobody plays the agents here: they count as heard until the run is over.
        connection.execute(update(agents).values(seen_at=until + HEARD_S * 1_000_000))

    database.write(hold)
    database.close()
    return time.monotonic() - started


def _agent(number: int, pool: str, hubs: list[str], now: int) -> Agent:
    return Agent(
        AgentId(f"a-{number:06}"), PoolId(pool), DataCenterId(hubs[number % len(hubs)]), state=AgentState.READY,
        address="127.0.0.9:7424", seen_at=now, epoch=PER_AGENT, capacity=PER_AGENT + ROOM, held=PER_AGENT,
        served=PER_AGENT, since=now,
    )  # fmt: skip


def _sessions(numbers: range, holders: list[Agent], nodes: list[tuple[str, str]], now: int) -> Iterator[Session]:
    for number in numbers:
        agent, (node, edge) = holders[number // PER_AGENT], nodes[number % len(nodes)]
        yield Session(
            SessionId(f"s-{number:012x}"), SessionState.ACTIVE, TrafficClass.AGENT,
            Client(f"10.{number >> 8 & 255}.{number & 255}.0/24", 64_512 + number % 900, None, 50.0, 8.0),
            DataCenterId(edge), edge_node=NodeId(node), edges=(DataCenterId(edge),), epoch=1, created_at=now,
            lease_expires_at=now, pool=agent.pool, agent=agent.id, agent_data_center=agent.data_center,
            agent_epoch=number % PER_AGENT + 1, metadata={"tenant": f"t-{number % 1_000}"},
            reasons=("nearest edge with room", "agent with the shortest way"), held_by=NodeId(node),
        )  # fmt: skip


def _trail(session: Session, now: int) -> Iterator[Event]:
    detail = {"edge": session.edge, "agent": session.agent, "epoch": session.epoch}
    yield Event(now, "session.started", session.id, reason="; ".join(session.reasons), detail=detail)
    yield Event(now, "session.attached", session.id, f"node:{session.held_by}", detail=detail)


def live(url: str) -> int:
    """Sessions that have not ended, counted from the rows."""
    database = Database(url)
    counted = select(func.count()).select_from(sessions).where(sessions.c.state != SessionState.ENDED)
    try:
        return database.read(lambda c: c.execute(counted).scalar_one())
    finally:
        database.close()
