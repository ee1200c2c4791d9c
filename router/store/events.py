"""The audit trail: written in the same transaction as what it tells, numbered in the order it was written.

So are the messages to the webhooks that want to hear of it: whoever writes an event writes them too.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, delete, or_, select

from router.core.model import Event, Micros
from router.store import bulk
from router.store.rows import read_event, row_of
from router.store.tables import events

Scalar = str | int | float | bool | None


# A webhook without kinds hears everything; a kind also means what is below it. Nobody is told of their own troubles:
# what cannot be delivered would make messages about that, which cannot be delivered either.
_WANTS = """
    w.enabled AND NOT (e.subject = w.id AND e.kind LIKE 'webhook.%%') AND (
        {none} OR EXISTS (
            SELECT 1 FROM {kinds}
            WHERE e.kind = wanted.value OR substr(e.kind, 1, length(wanted.value) + 1) = wanted.value || '.'
        )
    )
"""
_MESSAGES = """
    INSERT INTO outbox (webhook, event, subject, created_at, attempts, next_at, last_error)
    SELECT w.id, e.id, e.subject, e.at, 0, e.at, '' FROM webhooks AS w CROSS JOIN {events} AS e WHERE
"""
COLUMNS = ("at", "kind", "subject", "actor", "reason", "detail")
_COLUMNS = ", ".join(COLUMNS)
POSTGRES = (
    f"told AS (INSERT INTO events ({_COLUMNS}) SELECT {_COLUMNS} FROM"
    " json_populate_recordset(NULL::events, %(events)s::json) RETURNING id, at, kind, subject)"
    + _MESSAGES.format(events="told")
    + _WANTS.format(none="w.events = '[]'::jsonb", kinds="jsonb_array_elements_text(w.events) AS wanted")
)
"""What writes events and messages there: the last part of a statement that begins with WITH."""
# SQLite has one writer, so what was inserted last has the last numbers.
SQLITE = _MESSAGES.format(events="(SELECT * FROM events WHERE id > (SELECT max(id) FROM events) - ?)") + _WANTS.format(
    none="json_array_length(w.events) = 0", kinds="json_each(w.events) AS wanted"
).replace("%%", "%")


def append(connection: Connection, new: Sequence[Event]) -> None:
    """Write events in the order given, and a message for each webhook that wants to hear of them."""
    if not new:
        return
    rows = [row_of(event) for event in new]
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(f"WITH {POSTGRES}", {"events": json.dumps(rows, check_circular=False)})
        return
    bulk.insert(connection, events, rows)
    connection.exec_driver_sql(SQLITE, (len(rows),))


def find(
    connection: Connection,
    *,
    since: Micros | None,
    until: Micros | None,
    kind: str | None,
    subject: str | None,
    limit: int,
    before_id: int | None,
    after_id: int | None,
) -> tuple[tuple[int, Event], ...]:
    """Return numbered events, newest first; ``since`` <= at < ``until``; ``kind`` also matches what is below it."""
    query = select(events).order_by(events.c.id.desc()).limit(limit)
    if since is not None:
        query = query.where(events.c.at >= since)
    if until is not None:
        query = query.where(events.c.at < until)
    if kind is not None:
        query = query.where(or_(events.c.kind == kind, events.c.kind.startswith(f"{kind}.", autoescape=True)))
    if subject is not None:
        query = query.where(events.c.subject == subject)
    if before_id is not None:
        query = query.where(events.c.id < before_id)
    if after_id is not None:
        query = query.where(events.c.id > after_id)
    return tuple((row["id"], read_event(row)) for row in connection.execute(query).mappings())


def forget(connection: Connection, kind: str, before: Micros, limit: int) -> int:
    """Delete some of the events below ``kind`` that are older; how many."""
    old = select(events.c.id).where(events.c.at < before, events.c.kind.startswith(f"{kind}.", autoescape=True))
    return connection.execute(delete(events).where(events.c.id.in_(old.limit(limit)))).rowcount


def of_subject(connection: Connection, subject: str, prefix: str) -> tuple[Event, ...]:
    """Return the events of one subject whose kind starts with ``prefix``, oldest first."""
    query = select(events).where(events.c.subject == subject, events.c.kind.startswith(prefix, autoescape=True))
    return tuple(read_event(row) for row in connection.execute(query.order_by(events.c.id)).mappings())


def differences(before: Mapping[str, Any] | None, after: Mapping[str, Any] | None) -> dict[str, Scalar]:
    """Return ``{"<field>.before": …, "<field>.after": …}`` for the fields that differ, but never the revision."""
    old, new = before or {}, after or {}
    found: dict[str, Scalar] = {}
    for name in sorted({*old, *new} - {"id", "revision"}):
        if old.get(name) == new.get(name):
            continue
        if before is not None:
            found[f"{name}.before"] = _scalar(old.get(name))
        if after is not None:
            found[f"{name}.after"] = _scalar(new.get(name))
    return found


def _scalar(value: Any) -> Scalar:
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    return json.dumps(value, sort_keys=True, ensure_ascii=False)
