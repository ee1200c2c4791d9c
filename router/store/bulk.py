"""Many rows in one statement: what a group commit writes.

PostgreSQL takes all rows as one JSON document and spreads them itself (``json_populate_recordset``), which costs one
round trip and one plan whatever the number of rows; SQLite binds row after row inside the driver. Both skip the ORM's
work per row. Columns that a row does not name keep their default. Rows of one call name the same columns.
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


def insert(connection: Connection, table: Table, rows: Sequence[Row]) -> None:
    """Insert rows in the order given."""
    if rows:
        names = tuple(rows[0])
        _run(connection, table, rows, names, *_insert(table, names))


def update(connection: Connection, table: Table, rows: Sequence[Row]) -> None:
    """Set the columns that the rows name; the first one says which row of the table is meant, and no two say the same.

    The rows must be locked by this transaction: what is written here does not depend on what is there.
    """
    if rows:
        names = tuple(rows[0])
        _run(connection, table, rows, (*names[1:], names[0]), *_update(table, names))


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
    connection: Connection, table: Table, rows: Sequence[Row], names: tuple[str, ...], postgres: str, sqlite: str
) -> None:
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(postgres, (json.dumps(rows, default=_hex, check_circular=False),))
        return
    documents = _documents(table)
    bound = [tuple(_dumped(row[name]) if name in documents else row[name] for name in names) for row in rows]
    connection.exec_driver_sql(sqlite, bound)


@cache
def _insert(table: Table, names: tuple[str, ...]) -> tuple[str, str]:
    columns = ", ".join(f'"{name}"' for name in names)
    marks = ", ".join("?" for _ in names)
    spread = f"SELECT {columns} FROM json_populate_recordset(NULL::{table.name}, %s::json)"
    return f"INSERT INTO {table.name} ({columns}) {spread}", f"INSERT INTO {table.name} ({columns}) VALUES ({marks})"


@cache
def _update(table: Table, names: tuple[str, ...]) -> tuple[str, str]:
    key, *others = names
    spread = f"FROM json_populate_recordset(NULL::{table.name}, %s::json) AS new"
    ours = ", ".join(f'"{name}" = new."{name}"' for name in others)
    theirs = ", ".join(f'"{name}" = ?' for name in others)
    return (
        f'UPDATE {table.name} AS old SET {ours} {spread} WHERE old."{key}" = new."{key}"',
        f'UPDATE {table.name} SET {theirs} WHERE "{key}" = ?',
    )


@cache
def _documents(table: Table) -> frozenset[str]:
    return frozenset(column.name for column in table.columns if isinstance(column.type, JSON))


def _dumped(value: object) -> str | None:
    return None if value is None else json.dumps(value)


def _hex(value: object) -> str:
    if isinstance(value, bytes):
        return "\\x" + value.hex()
    raise TypeError(f"no column holds {type(value).__name__}")
