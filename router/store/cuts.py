"""Parting agents from their sessions when the drain of their data center may wait no longer.

The sessions live on at their edges without an agent; :mod:`router.store.queue` finds them other ones. The agents are
fenced as if they were lost: what they still say of these sessions is refused, and they register anew.
"""

from __future__ import annotations

from dataclasses import replace

from sqlalchemy import Connection, select, update

from router.core import pools as life
from router.core.model import DataCenterId, Event, Micros, NodeId
from router.store import agents, events, legs
from router.store.commit import Commit, Tally
from router.store.rows import read_agent
from router.store.tables import agents as table
from router.store.tables import sessions

AT_ONCE = 200  # agents per transaction; the drain asks again on its next tick


def cut(
    connection: Connection, data_center: DataCenterId, reason: str, now: Micros, node: NodeId | None = None
) -> Commit[int]:
    """Unbind what the agents of a data center, or of one machine, hold; returns how many sessions and legs it was."""
    tally, done = Tally(), 0
    there = table.c.data_center == data_center if node is None else table.c.node == node
    holding = (there, table.c.held > 0, table.c.state.in_(life.HOLDING))
    query = select(table).where(*holding).order_by(table.c.id).limit(AT_ONCE).with_for_update(skip_locked=True)
    for agent in [read_agent(row) for row in connection.execute(query).mappings()]:
        names = [id for id, _ in agents.leases(connection, agent.id)]
        for id in names:
            if legs.is_leg(id):
                connection.execute(update(legs.table).where(legs.named(id)).values(agent=None))
                legs.end_where(connection, legs.named(id), "agent_lost", now, tally)
        whole = [id for id in names if not legs.is_leg(id)]
        connection.execute(update(sessions).where(sessions.c.id.in_(whole)).values(agent=None))
        lost = life.step(agent, "lost", agents.pool_of(connection, agent.pool), now)
        agents.write(connection, [(agent, replace(lost, epoch=agent.epoch + 1, held=0, session=None))], tally, now)
        told = {"agent": agent.id}
        events.append(connection, [Event(now, "session.agent_lost", id, reason=reason, detail=told) for id in whole])
        done += len(names)
    return Commit(done, tally.changes())
