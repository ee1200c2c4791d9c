"""Rolled-up measurements: one row per source and time bucket; and route changes: one row per changed pair.

The body of a roll-up is one zlib stream: a JSON line ``{"data_centers", "transports", "columns": [[name, bytes]…]}``,
then the columns' raw bytes in that order. Most of their bytes are zeros, so this takes about a quarter of the arrays.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Sequence

from sqlalchemy import ColumnElement, Connection, RowMapping, delete, insert, select

from router.core.messages import AppendHistory, RouteChange
from router.core.model import DataCenterId, Micros, TrafficClass
from router.store.tables import history, route_changes

_LEVEL = 1  # higher levels cost three times the CPU for a few per cent


def append(connection: Connection, rows: Sequence[AppendHistory]) -> None:
    """Write roll-ups; one of a bucket that is there already (a restart within a bucket) takes its place."""
    for row in rows:
        connection.execute(delete(history).where(*_is(row)))
        key = {"data_center": row.data_center, "bucket_s": row.bucket_s, "bucket_at": row.bucket_at}
        connection.execute(insert(history), key | {"body": _pack(row)})


def find(connection: Connection, source: DataCenterId, *, since: Micros, until: Micros) -> tuple[AppendHistory, ...]:
    """Return the roll-ups of a source with ``since`` <= bucket_at < ``until``, oldest first."""
    within = (history.c.data_center == source, history.c.bucket_at >= since, history.c.bucket_at < until)
    query = select(history).where(*within).order_by(history.c.bucket_at, history.c.bucket_s)
    return tuple(
        _unpack(row.body, row.bucket_at, row.bucket_s, DataCenterId(row.data_center))
        for row in connection.execute(query)
    )


def append_changes(connection: Connection, changes: Sequence[RouteChange]) -> None:
    """Write route changes, all in one statement."""
    if changes:
        connection.execute(
            insert(route_changes),
            [
                {
                    "source": change.source,
                    "target": change.target,
                    "traffic_class": change.traffic_class.value,
                    "generation": change.generation,
                    "at": change.at,
                    "from_path": None if change.from_path is None else list(change.from_path),
                    "to_path": None if change.to_path is None else list(change.to_path),
                }
                for change in changes
            ],
        )


def find_changes(
    connection: Connection, source: DataCenterId, target: DataCenterId, *, since: Micros, until: Micros, limit: int
) -> tuple[RouteChange, ...]:
    """Return the newest ``limit`` route changes of a pair with ``since`` <= at < ``until``, oldest first."""
    pair = (route_changes.c.source == source, route_changes.c.target == target)
    query = select(route_changes).where(*pair, route_changes.c.at >= since, route_changes.c.at < until)
    newest = query.order_by(route_changes.c.generation.desc(), route_changes.c.traffic_class.desc()).limit(limit)
    return tuple(_read_change(row) for row in reversed(connection.execute(newest).mappings().all()))


def thin(connection: Connection, before: Micros) -> None:
    """Forget buckets that began, and route changes that happened, before ``before``."""
    connection.execute(delete(history).where(history.c.bucket_at < before))
    connection.execute(delete(route_changes).where(route_changes.c.at < before))


def _read_change(row: RowMapping) -> RouteChange:
    return RouteChange(
        at=row["at"],
        generation=row["generation"],
        traffic_class=TrafficClass(row["traffic_class"]),
        source=DataCenterId(row["source"]),
        target=DataCenterId(row["target"]),
        from_path=None if row["from_path"] is None else tuple(DataCenterId(dc) for dc in row["from_path"]),
        to_path=None if row["to_path"] is None else tuple(DataCenterId(dc) for dc in row["to_path"]),
    )


def _is(row: AppendHistory) -> Iterator[ColumnElement[bool]]:
    yield history.c.data_center == row.data_center
    yield history.c.bucket_s == row.bucket_s
    yield history.c.bucket_at == row.bucket_at


def _pack(row: AppendHistory) -> bytes:
    names = sorted(row.columns)
    sizes = [[name, len(row.columns[name])] for name in names]
    head = {"data_centers": row.data_centers, "transports": row.transports, "columns": sizes}
    parts = [json.dumps(head, separators=(",", ":")).encode(), b"\n", *(row.columns[name] for name in names)]
    return zlib.compress(b"".join(parts), _LEVEL)


def _unpack(body: bytes, bucket_at: Micros, bucket_s: int, data_center: DataCenterId) -> AppendHistory:
    head, _, packed = zlib.decompress(body).partition(b"\n")
    layout = json.loads(head)
    columns: dict[str, bytes] = {}
    start = 0
    for name, size in layout["columns"]:
        columns[name] = packed[start : start + size]
        start += size
    data_centers = tuple(DataCenterId(id) for id in layout["data_centers"])
    return AppendHistory(bucket_at, bucket_s, data_center, data_centers, tuple(layout["transports"]), columns)
