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
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, bindparam, delete, func, select, update
from sqlalchemy.sql.dml import ReturningUpdate

from router.core.errors import InputRejected
from router.core.messages import Change
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
from router.core.pools import HOLDING, wrapped
from router.store import agents, bulk, departures, events, leases, legs, rebinds, takes
from router.store.commit import Commit, Tally
from router.store.rows import read_session
from router.store.tables import HOLDER_UNTIL, LIVE, idempotency, sessions

_CHUNK = 500  # ids per IN list
EXPIRED_AT_ONCE = 2_000  # sessions ended by one transaction of the clean-up, so that starts never wait long for it
FORGOTTEN_AT_ONCE = 2_000  # rows deleted by one transaction, so that nobody waits long behind it
ROLLED_BACK_AT_ONCE = 200

# The statements of every start are built once: building costs as much as running them.
_REPLAY = select(idempotency).where(idempotency.c.key == bindparam("of_key"))


def _ending(which: ColumnElement[bool]) -> ReturningUpdate[Any]:
    values: dict[str, Any] = {"ended_at": bindparam("at"), "end_reason": bindparam("why")}
    gone = {"state": SessionState.ENDED.value, "moved_from": None, "held_by": None}
    return update(sessions).where(LIVE, which).values(gone | values).returning(*sessions.c)


_END = bulk.About(sessions.c.id, _ending)
_LEGS = bulk.About(legs.table.c.session, lambda which: select(legs.table.c.session).where(which).distinct())


def get(connection: Connection, id: str, *, lock: bool = False) -> Session | None:
    """Return one session, or None."""
    query = select(sessions, HOLDER_UNTIL).where(sessions.c.id == id)
    row = connection.execute(query.with_for_update(of=sessions) if lock else query).mappings().first()
    return None if row is None else read_session(row)


def existing(connection: Connection, id: str) -> Session:
    """Return one session, or a leg in the form of one, locked. Raises ``unknown_session``."""
    if legs.is_leg(id):
        session = legs.of_names(connection, [id], lock=True).get(SessionId(id))
    else:
        session = get(connection, id, lock=True)
    if session is None:
        raise rebinds.unknown_session(id)
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


def of_ids(connection: Connection, ids: Sequence[str]) -> list[Session]:
    """Return sessions by their ids; those that are not there are left out."""
    query = select(sessions, HOLDER_UNTIL).where(sessions.c.id.in_(ids))
    return [read_session(row) for row in connection.execute(query).mappings()]


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


def end(connection: Connection, id: SessionId, *, reason: str, now: Micros) -> Commit[Session]:
    """End a session and free its agent; ending it again changes nothing."""
    tally = Tally()
    ended = end_where(connection, sessions.c.id == id, reason, now, tally)
    return Commit(ended[0] if ended else existing(connection, id), tally.changes())


def expire(connection: Connection, now: Micros) -> Commit[tuple[Session, ...]]:
    """End sessions and legs whose lease is over, up to a few thousand; the caller asks again until there are none."""
    tally = Tally()
    leases.lapse(connection, now)
    over = (sessions.c.held_by.is_(None), sessions.c.lease_expires_at <= now)
    some = select(sessions.c.id).where(LIVE, *over).order_by(sessions.c.lease_expires_at).limit(EXPIRED_AT_ONCE)
    ended = end_where(connection, sessions.c.id.in_(some), "lease_expired", now, tally)
    alone = (legs.table.c.edge.is_not(None), legs.table.c.held_by.is_(None), legs.table.c.lease_expires_at <= now)
    ended += legs.end_where(connection, and_(*alone), "lease_expired", now, tally)
    return Commit(ended, tally.changes())


def forget_old(connection: Connection, now: Micros) -> None:
    """Forget what is too old to be asked for again."""
    connection.execute(delete(idempotency).where(idempotency.c.expires_at <= now))
    departures.forget_old(connection, now)


def forget_ended(connection: Connection, before: Micros) -> int:
    """Delete some of the sessions that ended before a moment, and of their trails; how many rows at most of either."""
    old = select(sessions.c.id).where(sessions.c.ended_at < before, sessions.c.ended_at.is_not(None))
    gone = connection.execute(delete(sessions).where(sessions.c.id.in_(old.limit(FORGOTTEN_AT_ONCE)))).rowcount
    return max(gone, events.forget(connection, "session", before, FORGOTTEN_AT_ONCE))


def roll_back(connection: Connection, now: Micros, unheard: Sequence[NodeId] = ()) -> Commit[tuple[Session, ...]]:
    """Take back moves that nobody followed in time, where the old node still has the user.

    Moves from or to the nodes ``unheard`` stay: they may know better, and could not say so yet.
    """
    changes: tuple[Change, ...] = ()
    back = []
    for table, find in ((sessions, of_ids), (legs.table, _legs_of_ids)):
        # Those that move are few, those that are held all: SQLite must not look for the former among the latter.
        held = func.coalesce(table.c.held_by, "") != ""
        late = [table.c.moved_from.is_not(None), held, table.c.lease_expires_at <= now]
        if unheard:
            late += [func.coalesce(side, "").not_in(unheard) for side in (table.c.held_by, table.c.edge_node)]
        which = select(*([table.c.id] if table is sessions else [table.c.session, table.c.id]))
        which = which.where(*late, table.c.state == SessionState.MOVING).limit(ROLLED_BACK_AT_ONCE)
        ids = ["/".join(row) for row in connection.execute(which)]
        for session in find(connection, ids) if ids else ():
            if session.moved_from is None or session.held_by is None:
                continue  # somebody was faster
            asked = rebinds.Rebind(
                session.id,
                expect_epoch=session.epoch,
                state=SessionState.ACTIVE,
                edge=session.moved_from,
                edge_node=session.held_by,
                edges=(session.moved_from, *(dc for dc in session.edges if dc != session.moved_from)),
                moved_from=None,
                reasons=(f"its user did not arrive at {session.edge} in time and is still at {session.moved_from}",),
                lease_expires_at=session.lease_expires_at,
                event_kind="session.rolled_back",
            )
            done = rebinds.rebind(connection, asked, now)
            back.append(done.result)
            changes += done.changes
    return Commit(tuple(back), changes)


def _legs_of_ids(connection: Connection, ids: Sequence[str]) -> list[Session]:
    return list(legs.of_names(connection, ids).values())


def end_where(
    connection: Connection,
    which: ColumnElement[bool] | Sequence[str],
    reason: str,
    now: Micros,
    tally: Tally,
    *,
    told: NodeId | None = None,
) -> tuple[Session, ...]:
    """End the live sessions that match, or have these ids; nodes must let go, except ``told``, which said so."""
    if isinstance(which, ColumnElement):
        rows = connection.execute(_ending(which), {"at": now, "why": reason}).mappings()
    else:
        rows = _END(connection, which, at=now, why=reason).mappings()
    ended = tuple(sorted((read_session(row) for row in rows), key=lambda session: session.id))
    for session in ended:
        tally.session(session.edge, None)
    for start in range(0, len(ended), _CHUNK):
        chunk = ended[start : start + _CHUNK]
        agents.free(connection, chunk, tally, now)
        departures.note_ends(connection, chunk, now, told)
        end_legs(connection, [session.id for session in chunk], now, tally)
    events.append(connection, [ended_event(session, now) for session in ended])
    return ended


def end_legs(connection: Connection, ended: Sequence[SessionId], now: Micros, tally: Tally) -> None:
    """The further legs of sessions end with them."""
    if joined := _LEGS(connection, ended).scalars().all():
        legs.end_where(connection, legs.table.c.session.in_(joined), "session_ended", now, tally)


def ended_event(session: Session, now: Micros) -> Event:
    """The last event of a session's life."""
    return Event(now, "session.ended", session.id, reason=session.end_reason or "", detail={})


def release_agent(
    connection: Connection, pool: PoolId, id: str, epoch: int, now: Micros, session: str | None = None
) -> Commit[Agent]:
    """An agent gives up its lease of one session, or of all it holds, and these end; or it has finished up.

    ``epoch`` is that of the lease, or the agent's own. Repeating it changes nothing.
    """
    agent = agents.of(connection, pool, id)
    held = dict(agents.leases(connection, id))
    mine = session is None or SessionId(session) in held
    current = epoch == agent.epoch or (session is not None and held.get(SessionId(session)) == epoch)
    if not current or agent.state not in (*HOLDING, AgentState.WRAPPING):
        raise agents.fenced(agent)
    tally = Tally()
    if agent.state is AgentState.WRAPPING:
        agents.write(connection, [(agent, wrapped(agent, agents.pool_of(connection, pool), now))], tally, now)
    elif mine:
        given_up = sorted(held) if session is None else [SessionId(session)]
        which = sessions.c.id.in_([id for id in given_up if not legs.is_leg(id)])
        end_where(connection, which, "agent_released", now, tally)
        for leg in filter(legs.is_leg, given_up):
            legs.end_where(connection, legs.named(leg), "agent_released", now, tally)
    return Commit(agents.of(connection, pool, id), tally.changes())


def _event(session: Session, name: str, now: Micros, detail: dict[str, events.Scalar]) -> Event:
    return Event(now, f"session.{name}", session.id, reason="; ".join(session.reasons), detail=detail)
