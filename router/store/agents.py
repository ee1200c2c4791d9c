"""Stateful agents: registered, taken by compare-and-swap, kept alive by heartbeats, fenced by an epoch.

The epoch of an agent rises whenever somebody else may have got hold of it: when it is taken and when it is lost.
A heartbeat may carry an older epoch, because the answer to it is how an agent learns that it was taken; anything that
would give up a lease must carry the current one. An agent that was lost must register again: while its session lives
it is adopted with it, otherwise it is ready.

Errors: ``unknown_agent``, ``unknown_pool``, ``unknown_data_center``, ``unknown_node``, ``wrong_data_center``,
``agent_busy``, ``fenced`` (limit = the current epoch).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from sqlalchemy import Connection, bindparam, insert, select, update

from router.core.errors import InputRejected
from router.core.model import Agent, AgentState, Event, Micros, PoolId, Session
from router.core.pools import next_agent_state
from router.store import events
from router.store.commit import Commit, Tally
from router.store.resources import unknown
from router.store.rows import read_agent, row_of
from router.store.tables import agents, data_centers, nodes, pools

# The statements of every start and end of a session are built once: building costs as much as running them.
_OF_ENDED = agents.c.session.in_(bindparam("ended", expanding=True))
_HOLDING = (
    select(agents).where(agents.c.id.in_(bindparam("ids", expanding=True))).order_by(agents.c.id).with_for_update()
)
_FREE = (
    update(agents)
    .where(agents.c.id == bindparam("of_agent"))
    .values(state=bindparam("to_state"), held=bindparam("now_held"), session=None, since=bindparam("at"))
)
_HELD = agents.c.state.in_([AgentState.READY, AgentState.BUSY])


def of_pool(connection: Connection, pool: PoolId) -> tuple[Agent, ...]:
    """Return the agents of a pool in id order. Raises ``unknown_pool``."""
    check_pool(connection, pool)
    rows = connection.execute(select(agents).where(agents.c.pool == pool)).mappings()
    return tuple(sorted((read_agent(row) for row in rows), key=lambda agent: agent.id))


def get(connection: Connection, id: str, *, lock: bool = False) -> Agent | None:
    """Return one agent, or None."""
    query = select(agents).where(agents.c.id == id)
    row = connection.execute(query.with_for_update() if lock else query).mappings().first()
    return None if row is None else read_agent(row)


def check_pool(connection: Connection, pool: PoolId) -> None:
    """Raise ``unknown_pool`` if there is no such pool."""
    if connection.execute(select(pools.c.id).where(pools.c.id == pool)).first() is None:
        raise unknown("pools", pool)


def register(connection: Connection, agent: Agent, now: Micros) -> Commit[Agent]:
    """Write where an agent is; its state, epoch and lease come from the database, not from the caller."""
    _check_place(connection, agent)
    old = get(connection, agent.id, lock=True)
    state = _standing(agent, old)
    kept = old or replace(agent, epoch=0, session=None, held=0, served=0, cordoned=False)
    new = replace(
        agent,
        seen_at=now,
        state=state,
        epoch=kept.epoch,
        session=kept.session,
        held=kept.held,
        served=kept.served,
        cordoned=kept.cordoned,
        since=kept.since if old is not None and old.state is state else now,
        deadline_at=None,
    )
    if old is None:
        connection.execute(insert(agents), row_of(new))
    else:
        connection.execute(update(agents).where(agents.c.id == agent.id).values(row_of(new)))
    if old is None or old.state is not new.state:
        detail: dict[str, events.Scalar] = {"pool": new.pool, "data_center": new.data_center, "session": new.session}
        events.append(connection, [Event(now, "agent.registered", new.id, f"agent:{new.id}", detail=detail)])
    tally = Tally()
    tally.agent(old, new)
    return Commit(new, tally.changes())


def _check_place(connection: Connection, agent: Agent) -> None:
    check_pool(connection, agent.pool)
    if connection.execute(select(data_centers.c.id).where(data_centers.c.id == agent.data_center)).first() is None:
        raise unknown("data-centers", agent.data_center)
    if agent.node is None:
        return
    place = connection.execute(select(nodes.c.data_center).where(nodes.c.id == agent.node)).scalar()
    if place is None:
        raise unknown("nodes", agent.node)
    if place != agent.data_center:
        message = f"node {agent.node} is in {place}, not in {agent.data_center}"
        raise InputRejected("wrong_data_center", message, field="data_center", rule="the data center of its node")


def _standing(agent: Agent, old: Agent | None) -> AgentState:
    if old is None:
        return AgentState.READY
    # An agent is unbound at the end of its session, so a lost one that is still bound has a live session to return to.
    adopted = old.state is AgentState.LOST and old.session is not None
    state = next_agent_state(old.state, "adopted" if adopted else "registered")
    if state is AgentState.BUSY and (old.pool, old.data_center) != (agent.pool, agent.data_center):
        message = f"agent {old.id} holds session {old.session} of {old.pool} in {old.data_center}"
        raise InputRejected("agent_busy", message, field="id", rule="pool and data center stay while it is busy")
    return state


def heartbeat(connection: Connection, pool: PoolId, id: str, epoch: int, now: Micros) -> Commit[Agent]:
    """Note that an agent is alive; the answer is its row, by which it learns of a new session."""
    mine = (agents.c.id == id, agents.c.pool == pool, _HELD, agents.c.epoch >= epoch)
    row = connection.execute(update(agents).where(*mine).values(seen_at=now).returning(*agents.c)).mappings().first()
    if row is not None:
        return Commit(read_agent(row))
    raise fenced(of(connection, pool, id))


def of(connection: Connection, pool: PoolId, id: str) -> Agent:
    """Return an agent of a pool, locked. Raises ``unknown_agent``."""
    agent = get(connection, id, lock=True)
    if agent is None or agent.pool != pool:
        raise InputRejected("unknown_agent", f"there is no agent called {id} in pool {pool}", field="id")
    return agent


def fenced(agent: Agent) -> InputRejected:
    """Return the refusal for an agent that acts on a lease it no longer has."""
    message = f"agent {agent.id} is {agent.state.value} at epoch {agent.epoch}; register it again"
    return InputRejected("fenced", message, field="epoch", rule="the current epoch", limit=agent.epoch)


def free(connection: Connection, ended: Sequence[Session], tally: Tally, now: Micros) -> None:
    """Give back the places of agents whose sessions ended; lost ones stay lost, but hold nothing to come back to."""
    places = Counter(session.agent for session in ended if session.agent is not None)
    if not places:
        return
    changed = []
    for agent in map(read_agent, connection.execute(_HOLDING, {"ids": sorted(places)}).mappings()):
        held = max(0, agent.held - places[agent.id])
        state = agent.state
        if state is AgentState.BUSY and held < agent.capacity:
            state = next_agent_state(state, "released")
        after = replace(agent, state=state, held=held, session=None)
        tally.agent(agent, after)
        changed.append({"of_agent": agent.id, "to_state": state.value, "now_held": held, "at": now})
    if changed:
        connection.execute(_FREE, changed)


def expire(connection: Connection, seen_before: Micros, now: Micros) -> Commit[tuple[Agent, ...]]:
    """Declare silent agents lost and fence them; their sessions live on and get an event."""
    silent = (_HELD, agents.c.seen_at < seen_before)
    values = {"state": AgentState.LOST, "epoch": agents.c.epoch + 1}
    rows = connection.execute(update(agents).where(*silent).values(values).returning(*agents.c)).mappings()
    lost = tuple(sorted((read_agent(row) for row in rows), key=lambda agent: agent.id))
    tally = Tally()
    for agent in lost:
        was = AgentState.READY if agent.session is None else AgentState.BUSY
        tally.agent(replace(agent, state=was), agent)
    events.append(connection, [event for agent in lost for event in _loss(agent, now)])
    return Commit(lost, tally.changes())


def _loss(agent: Agent, now: Micros) -> list[Event]:
    reason = f"not seen for {(now - agent.seen_at) // 1_000_000} s"
    lost = Event(now, "agent.lost", agent.id, reason=reason, detail={"pool": agent.pool, "session": agent.session})
    if agent.session is None:
        return [lost]
    return [lost, Event(now, "session.agent_lost", agent.session, reason=reason, detail={"agent": agent.id})]
