"""Live sessions placed anew under their next epoch: moved, resumed, taken back; many of them in one transaction.

When a data center dies, everybody who talked through it resumes in the same second. So what is waiting is written
together, and each request has an answer of its own, a value: the session, or the refusal. Sessions are locked in id
order, so that two batches never wait for each other. Legs, of which there are few, go one by one.

Refusals: ``unknown_session``, ``session_ended``, ``bad_transition``, ``fenced`` (limit = the current epoch),
``unknown_data_center``, ``unknown_node``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from sqlalchemy import Connection, select

from router.core.errors import InputRejected
from router.core.model import AgentId, DataCenterId, Event, Leg, Micros, NodeId, Session, SessionId, SessionState
from router.core.pools import next_session_state
from router.store import bulk, departures, events, legs, takes
from router.store.commit import Commit, Tally
from router.store.rows import read_session, session_row
from router.store.tables import HOLDER_UNTIL, sessions

_MINE = (
    "id", "state", "edge", "edge_node", "edges", "epoch", "moved_from", "reasons", "lease_expires_at", "held_by",
)  # fmt: skip
_SEEN = bulk.About(sessions.c.id, lambda which: select(sessions, HOLDER_UNTIL).where(which))
_LOCKED = bulk.About(
    sessions.c.id,
    lambda which: select(sessions, HOLDER_UNTIL).where(which).order_by(sessions.c.id).with_for_update(of=sessions),
)


@dataclass(frozen=True, slots=True)
class Rebind:
    """A new place for a live session; ``event_kind`` is ``moved``, ``resumed`` or ``rolled_back``.

    ``token_epoch`` is that of the token that asked for it, for the trail: it may ask again.
    """

    id: SessionId
    expect_epoch: int
    state: SessionState
    edge: DataCenterId
    edge_node: NodeId | None
    edges: tuple[DataCenterId, ...]
    moved_from: DataCenterId | None
    reasons: tuple[str, ...]
    lease_expires_at: Micros
    event_kind: str
    token_epoch: int | None = None

    @property
    def name(self) -> str:
        """What happens to the session, as its transitions call it."""
        return self.event_kind.removeprefix("session.")


@dataclass(frozen=True, slots=True)
class Rebound:
    """Answers in the order of the requests, and where the agents of these sessions are reached."""

    outcomes: tuple[Session | InputRejected, ...]
    addresses: Mapping[AgentId, str]


@dataclass(frozen=True, slots=True)
class Sighted:
    """A session, its further legs, and where its agent is reached ("" without one)."""

    session: Session
    legs: tuple[Leg, ...] = ()
    address: str = ""


def unknown_session(id: str) -> InputRejected:
    """The refusal of a session that is not there."""
    return InputRejected("unknown_session", f"there is no session called {id}", field="id")


def sighted(connection: Connection, ids: Sequence[SessionId]) -> list[Sighted | None]:
    """What is known of these sessions, in the order given; None for one that is not there."""
    found = {session.id: session for session in map(read_session, _SEEN(connection, sorted(set(ids))).mappings())}
    addresses = takes.addresses(connection, found.values())
    further = legs.of_sessions(connection, sorted(found)) if found else {}
    seen: list[Sighted | None] = []
    for id in ids:
        session = found.get(id)
        at = "" if session is None or session.agent is None else addresses.get(session.agent, "")
        seen.append(None if session is None else Sighted(session, further.get(id, ()), at))
    return seen


def rebind(connection: Connection, asked: Rebind, now: Micros) -> Commit[Session]:
    """Place one session, or leg, anew. Raises what :func:`rebind_many` answers."""
    done = rebind_many(connection, [asked], now, with_addresses=False)
    (outcome,) = done.result.outcomes
    if isinstance(outcome, InputRejected):
        raise outcome
    return Commit(outcome, done.changes)


def rebind_many(
    connection: Connection, asked: Sequence[Rebind], now: Micros, *, with_addresses: bool = True
) -> Commit[Rebound]:
    """Place sessions anew, in the order given: of two that saw the same epoch, the second is fenced."""
    held = _held(connection, [one.id for one in asked])
    missing = takes.missing_places(connection, [(one.edge, one.edge_node) for one in asked])
    outcomes: list[Session | InputRejected] = []
    tally, told, moved = Tally(), list[Event](), list[tuple[Session, Session]]()
    for one in asked:
        old = held.get(one.id)
        outcome = _outcome(old, one)
        if isinstance(outcome, Session):
            outcome = missing.get((one.edge, one.edge_node), outcome)
        outcomes.append(outcome)
        if old is not None and isinstance(outcome, Session):
            held[one.id] = outcome
            moved.append((old, outcome))
            told += _written(connection, one, old, outcome, now)
            tally.session(old.edge, outcome.edge)
    departures.note_moves(connection, moved, now)
    last = {new.id: new for _, new in moved if not legs.is_leg(new.id)}
    rows = [session_row(new) for _, new in sorted(last.items())]
    bulk.update(connection, sessions, [{name: row[name] for name in _MINE} for row in rows])
    events.append(connection, told)
    addresses = takes.addresses(connection, [new for _, new in moved]) if with_addresses else {}
    return Commit(Rebound(tuple(outcomes), addresses), tally.changes())


def _held(connection: Connection, ids: Sequence[SessionId]) -> dict[SessionId, Session]:
    """These sessions and legs, locked."""
    whole = sorted({id for id in ids if not legs.is_leg(id)})
    parts = sorted({id for id in ids if legs.is_leg(id)})
    found: dict[SessionId, Session] = {}
    if whole:
        found = {session.id: session for session in map(read_session, _LOCKED(connection, whole).mappings())}
    return found | (legs.of_names(connection, parts, lock=True) if parts else {})


def _outcome(old: Session | None, asked: Rebind) -> Session | InputRejected:
    """The session as it would be, or why not."""
    if old is None:
        return unknown_session(asked.id)
    try:
        expected = next_session_state(old.state, asked.name)
    except InputRejected as error:
        return error
    if old.epoch != asked.expect_epoch:
        message = (
            f"session {asked.id} is at epoch {old.epoch}, not {asked.expect_epoch}: "
            "a newer token or move has replaced this one"
        )
        return InputRejected("fenced", message, field="epoch", rule="the current epoch", limit=old.epoch)
    if asked.state is not expected:
        message = f"{asked.name} takes a session that is {old.state.value} to {expected.value}, not to {asked.state}"
        return InputRejected("bad_transition", message, field="state", rule="pools.SESSION_TRANSITIONS")
    return replace(
        old,
        state=asked.state,
        edge=asked.edge,
        edge_node=asked.edge_node,
        edges=asked.edges,
        epoch=old.epoch + 1,
        moved_from=_carrier(old, asked),
        reasons=asked.reasons,
        lease_expires_at=asked.lease_expires_at,
        held_by=_holder(old, asked),
    )


def _carrier(old: Session, asked: Rebind) -> DataCenterId | None:
    """The edge that still carries the user: nobody unless moving, and the first one when moved again on the way."""
    if asked.state is not SessionState.MOVING:
        return None
    return old.moved_from if old.state is SessionState.MOVING else asked.moved_from


def _holder(old: Session, asked: Rebind) -> NodeId | None:
    """Whose lease keeps a session that was placed anew: while moving still the node that carries the user."""
    if asked.state is SessionState.MOVING:
        return old.held_by
    return asked.edge_node if asked.state is SessionState.ACTIVE and asked.edge_node == old.held_by else None


def _written(connection: Connection, asked: Rebind, old: Session, new: Session, now: Micros) -> list[Event]:
    """The line of the trail; of a leg, which goes alone, everything is written here."""
    detail: dict[str, events.Scalar] = {
        "from": old.edge, "to": new.edge, "epoch": new.epoch, "state": new.state.value,
    }  # fmt: skip
    if asked.token_epoch is not None:
        detail["token_epoch"] = asked.token_epoch
    if legs.is_leg(new.id):
        legs.rebind(connection, new, asked.name, detail, now)
        return []
    return [Event(now, f"session.{asked.name}", new.id, reason="; ".join(new.reasons), detail=detail)]
