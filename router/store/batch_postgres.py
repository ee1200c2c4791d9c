"""A group commit on PostgreSQL: one statement to look and lock, one to write, each in one round trip.

Every list goes as one JSON document and every answer comes back as one, so that the statements never change and are
planned once per connection. They go to the driver as they are: the first together with ``BEGIN``, the second together
with ``COMMIT``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, cast

import psycopg
from psycopg.pq.abc import PGresult
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from router.store import batch, events
from router.store.batch import Asked, Notes, Sight, dumped
from router.store.postgres_wire import BEGIN, COMMIT, Statement, together
from router.store.takes import LANE

_IDS = "ARRAY(SELECT json_array_elements_text(%({})s::json))"
_LOOK = f"""
    WITH ended AS (
        UPDATE sessions SET state = 'ended', moved_from = NULL, held_by = NULL, ended_at = %(now)s::bigint,
            end_reason = %(ends)s::jsonb ->> id
        WHERE id = ANY(ARRAY(SELECT jsonb_object_keys(%(ends)s::jsonb))) AND state <> 'ended'
        RETURNING *
    ), holder AS (
        SELECT * FROM agents WHERE id = ANY(ARRAY(SELECT agent FROM ended)) ORDER BY id FOR UPDATE
    ), free AS (
        SELECT found.*, asked.lane
        FROM json_to_recordset(%(places)s::json) AS asked(pool text, hub text, lane text, at_most bigint)
        CROSS JOIN LATERAL (
            SELECT * FROM agents
            WHERE pool = asked.pool AND data_center = asked.hub AND state = 'ready' AND NOT cordoned
                AND {LANE.format("asked.lane")}
            ORDER BY held DESC, id LIMIT asked.at_most
            FOR UPDATE SKIP LOCKED
        ) AS found
    ), edge AS (
        SELECT id FROM data_centers WHERE id = ANY({_IDS.format("edges")}) ORDER BY id FOR KEY SHARE
    ), home AS (
        SELECT id, data_center FROM nodes WHERE id = ANY({_IDS.format("nodes")}) ORDER BY id FOR KEY SHARE
    ), asked_pool AS (
        SELECT asked.pool FROM json_to_recordset(%(places)s::json) AS asked(pool text)
        UNION SELECT ended.pool FROM ended
    )
    SELECT (SELECT json_agg(ended) FROM ended)::text,
        (SELECT json_agg(holder) FROM holder)::text,
        (SELECT json_agg(pools) FROM pools WHERE id = ANY(ARRAY(SELECT pool FROM holder)))::text,
        (SELECT json_agg(free) FROM free)::text,
        (SELECT json_agg(key) FROM idempotency_keys WHERE key = ANY({_IDS.format("keys")}))::text,
        (SELECT json_agg(id) FROM edge)::text,
        (SELECT json_object_agg(id, data_center) FROM home)::text,
        (SELECT json_agg(pool) FROM asked_pool
            WHERE EXISTS (SELECT 1 FROM sessions WHERE sessions.state = 'queued' AND sessions.pool = asked_pool.pool)
        )::text,
        EXISTS (SELECT 1 FROM legs WHERE session = ANY(ARRAY(SELECT id FROM ended))),
        (SELECT json_agg(json_build_array(pool, version)) FROM ramps
            WHERE data_center = '' AND state <> 'serving' AND state <> 'withdrawn')::text,
        (SELECT json_agg(id) FROM nodes WHERE id = ANY(ARRAY(SELECT node FROM holder))
            AND intent NOT IN ('serving', 'canary'))::text
"""


def _insert(table: str, names: Sequence[str]) -> str:
    columns = ", ".join(f'"{name}"' for name in names)
    return (
        f"INSERT INTO {table} ({columns}) SELECT {columns}"
        f" FROM json_populate_recordset(NULL::{table}, %({table})s::json)"
    )


_SET = ", ".join(f'"{name}" = new."{name}"' for name in batch.AGENT_COLUMNS[1:])
_AGAIN = ", ".join(f'"{name}" = excluded."{name}"' for name in batch.DEPARTURE_COLUMNS[2:])
_WRITE = f"""
    WITH bound AS (
        UPDATE agents AS old SET {_SET} FROM json_populate_recordset(NULL::agents, %(agents)s::json) AS new
        WHERE old.id = new.id
    ), started AS ({_insert("sessions", batch.SESSION_COLUMNS)}
    ), used AS ({_insert("idempotency_keys", batch.KEY_COLUMNS)}
    ), leaving AS ({_insert("departures", batch.DEPARTURE_COLUMNS)} ON CONFLICT (node, session) DO UPDATE SET {_AGAIN}
    ), {events.POSTGRES}
"""


_LOOKS, _WRITES = Statement.of("tendril_look", _LOOK), Statement.of("tendril_write", _WRITE)


def look(connection: Connection, asked: Asked) -> Sight:
    """Carry out the ends, and see and lock what the rest needs."""
    places = [
        {"pool": pool, "hub": hub, "lane": lane, "at_most": n} for (pool, hub, lane), n in sorted(asked.places.items())
    ]
    wanted = {
        "ends": dumped(asked.ends), "now": str(asked.now), "places": dumped(places), "keys": dumped(asked.keys),
        "edges": dumped(asked.edges), "nodes": dumped(asked.nodes),
    }  # fmt: skip
    seen = _together(connection, ((BEGIN, {}), (_LOOKS, wanted)))[1]
    ended, held, pools, free, keys, edges, homes, queued = (
        None if (part := seen.get_value(0, i)) is None else json.loads(part) for i in range(8)
    )
    return Sight(
        ended or (), held or (), pools or (), free or (), frozenset(keys or ()), frozenset(edges or ()), homes or {},
        frozenset(queued or ()), seen.get_value(0, 8) == b"t",
        frozenset((pool, version) for pool, version in json.loads(seen.get_value(0, 9) or b"[]")),
        frozenset(json.loads(seen.get_value(0, 10) or b"[]")),
    )  # fmt: skip


def write(connection: Connection, notes: Notes, *, last: bool) -> None:
    """Write the rows; and commit with the same round trip if nothing comes after them."""
    keys = [{**row, "request_hash": "\\x" + row["request_hash"].hex()} for row in notes.keys]
    rows = {
        "agents": dumped(notes.agents), "sessions": dumped(notes.sessions), "idempotency_keys": dumped(keys),
        "departures": dumped(notes.departures), "events": dumped(notes.events),
    }  # fmt: skip
    _together(connection, ((_WRITES, rows), (COMMIT, {})) if last else ((_WRITES, rows),))


def _together(connection: Connection, asked: Sequence[tuple[Statement, Mapping[str, str]]]) -> list[PGresult]:
    """One round trip on the driver's own connection; its errors become those that SQLAlchemy would raise."""
    held = connection.connection
    driver = cast("psycopg.Connection[Any]", held.driver_connection)
    try:
        return together(driver, held.info.setdefault("prepared", set()), asked)
    except psycopg.Error as error:
        if driver.closed:
            connection.invalidate(error)
        raise DBAPIError.instance("", (), error, psycopg.Error, dialect=connection.dialect) from error
