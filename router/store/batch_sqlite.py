"""A group commit on SQLite: statements straight to the driver, which keeps them prepared.

SQLite runs in this process, so a statement costs microseconds and there is nothing to save by joining them; what costs
is everything that would stand between us and the driver.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

from sqlalchemy import JSON, Boolean, Connection, Table
from sqlalchemy.exc import DBAPIError

from router.store import batch, events, tables
from router.store.batch import Asked, Notes, Sight, dumped
from router.store.rows import Row
from router.store.takes import LANE


def _names(table: Table) -> str:
    return ", ".join(f'"{column.name}"' for column in table.columns)


_END = f"""
    UPDATE sessions SET state = 'ended', moved_from = NULL, held_by = NULL, ended_at = ?, end_reason = ?
    WHERE id = ? AND state <> 'ended' RETURNING {_names(tables.sessions)}
"""
_FREE = f"""
    SELECT {_names(tables.agents)} FROM agents
    WHERE pool = :pool AND data_center = :hub AND state = 'ready' AND NOT cordoned AND {LANE.format(":lane")}
    ORDER BY held DESC, id LIMIT :at_most
"""
_OF_IDS = "SELECT {} FROM {} WHERE id IN (SELECT value FROM json_each(?))"
_HELD = _OF_IDS.format(_names(tables.agents), "agents")
_POOLS = _OF_IDS.format(_names(tables.pools), "pools")
_EDGES = _OF_IDS.format("id", "data_centers")
_NODES = _OF_IDS.format("id, data_center", "nodes")
_KEYS = "SELECT key FROM idempotency_keys WHERE key IN (SELECT value FROM json_each(?))"
_QUEUED = "SELECT 1 FROM sessions WHERE state = 'queued' AND pool = ? LIMIT 1"
_ON_RAMPS = "SELECT pool, version FROM ramps WHERE data_center = '' AND state <> 'serving' AND state <> 'withdrawn'"
_CLOSED = _OF_IDS.format("id", "nodes") + " AND intent NOT IN ('serving', 'canary')"
_LEGS = "SELECT 1 FROM legs WHERE session IN (SELECT value FROM json_each(?)) LIMIT 1"


def _insert(table: str, names: Sequence[str]) -> str:
    return f"INSERT INTO {table} ({', '.join(names)}) VALUES ({', '.join(f':{name}' for name in names)})"


_BIND = f"UPDATE agents SET {', '.join(f'{name} = :{name}' for name in batch.AGENT_COLUMNS[1:])} WHERE id = :id"
_START = _insert("sessions", batch.SESSION_COLUMNS)
_USE = _insert("idempotency_keys", batch.KEY_COLUMNS)
_LEAVE = _insert("departures", batch.DEPARTURE_COLUMNS).replace("INSERT", "INSERT OR REPLACE")
_TELL = _insert("events", events.COLUMNS)


def look(connection: Connection, asked: Asked) -> Sight:
    """Carry out the ends, and see what the rest needs; nobody else writes meanwhile."""
    with _driver(connection) as driver:
        ended = [row for id in asked.ends for row in _rows(tables.sessions, driver.execute(_END, _end_of(asked, id)))]
        ids, of_agents = dumped([row["id"] for row in ended]), dumped([row["agent"] for row in ended])
        held = list(_rows(tables.agents, driver.execute(_HELD, (of_agents,)))) if ended else []
        of_pools = dumped(sorted({row["pool"] for row in held}))
        found = list(_rows(tables.pools, driver.execute(_POOLS, (of_pools,)))) if held else []
        free: list[Row] = []
        for (pool, hub, lane), at_most in sorted(asked.places.items()):
            wanted = {"pool": pool, "hub": hub, "lane": lane, "at_most": at_most}
            free += [{**row, "lane": lane} for row in _rows(tables.agents, driver.execute(_FREE, wanted))]
        concerned = {pool for pool, _, _ in asked.places} | {row["pool"] for row in ended if row["pool"] is not None}
        return Sight(
            ended, held, found, free,
            known=_first_column(driver, _KEYS, asked.keys),
            edges=_first_column(driver, _EDGES, asked.edges),
            homes=dict(driver.execute(_NODES, (dumped(asked.nodes),))) if asked.nodes else {},
            queued=frozenset(p for p in concerned if driver.execute(_QUEUED, (p,)).fetchone() is not None),
            legs=bool(ended) and driver.execute(_LEGS, (ids,)).fetchone() is not None,
            on_ramps=frozenset(driver.execute(_ON_RAMPS).fetchall()),
            closed=_first_column(driver, _CLOSED, [row["node"] for row in held if row["node"] is not None]),
        )  # fmt: skip


def _end_of(asked: Asked, id: str) -> tuple[int, str, str]:
    return asked.now, asked.ends[id], id


def _first_column(driver: sqlite3.Connection, statement: str, values: Sequence[str]) -> frozenset[str]:
    return frozenset(row[0] for row in driver.execute(statement, (dumped(values),))) if values else frozenset()


def write(connection: Connection, notes: Notes, *, last: bool) -> None:
    """Write the rows."""
    del last  # a commit costs no round trip
    with _driver(connection) as driver:
        for statement, table, rows in (
            (_BIND, tables.agents, notes.agents),
            (_START, tables.sessions, notes.sessions),
            (_USE, tables.idempotency, notes.keys),
            (_LEAVE, tables.departures, notes.departures),
            (_TELL, tables.events, notes.events),
        ):
            if rows:
                driver.executemany(statement, _bound(table, rows))
        if notes.events:
            driver.execute(events.SQLITE, (len(notes.events),))


_FORMS: dict[str, tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]] = {
    table.name: (
        tuple(column.name for column in table.columns),
        tuple(column.name for column in table.columns if isinstance(column.type, JSON)),
        tuple(column.name for column in table.columns if isinstance(column.type, Boolean)),
    )
    for table in tables.metadata.tables.values()
}
"""Of each table: the names of its columns, and which of them are JSON or yes and no."""


def _rows(table: Table, found: Iterable[Sequence[Any]]) -> Iterator[Row]:
    names, documents, flags = _FORMS[table.name]
    for values in found:
        row = dict(zip(names, values, strict=True))
        for name in documents:
            if row[name] is not None:
                row[name] = json.loads(row[name])
        for name in flags:
            row[name] = bool(row[name])
        yield row


def _bound(table: Table, rows: Iterable[Row]) -> Iterator[dict[str, Any]]:
    documents = _FORMS[table.name][1]
    for row in rows:
        yield {**row, **{name: json.dumps(row[name]) for name in documents if row.get(name) is not None}}


@contextmanager
def _driver(connection: Connection) -> Iterator[sqlite3.Connection]:
    """The driver's own connection; its errors become those that SQLAlchemy would raise."""
    try:
        yield cast(sqlite3.Connection, connection.connection.driver_connection)
    except sqlite3.Error as error:
        raise DBAPIError.instance("", (), error, sqlite3.Error, dialect=connection.dialect) from error
