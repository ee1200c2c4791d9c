"""Launches, and the agents on their machines: what a step means for these is in the same transaction.

Of a machine that is a canary so many agents are open as the core says; one that serves has them all let in, one that is
leaving has them cordoned, and one that is given back holds no session: who was taken in the meantime stops it.

Errors: ``revision_conflict`` (limit = the current revision), ``sessions_live``, ``unknown_launch``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Connection, and_, case, delete, func, insert, select, update

from router.core.capacity import Launch, LaunchId, LaunchState, NodeStock
from router.core.errors import InputRejected
from router.core.messages import Change, LaunchChanged
from router.core.model import AgentId, AgentState, DataCenterId, Event, Micros, NodeId, PoolId
from router.core.pools import COMING, HOLDING, PRESENT, STANDINGS, Places
from router.store import agents as agents_of
from router.store import events
from router.store.commit import Commit, Tally
from router.store.rows import launch_row, read_agent, read_launch
from router.store.tables import QUEUED, agents, launches, sessions

T = TypeVar("T")
Waiting = Mapping[tuple[PoolId, DataCenterId], int]
Stock = tuple[tuple[Places, ...], Waiting, Mapping[NodeId, NodeStock]]


class Launches:
    """The part of the store that is about bought machines."""

    def __init__(
        self,
        read: Callable[[Callable[[Connection], Any]], Any],
        write: Callable[[Callable[[Connection], Any]], Any],
    ) -> None:
        self._read = read
        self._write = write

    def put(self, launch: Launch, *, actor: str, now: Micros) -> Commit[Launch]:
        """Write a launch, decided on its ``revision`` (0: new), and what it means for the agents on its machine."""
        done: Commit[Launch] = self._write(lambda c: put(c, launch, actor=actor, now=now))
        return done

    def announce(self, new: Sequence[Launch], *, actor: str, now: Micros) -> Commit[None]:
        """Write new launches, all or none."""

        def write(connection: Connection) -> Commit[None]:
            done = [put(connection, launch, actor=actor, now=now) for launch in new]
            return Commit(None, tuple(change for commit in done for change in commit.changes))

        written: Commit[None] = self._write(write)
        return written

    def open_agents(self, id: LaunchId, count: int) -> Commit[None]:
        """Let so many agents of a canary take sessions, those that hold some first, and cordon the others."""
        done: Commit[None] = self._write(lambda c: open_agents(c, id, count))
        return done

    def agents_on(self, machines: Mapping[NodeId, LaunchId]) -> Mapping[AgentId, LaunchId]:
        """Agents on some machines, each with the launch of its own."""
        on = select(agents.c.id, agents.c.node).where(agents.c.node.in_(machines)).order_by(agents.c.id)
        found: list[tuple[AgentId, NodeId]] = self._read(lambda c: [(row.id, row.node) for row in c.execute(on)])
        return {agent: machines[node] for agent, node in found}

    def stock(self, nodes: Sequence[NodeId]) -> Stock:
        """Count agents, sessions that wait by pool and edge, and the agents on some machines; in one transaction."""
        found: Stock = self._read(lambda c: (agents_of.places(c), waiting(c), on_nodes(c, nodes)))
        return found

    def forget(self, before: Micros) -> None:
        """Delete launches that ended long ago."""
        self._write(lambda c: Commit(c.execute(delete(launches).where(launches.c.finished_at < before)).rowcount))


def every(connection: Connection) -> tuple[Launch, ...]:
    """Return all launches, oldest first."""
    rows = connection.execute(select(launches).order_by(launches.c.created_at, launches.c.id)).mappings()
    return tuple(read_launch(row) for row in rows)


def put(connection: Connection, launch: Launch, *, actor: str, now: Micros) -> Commit[Launch]:
    """Write a launch at its next revision."""
    row = connection.execute(select(launches).where(launches.c.id == launch.id).with_for_update()).mappings().first()
    old = None if row is None else read_launch(row)
    current = 0 if old is None else old.revision
    if launch.revision != current:
        message = f"launch {launch.id} is at revision {current}, not {launch.revision}; read it again"
        raise InputRejected("revision_conflict", message, field="revision", rule="current revision", limit=current)
    new = replace(launch, revision=current + 1)
    changes = () if old is None else _agents(connection, old, new, actor, now)
    if old is None:
        connection.execute(insert(launches), launch_row(new))
    else:
        connection.execute(update(launches).where(launches.c.id == launch.id).values(launch_row(new)))
    if old is None or old.state is not new.state or old.reason != new.reason:
        events.append(connection, [_audit(new, actor, now)])
    return Commit(new, (LaunchChanged(new), *changes))


def _agents(connection: Connection, old: Launch, new: Launch, actor: str, now: Micros) -> tuple[Change, ...]:
    """What a step means for the agents on the machine."""
    if new.state is old.state:
        return ()
    if new.state in (LaunchState.LEAVING, LaunchState.RETURNING):
        return _cordon(connection, new.node, 0)
    if new.state is LaunchState.SERVING:
        return _cordon(connection, new.node, None)
    if old.state in (LaunchState.LEAVING, LaunchState.RETURNING) and new.state is LaunchState.TERMINATING:
        held = on_nodes(connection, [new.node]).get(new.node, NodeStock()).held
        if held:
            message = f"{new.node} holds {held} sessions; it leaves when they have ended"
            raise InputRejected("sessions_live", message, field="state", rule="no live sessions", limit=held)
    return ()


def open_agents(connection: Connection, id: LaunchId, count: int) -> Commit[None]:
    """See :meth:`Launches.open_agents`; nothing if the machine is no canary any more."""
    query = select(launches.c.node).where(launches.c.id == id, launches.c.state == LaunchState.CANARY.value)
    node = connection.execute(query.with_for_update()).scalar()
    return Commit(None, () if node is None else _cordon(connection, NodeId(node), count))


def _cordon(connection: Connection, node: NodeId, most: int | None) -> tuple[Change, ...]:
    """Let at most so many agents of a machine take sessions; None: all."""
    tally, query = Tally(), select(agents).where(agents.c.node == node).order_by(agents.c.id).with_for_update()
    found = [read_agent(row) for row in connection.execute(query).mappings().all()]
    able = sorted((one for one in found if one.state in PRESENT), key=lambda one: (-one.held, one.id))
    let_in = {one.id for one in able[:most]} if most is not None else {one.id for one in found}
    for before in found:
        cordoned = before.id not in let_in
        if cordoned is not before.cordoned:
            tally.agent(before, replace(before, cordoned=cordoned))
            connection.execute(update(agents).where(agents.c.id == before.id).values(cordoned=cordoned))
    return tally.changes()


def waiting(connection: Connection) -> Waiting:
    """How many sessions wait for an agent, by pool and edge."""
    by = sessions.c.pool, sessions.c.edge
    query = select(*by, func.count()).where(QUEUED).group_by(*by).order_by(*by)
    return {(PoolId(pool or ""), DataCenterId(edge)): int(n) for pool, edge, n in connection.execute(query)}


def on_nodes(connection: Connection, nodes: Sequence[NodeId]) -> Mapping[NodeId, NodeStock]:
    """Places of agents on some machines."""
    if not nodes:
        return {}
    state = agents.c.state
    free = and_(state.in_([one for one in AgentState if STANDINGS[one].buffer]), agents.c.cordoned)

    def total(which: ColumnElement[bool], what: ColumnElement[int] | int) -> ColumnElement[int]:
        return func.sum(case((which, what), else_=0))

    query = (
        select(
            agents.c.node,
            total(state.in_(HOLDING), agents.c.capacity),
            func.sum(agents.c.held),
            total(state.in_(COMING), agents.c.capacity),
            total(free, agents.c.capacity - agents.c.held),
            total(state.in_(PRESENT), 1),
            total(and_(state.in_(PRESENT), ~agents.c.cordoned), 1),
            total(state.in_((AgentState.LOST, AgentState.BROKEN)), 1),
        )
        .where(agents.c.node.in_(nodes))
        .group_by(agents.c.node)
        .order_by(agents.c.node)
    )
    return {NodeId(str(node)): NodeStock(*map(int, sums)) for node, *sums in connection.execute(query)}


def _audit(new: Launch, actor: str, now: Micros) -> Event:
    detail: dict[str, events.Scalar] = {
        "pool": new.pool, "provider": new.provider, "data_center": new.data_center, "size": new.size,
        "usd_per_hour": new.price_uusd_h / 1e6, "node": new.node, "machine": new.machine, "refusal": new.refusal,
        "tries": new.tries, "why": "; ".join(new.why) if new.state is LaunchState.ANNOUNCED else None,
    }  # fmt: skip
    return Event(now, f"launch.{new.state.value}", new.id, actor, new.reason, detail)
