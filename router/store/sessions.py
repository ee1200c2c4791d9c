"""Sessions: started, moved, ended, each in one transaction with its agent, its event and its idempotency key.

Every way out of life goes through :func:`end_where`, which frees agents, counts, tells the trail, and notes which node
must let go of the user. Epochs fence: a move or resume names the epoch it saw, and of two only one finds it.

Idempotency: the key is inserted by the transaction that starts the session. Two concurrent requests with one key
collide on its primary key; the loser is run again by :meth:`Database.write` and finds the winner's session.

Errors: ``unknown_session``, ``session_ended``, ``bad_transition``, ``fenced`` (limit = the current epoch),
``idempotency_conflict``, ``unknown_data_center``, ``unknown_node``, ``unknown_pool``, ``unknown_agent``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sqlalchemy import ColumnElement, Connection, bindparam, delete, select, update

from router.core.errors import InputRejected
from router.core.model import (
    Agent,
    AgentState,
    DataCenterId,
    Event,
    Micros,
    NodeId,
    PoolId,
    Session,
    SessionId,
    SessionState,
)
from router.core.pools import next_session_state
from router.store import agents, departures, events, takes
from router.store.commit import Commit, Tally
from router.store.resources import unknown
from router.store.rows import read_session, session_row
from router.store.tables import LIVE, data_centers, idempotency, nodes, sessions

_CHUNK = 500  # ids per IN list

# The statements of every start are built once: building costs as much as running them.
_REPLAY = select(idempotency).where(idempotency.c.key == bindparam("of_key"))
_HOLD_EDGE = select(data_centers.c.id).where(data_centers.c.id == bindparam("at_edge"))
_HOLD_EDGE = _HOLD_EDGE.with_for_update(read=True, key_share=True)
_HOLD_NODE = select(nodes.c.id).where(nodes.c.id == bindparam("at_node"), nodes.c.data_center == bindparam("at_edge"))
_HOLD_NODE = _HOLD_NODE.with_for_update(read=True, key_share=True)


def get(connection: Connection, id: str, *, lock: bool = False) -> Session | None:
    """Return one session, or None."""
    query = select(sessions).where(sessions.c.id == id)
    row = connection.execute(query.with_for_update() if lock else query).mappings().first()
    return None if row is None else read_session(row)


def existing(connection: Connection, id: str) -> Session:
    """Return one session, locked. Raises ``unknown_session``."""
    session = get(connection, id, lock=True)
    if session is None:
        raise _unknown(id)
    return session


def start(
    connection: Connection,
    session: Session,
    hubs: Sequence[DataCenterId],
    *,
    idempotency_key: str | None,
    request_hash: bytes,
    now: Micros,
) -> Commit[Session | None]:
    """Take an agent if a pool is asked for, and write the session; None, and nothing written, if there is no agent."""
    asked = takes.Start(session, tuple(hubs), idempotency_key, request_hash)
    done = takes.start_many(connection, [asked], now)
    (outcome,) = done.result
    if isinstance(outcome, InputRejected):
        raise outcome
    return Commit(outcome, done.changes)


def exchange(
    connection: Connection, starts: Sequence[takes.Start], ends: Sequence[takes.End], now: Micros
) -> Commit[tuple[tuple[takes.Outcome, ...], tuple[takes.Outcome, ...]]]:
    """End sessions, then start others, all in one transaction; each request has an answer of its own."""
    tally = Tally()
    ended: dict[str, Session] = {}
    for reason in sorted({end.reason for end in ends}):
        which = sessions.c.id.in_(sorted({end.id for end in ends if end.reason == reason}))
        ended |= {session.id: session for session in end_where(connection, which, reason, now, tally)}
    others = sorted({end.id for end in ends} - set(ended))
    before = {} if not others else {s.id: s for s in _of_ids(connection, others)}
    answers: list[takes.Outcome] = [ended.get(end.id) or before.get(end.id) or _unknown(end.id) for end in ends]
    started: Commit[tuple[takes.Outcome, ...]] = takes.start_many(connection, starts, now) if starts else Commit(())
    return Commit((started.result, tuple(answers)), tally.changes() + started.changes)


def _of_ids(connection: Connection, ids: Sequence[str]) -> list[Session]:
    return [read_session(row) for row in connection.execute(select(sessions).where(sessions.c.id.in_(ids))).mappings()]


def _unknown(id: str) -> InputRejected:
    return InputRejected("unknown_session", f"there is no session called {id}", field="id")


def replayed_session(connection: Connection, key: str, request_hash: bytes, now: Micros) -> Session | None:
    """Return the session that a request with this key has started, or None. Raises ``idempotency_conflict``."""
    row = connection.execute(_REPLAY, {"of_key": key}).first()
    if row is None:
        return None
    if row.expires_at <= now:  # not yet cleaned away
        connection.execute(delete(idempotency).where(idempotency.c.key == key))
        return None
    if row.request_hash != request_hash:
        message = f"this Idempotency-Key was used for another request, which started session {row.session}"
        raise InputRejected("idempotency_conflict", message, field="Idempotency-Key", rule="one request per key")
    return get(connection, row.session)


def _hold_place(connection: Connection, edge: DataCenterId, node: NodeId | None) -> None:
    """Check that an edge is there, and keep it from being deleted until this transaction ends."""
    held = _HOLD_EDGE if node is None else _HOLD_NODE  # a node keeps its data center
    if connection.execute(held, {"at_edge": edge, "at_node": node}).first() is not None:
        return
    there = connection.execute(select(data_centers.c.id).where(data_centers.c.id == edge)).first()
    raise unknown("data-centers", edge) if there is None or node is None else unknown("nodes", node)


def rebind(
    connection: Connection,
    id: SessionId,
    *,
    expect_epoch: int,
    state: SessionState,
    edge: DataCenterId,
    edge_node: NodeId | None,
    edges: Sequence[DataCenterId],
    moved_from: DataCenterId | None,
    reasons: Sequence[str],
    lease_expires_at: Micros,
    event_kind: str,
    now: Micros,
    token_epoch: int | None = None,
) -> Commit[Session]:
    """Place a live session anew under the next epoch; ``event_kind`` is ``moved``, ``resumed`` or ``rolled_back``.

    ``token_epoch`` is that of the token that asked for it, for the trail: it may ask again.
    """
    old = existing(connection, id)
    name = event_kind.removeprefix("session.")
    expected = next_session_state(old.state, name)
    if old.epoch != expect_epoch:
        message = (
            f"session {id} is at epoch {old.epoch}, not {expect_epoch}: a newer token or move has replaced this one"
        )
        raise InputRejected("fenced", message, field="epoch", rule="the current epoch", limit=old.epoch)
    if state is not expected:
        message = f"{name} takes a session that is {old.state.value} to {expected.value}, not to {state.value}"
        raise InputRejected("bad_transition", message, field="state", rule="pools.SESSION_TRANSITIONS")
    _hold_place(connection, edge, edge_node)
    new = replace(
        old,
        state=state,
        edge=edge,
        edge_node=edge_node,
        edges=tuple(edges),
        epoch=old.epoch + 1,
        moved_from=_carrier(old, state, moved_from),
        reasons=tuple(reasons),
        lease_expires_at=lease_expires_at,
    )
    connection.execute(update(sessions).where(sessions.c.id == id).values(session_row(new)))
    departures.note_move(connection, old, new, now)
    detail: dict[str, events.Scalar] = {"from": old.edge, "to": edge, "epoch": new.epoch, "state": state.value}
    if token_epoch is not None:
        detail["token_epoch"] = token_epoch
    events.append(connection, [_event(new, name, now, detail)])
    tally = Tally()
    tally.session(old.edge, new.edge)
    return Commit(new, tally.changes())


def _carrier(old: Session, state: SessionState, moved_from: DataCenterId | None) -> DataCenterId | None:
    """The edge that still carries the user: nobody unless moving, and the first one when moved again on the way."""
    if state is not SessionState.MOVING:
        return None
    return old.moved_from if old.state is SessionState.MOVING else moved_from


def end(connection: Connection, id: SessionId, *, reason: str, now: Micros) -> Commit[Session]:
    """End a session and free its agent; ending it again changes nothing."""
    tally = Tally()
    ended = end_where(connection, sessions.c.id == id, reason, now, tally)
    return Commit(ended[0] if ended else existing(connection, id), tally.changes())


def expire(connection: Connection, now: Micros) -> Commit[tuple[Session, ...]]:
    """End every session whose lease is over, and forget what is too old to be asked for again."""
    tally = Tally()
    ended = end_where(connection, sessions.c.lease_expires_at <= now, "lease_expired", now, tally)
    connection.execute(delete(idempotency).where(idempotency.c.expires_at <= now))
    departures.forget_old(connection, now)
    return Commit(ended, tally.changes())


def end_where(
    connection: Connection,
    which: ColumnElement[bool],
    reason: str,
    now: Micros,
    tally: Tally,
    *,
    told: NodeId | None = None,
) -> tuple[Session, ...]:
    """End the live sessions that match; every node that holds one must let go, except ``told``, which said so."""
    values = {"state": SessionState.ENDED, "ended_at": now, "end_reason": reason, "moved_from": None}
    rows = connection.execute(update(sessions).where(LIVE, which).values(values).returning(*sessions.c)).mappings()
    ended = tuple(sorted((read_session(row) for row in rows), key=lambda session: session.id))
    for session in ended:
        tally.session(session.edge, None)
    for start in range(0, len(ended), _CHUNK):
        chunk = ended[start : start + _CHUNK]
        agents.free(connection, chunk, tally, now)
        departures.note_ends(connection, chunk, now, told)
    events.append(connection, [replace(_event(session, "ended", now, {}), reason=reason) for session in ended])
    return ended


def release_agent(connection: Connection, pool: PoolId, id: str, epoch: int, now: Micros) -> Commit[Agent]:
    """An agent gives up its lease: its session is over, and it is ready again. Repeating it changes nothing."""
    agent = agents.of(connection, pool, id)
    if agent.epoch != epoch or agent.state not in (AgentState.READY, AgentState.BUSY):
        raise agents.fenced(agent)
    tally = Tally()
    if agent.session is not None:
        end_where(connection, sessions.c.id == agent.session, "agent_released", now, tally)
    return Commit(agents.of(connection, pool, id), tally.changes())


def _event(session: Session, name: str, now: Micros, detail: dict[str, events.Scalar]) -> Event:
    return Event(now, f"session.{name}", session.id, reason="; ".join(session.reasons), detail=detail)
