"""What a media node says about its sessions, and what it must do about them.

A node has a say over the sessions placed on it and over those that are moving away from it; whatever it says about
others has no effect beyond telling it to let go. A session without a node (its edge had none when it was placed) takes
the first node of its edge that it attaches to. Events that cannot happen in the present state (a second detach, a late
attach) change nothing, because heartbeats repeat and overtake each other; ids we never heard of are passed over, so
that one bad line does not cost a node the leases of all its sessions.

Errors: ``unknown_node``, ``unknown_event``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from sqlalchemy import Connection, select, update

from router.core.errors import InputRejected
from router.core.model import DataCenterId, Event, Micros, NodeId, Session, SessionId, SessionState
from router.core.pools import SESSION_TRANSITIONS
from router.store import departures, events
from router.store.commit import Commit, Tally
from router.store.resources import unknown
from router.store.rows import read_session
from router.store.sessions import end_where
from router.store.tables import LIVE, nodes, sessions

EVENTS = ("attached", "detached", "ended")
_CHUNK = 500  # ids per IN list


@dataclass(slots=True)
class _Hearing:
    """One heartbeat being worked through; ``known`` follows what it changes."""

    connection: Connection
    node: NodeId
    data_center: DataCenterId
    now: Micros
    known: dict[SessionId, Session]
    carried: frozenset[str]
    tally: Tally = field(default_factory=Tally)
    trail: list[Event] = field(default_factory=list)

    def placed_here(self, session: Session) -> bool:
        """Whether the node is the session's present place."""
        return session.edge_node == self.node or (session.edge_node is None and session.edge == self.data_center)

    def write_trail(self) -> None:
        """Write what has happened so far, in its order."""
        events.append(self.connection, self.trail)
        self.trail.clear()

    def hear(self, id: SessionId, event: str) -> None:
        """Apply one line."""
        session = self.known.get(id)
        if session is None:
            return
        if event != "attached":
            departures.forget(self.connection, id, self.node)
        here = self.placed_here(session)
        if event == "attached" and not here:
            # Ended, or someone else's: tell the node. Carried ones it knows about already.
            departures.note_stray(self.connection, self.node, id, self.now)
        elif event == "attached" and session.state is SessionState.ENDED:
            departures.note_stray(self.connection, self.node, id, self.now)
        elif session.state.live and (here or (id in self.carried and session.state is SessionState.MOVING)):
            self._apply(session, event)

    def _apply(self, session: Session, event: str) -> None:
        state = SESSION_TRANSITIONS.get((session.state, event))
        if state is SessionState.ENDED:
            self.write_trail()
            (ended,) = end_where(
                self.connection, sessions.c.id == session.id, "ended_by_node", self.now, self.tally, told=self.node
            )
            self.known[session.id] = ended
            return
        if state is None or (state is session.state and session.edge_node is not None):
            return
        after = replace(session, state=state, moved_from=None)
        if event == "attached":
            after = replace(after, edge_node=self.node)
            departures.forget(self.connection, session.id)
        values = {"state": after.state, "moved_from": after.moved_from, "edge_node": after.edge_node}
        self.connection.execute(update(sessions).where(sessions.c.id == session.id).values(values))
        self.known[session.id] = after
        detail: dict[str, events.Scalar] = {"node": self.node, "edge": session.edge, "epoch": session.epoch}
        self.trail.append(Event(self.now, f"session.{event}", session.id, f"node:{self.node}", detail=detail))


def touch(
    connection: Connection,
    node: NodeId,
    changed: Sequence[tuple[SessionId, str]],
    lease_expires_at: Micros,
    now: Micros,
) -> Commit[tuple[Session, ...]]:
    """Apply a heartbeat, renew the node's leases, and return the sessions that it must let go of."""
    for _, event in changed:
        if event not in EVENTS:
            message = f"{event!r} is not something that happens to a session"
            raise InputRejected("unknown_event", message, field="event", rule=f"one of {', '.join(EVENTS)}")
    data_center = connection.execute(select(nodes.c.data_center).where(nodes.c.id == node)).scalar()
    if data_center is None:
        raise unknown("nodes", node)
    known = _locked(connection, [id for id, _ in changed])
    carried = departures.carried(connection, node)
    hearing = _Hearing(connection, node, DataCenterId(data_center), now, known, carried)
    for id, event in changed:
        hearing.hear(id, event)
    hearing.write_trail()
    _renew(connection, node, lease_expires_at)
    return Commit(departures.of_node(connection, node), hearing.tally.changes())


def _locked(connection: Connection, ids: Sequence[SessionId]) -> dict[SessionId, Session]:
    found: Mapping[SessionId, Session] = {}
    wanted = sorted(set(ids))  # in id order, so that two heartbeats never wait for each other
    for start in range(0, len(wanted), _CHUNK):
        query = select(sessions).where(sessions.c.id.in_(wanted[start : start + _CHUNK])).order_by(sessions.c.id)
        rows = connection.execute(query.with_for_update()).mappings()
        found = {**found, **{session.id: session for session in map(read_session, rows)}}
    return dict(found)


def _renew(connection: Connection, node: NodeId, lease_expires_at: Micros) -> None:
    """Hold all sessions whose users are on this node: those placed here, and those not yet gone from here."""
    lease = {"lease_expires_at": lease_expires_at}
    active = (LIVE, sessions.c.edge_node == node, sessions.c.state == SessionState.ACTIVE)
    connection.execute(update(sessions).where(*active).values(lease))
    carried = departures.carried(connection, node)
    if carried:
        moving = (sessions.c.id.in_(sorted(carried)), sessions.c.state == SessionState.MOVING)
        connection.execute(update(sessions).where(*moving).values(lease))
