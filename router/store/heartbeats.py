"""What media nodes say about their sessions, and what they must do about them.

A node has a say over the sessions placed on it and over those that are moving away from it; whatever it says about
others has no effect beyond telling it to let go. A session without a node (its edge had none when it was placed) takes
the first node of its edge that it attaches to. Events that cannot happen in the present state (a second detach, a late
attach) change nothing, because heartbeats repeat and overtake each other; ids we never heard of are passed over, so
that one bad line does not cost a node the leases of all its sessions. Further legs are called ``SESSION/LEG`` and are
treated like sessions (:mod:`router.store.legs`).

A node's epoch numbers the starts of its process. A higher one than before means that it restarted and has nobody but
those it lists as attached in that first heartbeat: everybody else it held is detached, and has the time of grace to
come back. A lower one is a process that should be gone, and is refused. Epoch 0 is that of nodes that do not count.

Errors, per heartbeat: ``unknown_node``, ``unknown_event``, ``fenced`` (limit = the node's present epoch).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from sqlalchemy import Connection, bindparam, select, update

from router.core.errors import InputRejected
from router.core.model import DataCenterId, Event, Micros, NodeId, Session, SessionId, SessionState
from router.core.pools import SESSION_TRANSITIONS
from router.store import agents, bulk, departures, events, leases, legs
from router.store.commit import Commit, Tally
from router.store.leases import NodeLease
from router.store.resources import unknown
from router.store.rows import read_session
from router.store.sessions import end_where
from router.store.tables import HOLDER_UNTIL, nodes, sessions

EVENTS = ("attached", "detached", "ended", "rebound")
_CHUNK = 500  # ids per IN list

_HOMES = select(nodes.c.id, nodes.c.data_center).where(nodes.c.id.in_(bindparam("ids", expanding=True)))


@dataclass(frozen=True, slots=True)
class Beat:
    """One heartbeat: what changed, and until when the node then holds what it has."""

    node: NodeId
    epoch: int
    changed: tuple[tuple[SessionId, str], ...]
    lease_expires_at: Micros
    grace_until: Micros  # until when a user who left may come back


@dataclass(frozen=True, slots=True)
class Heard:
    """The answer to a heartbeat: the sessions that the node must let go of, and its lease as it is written."""

    leaving: tuple[Session, ...]
    lease: NodeLease


@dataclass(slots=True)
class _Hearing:
    """One heartbeat being worked through; ``known`` follows what it changes."""

    connection: Connection
    beat: Beat
    data_center: DataCenterId
    now: Micros
    known: dict[SessionId, Session]
    carried: frozenset[str]
    tally: Tally
    trail: list[Event] = field(default_factory=list)
    changed: dict[SessionId, Session] = field(default_factory=dict)  # not written yet, like the next two
    arrived: list[SessionId] = field(default_factory=list)  # nobody else holds on to them any more
    left: list[SessionId] = field(default_factory=list)  # this node does not

    @property
    def node(self) -> NodeId:
        """Who speaks."""
        return self.beat.node

    def placed_here(self, session: Session) -> bool:
        """Whether the node is the session's present place."""
        return session.edge_node == self.node or (session.edge_node is None and session.edge == self.data_center)

    def write(self) -> None:
        """Write what has happened so far: all sessions together, for an outage brings hundreds at once."""
        self._write_places()
        events.append(self.connection, self.trail)
        self.trail.clear()

    def _write_places(self) -> None:
        if self.left:
            departures.forget_all(self.connection, self.left, self.node)
        if self.arrived:
            departures.forget_all(self.connection, self.arrived)
            wanted = [self.known[id].agent for id in self.arrived]
            agents.attached(self.connection, [agent for agent in wanted if agent is not None], self.now)
        bulk.update(self.connection, sessions, [{"id": id} | _row(after) for id, after in sorted(self.changed.items())])
        self.left, self.arrived, self.changed = [], [], {}

    def hear(self, id: SessionId, event: str) -> None:
        """Apply one line."""
        session = self.known.get(id)
        if session is None:
            return
        if event == "rebound":  # the node follows it to its new agent
            self._write_places()
            mine = (sessions.c.id == id, sessions.c.edge_node == self.node)
            self.connection.execute(update(sessions).where(*mine).values(rebound_at=None))
            return
        if event != "attached":
            self.left.append(id)
        here = self.placed_here(session)
        if event == "attached" and (not here or session.state is SessionState.ENDED):
            # Ended, or someone else's: tell the node. Carried ones it knows about already.
            self._write_places()
            departures.note_stray(self.connection, self.node, id, self.now)
        elif session.state.live and (here or (id in self.carried and session.state is SessionState.MOVING)):
            self._apply(session, event)

    def _apply(self, session: Session, event: str) -> None:
        state = SESSION_TRANSITIONS.get((session.state, event))
        if state is SessionState.ENDED:
            self.write()
            self.known[session.id] = self._end(session)
            return
        held = event != "attached" or (session.edge_node is not None and session.held_by == self.node)
        if state is None or (state is session.state and held):
            return
        after = replace(session, state=state, moved_from=None, held_by=None)
        if event == "attached":
            after = replace(after, edge_node=self.node, held_by=self.node)
            self.arrived.append(session.id)
        else:
            after = replace(after, lease_expires_at=self.beat.grace_until)
        self._write(after)
        self.known[session.id] = after
        if state is not session.state or session.edge_node is None:
            self._tell(session, event)

    def _end(self, session: Session) -> Session:
        told, now, tally = self.node, self.now, self.tally
        if legs.is_leg(session.id):
            which = legs.named(session.id)
            (ended,) = legs.end_where(self.connection, which, "ended_by_node", now, tally, told=told)
        else:
            which = sessions.c.id == session.id
            (ended,) = end_where(self.connection, which, "ended_by_node", now, tally, told=told)
        return ended

    def _write(self, after: Session) -> None:
        if legs.is_leg(after.id):
            self.connection.execute(update(legs.table).where(legs.named(after.id)).values(_row(after)))
        else:
            self.changed[after.id] = after

    def _tell(self, session: Session, event: str) -> None:
        detail: dict[str, events.Scalar] = {"node": self.node, "edge": session.edge, "epoch": session.epoch}
        actor = f"node:{self.node}"
        if legs.is_leg(session.id):
            parent, _, leg = session.id.partition("/")
            told = replace(legs.event_of(parent, leg, event, self.now, (), detail), actor=actor)
        else:
            told = Event(self.now, f"session.{event}", session.id, actor, detail=detail)
        self.trail.append(told)


def _row(after: Session) -> dict[str, str | int | None]:
    """What heartbeats change of a session."""
    return {
        "state": after.state.value, "moved_from": after.moved_from, "edge_node": after.edge_node,
        "held_by": after.held_by, "lease_expires_at": after.lease_expires_at,
    }  # fmt: skip


def touch(connection: Connection, beat: Beat, now: Micros) -> Commit[Heard]:
    """Apply one heartbeat. Raises what is wrong with it."""
    done = touch_many(connection, [beat], now)
    (outcome,) = done.result
    if isinstance(outcome, InputRejected):
        raise outcome
    return Commit(outcome, done.changes)


def touch_many(connection: Connection, beats: Sequence[Beat], now: Micros) -> Commit[tuple[Heard | InputRejected, ...]]:
    """Apply many heartbeats in one transaction; each has an answer of its own, a value, never an exception.

    What is locked is locked in one order, so that two of these never wait for each other: nodes, then sessions by id.
    """
    ids = sorted({beat.node for beat in beats})
    homes = {row.id: DataCenterId(row.data_center) for row in connection.execute(_HOMES, {"ids": ids})}
    held = leases.of_nodes(connection, ids)
    stored, refused = dict(held), list[InputRejected | None]()
    tally = Tally()
    known = _locked(connection, [id for beat in beats for id, _ in beat.changed])
    for beat in beats:
        wrong = _refusal(beat, homes, held.get(beat.node))
        refused.append(wrong)
        if wrong is None:
            before = held.get(beat.node)
            held[beat.node] = _hear(connection, beat, homes[beat.node], before, known, tally, now)
            if before is None:
                stored[beat.node] = held[beat.node]
    leases.write(connection, [held[node] for node in sorted(held) if held[node] != stored[node]])
    gone = {node: leaving(connection, node) for node in sorted(departures.busy_nodes(connection, ids))}
    answers = [
        Heard(gone.get(beat.node, ()), held[beat.node]) if wrong is None else wrong
        for beat, wrong in zip(beats, refused, strict=True)
    ]
    return Commit(tuple(answers), tally.changes())


def _refusal(beat: Beat, homes: dict[str, DataCenterId], lease: NodeLease | None) -> InputRejected | None:
    for _, event in beat.changed:
        if event not in EVENTS:
            message = f"{event!r} is not something that happens to a session"
            return InputRejected("unknown_event", message, field="event", rule=f"one of {', '.join(EVENTS)}")
    if beat.node not in homes:
        return unknown("nodes", beat.node)
    if lease is not None and beat.epoch and beat.epoch < lease.epoch:
        message = f"node {beat.node} has started again since, with epoch {lease.epoch}; this process is fenced"
        return InputRejected("fenced", message, field="epoch", rule="the node's newest epoch", limit=lease.epoch)
    return None


def _hear(
    connection: Connection,
    beat: Beat,
    data_center: DataCenterId,
    lease: NodeLease | None,
    known: dict[SessionId, Session],
    tally: Tally,
    now: Micros,
) -> NodeLease:
    restarted = lease is not None and 0 < lease.epoch < beat.epoch
    carried = departures.carried(connection, beat.node) if beat.changed or restarted else frozenset()
    hearing = _Hearing(connection, beat, data_center, now, known, carried, tally)
    if restarted:
        _let_go_of_the_unlisted(hearing)
    for id, event in beat.changed:
        hearing.hear(id, event)
    hearing.write()
    return leases.renewed(connection, lease, beat.node, beat.epoch, beat.lease_expires_at)


def _let_go_of_the_unlisted(hearing: _Hearing) -> None:
    """The process that held them is gone, and its successor does not know them: their users must come back."""
    listed = {id for id, event in hearing.beat.changed if event == "attached"}
    query = select(sessions, HOLDER_UNTIL).where(sessions.c.held_by == hearing.node).order_by(sessions.c.id)
    rows = hearing.connection.execute(query.with_for_update(of=sessions)).mappings()
    held = {session.id: session for session in map(read_session, rows)}
    held |= legs.find(hearing.connection, legs.table.c.held_by == hearing.node, lock=True)
    hearing.known.update({id: session for id, session in held.items() if id not in hearing.known})
    for id in held:
        if id not in listed:
            hearing.hear(id, "detached")


def leaving(connection: Connection, node: NodeId) -> tuple[Session, ...]:
    """The sessions, and legs in the form of sessions, that a node must let go of, by id."""
    ids = departures.ids_of_node(connection, node)
    if not ids:
        return ()
    found = _read(connection, [id for id in ids if not legs.is_leg(id)])
    found |= legs.of_names(connection, [id for id in ids if legs.is_leg(id)])
    return tuple(found[id] for id in sorted(found))


def _locked(connection: Connection, ids: Sequence[SessionId]) -> dict[SessionId, Session]:
    wanted = sorted(set(ids))  # in id order, so that two heartbeats never wait for each other
    found = _read(connection, [id for id in wanted if not legs.is_leg(id)], lock=True)
    return found | legs.of_names(connection, [id for id in wanted if legs.is_leg(id)], lock=True)


def _read(connection: Connection, ids: Sequence[str], *, lock: bool = False) -> dict[SessionId, Session]:
    found: dict[SessionId, Session] = {}
    for start in range(0, len(ids), _CHUNK):
        chunk = ids[start : start + _CHUNK]
        query = select(sessions, HOLDER_UNTIL).where(sessions.c.id.in_(chunk)).order_by(sessions.c.id)
        rows = connection.execute(query.with_for_update(of=sessions) if lock else query).mappings()
        found |= {session.id: session for session in map(read_session, rows)}
    return found
