"""Many sessions started in one transaction: what a group commit does.

Callers that wait for the same disk may as well share one wait: their requests are collected while a transaction runs
and written together by the next one. Each request has an answer of its own, a value, never an exception: the session,
None when no agent is free, or the refusal. Statements are per batch, not per request, wherever the database can do
many rows at once.

Agents are locked, assigned in the order of the requests, and written back; PostgreSQL skips rows that another
transaction has locked, so that takers of one pool do not queue behind each other. An agent with room for several
sessions is filled before an empty one is touched, so that empty ones can be given back.

Agents whose version is on a ramp are a lane of their own (:mod:`router.core.ramp.lanes`), whoever asks: the rows of
``ramps`` say so; who did not name a lane gets one of them only where no other agent is free at any hub.

Idempotency: two transactions that insert the same key collide on its primary key; the loser is run again by
:meth:`Database.write` and finds the winner's session. Within a batch the first request with a key is the one.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from sqlalchemy import Connection, String, bindparam, delete, select, text

from router.core.altered import altered
from router.core.errors import InputRejected
from router.core.model import (
    Agent,
    AgentId,
    AgentState,
    DataCenterId,
    Event,
    Leg,
    Micros,
    NodeId,
    PoolId,
    Session,
    SessionId,
    SessionState,
)
from router.store import bulk, events
from router.store.commit import Commit, Tally
from router.store.resources import unknown
from router.store.rows import read_agent, read_session, row_of, session_row
from router.store.tables import (
    ON_OPEN_MACHINE,
    ON_RAMP,
    QUEUED,
    READY,
    agents,
    data_centers,
    idempotency,
    nodes,
    pools,
    ramps,
    sessions,
)

IDEMPOTENCY_US = 24 * 3600 * 1_000_000  # longer than any client retries, short enough to keep the table small
LATE_US = 60 * 1_000_000  # after its time in the queue is over, a session that nobody refused ends by its lease
Outcome = Session | InputRejected | None
Place = tuple[PoolId, DataCenterId, str]  # the last is the lane: a version on a ramp, PROVEN, or UNPROVEN
PROVEN, UNPROVEN = "", "*"  # versions on no ramp; any version on a ramp that was not rolled back
EdgePlace = tuple[DataCenterId, NodeId | None]
_TAKING = ("id", "epoch", "held", "served", "session", "state", "since")  # what changes when an agent is taken

LANE = f"""({ON_OPEN_MACHINE}) AND CASE {{0}} WHEN '{PROVEN}' THEN NOT {ON_RAMP.format("")}
    WHEN '{UNPROVEN}' THEN {ON_RAMP.format(" AND ramps.share_ppm > 0")} ELSE agents.agent_version = {{0}} END"""

# Built once: building a statement costs as much as running it.
_FREE = (
    select(agents)
    .where(agents.c.pool == bindparam("in_pool"), agents.c.data_center == bindparam("in_hub"), READY)
    .where(~agents.c.cordoned, text(LANE.format(":in_lane")).bindparams(bindparam("in_lane", type_=String)))
    .order_by(agents.c.held.desc(), agents.c.id)
    .limit(bindparam("at_most"))
    .with_for_update(skip_locked=True)
)
_FREE_EVERYWHERE = f"""
    SELECT free.*, asked.lane
    FROM json_to_recordset(%s::json) AS asked(pool text, hub text, lane text, at_most bigint)
    CROSS JOIN LATERAL (
        SELECT * FROM agents
        WHERE pool = asked.pool AND data_center = asked.hub AND state = 'ready' AND NOT cordoned
            AND {LANE.format("asked.lane")}
        ORDER BY held DESC, id LIMIT asked.at_most
        FOR UPDATE SKIP LOCKED
    ) AS free
"""
_LANES = select(ramps.c.version).where(ramps.c.data_center == "", ramps.c.pool != "", ramps.c.share_ppm > 0)
_LANES = _LANES.where(ramps.c.finished_at.is_(None)).limit(1)
_KEYS = bulk.About(idempotency.c.key, lambda which: select(idempotency).where(which))
_ADDRESSES = bulk.About(
    agents.c.id, lambda which: select(agents.c.id, agents.c.address, agents.c.agent_version).where(which)
)
_EDGES = select(data_centers.c.id).where(data_centers.c.id.in_(bindparam("ids", expanding=True)))
_EDGES = _EDGES.order_by(data_centers.c.id).with_for_update(read=True, key_share=True)
_NODES = select(nodes.c.id, nodes.c.data_center).where(nodes.c.id.in_(bindparam("ids", expanding=True)))
_NODES = _NODES.order_by(nodes.c.id).with_for_update(read=True, key_share=True)
_POOLS = select(pools.c.id).where(pools.c.id.in_(bindparam("ids", expanding=True)))


@dataclass(frozen=True, slots=True)
class Start:
    """A session to start, and the hubs to take its agent from, best first."""

    session: Session
    hubs: tuple[DataCenterId, ...] = ()
    idempotency_key: str | None = None
    request_hash: bytes = b""
    queue_until: Micros | None = None  # waits for an agent so long; None: not at all
    version: str = PROVEN  # whose agent it gets if one is free at a hub: its lane, while that version is on a ramp


@dataclass(frozen=True, slots=True)
class End:
    """A session to end; ending it again changes nothing."""

    id: SessionId
    reason: str


@dataclass(frozen=True, slots=True)
class Exchanged:
    """Answers to starts and to ends, in the order of the requests; where the agents of the sessions named in them are
    reached and of which version they are, and the further legs of those that end."""

    started: tuple[Outcome, ...]
    ended: tuple[Outcome, ...]
    reached: Mapping[AgentId, tuple[str, str]]
    legs: Mapping[SessionId, tuple[Leg, ...]]


def addresses(connection: Connection, outcomes: Iterable[Outcome]) -> dict[AgentId, str]:
    """Where the agents of the sessions among these are reached."""
    return {id: address for id, (address, _) in reached(connection, outcomes).items()}


def reached(connection: Connection, outcomes: Iterable[Outcome]) -> dict[AgentId, tuple[str, str]]:
    """Where the agents of the sessions among these are reached, and their versions."""
    ids = sorted({one.agent for one in outcomes if isinstance(one, Session) and one.agent is not None})
    if not ids:
        return {}
    return {AgentId(row.id): (row.address, row.agent_version) for row in _ADDRESSES(connection, ids)}


def start_many(connection: Connection, starts: Sequence[Start], now: Micros) -> Commit[tuple[Outcome, ...]]:
    """Take an agent for each session that asks for a pool, and write what has all it needs, in the order given."""
    outcomes: list[Outcome] = [None] * len(starts)
    fresh, repeated = _first_of_their_key(connection, starts, outcomes, now)
    fresh = _with_a_place(connection, starts, fresh, outcomes)
    tally = Tally()
    behind = _behind_others(connection, starts, fresh)
    taken = _take(connection, starts, [i for i in fresh if i not in behind], tally, now)
    _explain_missing(connection, starts, [i for i in fresh if i not in taken], outcomes)
    queued = [i for i in fresh if starts[i].queue_until is not None and i not in taken and outcomes[i] is None]
    started = [i for i in fresh if starts[i].session.pool is None or i in taken or i in queued]
    for i in started:
        outcomes[i] = bound(starts[i].session, taken.get(i)) if i not in queued else _queued(starts[i])
    _write(connection, starts, outcomes, started, tally, now)
    later = [i for i, first in repeated if not isinstance(outcomes[first], Session)]  # their key is still free
    for i, first in repeated:
        found = outcomes[first]
        if isinstance(found, Session):
            same = starts[i].request_hash == starts[first].request_hash
            outcomes[i] = found if same else _conflict(found.id)
    if not later:
        return Commit(tuple(outcomes), tally.changes())
    rest = start_many(connection, [starts[i] for i in later], now)
    for i, outcome in zip(later, rest.result, strict=True):
        outcomes[i] = outcome
    return Commit(tuple(outcomes), tally.changes() + rest.changes)


def _first_of_their_key(
    connection: Connection, starts: Sequence[Start], outcomes: list[Outcome], now: Micros
) -> tuple[list[int], list[tuple[int, int]]]:
    """Requests to carry out, and repeats of an earlier one of this batch; answers to known keys are filled in."""
    of_key: dict[str, list[int]] = {}
    for i, start in enumerate(starts):
        if start.idempotency_key is not None:
            of_key.setdefault(start.idempotency_key, []).append(i)
    answered = _answer_known(connection, starts, of_key, outcomes, now) if of_key else set()
    repeated = [(i, same[0]) for same in of_key.values() for i in same[1:] if i not in answered]
    waiting = answered.union(i for i, _ in repeated)
    return [i for i in range(len(starts)) if i not in waiting], sorted(repeated)


def _answer_known(
    connection: Connection,
    starts: Sequence[Start],
    of_key: Mapping[str, Sequence[int]],
    outcomes: list[Outcome],
    now: Micros,
) -> set[int]:
    """Answer the requests whose key has started a session before; which they are."""
    known = _KEYS(connection, list(of_key)).all()
    stale = [row.key for row in known if row.expires_at <= now]  # not yet cleaned away
    if stale:
        connection.execute(delete(idempotency).where(idempotency.c.key.in_(stale)))
    fresh = [row for row in known if row.expires_at > now]
    if not fresh:
        return set()
    query = select(sessions).where(bulk.among(connection, sessions.c.id, [row.session for row in fresh]))
    found = {row["id"]: read_session(row) for row in connection.execute(query).mappings()}
    for row in fresh:
        for i in of_key[row.key]:
            same = row.request_hash == starts[i].request_hash
            outcomes[i] = found.get(row.session) if same else _conflict(row.session)
    return {i for row in fresh for i in of_key[row.key]}


def _conflict(session: str) -> InputRejected:
    message = f"this Idempotency-Key was used for another request, which started session {session}"
    return InputRejected("idempotency_conflict", message, field="Idempotency-Key", rule="one request per key")


def _with_a_place(
    connection: Connection, starts: Sequence[Start], which: list[int], outcomes: list[Outcome]
) -> list[int]:
    """Those whose edge is there; it cannot be deleted until this transaction ends."""
    missing = missing_places(connection, [(starts[i].session.edge, starts[i].session.edge_node) for i in which])
    for i in which:
        outcomes[i] = missing.get((starts[i].session.edge, starts[i].session.edge_node), outcomes[i])
    return [i for i in which if (starts[i].session.edge, starts[i].session.edge_node) not in missing]


def missing_places(connection: Connection, places: Iterable[EdgePlace]) -> dict[EdgePlace, InputRejected]:
    """Which of these edges, or machines of edges, are not there; the others stay until this transaction ends."""
    wanted = sorted(set(places), key=lambda place: (place[0], place[1] or ""))
    machines = sorted({node for _, node in wanted if node is not None})
    whole = sorted({edge for edge, node in wanted if node is None})
    homes: dict[NodeId, DataCenterId] = {}
    if machines:
        homes = {row.id: row.data_center for row in connection.execute(_NODES, {"ids": machines})}
    edges: set[DataCenterId] = set()
    if whole:
        edges = {DataCenterId(id) for id in connection.execute(_EDGES, {"ids": whole}).scalars()}
    missing: dict[EdgePlace, InputRejected] = {}
    for edge, node in wanted:
        if (homes.get(node) == edge) if node is not None else (edge in edges):
            continue
        there = connection.execute(select(data_centers.c.id).where(data_centers.c.id == edge)).first()
        is_node = node is not None and there is not None
        missing[edge, node] = unknown("nodes", str(node)) if is_node else unknown("data-centers", edge)
    return missing


def _behind_others(connection: Connection, starts: Sequence[Start], which: Iterable[int]) -> set[int]:
    """Requests that may wait, of pools where others wait already: they go to the end of the queue."""
    patient = {i: starts[i].session.pool for i in which if starts[i].queue_until is not None}
    wanted = {pool for pool in patient.values() if pool is not None}
    if not wanted:
        return set()
    query = select(sessions.c.pool).where(QUEUED, sessions.c.pool.in_(sorted(wanted))).distinct()
    crowded = set(connection.execute(query).scalars())
    return {i for i, pool in patient.items() if pool in crowded}


def _queued(start: Start) -> Session:
    if start.session.pool is None or start.queue_until is None:
        return start.session
    # Its own lease is not what ends it: it is refused before.
    late = start.queue_until + LATE_US
    changes = {"queued_until": start.queue_until, "lease_expires_at": late}
    return replace(start.session, state=SessionState.QUEUED, agent_data_center=None, **changes)  # type: ignore[arg-type]


def _take(
    connection: Connection, starts: Sequence[Start], which: Iterable[int], tally: Tally, now: Micros
) -> dict[int, Agent]:
    """The agent of each request that got one; what is unproven only goes to who would have none otherwise."""
    waiting = [i for i in which if starts[i].session.pool is not None]
    taken: dict[int, Agent] = {}
    _choose(connection, {i: _wishes(starts[i]) for i in waiting}, starts, taken, tally, now)
    left = {i: [(hub, UNPROVEN) for hub in starts[i].hubs] for i in waiting if i not in taken}
    if left and connection.execute(_LANES).first() is not None:
        _choose(connection, left, starts, taken, tally, now)
    return taken


def _choose(
    connection: Connection,
    wishes: Mapping[int, Sequence[tuple[DataCenterId, str]]],
    starts: Sequence[Start],
    taken: dict[int, Agent],
    tally: Tally,
    now: Micros,
) -> None:
    """Serve all first wishes together, then all second ones, and on."""
    waiting, choice = list(wishes), 0
    while waiting := [i for i in waiting if i not in taken and choice < len(wishes[i])]:
        asking: dict[Place, list[int]] = {}
        for i in waiting:
            asking.setdefault((starts[i].session.pool or PoolId(""), *wishes[i][choice]), []).append(i)
        _fill(connection, asking, starts, taken, tally, now)
        choice += 1


def _wishes(start: Start) -> list[tuple[DataCenterId, str]]:
    """The hubs and lanes that it is served from, best first: near and proven goes before far and of its lane."""
    lanes = (start.version, PROVEN) if start.version else (PROVEN,)
    return [(hub, lane) for hub in start.hubs for lane in lanes]


def take_one(
    connection: Connection, session: Session, hubs: Sequence[DataCenterId], tally: Tally, now: Micros
) -> Agent | None:
    """Take an agent of the session's pool, from the first hub that has one; None if none has."""
    asked = [Start(session, tuple(hubs))]
    taken = _take(connection, asked, [0], tally, now)
    if not taken:
        answers: list[Outcome] = [None]
        _explain_missing(connection, asked, [0], answers)
        if isinstance(answers[0], InputRejected):
            raise answers[0]
    return taken.get(0)


def hold_place(connection: Connection, session: Session) -> None:
    """Keep a session's edge from being deleted until this transaction ends. Raises if it is not there."""
    answers: list[Outcome] = [None]
    _with_a_place(connection, [Start(session)], [0], answers)
    if isinstance(answers[0], InputRejected):
        raise answers[0]


def _fill(
    connection: Connection,
    asking: Mapping[Place, Sequence[int]],
    starts: Sequence[Start],
    taken: dict[int, Agent],
    tally: Tally,
    now: Micros,
) -> None:
    """Bind the agents of each place to those who ask for it, as far as they go."""
    queues = {place: iter(waiting) for place, waiting in asking.items()}
    bound: dict[str, Agent] = {}
    for lane, agent in _free(connection, {place: len(waiting) for place, waiting in asking.items()}):
        for _ in range(agent.capacity - agent.held):
            i = next(queues[agent.pool, agent.data_center, lane], None)
            if i is None:
                break
            after = bound_to(agent, starts[i].session.id, now)
            tally.agent(agent, after)
            agent = taken[i] = after
            bound[agent.id] = after
    bulk.update(connection, agents, [{name: row[name] for name in _TAKING} for row in map(row_of, bound.values())])


def _free(connection: Connection, wanted: Mapping[Place, int]) -> Iterator[tuple[str, Agent]]:
    """Agents that may be taken, locked, with their lanes: at most so many of each place, the least room first."""
    if connection.dialect.name == "postgresql":
        asked = [{"pool": p, "hub": hub, "lane": lane, "at_most": n} for (p, hub, lane), n in sorted(wanted.items())]
        rows = connection.exec_driver_sql(_FREE_EVERYWHERE, (json.dumps(asked),)).mappings()
        yield from ((row["lane"], read_agent(row)) for row in rows)
        return
    for (pool, hub, lane), n in sorted(wanted.items()):
        named = {"in_pool": pool, "in_hub": hub, "in_lane": lane, "at_most": n}
        yield from ((lane, read_agent(row)) for row in connection.execute(_FREE, named).mappings().all())


def bound_to(agent: Agent, session: str, now: Micros) -> Agent:
    """An agent after it was taken."""
    full = agent.held + 1 >= agent.capacity
    return altered(
        agent,
        epoch=agent.epoch + 1,
        held=agent.held + 1,
        served=agent.served + 1,
        session=session if agent.capacity == 1 else None,
        state=AgentState.RESERVED if full else AgentState.READY,
        since=now,
    )


def bound(session: Session, agent: Agent | None) -> Session:
    """A session with the agent that was taken for it."""
    if agent is None:
        return session
    return altered(session, agent=agent.id, agent_data_center=agent.data_center, agent_epoch=agent.epoch)


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
    bulk.insert(connection, sessions, [session_row(session) for _, session in made])
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
    bulk.insert(connection, idempotency, keys)
    for _, session in made:
        tally.session(None, session.edge)
        tally.began(session.pool, session.edge)
    events.append(connection, [started_event(session, now) for _, session in made])


def started_event(session: Session, now: Micros) -> Event:
    """The first event of a session's life."""
    detail: dict[str, events.Scalar] = {"edge": session.edge, "agent": session.agent, "epoch": session.epoch}
    if session.state is SessionState.QUEUED:
        return Event(now, "session.queued", session.id, reason="; ".join(session.reasons), detail=detail)
    return Event(now, "session.started", session.id, reason="; ".join(session.reasons), detail=detail)
