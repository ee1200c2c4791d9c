"""Many sessions started in one transaction: what a group commit does.

Callers that wait for the same disk may as well share one wait: their requests are collected while a transaction runs
and written together by the next one. Each request has an answer of its own, a value, never an exception: the session,
None when no agent is free, or the refusal. Statements are per batch, not per request, wherever the database can do
many rows at once.

Agents are locked, assigned in the order of the requests, and written back; PostgreSQL skips rows that another
transaction has locked, so that takers of one pool do not queue behind each other. An agent with room for several
sessions is filled before an empty one is touched, so that empty ones can be given back.

Idempotency: two transactions that insert the same key collide on its primary key; the loser is run again by
:meth:`Database.write` and finds the winner's session. Within a batch the first request with a key is the one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from sqlalchemy import Connection, bindparam, case, delete, insert, select, update

from router.core.errors import InputRejected
from router.core.model import Agent, AgentState, DataCenterId, Event, Micros, NodeId, PoolId, Session, SessionId
from router.store import events
from router.store.commit import Commit, Tally
from router.store.resources import unknown
from router.store.rows import read_agent, read_session, session_row
from router.store.tables import READY, agents, data_centers, idempotency, nodes, pools, sessions

IDEMPOTENCY_US = 24 * 3600 * 1_000_000  # longer than any client retries, short enough to keep the table small
Outcome = Session | InputRejected | None

# Built once: building a statement costs as much as running it.
_FREE = (
    select(agents)
    .where(agents.c.pool == bindparam("in_pool"), agents.c.data_center == bindparam("in_hub"), READY)
    .where(~agents.c.cordoned)
    .order_by(agents.c.held.desc(), agents.c.id)
    .limit(bindparam("at_most"))
    .with_for_update(skip_locked=True)
)
_BIND = (
    update(agents)
    .where(agents.c.id == bindparam("of_agent"))
    .values(
        epoch=agents.c.epoch + 1,
        held=agents.c.held + 1,
        served=agents.c.served + 1,
        session=bindparam("for_session"),
        state=case((agents.c.held + 1 >= agents.c.capacity, AgentState.BUSY.value), else_=AgentState.READY.value),
        since=bindparam("at"),
    )
)
_START = insert(sessions)
_REMEMBER = insert(idempotency)
_KEYS = select(idempotency).where(idempotency.c.key.in_(bindparam("keys", expanding=True)))
_EDGES = select(data_centers.c.id).where(data_centers.c.id.in_(bindparam("ids", expanding=True)))
_EDGES = _EDGES.order_by(data_centers.c.id).with_for_update(read=True, key_share=True)
_NODES = select(nodes.c.id, nodes.c.data_center).where(nodes.c.id.in_(bindparam("ids", expanding=True)))
_NODES = _NODES.order_by(nodes.c.id).with_for_update(read=True, key_share=True)
_POOLS = select(pools.c.id).where(pools.c.id.in_(bindparam("ids", expanding=True)))
_SESSIONS = select(sessions).where(sessions.c.id.in_(bindparam("ids", expanding=True)))


@dataclass(frozen=True, slots=True)
class Start:
    """A session to start, and the hubs to take its agent from, best first."""

    session: Session
    hubs: tuple[DataCenterId, ...] = ()
    idempotency_key: str | None = None
    request_hash: bytes = b""


@dataclass(frozen=True, slots=True)
class End:
    """A session to end; ending it again changes nothing."""

    id: SessionId
    reason: str


def start_many(connection: Connection, starts: Sequence[Start], now: Micros) -> Commit[tuple[Outcome, ...]]:
    """Take an agent for each session that asks for a pool, and write what has all it needs, in the order given."""
    outcomes: list[Outcome] = [None] * len(starts)
    fresh, repeated = _first_of_their_key(connection, starts, outcomes, now)
    fresh = _with_a_place(connection, starts, fresh, outcomes)
    tally = Tally()
    taken = _take(connection, starts, fresh, tally, now)
    started = [i for i in fresh if starts[i].session.pool is None or i in taken]
    _explain_missing(connection, starts, [i for i in fresh if i not in taken], outcomes)
    for i in started:
        outcomes[i] = _bound(starts[i].session, taken.get(i))
    _write(connection, starts, outcomes, started, tally, now)
    for i, first in repeated:
        outcomes[i] = outcomes[first] if starts[i].request_hash == starts[first].request_hash else _conflict(starts[i])
    return Commit(tuple(outcomes), tally.changes())


def _first_of_their_key(
    connection: Connection, starts: Sequence[Start], outcomes: list[Outcome], now: Micros
) -> tuple[list[int], list[tuple[int, int]]]:
    """Requests to carry out, and repeats of an earlier one of this batch; answers to known keys are filled in."""
    first: dict[str, int] = {}
    fresh, repeated = [], []
    for i, start in enumerate(starts):
        earlier = i if start.idempotency_key is None else first.setdefault(start.idempotency_key, i)
        if earlier == i:
            fresh.append(i)
        else:
            repeated.append((i, earlier))
    if not first:
        return fresh, repeated
    known = {row.key: row for row in connection.execute(_KEYS, {"keys": list(first)})}
    stale = [key for key, row in known.items() if row.expires_at <= now]  # not yet cleaned away
    if stale:
        connection.execute(delete(idempotency).where(idempotency.c.key.in_(stale)))
    answered = {key: row for key, row in known.items() if row.expires_at > now}
    if answered:
        ids = [row.session for row in answered.values()]
        found = {row["id"]: read_session(row) for row in connection.execute(_SESSIONS, {"ids": ids}).mappings()}
        for key, row in answered.items():
            i = first[key]
            same = row.request_hash == starts[i].request_hash
            outcomes[i] = found.get(row.session) if same else _conflict(starts[i], row.session)
    return [i for i in fresh if starts[i].idempotency_key not in answered], repeated


def _conflict(start: Start, session: str | None = None) -> InputRejected:
    which = "" if session is None else f", which started session {session}"
    message = f"this Idempotency-Key was used for another request{which}"
    return InputRejected("idempotency_conflict", message, field="Idempotency-Key", rule="one request per key")


def _with_a_place(
    connection: Connection, starts: Sequence[Start], which: list[int], outcomes: list[Outcome]
) -> list[int]:
    """Those whose edge is there; it cannot be deleted until this transaction ends."""
    wanted_nodes = sorted({n for i in which if (n := starts[i].session.edge_node) is not None})
    wanted_edges = sorted({starts[i].session.edge for i in which if starts[i].session.edge_node is None})
    homes: dict[NodeId, DataCenterId] = {}
    if wanted_nodes:
        homes = {row.id: row.data_center for row in connection.execute(_NODES, {"ids": wanted_nodes})}
    edges: set[DataCenterId] = set()
    if wanted_edges:
        edges = {DataCenterId(id) for id in connection.execute(_EDGES, {"ids": wanted_edges}).scalars()}
    found = []
    for i in which:
        edge, node = starts[i].session.edge, starts[i].session.edge_node
        if (homes.get(node) == edge) if node is not None else (edge in edges):
            found.append(i)
            continue
        there = connection.execute(select(data_centers.c.id).where(data_centers.c.id == edge)).first()
        missing_node = node is not None and there is not None
        outcomes[i] = unknown("nodes", str(node)) if missing_node else unknown("data-centers", edge)
    return found


def _take(
    connection: Connection, starts: Sequence[Start], which: Iterable[int], tally: Tally, now: Micros
) -> dict[int, Agent]:
    """The agent of each request that got one; requests with the same pool and hubs are served together."""
    asking: dict[tuple[PoolId, tuple[DataCenterId, ...]], list[int]] = {}
    for i in which:
        pool = starts[i].session.pool
        if pool is not None:
            asking.setdefault((pool, starts[i].hubs), []).append(i)
    taken: dict[int, Agent] = {}
    for (pool, hubs), waiting in sorted(asking.items()):
        for hub in hubs:
            waiting = [i for i in waiting if i not in taken]
            if not waiting:
                break
            _fill(connection, pool, hub, waiting, starts, taken, tally, now)
    return taken


def _fill(
    connection: Connection,
    pool: PoolId,
    hub: DataCenterId,
    waiting: Sequence[int],
    starts: Sequence[Start],
    taken: dict[int, Agent],
    tally: Tally,
    now: Micros,
) -> None:
    """Bind the agents of one hub to those who wait, as far as they go."""
    free = connection.execute(_FREE, {"in_pool": pool, "in_hub": hub, "at_most": len(waiting)}).mappings().all()
    queue = iter(waiting)
    bound: list[dict[str, object]] = []
    for agent in map(read_agent, free):
        for _ in range(agent.capacity - agent.held):
            i = next(queue, None)
            if i is None:
                break
            session = starts[i].session.id
            after = bound_to(agent, session, now)
            tally.agent(agent, after)
            agent = taken[i] = after
            bound.append({"of_agent": agent.id, "for_session": after.session, "at": now})
    if bound:
        connection.execute(_BIND, bound)


def bound_to(agent: Agent, session: str, now: Micros) -> Agent:
    """An agent's row after it was taken; the statement ``_BIND`` writes the same."""
    full = agent.held + 1 >= agent.capacity
    return replace(
        agent,
        epoch=agent.epoch + 1,
        held=agent.held + 1,
        served=agent.served + 1,
        session=session if agent.capacity == 1 else None,  # type: ignore[arg-type]
        state=AgentState.BUSY if full else AgentState.READY,
        since=now,
    )


def _bound(session: Session, agent: Agent | None) -> Session:
    if agent is None:
        return session
    return replace(session, agent=agent.id, agent_data_center=agent.data_center, agent_epoch=agent.epoch)


def _explain_missing(
    connection: Connection, starts: Sequence[Start], which: Sequence[int], outcomes: list[Outcome]
) -> None:
    """No agent is an expected outcome; no such pool is a mistake of the caller."""
    wanted = sorted({pool for i in which if (pool := starts[i].session.pool) is not None})
    if not wanted:
        return
    known = set(connection.execute(_POOLS, {"ids": wanted}).scalars())
    for i in which:
        pool = starts[i].session.pool
        if pool is not None and pool not in known:
            outcomes[i] = unknown("pools", pool)


def _write(
    connection: Connection,
    starts: Sequence[Start],
    outcomes: Sequence[Outcome],
    started: Sequence[int],
    tally: Tally,
    now: Micros,
) -> None:
    """Write the sessions, their keys and their first events."""
    made = [(starts[i], session) for i in started if isinstance(session := outcomes[i], Session)]
    if not made:
        return
    connection.execute(_START, [session_row(session) for _, session in made])
    keys = [
        {
            "key": start.idempotency_key,
            "request_hash": start.request_hash,
            "session": session.id,
            "expires_at": now + IDEMPOTENCY_US,
        }
        for start, session in made
        if start.idempotency_key is not None
    ]
    if keys:
        connection.execute(_REMEMBER, keys)
    for _, session in made:
        tally.session(None, session.edge)
    events.append(connection, [started_event(session, now) for _, session in made])


def started_event(session: Session, now: Micros) -> Event:
    """The first event of a session's life."""
    detail: dict[str, events.Scalar] = {"edge": session.edge, "agent": session.agent, "epoch": session.epoch}
    return Event(now, "session.started", session.id, reason="; ".join(session.reasons), detail=detail)
