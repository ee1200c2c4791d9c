"""Which node must let go of which session: the only thing that the database remembers about a user's old place.

A row appears when a session moves away from the node that carries its user, when it ends without that node's doing,
and when a node claims a session that was never placed there (``stray``). Each heartbeat answers with these sessions
until the node confirms, the user has arrived elsewhere, or the row is old. Only the node that carries a moving user
renews its lease: a user who neither stays nor arrives runs out of time.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import ColumnElement, Connection, bindparam, delete, insert, select

from router.core.model import Micros, NodeId, Session, SessionState
from router.store import bulk
from router.store.tables import departures

KEPT_US = 60 * 1_000_000  # several heartbeats; a node that was silent for longer lists everything when it comes back
ANSWERED = 1000  # sessions named in one answer; the others wait for the next heartbeat

_ANEW = bulk.About(
    departures.c.session, lambda which: delete(departures).where(departures.c.node == bindparam("of_node"), which)
)
_OVER = bulk.About(departures.c.session, lambda which: delete(departures).where(which))


def note_moves(connection: Connection, moves: Sequence[tuple[Session, Session]], now: Micros) -> None:
    """After rebinds: a node that carries a user must send it on, if it does carry it and is not the new one.

    Each pair is a session before and after; the nodes of sessions that do not move on their own are done with them.
    """
    over = [new.id for _, new in moves if new.state is not SessionState.MOVING]
    if over:
        _OVER(connection, over)
    for old, new in moves:
        if new.state is not SessionState.MOVING:
            continue
        if old.state is SessionState.ACTIVE and old.edge_node is not None:
            _note(connection, [(old.edge_node, old.id)], now)
        if new.edge_node is not None:
            forget(connection, new.id, new.edge_node)


def note_ends(connection: Connection, ended: Sequence[Session], now: Micros, told: NodeId | None) -> None:
    """After an end: the node of the edge must drop the session, besides those that held it already."""
    ids = [session.id for session in ended]
    if told is not None:
        connection.execute(delete(departures).where(departures.c.session.in_(ids), departures.c.node == told))
    places = [(session.edge_node, session.id) for session in ended if session.edge_node is not None]
    _note(connection, [(node, id) for node, id in places if node != told], now)


def note_stray(connection: Connection, node: NodeId, id: str, now: Micros) -> None:
    """A node claims a session that is not placed there."""
    if connection.execute(select(departures.c.node).where(_is(node, id))).first() is None:
        connection.execute(insert(departures).values(node=node, session=id, stray=True, created_at=now))


def _note(connection: Connection, places: Sequence[tuple[NodeId, str]], now: Micros) -> None:
    if places:
        by_node: dict[NodeId, list[str]] = {}
        for node, id in places:
            by_node.setdefault(node, []).append(id)
        for node, ids in by_node.items():
            _ANEW(connection, ids, of_node=node)
        rows = [{"node": node, "session": id, "stray": False, "created_at": now} for node, id in places]
        bulk.insert(connection, departures, rows)


def forget(connection: Connection, session: str, node: NodeId | None = None) -> None:
    """Nobody (or this node) holds on to a session any more."""
    which = departures.c.session == session if node is None else _is(node, session)
    connection.execute(delete(departures).where(which))


def forget_all(connection: Connection, ids: Sequence[str], node: NodeId | None = None) -> None:
    """Nobody (or this node) holds on to these any more."""
    if node is None:
        _OVER(connection, ids)
    else:
        _ANEW(connection, ids, of_node=node)


def forget_old(connection: Connection, now: Micros) -> None:
    """Give up on nodes that never confirmed."""
    connection.execute(delete(departures).where(departures.c.created_at < now - KEPT_US))


def carried(connection: Connection, node: NodeId) -> frozenset[str]:
    """Sessions that this node may speak for although they are placed elsewhere by now."""
    rows = select(departures.c.session).where(departures.c.node == node, departures.c.stray.is_(False))
    return frozenset(connection.execute(rows).scalars())


def ids_of_node(connection: Connection, node: NodeId) -> list[str]:
    """The names of the sessions and legs that a node must let go of, those that wait longest."""
    query = select(departures.c.session).where(departures.c.node == node)
    query = query.order_by(departures.c.created_at, departures.c.session).limit(ANSWERED)
    return sorted(connection.execute(query).scalars())


def busy_nodes(connection: Connection, nodes: Sequence[NodeId]) -> frozenset[NodeId]:
    """Those of the nodes that must let go of something."""
    query = select(departures.c.node).where(departures.c.node.in_(nodes)).distinct()
    return frozenset(NodeId(node) for node in connection.execute(query).scalars())


def _is(node: NodeId, session: str) -> ColumnElement[bool]:
    return (departures.c.node == node) & (departures.c.session == session)
