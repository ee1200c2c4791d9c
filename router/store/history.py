"""Rolled-up measurements: one row per source and time bucket.

The body is one zlib stream: a JSON line ``{"data_centers", "transports", "columns": [[name, bytes]…]}``, then the
columns' raw bytes in that order. Estimates of quiet links repeat, so this takes about a quarter of the arrays.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Sequence

from sqlalchemy import ColumnElement, Connection, delete, insert, select

from router.core.messages import AppendHistory
from router.core.model import DataCenterId, Micros
from router.store.tables import history

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


def thin(connection: Connection, before: Micros) -> None:
    """Forget buckets that began before ``before``."""
    connection.execute(delete(history).where(history.c.bucket_at < before))


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
