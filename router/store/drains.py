"""Drains, and the intents of their targets, in one transaction.

A drain carries the revision it was decided on: 0 for a new one, else the revision that was read. Two operators (or an
operator and the core) who decide on the same revision cannot both be right, so the second is refused.

Errors: ``revision_conflict`` (limit = the current revision), ``drain_overlaps``, ``unknown_data_center``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from sqlalchemy import Connection, insert, select, update

from router.core.errors import InputRejected
from router.core.messages import DrainChanged
from router.core.model import (
    DataCenter,
    DataCenterId,
    Drain,
    DrainState,
    Event,
    Intent,
    Micros,
    Node,
    NodeId,
    Ramp,
    Resource,
)
from router.store import events, ramps, resources
from router.store.commit import Commit
from router.store.rows import drain_row, read_drain, read_resource
from router.store.tables import data_centers, drains
from router.store.tables import nodes as nodes_table


def every(connection: Connection) -> tuple[Drain, ...]:
    """Return all drains, oldest first."""
    rows = connection.execute(select(drains).order_by(drains.c.created_at, drains.c.id)).mappings()
    return tuple(read_drain(row) for row in rows)


def put(
    connection: Connection,
    drain: Drain,
    intents: Mapping[DataCenterId, Intent],
    *,
    actor: str,
    now: Micros,
    nodes: Mapping[NodeId, Intent] | None = None,
    ended: Sequence[Drain] = (),
    begun: Sequence[Ramp] = (),
) -> Commit[Drain]:
    """Write a drain at its next revision and the intents that go with it; an identical drain keeps its revision.

    ``ended`` are weaker drains that it takes over, as they are from now on; ``begun`` are ramps by which its targets
    come back, left out where one has begun meanwhile.
    """
    resources.lock_intent(connection)
    closed = tuple(change for other in ended for change in put(connection, other, {}, actor=actor, now=now).changes)
    row = connection.execute(select(drains).where(drains.c.id == drain.id).with_for_update()).mappings().first()
    old = None if row is None else read_drain(row)
    current = 0 if old is None else old.revision
    if drain.revision != current:
        message = f"drain {drain.id} is at revision {current}, not {drain.revision}; read it again"
        raise InputRejected("revision_conflict", message, field="revision", rule="current revision", limit=current)
    if old is None:
        _refuse_overlap(connection, drain)
    changed: list[Resource] = [*_intended(connection, intents), *_machines(connection, nodes or {})]
    done = resources.change(connection, changed, [], actor=actor, now=now, reason=f"drain {drain.id}: {drain.reason}")
    if drain == old:
        return Commit(drain, (*closed, *done.changes))
    new = replace(drain, revision=current + 1)
    if old is None:
        connection.execute(insert(drains), drain_row(new))
    else:
        connection.execute(update(drains).where(drains.c.id == drain.id).values(drain_row(new)))
    events.append(connection, [_audit(old, new, actor, now)])
    climbing = {ramp.data_center for ramp in ramps.every(connection) if ramp.open} if begun else set()
    back = [ramps.put(connection, ramp, {}, actor=actor, now=now) for ramp in begun if ramp.data_center not in climbing]
    climbs = (change for one in back for change in one.changes)
    return Commit(new, (*closed, DrainChanged(new), *done.changes, *climbs))


def _refuse_overlap(connection: Connection, drain: Drain) -> None:
    """Two operators may both have seen no drain on the View; the second to commit is refused."""
    for other in every(connection):
        overlap = sorted({*other.targets} & {*drain.targets}) + sorted({*other.nodes} & {*drain.nodes})
        if other.state is not DrainState.UNDONE and overlap:
            message = f"drain {other.id} already has {', '.join(overlap)}; undo it or narrow the selector"
            rule = "a data center is in at most one drain"
            raise InputRejected("drain_overlaps", message, field="selector", rule=rule)


def _intended(connection: Connection, intents: Mapping[DataCenterId, Intent]) -> list[DataCenter]:
    query = select(data_centers).where(data_centers.c.id.in_(sorted(intents))).with_for_update()
    found = {row["id"]: read_resource("data-centers", row) for row in connection.execute(query).mappings()}
    changed: list[DataCenter] = []
    for id in sorted(intents):
        target = found.get(id)
        if not isinstance(target, DataCenter):
            raise resources.unknown("data-centers", id)
        changed.append(replace(target, intent=intents[id]))
    return changed


def _machines(connection: Connection, intents: Mapping[NodeId, Intent]) -> list[Node]:
    query = select(nodes_table).where(nodes_table.c.id.in_(sorted(intents))).with_for_update()
    found = [read_resource("nodes", row) for row in connection.execute(query).mappings()]
    return [replace(node, intent=intents[node.id]) for node in found if isinstance(node, Node)]


def _audit(old: Drain | None, new: Drain, actor: str, now: Micros) -> Event:
    opened = old is None and new.state is not DrainState.UNDONE
    detail = events.differences(None if old is None else drain_row(old), drain_row(new))
    return Event(now, "drain.opened" if opened else f"drain.{new.state.value}", new.id, actor, new.reason, detail)
