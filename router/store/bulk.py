"""Many rows in one statement: what a group commit writes.

PostgreSQL takes all rows as one JSON document and spreads them itself (``json_populate_recordset``), which costs one
round trip and one plan whatever the number of rows. SQLite takes them in pieces of a power of two, so that texts are
few: with every step its driver lets go of the interpreter, and a busy loop gives it back only when it must, so that
hundreds of rows written one by one would hold up all other writes. Both skip the ORM's work per row. Columns that a row
does not name keep their default. Rows of one call name the same columns.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

from sqlalchemy import JSON, ColumnElement, Connection, CursorResult, Executable, String, Table, any_, bindparam
from sqlalchemy.dialects.postgresql import ARRAY

Row = Mapping[str, Any]
_TEXTS = ARRAY(String)
WHOLE = 0  # all rows at once, whatever their number
LARGEST_PIECE = 64  # rows; well below the number of values that SQLite binds


def insert(connection: Connection, table: Table, rows: Sequence[Row]) -> None:
    """Insert rows in the order given."""
    if rows:
        names = tuple(rows[0])
        _run(connection, table, rows, names, _insert)


def update(connection: Connection, table: Table, rows: Sequence[Row]) -> None:
    """Set the columns that the rows name; the first one says which row of the table is meant, and no two say the same.

    The rows must be locked by this transaction: what is written here does not depend on what is there.
    """
    if rows:
        names = tuple(rows[0])
        _run(connection, table, rows, names, _update)


def among(connection: Connection, column: ColumnElement[Any], ids: Sequence[str]) -> ColumnElement[bool]:
    """Whether a column is one of these; on PostgreSQL one statement for any number of them, so that it stays known."""
    if connection.dialect.name != "postgresql":
        return column.in_(ids)
    return column == any_(bindparam(None, list(ids), type_=_TEXTS))


class About:
    """A statement about the rows whose ``column`` is one of some ids; built once, because building costs as much as
    running. Further values are bound by name."""

    def __init__(self, column: ColumnElement[Any], make: Callable[[ColumnElement[bool]], Executable]) -> None:
        named: dict[str, ColumnElement[bool]] = {"sqlite": column.in_(bindparam("ids", expanding=True))}
        named["postgresql"] = column == any_(bindparam("ids", type_=_TEXTS))
        self._statement = {dialect: make(which) for dialect, which in named.items()}

    def __call__(self, connection: Connection, ids: Sequence[str], **values: object) -> CursorResult[Any]:
        """Run it."""
        return connection.execute(self._statement[connection.dialect.name], {"ids": list(ids), **values})


def _run(
    connection: Connection, table: Table, rows: Sequence[Row], names: tuple[str, ...],
    texts: Callable[[Table, tuple[str, ...], int], str],
) -> None:  # fmt: skip
    if connection.dialect.name == "postgresql":
        whole = (json.dumps(rows, default=_hex, check_circular=False),)
        connection.exec_driver_sql(texts(table, names, WHOLE), whole)
        return
    documents, at = _documents(table), 0
    while at < len(rows):
        size = min(LARGEST_PIECE, 1 << (len(rows) - at).bit_length() - 1)
        piece = rows[at : at + size]
        bound = [_dumped(row[name]) if name in documents else row[name] for row in piece for name in names]
        connection.exec_driver_sql(texts(table, names, size), tuple(bound))
        at += size


@cache
def _insert(table: Table, names: tuple[str, ...], size: int) -> str:
    columns = ", ".join(f'"{name}"' for name in names)
    if size == WHOLE:
        spread = f"SELECT {columns} FROM json_populate_recordset(NULL::{table.name}, %s::json)"
        return f"INSERT INTO {table.name} ({columns}) {spread}"
    return f"INSERT INTO {table.name} ({columns}) VALUES {_marks(names, size)}"


@cache
def _update(table: Table, names: tuple[str, ...], size: int) -> str:
    key, *others = names
    changes = ", ".join(f'"{name}" = new."{name}"' for name in others)
    if size == WHOLE:
        spread = f"FROM json_populate_recordset(NULL::{table.name}, %s::json) AS new"
        return f'UPDATE {table.name} AS old SET {changes} {spread} WHERE old."{key}" = new."{key}"'
    columns = ", ".join(f'"{name}"' for name in names)
    new = f"WITH new({columns}) AS (VALUES {_marks(names, size)})"
    return f'{new} UPDATE {table.name} SET {changes} FROM new WHERE {table.name}."{key}" = new."{key}"'


def _marks(names: tuple[str, ...], size: int) -> str:
    return ", ".join([f"({', '.join('?' * len(names))})"] * size)


@cache
def _documents(table: Table) -> frozenset[str]:
    return frozenset(column.name for column in table.columns if isinstance(column.type, JSON))


def _dumped(value: object) -> str | None:
    return None if value is None else json.dumps(value)


def _hex(value: object) -> str:
    if isinstance(value, bytes):
        return "\\x" + value.hex()
    raise TypeError(f"no column holds {type(value).__name__}")
