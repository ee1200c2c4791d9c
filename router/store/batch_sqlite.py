"""A group commit on SQLite: few statements, straight to the driver, which keeps them prepared.

SQLite runs in this process, so a statement costs microseconds. But with every step the driver lets go of the
interpreter, and a busy loop gives it back only when it must: a batch written row by row would wait a hundred times. So
rows come as one JSON document and go as one list of values, in pieces of a power of two so that there are few texts.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from operator import itemgetter
from typing import Any, cast

from sqlalchemy import JSON, Boolean, Connection, Double, Table
from sqlalchemy.exc import DBAPIError

from router.core.model import SessionState
from router.store import batch, events, tables
from router.store.batch import Asked, Notes, Sight, dumped
from router.store.rows import Row
from router.store.takes import LANE

LARGEST_PIECE = 64  # rows; well below the number of values that SQLite binds


@cache
def _names(table: Table, kind: type[Any]) -> tuple[str, ...]:
    return tuple(column.name for column in table.columns if isinstance(column.type, kind))


def _fields(table: Table) -> str:
    """A row as JSON; numbers of 17 digits, with which every double comes back as it was."""
    read = dict.fromkeys(_names(table, JSON), "json({})")
    read |= dict.fromkeys(_names(table, Double), "CASE WHEN {0} IS NOT NULL THEN printf('%!.17g', {0}) END")
    columns = (f"'{column.name}', {read.get(column.name, '{}').format(column.name)}" for column in table.columns)
    return f"json_object({', '.join(columns)})"


_OF_IDS = "SELECT {} FROM {} WHERE id IN (SELECT value FROM json_each(?))"


def _every(table: Table) -> str:
    return _OF_IDS.format(f"json_group_array({_fields(table)})", table.name)


_LIVE = f"{_every(tables.sessions)} AND state <> 'ended'"
_END = """
    UPDATE sessions SET state = 'ended', moved_from = NULL, held_by = NULL, ended_at = ?, end_reason = ?
    WHERE id IN (SELECT value FROM json_each(?)) AND state <> 'ended'
"""
_FREE = f"""
    SELECT json_group_array(json(agent)) FROM (
        SELECT {_fields(tables.agents)} AS agent FROM agents
        WHERE pool = ?1 AND data_center = ?2 AND state = 'ready' AND NOT cordoned AND {LANE.format("?3")}
        ORDER BY held DESC, id LIMIT ?4
    )
"""
_HELD = _every(tables.agents)
_POOLS = _every(tables.pools)
_EDGES = _OF_IDS.format("json_group_array(id)", "data_centers")
_NODES = _OF_IDS.format("json_group_object(id, data_center)", "nodes")
_KEYS = "SELECT json_group_array(key) FROM idempotency_keys WHERE key IN (SELECT value FROM json_each(?))"
_QUEUED = "SELECT 1 FROM sessions WHERE state = 'queued' AND pool = ? LIMIT 1"
_ON_RAMPS = """
    SELECT json_group_array(json_array(pool, version)) FROM ramps
    WHERE data_center = '' AND state <> 'serving' AND state <> 'withdrawn'
"""
_CLOSED = _OF_IDS.format("json_group_array(id)", "nodes") + " AND intent NOT IN ('serving', 'canary')"
_LEGS = "SELECT 1 FROM legs WHERE session IN (SELECT value FROM json_each(?)) LIMIT 1"


def look(connection: Connection, asked: Asked) -> Sight:
    """Carry out the ends, and see what the rest needs; nobody else writes meanwhile."""
    with _driver(connection) as driver:
        ended = _end(driver, asked) if asked.ends else []
        held = _rows(tables.agents, driver, _HELD, dumped([row["agent"] for row in ended])) if ended else []
        pools = sorted({row["pool"] for row in held})
        found = _rows(tables.pools, driver, _POOLS, dumped(pools)) if held else []
        free: list[Row] = []
        for (pool, hub, lane), at_most in sorted(asked.places.items()):
            found_there = _rows(tables.agents, driver, _FREE, pool, hub, lane, at_most)
            free += [{**row, "lane": lane} for row in found_there]
        concerned = {pool for pool, _, _ in asked.places} | {row["pool"] for row in ended if row["pool"] is not None}
        ids = dumped([row["id"] for row in ended])
        machines = sorted({row["node"] for row in held if row["node"] is not None})
        return Sight(
            ended, held, found, free,
            known=frozenset(_found(driver, _KEYS, asked.keys) or ()),
            edges=frozenset(_found(driver, _EDGES, asked.edges) or ()),
            homes=_found(driver, _NODES, asked.nodes) or {},
            queued=frozenset(p for p in concerned if driver.execute(_QUEUED, (p,)).fetchone() is not None),
            legs=bool(ended) and driver.execute(_LEGS, (ids,)).fetchone() is not None,
            on_ramps=frozenset(map(tuple, json.loads(driver.execute(_ON_RAMPS).fetchone()[0]))),
            closed=frozenset(_found(driver, _CLOSED, machines) or ()),
        )  # fmt: skip


def _end(driver: sqlite3.Connection, asked: Asked) -> list[Row]:
    """End those that live; as they are then."""
    live = _rows(tables.sessions, driver, _LIVE, dumped(list(asked.ends)))
    of_reason: dict[str, list[str]] = {}
    for row in live:
        of_reason.setdefault(asked.ends[row["id"]], []).append(row["id"])
    for reason, ids in of_reason.items():
        driver.execute(_END, (asked.now, reason, dumped(ids)))
    over = {"state": SessionState.ENDED.value, "moved_from": None, "held_by": None, "ended_at": asked.now}
    return [{**row, **over, "end_reason": asked.ends[row["id"]]} for row in live]


def _found(driver: sqlite3.Connection, statement: str, ids: Sequence[str]) -> Any:
    return json.loads(driver.execute(statement, (dumped(ids),)).fetchone()[0]) if ids else None


def _rows(table: Table, driver: sqlite3.Connection, statement: str, *values: str | int) -> list[Row]:
    found: list[dict[str, Any]] = json.loads(driver.execute(statement, values).fetchone()[0])
    for name in _names(table, Double):
        for row in found:
            row[name] = None if row[name] is None else float(row[name])
    for name in _names(table, Boolean):
        for row in found:
            row[name] = bool(row[name])
    return cast("list[Row]", found)


def write(connection: Connection, notes: Notes, *, last: bool) -> None:
    """Write the rows."""
    del last  # a commit costs no round trip
    with _driver(connection) as driver:
        for table, rows in (
            (tables.agents, notes.agents),
            (tables.sessions, notes.sessions),
            (tables.idempotency, notes.keys),
            (tables.departures, notes.departures),
            (tables.events, notes.events),
        ):
            _put(driver, table, rows)
        if notes.events:
            driver.execute(events.SQLITE, (len(notes.events),))


def _put(driver: sqlite3.Connection, table: Table, rows: Sequence[Row]) -> None:
    columns = _COLUMNS[table.name]
    documents, pick = [name for name in _names(table, JSON) if name in columns], itemgetter(*columns)
    at = 0
    while at < len(rows):
        size = min(LARGEST_PIECE, 1 << (len(rows) - at).bit_length() - 1)
        values: list[Any] = []
        for row in rows[at : at + size]:
            values += pick({**row, **{name: dumped(row[name]) for name in documents}} if documents else row)
        driver.execute(_text(table.name, size), values)
        at += size


@cache
def _text(table: str, size: int) -> str:
    """The statement that puts so many rows into a table; agents are there already, and change."""
    columns = _COLUMNS[table]
    names = ", ".join(f'"{name}"' for name in columns)
    values = ", ".join([f"({', '.join('?' * len(columns))})"] * size)
    if table == tables.agents.name:
        changes = ", ".join(f"{name} = new.{name}" for name in columns[1:])
        return f"WITH new({names}) AS (VALUES {values}) UPDATE agents SET {changes} FROM new WHERE agents.id = new.id"
    insert = "INSERT OR REPLACE" if table == tables.departures.name else "INSERT"
    return f"{insert} INTO {table} ({names}) VALUES {values}"


_COLUMNS: dict[str, Sequence[str]] = {
    tables.agents.name: batch.AGENT_COLUMNS,
    tables.sessions.name: batch.SESSION_COLUMNS,
    tables.idempotency.name: batch.KEY_COLUMNS,
    tables.departures.name: batch.DEPARTURE_COLUMNS,
    tables.events.name: events.COLUMNS,
}


@contextmanager
def _driver(connection: Connection) -> Iterator[sqlite3.Connection]:
    """The driver's own connection; its errors become those that SQLAlchemy would raise."""
    try:
        yield cast(sqlite3.Connection, connection.connection.driver_connection)
    except sqlite3.Error as error:
        raise DBAPIError.instance("", (), error, sqlite3.Error, dialect=connection.dialect) from error
