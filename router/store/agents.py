"""Stateful agents: kept alive by heartbeats, given back, doubted, lost, cordoned; fenced by an epoch.

The epoch of an agent rises whenever somebody else may have got hold of it: when it is taken and when it is lost. A
heartbeat may carry an older epoch, because the answer to it is how an agent learns that it was taken; anything that
would give up a lease must carry the current one. Of two processes under one name the one with the ``nonce`` that
registered last is heard, the other is fenced.

Every change of state is a step of ``pools.AGENT_TRANSITIONS``. The periodic ones may run on several replicas at once:
they look again at each row that they have locked, and pass over rows that somebody else is changing.

Errors: ``unknown_agent``, ``unknown_pool``, ``fenced`` (limit = the current epoch).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from sqlalchemy import ColumnElement, Connection, and_, func, select, update

from router.core import pools as life
from router.core.errors import InputRejected
from router.core.model import Agent, AgentState, DataCenterId, Event, Micros, Pool, PoolId, Session, SessionId
from router.store import bulk, events
from router.store.commit import Commit, Tally
from router.store.resources import unknown
from router.store.rows import read_agent, read_resource, row_of
from router.store.tables import LIVE, LIVE_LEG, agents, legs, pools, sessions

ADVANCED_AT_ONCE = 1_000  # agents whose state changes in one transaction; the others follow in the next
_STEPPED = ("id", "state", "epoch", "held", "session", "since", "deadline_at", "seen_at")
_UP = (AgentState.ANNOUNCED, AgentState.WARMING)
_AT_ONCE_HEARD = [state for state in life.PRESENT if state is not AgentState.SUSPECT]
_TOLD = (AgentState.LOST, AgentState.BROKEN, AgentState.RETIRED)

_HOLDING = bulk.About(agents.c.id, lambda which: select(agents).where(which).order_by(agents.c.id).with_for_update())
_POOLS = bulk.About(pools.c.id, lambda which: select(pools).where(which))


def of_pool(connection: Connection, pool: PoolId) -> tuple[Agent, ...]:
    """Return the agents of a pool in id order. Raises ``unknown_pool``."""
    pool_of(connection, pool)
    rows = connection.execute(select(agents).where(agents.c.pool == pool)).mappings()
    return tuple(sorted((read_agent(row) for row in rows), key=lambda agent: agent.id))


def get(connection: Connection, id: str, *, lock: bool = False) -> Agent | None:
    """Return one agent, or None."""
    query = select(agents).where(agents.c.id == id)
    row = connection.execute(query.with_for_update() if lock else query).mappings().first()
    return None if row is None else read_agent(row)


def of(connection: Connection, pool: PoolId, id: str) -> Agent:
    """Return an agent of a pool, locked. Raises ``unknown_agent``."""
    agent = get(connection, id, lock=True)
    if agent is None or agent.pool != pool:
        raise InputRejected("unknown_agent", f"there is no agent called {id} in pool {pool}", field="id")
    return agent


def pool_of(connection: Connection, id: PoolId) -> Pool:
    """Return a pool. Raises ``unknown_pool``."""
    row = connection.execute(select(pools).where(pools.c.id == id)).mappings().first()
    if row is None:
        raise unknown("pools", id)
    return _pool(row)


def _pools(connection: Connection, ids: Iterable[PoolId]) -> dict[PoolId, Pool]:
    return pools_in(_POOLS(connection, sorted(set(ids))).mappings())


def pools_in(rows: Iterable[object]) -> dict[PoolId, Pool]:
    """Pools by their ids, from their rows."""
    return {pool.id: pool for pool in map(_pool, rows)}


def _pool(row: object) -> Pool:
    found = read_resource("pools", row)  # type: ignore[arg-type]
    assert isinstance(found, Pool)
    return found


def fenced(agent: Agent) -> InputRejected:
    """Return the refusal for an agent that acts on a lease it no longer has."""
    message = f"agent {agent.id} is {agent.state.value} at epoch {agent.epoch}; register it again"
    return InputRejected("fenced", message, field="epoch", rule="the current epoch", limit=agent.epoch)


def leases(connection: Connection, id: str) -> tuple[tuple[SessionId, int], ...]:
    """The live sessions that an agent holds, and legs by their names, each with the epoch of its lease."""
    of_sessions = select(sessions.c.id, sessions.c.agent_epoch).where(LIVE, sessions.c.agent == id)
    of_legs = select(legs.c.session, legs.c.id, legs.c.agent_epoch).where(LIVE_LEG, legs.c.agent == id)
    found = [(SessionId(row.id), int(row.agent_epoch)) for row in connection.execute(of_sessions)]
    found += [(SessionId(f"{row.session}/{row.id}"), int(row.agent_epoch)) for row in connection.execute(of_legs)]
    return tuple(sorted(found))


def places(connection: Connection) -> tuple[life.Places, ...]:
    """Count agents and their places per pool, data center and state, in that order."""
    by = (agents.c.pool, agents.c.data_center, agents.c.state, agents.c.cordoned)
    query = select(*by, func.count(), func.sum(agents.c.capacity), func.sum(agents.c.held)).group_by(*by).order_by(*by)
    return tuple(
        life.Places(PoolId(pool), DataCenterId(dc), AgentState(state), bool(cordoned), int(n), int(capacity), int(held))
        for pool, dc, state, cordoned, n, capacity, held in connection.execute(query)
    )


def heartbeat(
    connection: Connection,
    pool: PoolId,
    id: str,
    epoch: int,
    now: Micros,
    *,
    nonce: str | None = None,
    says: AgentState | None = None,
) -> Commit[Agent]:
    """Note that an agent is alive, and how far it has come up; the answer tells it of its sessions."""
    mine = [agents.c.id == id, agents.c.pool == pool, agents.c.state.in_(_AT_ONCE_HEARD), agents.c.epoch >= epoch]
    if nonce is not None:
        mine.append(agents.c.nonce == nonce)
    row = connection.execute(update(agents).where(*mine).values(seen_at=now).returning(*agents.c)).mappings().first()
    if row is None:
        return _heard_again(connection, of(connection, pool, id), epoch, nonce, now)
    agent = read_agent(row)
    if says is None or agent.state not in _UP or says is agent.state:
        return Commit(agent)
    return _stepped(connection, agent, life.step(agent, says.value, pool_of(connection, pool), now), now)


def _heard_again(connection: Connection, agent: Agent, epoch: int, nonce: str | None, now: Micros) -> Commit[Agent]:
    mine = agent.epoch >= epoch and (nonce is None or nonce == agent.nonce)
    if agent.state is not AgentState.SUSPECT or not mine:
        raise fenced(agent)
    event = "heard" if agent.held < agent.capacity else "heard_full"
    after = life.step(agent, event, pool_of(connection, agent.pool), now)
    return _stepped(connection, agent, _seen(after, now), now)


def _seen(agent: Agent, now: Micros) -> Agent:
    return replace(agent, seen_at=now)


def _stepped(connection: Connection, before: Agent, after: Agent, now: Micros) -> Commit[Agent]:
    tally = Tally()
    write(connection, [(before, after)], tally, now)
    return Commit(after, tally.changes())


def write(connection: Connection, changed: Sequence[tuple[Agent, Agent]], tally: Tally, now: Micros) -> None:
    """Write agents (before, after) that this transaction has locked; who is gone for good is told in the trail."""
    for before, after in changed:
        tally.agent(before, after)
    rows = (row_of(after) for before, after in changed if before != after)
    bulk.update(connection, agents, [{name: row[name] for name in _STEPPED} for row in rows])
    events.append(connection, told(changed, now))


def told(changed: Iterable[tuple[Agent, Agent]], now: Micros) -> list[Event]:
    """What the trail says of agents (before, after): who is gone for good."""
    return [_gone(a, now) for before, a in changed if a.state in _TOLD and before.state is not a.state]


def _gone(agent: Agent, now: Micros) -> Event:
    detail: dict[str, events.Scalar] = {"pool": agent.pool, "session": agent.session}
    silent_s = (now - agent.seen_at) // 1_000_000
    reason = f"not seen for {silent_s} s" if agent.state is AgentState.LOST else ""
    return Event(now, f"agent.{agent.state.value}", agent.id, reason=reason, detail=detail)


def free(connection: Connection, ended: Sequence[Session], tally: Tally, now: Micros) -> None:
    """Give back the places of agents whose sessions ended; lost ones stay lost, but hold nothing to come back to."""
    ids = sorted({session.agent for session in ended if session.agent is not None})
    if not ids:
        return
    found = [read_agent(row) for row in _HOLDING(connection, ids).mappings()]
    write(connection, freed(found, ended, _pools(connection, (agent.pool for agent in found)), now), tally, now)


def freed(
    found: Iterable[Agent], ended: Sequence[Session], of_pools: Mapping[PoolId, Pool], now: Micros
) -> list[tuple[Agent, Agent]]:
    """Agents before and after they gave back the places of these sessions."""
    places = Counter(session.agent for session in ended)
    return [(a, life.freed(a, max(0, a.held - places[a.id]), of_pools[a.pool], now)) for a in found]


def attached(connection: Connection, ids: Iterable[str], now: Micros) -> None:
    """The users of these agents have arrived; counters stay as they are."""
    which = (agents.c.id.in_(sorted(set(ids))), agents.c.state == AgentState.RESERVED)
    to = life.next_agent_state(AgentState.RESERVED, "attached")
    connection.execute(update(agents).where(*which).values(state=to, since=now))


def cordon(connection: Connection, pool: PoolId, id: str, on: bool, *, actor: str, now: Micros) -> Commit[Agent]:
    """Take no more sessions (or take them again); what the agent holds stays. Doing it twice changes nothing."""
    before = of(connection, pool, id)
    if before.cordoned is on:
        return Commit(before)
    after = replace(before, cordoned=on)
    connection.execute(update(agents).where(agents.c.id == id).values(cordoned=on))
    kind = "agent.cordoned" if on else "agent.uncordoned"
    events.append(connection, [Event(now, kind, after.id, actor, detail={"pool": pool})])
    tally = Tally()
    tally.agent(before, after)
    return Commit(after, tally.changes())


def advance(
    connection: Connection, lost_before: Micros, now: Micros, suspect_before: Micros | None = None
) -> Commit[tuple[Agent, ...]]:
    """Silent agents are suspect, then lost and fenced; returns the lost.

    The sessions of a lost agent live on and get an event; :mod:`router.store.queue` finds them other agents.
    """
    tally = Tally()
    gone = and_(agents.c.state.in_(life.PRESENT), agents.c.seen_at < lost_before)
    lost = _advance(connection, gone, lambda agent, pool: _fence(life.step(agent, "lost", pool, now)), tally, now)
    if suspect_before is not None:
        silent = and_(agents.c.state.in_(life.DOUBTED), agents.c.seen_at < suspect_before)
        _advance(connection, silent, lambda agent, pool: life.step(agent, "silent", pool, now), tally, now)
    held = {session: agent for agent in lost if agent.held for session, _ in leases(connection, agent.id)}
    events.append(connection, [_loss(id, held[id], now) for id in sorted(held)])
    return Commit(lost, tally.changes())


def end_states(connection: Connection, now: Micros) -> Commit[tuple[Agent, ...]]:
    """Let agents leave the states whose time is over."""
    tally = Tally()
    over = and_(agents.c.deadline_at.is_not(None), agents.c.deadline_at <= now, agents.c.state.in_(life.PRESENT))
    moved_on = _advance(connection, over, lambda agent, pool: _overdue(agent, pool, now), tally, now)
    return Commit(moved_on, tally.changes())


def _advance(
    connection: Connection,
    which: ColumnElement[bool],
    step: Callable[[Agent, Pool], Agent],
    tally: Tally,
    now: Micros,
) -> tuple[Agent, ...]:
    query = select(agents).where(which).order_by(agents.c.id).limit(ADVANCED_AT_ONCE)
    found = [read_agent(row) for row in connection.execute(query.with_for_update(skip_locked=True)).mappings()]
    of_pools = _pools(connection, (agent.pool for agent in found)) if found else {}
    changed = [(agent, step(agent, of_pools[agent.pool])) for agent in found]
    write(connection, changed, tally, now)
    return tuple(after for _, after in changed)


def _fence(agent: Agent) -> Agent:
    return replace(agent, epoch=agent.epoch + 1)


def _overdue(agent: Agent, pool: Pool, now: Micros) -> Agent:
    event = life.STANDINGS[agent.state].overdue
    return life.wrapped(agent, pool, now) if event == "wrapped" else life.step(agent, event, pool, now)


def _loss(session: SessionId, agent: Agent, now: Micros) -> Event:
    id, _, leg = session.partition("/")
    detail: dict[str, events.Scalar] = {"agent": agent.id, **({"leg": leg} if leg else {})}
    reason = f"not seen for {(now - agent.seen_at) // 1_000_000} s"
    return Event(now, "session.leg_agent_lost" if leg else "session.agent_lost", id, reason=reason, detail=detail)
