"""Ramps, and the intent of a data center that has passed its own, in one transaction.

A ramp carries the revision it was decided on: 0 for a new one. A data center is on at most one open ramp, which the
database itself enforces as well.

Errors: ``revision_conflict`` (limit = the current revision), ``ramp_exists``, ``unknown_data_center``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from sqlalchemy import Connection, insert, select, update

from router.core.errors import InputRejected
from router.core.messages import RampChanged
from router.core.model import DataCenter, DataCenterId, Event, Intent, Micros, Ramp
from router.store import events, resources
from router.store.commit import Commit
from router.store.rows import ramp_row, read_ramp, read_resource
from router.store.tables import data_centers, ramps


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
    return Commit(new, (RampChanged(new), *done.changes))


def _refuse_second(connection: Connection, ramp: Ramp) -> None:
    for other in every(connection):
        if other.open and other.data_center == ramp.data_center:
            message = f"ramp {other.id} already brings {ramp.data_center} in; advance or withdraw that one"
            raise InputRejected("ramp_exists", message, field="data_center", rule="one open ramp per data center")


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
    detail["data_center"] = new.data_center
    return Event(now, "ramp.begun" if old is None else f"ramp.{new.state.value}", new.id, actor, new.reason, detail)
