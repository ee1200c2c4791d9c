"""Sessions that wait for an agent: those that found none free, and those whose agent was lost.

*Waiting.* A ``queued`` session is a row like any other, without an agent and with a time when it is refused. Its place
in the queue is its age within its pool. :func:`dispatch` binds oldest first; one process at a time does so for a pool
(the pool's row is the lock, and whoever finds it locked leaves the work to the other), so that nobody overtakes on
another replica. A younger session goes first only where the older ones may not go: each comes with hubs of its own.

*Bound again.* A session whose agent was lost, or came back without it, keeps its edge and gets another agent; the
lease of the first one is fenced for ever, because the session names another agent and a newer epoch. Until its edge
has confirmed that it follows, the session is listed as ``rebound``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from sqlalchemy import Connection, and_, func, literal_column, or_, select, update

from router.core import pools as life
from router.core.errors import InputRejected
from router.core.model import (
    Agent,
    AgentId,
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
from router.store import agents, events, legs, takes
from router.store.commit import Commit, Tally
from router.store.rows import read_agent, read_session
from router.store.sessions import end_where
from router.store.tables import HOLDER_UNTIL, LIVE, QUEUED, pools, sessions
from router.store.tables import agents as agent_table

LOOKED_AT = 200  # waiting sessions per pool that one round tries to place
AT_ONCE = 500  # sessions that one transaction refuses
_UNBOUND = and_(sessions.c.state != literal_column("'ended'"), sessions.c.agent.is_(None), sessions.c.pool.is_not(None))
_AGE = (sessions.c.created_at, sessions.c.id)


@dataclass(frozen=True, slots=True)
class Offer:
    """Where a waiting session would go, and the hubs to take its agent from, best first."""

    id: SessionId
    edge: DataCenterId
    edge_node: NodeId | None
    edges: tuple[DataCenterId, ...]
    hubs: tuple[DataCenterId, ...]
    reasons: tuple[str, ...]
    lease_expires_at: Micros


@dataclass(frozen=True, slots=True)
class Orphan:
    """A session without a living agent; ``agent`` is the lost one, None if it came back without the session."""

    session: Session
    agent: Agent | None

    def why(self, now: Micros) -> str:
        """What happened to its agent, in words."""
        if self.agent is None:
            return "its agent's process came back without the session"
        return f"agent {self.agent.id} has not been heard for {(now - self.agent.seen_at) // 1_000_000} s"


@dataclass(frozen=True, slots=True)
class Rebound:
    """A session whose edge has not confirmed yet that it follows to another agent."""

    node: NodeId
    session: SessionId
    agent: AgentId
    address: str
    data_center: DataCenterId


def waiting(connection: Connection) -> Mapping[PoolId, tuple[Session, ...]]:
    """The oldest waiting sessions of each pool, oldest first."""
    found = {}
    for pool in sorted(filter(None, connection.execute(select(sessions.c.pool).where(QUEUED).distinct()).scalars())):
        query = select(sessions).where(QUEUED, sessions.c.pool == pool).order_by(*_AGE).limit(LOOKED_AT)
        found[PoolId(pool)] = tuple(read_session(row) for row in connection.execute(query).mappings())
    return found


def lengths(connection: Connection) -> Mapping[PoolId, int]:
    """How many sessions wait per pool; pools where nobody waits are left out."""
    query = select(sessions.c.pool, func.count()).where(QUEUED).group_by(sessions.c.pool)
    return {PoolId(pool): n for pool, n in sorted((pool or "", n) for pool, n in connection.execute(query))}


def position(connection: Connection, session: Session) -> int:
    """How many sessions of its pool are served before this one, plus one."""
    older = or_(
        sessions.c.created_at < session.created_at,
        and_(sessions.c.created_at == session.created_at, sessions.c.id < session.id),
    )
    query = select(func.count()).select_from(sessions).where(QUEUED, sessions.c.pool == session.pool, older)
    return connection.execute(query).scalar_one() + 1


def dispatch(connection: Connection, pool: PoolId, offers: Sequence[Offer], now: Micros) -> Commit[tuple[Session, ...]]:
    """Bind waiting sessions in the order given, as far as agents go; nothing while another process does it."""
    turn = select(pools.c.id).where(pools.c.id == pool).with_for_update(skip_locked=True, key_share=True)
    if connection.execute(turn).first() is None:
        return Commit(())
    tally = Tally()
    bound = [session for offer in offers if (session := _bind(connection, offer, tally, now)) is not None]
    return Commit(tuple(bound), tally.changes())


def _bind(connection: Connection, offer: Offer, tally: Tally, now: Micros) -> Session | None:
    query = select(sessions).where(sessions.c.id == offer.id, QUEUED).with_for_update(skip_locked=True)
    row = connection.execute(query).mappings().first()
    if row is None:
        return None  # it has ended, or is about to
    old = read_session(row)
    new = replace(
        old,
        state=life.next_session_state(old.state, "dispatched"),
        edge=offer.edge,
        edge_node=offer.edge_node,
        edges=offer.edges,
        reasons=offer.reasons,
        lease_expires_at=offer.lease_expires_at,
        queued_until=None,
    )
    try:
        takes.hold_place(connection, new)
    except InputRejected:
        return None  # its edge was deleted a moment ago; the next round places it anew
    agent = takes.take_one(connection, new, offer.hubs, tally, now)
    if agent is None:
        return None
    new = replace(new, agent=agent.id, agent_data_center=agent.data_center, agent_epoch=agent.epoch)
    _write(connection, new)
    tally.session(old.edge, new.edge)
    detail: dict[str, events.Scalar] = {
        "edge": new.edge,
        "agent": agent.id,
        "waited_ms": (now - old.created_at) // 1000,
    }
    events.append(connection, [_event(new, "dispatched", now, "; ".join(new.reasons), detail)])
    return new


def _write(connection: Connection, new: Session, **more: object) -> None:
    values = {
        "state": new.state, "edge": new.edge, "edge_node": new.edge_node, "edges": list(new.edges),
        "reasons": list(new.reasons), "lease_expires_at": new.lease_expires_at, "queued_until": new.queued_until,
        "agent": new.agent, "agent_data_center": new.agent_data_center, "agent_epoch": new.agent_epoch, **more,
    }  # fmt: skip
    connection.execute(update(sessions).where(sessions.c.id == new.id).values(values))


def _event(
    session: Session, name: str, now: Micros, reason: str, detail: dict[str, events.Scalar] | None = None
) -> Event:
    return Event(now, f"session.{name}", session.id, reason=reason, detail=detail or {})


def refuse_overdue(connection: Connection, now: Micros) -> Commit[tuple[Session, ...]]:
    """End the sessions that have waited as long as they may."""
    over = select(sessions).where(QUEUED, sessions.c.queued_until <= now).order_by(*_AGE).limit(AT_ONCE)
    found = [read_session(row) for row in connection.execute(over.with_for_update(skip_locked=True)).mappings()]
    if not found:
        return Commit(())
    why = "no agent of pool {} became free in {:.0f} s"
    told = [_event(s, "refused", now, why.format(s.pool, (now - s.created_at) / 1e6)) for s in found]
    events.append(connection, told)
    tally = Tally()
    which = and_(QUEUED, sessions.c.id.in_([session.id for session in found]))
    return Commit(end_where(connection, which, "no_idle_agent", now, tally), tally.changes())


def tend(connection: Connection, now: Micros) -> Commit[tuple[Session, ...]]:
    """What the time that passes does to pools: refusals, and agents whose state has lasted long enough."""
    refused, moved_on = refuse_overdue(connection, now), agents.end_states(connection, now)
    tally = Tally()
    for id in _lost(connection, now):
        legs.end_where(connection, legs.table.c.agent == id, "agent_lost", now, tally)
    return Commit(refused.result, refused.changes + moved_on.changes + tally.changes())


def _lost(connection: Connection, now: Micros) -> dict[AgentId, Agent]:
    """Lost agents that still hold something, and for which their pool's grace is over."""
    query = select(agent_table, pools.c.agent_grace_s).join(pools, pools.c.id == agent_table.c.pool)
    rows = connection.execute(query.where(agent_table.c.state == AgentState.LOST, agent_table.c.held > 0)).mappings()
    found = [(read_agent(row), row["agent_grace_s"]) for row in rows]
    return {agent.id: agent for agent, grace_s in found if agent.since + grace_s * 1_000_000 <= now}


def orphans(connection: Connection, now: Micros) -> tuple[Orphan, ...]:
    """Live sessions that need another agent now, oldest first."""
    lost = _lost(connection, now)
    base = select(sessions, HOLDER_UNTIL)
    rows = [*connection.execute(base.where(_UNBOUND, ~QUEUED).limit(AT_ONCE)).mappings()]
    if lost:
        rows += connection.execute(base.where(LIVE, sessions.c.agent.in_(sorted(lost))).limit(AT_ONCE)).mappings()
    found = sorted(map(read_session, rows), key=lambda session: (session.created_at, session.id))
    return tuple(Orphan(session, None if session.agent is None else lost[session.agent]) for session in found)


def redispatch(
    connection: Connection, orphan: Orphan, hubs: Sequence[DataCenterId], reasons: Sequence[str], now: Micros
) -> Commit[Session | None]:
    """Give a session another agent; None if none is free, or if it does not need one any more."""
    id, was = orphan.session.id, orphan.session.agent
    row = connection.execute(select(sessions).where(LIVE, sessions.c.id == id).with_for_update()).mappings().first()
    session = None if row is None else read_session(row)
    if session is None or session.state is SessionState.QUEUED or session.agent != was:
        return Commit(None)
    old = None if was is None else agents.get(connection, was, lock=True)
    if old is not None and old.state is not AgentState.LOST:
        return Commit(None)  # it has come back
    tally = Tally()
    after = None if old is None else _without_one(connection, old, now)
    if old is not None and after is not None:  # first: no two agents may name the session
        agents.write(connection, [(old, after)], tally, now)
    agent = takes.take_one(connection, session, hubs, tally, now)
    if agent is None:
        if old is not None and after is not None:
            agents.write(connection, [(after, old)], tally, now)
        return Commit(None)
    new = replace(session, agent=agent.id, agent_data_center=agent.data_center, agent_epoch=agent.epoch)
    _write(connection, new, rebound_at=now)
    if session.state is not SessionState.ATTACHING:
        agents.attached(connection, [agent.id], now)
    detail: dict[str, events.Scalar] = {
        "agent": agent.id, "data_center": agent.data_center, "from": was, "epoch": agent.epoch,
        "lost": "what the first agent knew of the conversation",
    }  # fmt: skip
    events.append(connection, [_event(new, "redispatched", now, "; ".join((orphan.why(now), *reasons)), detail)])
    return Commit(new, tally.changes())


def _without_one(connection: Connection, agent: Agent, now: Micros) -> Agent:
    return life.freed(agent, max(0, agent.held - 1), agents.pool_of(connection, agent.pool), now)


def rebounds(connection: Connection) -> tuple[Rebound, ...]:
    """The sessions whose edge has not confirmed yet that it follows to another agent."""
    columns = (sessions.c.edge_node, sessions.c.id, agent_table.c.id.label("agent"), agent_table.c.address)
    query = select(*columns, agent_table.c.data_center).join(agent_table, agent_table.c.id == sessions.c.agent)
    rows = connection.execute(query.where(LIVE, sessions.c.rebound_at.is_not(None)).order_by(sessions.c.id))
    return tuple(
        Rebound(NodeId(node), SessionId(id), AgentId(agent), address, DataCenterId(data_center))
        for node, id, agent, address, data_center in rows
        if node is not None
    )


def confirm(connection: Connection, node: NodeId, ids: Sequence[SessionId]) -> Commit[None]:
    """A node follows: these sessions of its go to their new agents."""
    which = (sessions.c.edge_node == node, sessions.c.id.in_(ids), sessions.c.rebound_at.is_not(None))
    connection.execute(update(sessions).where(*which).values(rebound_at=None))
    return Commit(None)
