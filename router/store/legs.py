"""Further legs of a session: a person at an edge of their own, or another agent; each with its own token and lease.

A person's leg lives as a session does: placed, attached, moved, resumed, held by the node that has the person, ended.
Where the two are treated alike it takes the form of a session called ``SESSION/LEG`` (:func:`as_session`), with its
session's class, policies and agent; that is also what nodes call it in their heartbeats. An agent's leg has no edge
and no lease of its own: it lives until its session ends, its agent gives up, or somebody ends it. What happens to a
leg is told in the trail of its session, as ``session.leg_…``.

Errors: ``unknown_session``, ``unknown_leg``, ``session_ended``, ``too_many_legs``, ``fenced``, ``bad_transition``,
``idempotency_conflict``, ``unknown_data_center``, ``unknown_node``, ``unknown_pool``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from sqlalchemy import ColumnElement, Connection, and_, func, insert, or_, select, update

from router.core.errors import InputRejected
from router.core.model import (
    DataCenterId,
    Event,
    Leg,
    Micros,
    NodeId,
    Session,
    SessionId,
    SessionState,
)
from router.store import agents, bulk, departures, events, takes
from router.store.commit import Commit, Tally
from router.store.rows import leg_row, read_leg, read_session
from router.store.tables import HOLDER_UNTIL, LEG_HOLDER_UNTIL, LIVE_LEG, idempotency, legs, sessions

table = legs

MOST = 64  # legs of one session that live at a time: a conference has a limit, and so has the answer that shows it
_CHUNK = 500


def name_of(leg: Leg) -> SessionId:
    """What nodes call a leg."""
    return SessionId(f"{leg.session}/{leg.id}")


def is_leg(id: str) -> bool:
    """Whether an id of a heartbeat is that of a leg."""
    return "/" in id


def named(id: str) -> ColumnElement[bool]:
    """The leg of that name."""
    session, _, leg = id.partition("/")
    return and_(legs.c.session == session, legs.c.id == leg)


def as_session(leg: Leg, parent: Session) -> Session:
    """A leg in the form of a session."""
    return replace(
        parent,
        id=name_of(leg),
        state=leg.state,
        client=leg.client,
        edge=leg.edge or parent.edge,
        edge_node=leg.edge_node,
        edges=leg.edges,
        epoch=leg.epoch,
        created_at=leg.created_at,
        lease_expires_at=leg.lease_expires_at,
        pool=leg.pool or parent.pool,
        agent=leg.agent,
        agent_data_center=leg.agent_data_center or parent.agent_data_center,
        moved_from=leg.moved_from,
        metadata={**parent.metadata, **leg.metadata},
        reasons=leg.reasons,
        ended_at=leg.ended_at,
        end_reason=leg.end_reason,
        agent_epoch=leg.agent_epoch,
        queued_until=None,
        held_by=leg.held_by,
    )


def of_session(connection: Connection, session: str) -> tuple[Leg, ...]:
    """The legs of a session, oldest first, ended ones too."""
    query = select(legs, LEG_HOLDER_UNTIL).where(legs.c.session == session).order_by(legs.c.created_at, legs.c.id)
    return tuple(read_leg(row) for row in connection.execute(query).mappings())


_OF_SESSIONS = bulk.About(
    legs.c.session,
    lambda which: select(legs, LEG_HOLDER_UNTIL).where(which).order_by(legs.c.created_at, legs.c.id),
)


def of_sessions(connection: Connection, sessions: Sequence[SessionId]) -> dict[SessionId, tuple[Leg, ...]]:
    """The legs of many sessions, oldest first, ended ones too; sessions without any are left out."""
    found: dict[SessionId, list[Leg]] = {}
    for leg in map(read_leg, _OF_SESSIONS(connection, sessions).mappings()):
        found.setdefault(leg.session, []).append(leg)
    return {session: tuple(legs) for session, legs in found.items()}


def get(connection: Connection, session: str, id: str) -> Leg | None:
    """Return one leg, or None."""
    query = select(legs, LEG_HOLDER_UNTIL).where(legs.c.session == session, legs.c.id == id)
    row = connection.execute(query).mappings().first()
    return None if row is None else read_leg(row)


def find(
    connection: Connection, *which: ColumnElement[bool], lock: bool = False, limit: int | None = None
) -> dict[SessionId, Session]:
    """Legs that match, in the form of sessions and by their names, in the order of their names."""
    query = select(legs, LEG_HOLDER_UNTIL).where(*which).order_by(legs.c.session, legs.c.id).limit(limit)
    rows = connection.execute(query.with_for_update(of=legs) if lock else query).mappings()
    found = [read_leg(row) for row in rows]
    parents: dict[str, Session] = {}
    ids = sorted({leg.session for leg in found})
    for start in range(0, len(ids), _CHUNK):
        of = select(sessions, HOLDER_UNTIL).where(sessions.c.id.in_(ids[start : start + _CHUNK]))
        parents |= {row["id"]: read_session(row) for row in connection.execute(of).mappings()}
    return {name_of(leg): as_session(leg, parents[leg.session]) for leg in found}


def of_names(connection: Connection, names: Sequence[str], *, lock: bool = False) -> dict[SessionId, Session]:
    """Legs by their names, in the form of sessions."""
    found: dict[SessionId, Session] = {}
    for start in range(0, len(names), _CHUNK // 2):
        found |= find(connection, or_(*map(named, names[start : start + _CHUNK // 2])), lock=lock)
    return found


def add(
    connection: Connection,
    leg: Leg,
    hubs: Sequence[DataCenterId],
    *,
    idempotency_key: str | None,
    request_hash: bytes,
    now: Micros,
) -> Commit[Leg | None]:
    """Write a leg of a live session, with an agent if it asks for one; None, and nothing written, if none is free."""
    row = connection.execute(select(sessions).where(sessions.c.id == leg.session).with_for_update()).mappings().first()
    if row is None:
        raise InputRejected("unknown_session", f"there is no session called {leg.session}", field="id")
    parent = read_session(row)
    before = _repeated(connection, idempotency_key, request_hash, now)
    if before is not None:
        return Commit(before)
    _check_room(connection, parent)
    tally = Tally()
    taken = None
    if leg.pool is not None:
        taken = takes.take_one(connection, as_session(leg, parent), hubs, tally, now)
        if taken is None:
            return Commit(None)
        leg = replace(leg, agent=taken.id, agent_data_center=taken.data_center, agent_epoch=taken.epoch)
    else:
        takes.hold_place(connection, as_session(leg, parent))
        tally.session(None, leg.edge)
    connection.execute(insert(legs).values(leg_row(leg)))
    if idempotency_key is not None:
        expires_at = now + takes.IDEMPOTENCY_US
        values = {"key": idempotency_key, "request_hash": request_hash, "session": name_of(leg)}
        connection.execute(insert(idempotency).values(**values, expires_at=expires_at))
    detail: dict[str, events.Scalar] = {"edge": leg.edge, "agent": leg.agent, "epoch": leg.epoch}
    events.append(connection, [event_of(leg.session, leg.id, "added", now, leg.reasons, detail)])
    return Commit(leg, tally.changes())


def _check_room(connection: Connection, parent: Session) -> None:
    if not parent.state.live:
        message = f"session {parent.id} ended: {parent.end_reason}; nobody can join it"
        raise InputRejected("session_ended", message, field="id", rule="must be live")
    count = select(func.count()).select_from(legs).where(legs.c.session == parent.id, LIVE_LEG)
    if connection.execute(count).scalar_one() >= MOST:
        message = f"session {parent.id} has {MOST} further legs"
        raise InputRejected("too_many_legs", message, field="id", rule="live legs of one session", limit=MOST)


def _repeated(connection: Connection, key: str | None, request_hash: bytes, now: Micros) -> Leg | None:
    if key is None:
        return None
    row = connection.execute(select(idempotency).where(idempotency.c.key == key)).first()
    if row is None or row.expires_at <= now:
        return None
    if row.request_hash != request_hash or not is_leg(row.session):
        message = f"this Idempotency-Key was used for another request, which started {row.session}"
        raise InputRejected("idempotency_conflict", message, field="Idempotency-Key", rule="one request per key")
    session, _, id = row.session.partition("/")
    return get(connection, session, id)


def end(connection: Connection, session: str, id: str, *, reason: str, now: Micros) -> Commit[Leg]:
    """End a leg and free its agent; ending it again changes nothing."""
    tally = Tally()
    end_where(connection, named(f"{session}/{id}"), reason, now, tally)
    leg = get(connection, session, id)
    if leg is None:
        raise unknown_leg(session, id)
    return Commit(leg, tally.changes())


def unknown_leg(session: str, id: str) -> InputRejected:
    """The error of a leg that is not there."""
    return InputRejected("unknown_leg", f"session {session} has no leg called {id}", field="leg")


def end_where(
    connection: Connection,
    which: ColumnElement[bool],
    reason: str,
    now: Micros,
    tally: Tally,
    *,
    told: NodeId | None = None,
) -> tuple[Session, ...]:
    """End the live legs that match, in the form of sessions; nodes must let go, except ``told``, which said so."""
    values = {
        "state": SessionState.ENDED, "ended_at": now, "end_reason": reason, "moved_from": None, "held_by": None,
    }  # fmt: skip
    rows = connection.execute(update(legs).where(LIVE_LEG, which).values(values).returning(*legs.c)).mappings()
    ended = sorted((read_leg(row) for row in rows), key=lambda leg: (leg.session, leg.id))
    if not ended:
        return ()
    for leg in ended:
        if leg.edge is not None:
            tally.session(leg.edge, None)
    as_sessions = tuple(of_names(connection, [name_of(leg) for leg in ended]).values())
    for start in range(0, len(as_sessions), _CHUNK):
        chunk = as_sessions[start : start + _CHUNK]
        agents.free(connection, chunk, tally, now)
        departures.note_ends(connection, chunk, now, told)
    trail = [event_of(leg.session, leg.id, "ended", now, (reason,), {}) for leg in ended]
    events.append(connection, trail)
    return as_sessions


def rebind(connection: Connection, new: Session, name: str, detail: dict[str, events.Scalar], now: Micros) -> None:
    """Write a leg's new place, in the form of a session, and tell its trail."""
    connection.execute(update(legs).where(named(new.id)).values(_columns(new)))
    session, _, id = new.id.partition("/")
    events.append(connection, [event_of(session, id, name, now, new.reasons, detail)])


def _columns(new: Session) -> Mapping[str, object]:
    return {
        "state": new.state, "edge": new.edge, "edge_node": new.edge_node, "edges": list(new.edges),
        "epoch": new.epoch, "moved_from": new.moved_from, "reasons": list(new.reasons),
        "lease_expires_at": new.lease_expires_at, "held_by": new.held_by,
    }  # fmt: skip


def event_of(
    session: str, leg: str, name: str, now: Micros, reasons: Sequence[str], detail: dict[str, events.Scalar]
) -> Event:
    """A line about a leg in its session's trail."""
    return Event(now, f"session.leg_{name}", session, reason="; ".join(reasons), detail={"leg": leg, **detail})
