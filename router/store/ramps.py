"""Ramps, and the intent of a data center that has passed its own, in one transaction.

A ramp carries the revision it was decided on: 0 for a new one. A data center, or a version of a pool's agents, is on at
most one open ramp, which the database itself enforces as well.

Errors: ``revision_conflict`` (limit = the current revision), ``ramp_exists``, ``unknown_data_center``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from sqlalchemy import Connection, func, insert, select, update

from router.core.errors import InputRejected
from router.core.messages import Change, RampChanged, SessionsChanged
from router.core.model import DataCenter, DataCenterId, Event, Intent, Micros, PoolId, Ramp, RampState
from router.store import events, resources
from router.store.commit import Commit
from router.store.rows import ramp_row, read_ramp, read_resource
from router.store.tables import READY, agents, data_centers, ramps


def every(connection: Connection) -> tuple[Ramp, ...]:
    """Return all ramps, oldest first."""
    rows = connection.execute(select(ramps).order_by(ramps.c.created_at, ramps.c.id)).mappings()
    return tuple(read_ramp(row) for row in rows)


def put(
    connection: Connection, ramp: Ramp, intents: Mapping[DataCenterId, Intent], *, actor: str, now: Micros
) -> Commit[Ramp]:
    """Write a ramp at its next revision, and the intents that go with it."""
    resources.lock_intent(connection)
    row = connection.execute(select(ramps).where(ramps.c.id == ramp.id).with_for_update()).mappings().first()
    old = None if row is None else read_ramp(row)
    current = 0 if old is None else old.revision
    if ramp.revision != current:
        message = f"ramp {ramp.id} is at revision {current}, not {ramp.revision}; read it again"
        raise InputRejected("revision_conflict", message, field="revision", rule="current revision", limit=current)
    if old is None:
        _refuse_second(connection, ramp)
    reason = f"ramp {ramp.id}: {ramp.reason}"
    done = resources.change(connection, _intended(connection, intents), [], actor=actor, now=now, reason=reason)
    new = replace(ramp, revision=current + 1)
    if old is None:
        connection.execute(insert(ramps), ramp_row(new))
    else:
        connection.execute(update(ramps).where(ramps.c.id == ramp.id).values(ramp_row(new)))
    events.append(connection, [_audit(old, new, actor, now)])
    return Commit(new, (RampChanged(new), *done.changes, *_counted(connection, old, new)))


def _counted(connection: Connection, old: Ramp | None, new: Ramp) -> tuple[Change, ...]:
    """Agents of a version that is rolled back are no longer free; with its next attempt they are again."""
    was, is_out = (one is not None and one.state is RampState.ROLLED_BACK for one in (old, new))
    if not new.pool or was == is_out:
        return ()
    mine = (READY, ~agents.c.cordoned, agents.c.pool == new.pool, agents.c.agent_version == new.version)
    free = select(agents.c.data_center, func.sum(agents.c.capacity - agents.c.held)).where(*mine)
    found = sorted(connection.execute(free.group_by(agents.c.data_center)).all())
    idle = {(new.pool, DataCenterId(dc)): int(-n if is_out else n) for dc, n in found if n}
    return (SessionsChanged({}, idle, {}),) if idle else ()


def _refuse_second(connection: Connection, ramp: Ramp) -> None:
    for other in every(connection):
        if other.open and other.subject == ramp.subject:
            message = f"ramp {other.id} already brings {ramp.subject} in; advance or withdraw that one"
            rule = "one open ramp per data center, and per version of a pool's agents"
            raise InputRejected("ramp_exists", message, field="version" if ramp.pool else "data_center", rule=rule)


def of_version(connection: Connection, pool: PoolId, version: str) -> Ramp | None:
    """The newest ramp of a version of a pool's agents."""
    mine = (ramps.c.pool == pool, ramps.c.version == version)
    query = select(ramps).where(*mine).order_by(ramps.c.created_at.desc(), ramps.c.id).limit(1)
    row = connection.execute(query).mappings().first()
    return None if row is None else read_ramp(row)


def _intended(connection: Connection, intents: Mapping[DataCenterId, Intent]) -> list[DataCenter]:
    changed: list[DataCenter] = []
    for id in sorted(intents):
        query = select(data_centers).where(data_centers.c.id == id).with_for_update()
        row = connection.execute(query).mappings().first()
        if row is None:
            raise resources.unknown("data-centers", id)
        found = read_resource("data-centers", row)
        assert isinstance(found, DataCenter)
        changed.append(replace(found, intent=intents[id]))
    return changed


def _audit(old: Ramp | None, new: Ramp, actor: str, now: Micros) -> Event:
    detail = events.differences(None if old is None else ramp_row(old), ramp_row(new))
    detail["subject" if new.pool else "data_center"] = new.subject
    return Event(now, "ramp.begun" if old is None else f"ramp.{new.state.value}", new.id, actor, new.reason, detail)
