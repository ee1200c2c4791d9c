"""How agents come: the first time, again, and back with the sessions they hold.

An agent that registers may list its live sessions. Those that are its own are *adopted* with it, whatever happened to
the control plane or the network meanwhile; those that are not, the answer does not name, and it must drop them. A
session that is its own and not on the list was lost with an earlier process: it is unbound, and another agent is found
for it (:mod:`router.store.queue`). Without a list an agent that is ready keeps what it held; one that is still coming
up holds nothing.

A pool with ``reset`` insists that nobody meets an agent that remembers somebody else: after a session only an instance
with another ``nonce`` is ready, the same one stays ``resetting``.

Errors: ``unknown_pool``, ``unknown_data_center``, ``unknown_node``, ``wrong_data_center``, ``agent_busy``.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import replace

from sqlalchemy import Connection, insert, select, update

from router.core import pools as life
from router.core.capacity.machines import UNPROVEN
from router.core.errors import InputRejected
from router.core.messages import Change
from router.core.model import Agent, AgentState, Event, Micros, Pool, RampId, RampState, SessionId
from router.core.ramp.life import begin_version
from router.store import agents, events, legs, ramps, resources
from router.store.commit import Commit, Tally
from router.store.resources import unknown
from router.store.rows import row_of
from router.store.tables import agents as table
from router.store.tables import data_centers, launches, nodes, sessions

DECLARED = (AgentState.ANNOUNCED, AgentState.WARMING, AgentState.READY)
_OUT = (AgentState.LOST, AgentState.BROKEN, AgentState.RETIRED)


def register(connection: Connection, agent: Agent, now: Micros, lists: Sequence[str] | None = None) -> Commit[Agent]:
    """Write where an agent is and what it says of itself; epoch and lease come from the database."""
    pool = agents.pool_of(connection, agent.pool)
    _check_place(connection, agent)
    begun = _on_a_ramp(connection, agent, now) if pool.ramp_versions and agent.agent_version else ()
    old = agents.get(connection, agent.id, lock=True)
    tally = Tally()
    declared = agent.state if agent.state in DECLARED else AgentState.READY
    held = () if old is None else tuple(id for id, _ in agents.leases(connection, old.id))
    kept = _kept(held, declared, lists)
    if old is not None and kept and (old.pool, old.data_center) != (agent.pool, agent.data_center):
        message = f"agent {old.id} holds session {', '.join(kept[:3])} of {old.pool} in {old.data_center}"
        raise InputRejected("agent_busy", message, field="id", rule="pool and data center stay while it holds sessions")
    new = _standing(agent, old, declared, kept, pool, now)
    if old is None and _is_unproven(connection, agent):
        new = replace(new, cordoned=True)  # the core opens it, see ``core.ramp.machines``
    if old is not None:
        _unbind(connection, old, [id for id in held if id not in kept], tally, now)
    _write(connection, old, new, kept)
    if old is None or old.state is not new.state:
        detail: dict[str, events.Scalar] = {"pool": new.pool, "data_center": new.data_center, "session": new.session}
        detail["state"] = new.state.value
        events.append(connection, [Event(now, "agent.registered", new.id, f"agent:{new.id}", detail=detail)])
    tally.agent(old, new)
    return Commit(new, (*begun, *tally.changes()))


def _on_a_ramp(connection: Connection, agent: Agent, now: Micros) -> tuple[Change, ...]:
    """Begin the ramp of a version that its pool does not have, before anybody can take the first agent of it.

    A version that has passed its ramp stays proven; one that is new to the pool is not while another one serves.
    """
    if not _is_new(connection, agent):
        return ()
    resources.lock_intent(connection)
    if not _is_new(connection, agent):
        return ()  # another agent of it was faster
    id, reason = RampId(f"r-{secrets.token_hex(6)}"), f"agent {agent.id} is the first of {agent.agent_version}"
    draft = begin_version(agent.pool, agent.agent_version, id, reason, "tendril", now)
    return ramps.put(connection, draft, {}, actor="tendril", now=now).changes


def _is_new(connection: Connection, agent: Agent) -> bool:
    known = ramps.of_version(connection, agent.pool, agent.agent_version)
    if known is not None and known.state is not RampState.WITHDRAWN:
        return False
    alive = table.c.state.in_(life.PRESENT)
    there = select(table.c.agent_version).where(table.c.pool == agent.pool, table.c.id != agent.id, alive)
    versions = set(connection.execute(there.distinct()).scalars())
    return bool(versions) and agent.agent_version not in versions


def _kept(held: Sequence[SessionId], declared: AgentState, lists: Sequence[str] | None) -> tuple[SessionId, ...]:
    if declared is not AgentState.READY:
        return ()
    return tuple(held) if lists is None else tuple(id for id in held if id in lists)


def _standing(
    agent: Agent, old: Agent | None, declared: AgentState, kept: Sequence[SessionId], pool: Pool, now: Micros
) -> Agent:
    if old is None:
        fresh = {"epoch": 0, "session": None, "held": 0, "served": 0, "cordoned": False, "since": now, "seen_at": now}
        return replace(agent, state=declared, deadline_at=life.deadline(declared, pool, now), **fresh)  # type: ignore[arg-type]
    same = old.nonce == agent.nonce and (bool(agent.nonce) or pool.reset or old.state not in _OUT)
    alone = kept[0] if len(kept) == 1 and agent.capacity == 1 else None
    new = replace(
        agent,
        state=old.state,
        epoch=old.epoch + (old.held > len(kept) and old.state is not AgentState.LOST),  # fences whoever held the others
        session=alone,
        held=len(kept),
        served=old.served if same or kept else 0,
        cordoned=old.cordoned,
        since=old.since,
        deadline_at=old.deadline_at,
        seen_at=now,
    )
    if kept:
        return life.step(new, "adopted" if len(kept) < agent.capacity else "adopted_full", pool, now)
    if same and agent.nonce and life.spent(old, pool):
        return life.step(new, "retired", pool, now)
    return life.step(new, "unattested" if same and pool.reset and old.served else declared.value, pool, now)


def _is_unproven(connection: Connection, agent: Agent) -> bool:
    """Whether it is on a machine that was bought and does not serve yet; that may change only after this."""
    if agent.node is None:
        return False
    mine = select(launches.c.state).where(launches.c.node == agent.node, launches.c.finished_at.is_(None))
    return connection.execute(mine.with_for_update(read=True)).scalar() in UNPROVEN


def _unbind(connection: Connection, old: Agent, ids: Sequence[SessionId], tally: Tally, now: Micros) -> None:
    """Sessions that went down with an earlier process: they live on without an agent, its legs end."""
    lost = [id for id in ids if not legs.is_leg(id)]
    if lost:
        connection.execute(update(sessions).where(sessions.c.id.in_(lost)).values(agent=None))
        reason = "its process came back without the session"
        told = [Event(now, "session.agent_lost", id, reason=reason, detail={"agent": old.id}) for id in lost]
        events.append(connection, told)
    for id in ids:
        if legs.is_leg(id):
            connection.execute(update(legs.table).where(legs.named(id)).values(agent=None))
            legs.end_where(connection, legs.named(id), "agent_lost", now, tally)


def _write(connection: Connection, old: Agent | None, new: Agent, kept: Sequence[SessionId]) -> None:
    if old is None:
        connection.execute(insert(table), row_of(new))
        return
    connection.execute(update(table).where(table.c.id == new.id).values(row_of(new)))
    mine = [id for id in kept if not legs.is_leg(id)]
    if mine and old.state is AgentState.LOST:  # what it held before it was lost is fenced; this is its lease now
        connection.execute(update(sessions).where(sessions.c.id.in_(mine)).values(agent_epoch=new.epoch))
    for id in kept if old.state is AgentState.LOST else ():
        if legs.is_leg(id):
            connection.execute(update(legs.table).where(legs.named(id)).values(agent_epoch=new.epoch))


def _check_place(connection: Connection, agent: Agent) -> None:
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
