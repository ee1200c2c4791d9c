"""Migrations lead to exactly the tables of ``router.store.tables``, forwards and backwards, on both databases."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Column, Connection, Integer, inspect
from sqlalchemy.schema import CreateIndex

from router.store import Store, migrate
from router.store.engine import Database
from router.store.tables import metadata


def _drift(connection: Connection) -> list[object]:
    options = {"compare_type": True, "compare_server_default": True, "include_object": _comparable}
    return list(compare_metadata(MigrationContext.configure(connection, opts=options), metadata))


def _comparable(thing: object, name: str | None, kind: str, reflected: bool, other: object) -> bool:
    """Alembic cannot read the direction of an index of SQLite; that one is compared below."""
    return name != "ix_agents_ready"


def _tables(connection: Connection) -> set[str]:
    return set(inspect(connection).get_table_names()) - {"alembic_version"}


def test_up_down_and_up_again_without_drift(empty_url: str) -> None:
    database = Database(empty_url)
    migrate.upgrade(database)
    assert database.read(_drift) == []
    assert database.read(_tables) == set(metadata.tables)
    migrate.downgrade(database, "base")
    assert database.read(_tables) == set()
    migrate.upgrade(database)
    assert database.read(_drift) == []
    database.close()


def test_each_step_can_be_taken_back_alone(empty_url: str) -> None:
    database = Database(empty_url)
    migrate.upgrade(database, "0001")
    first = database.read(_tables)
    migrate.upgrade(database)
    assert database.read(_tables) - first == {
        "route_changes",
        "legs",
        "node_leases",
        "webhooks",
        "outbox",
        "webhook_states",
        "ramps",
        "launches",
    }
    migrate.downgrade(database, "0001")
    assert database.read(_tables) == first
    database.close()


def test_drift_would_be_seen(empty_url: str) -> None:
    database = Database(empty_url)
    migrate.upgrade(database)
    database.write(lambda connection: connection.exec_driver_sql("ALTER TABLE pools ADD COLUMN surprise INTEGER"))
    ((operation, _, table, column),) = database.read(_drift)
    assert (operation, table) == ("remove_column", "pools")
    assert isinstance(column, Column)
    assert isinstance(column.type, Integer)
    database.close()


def test_partial_indexes_are_partial(empty_url: str) -> None:
    # Not compared by alembic, and a whole index would only be slow.
    database = Database(empty_url)
    migrate.upgrade(database)
    catalogue = "SELECT sql FROM sqlite_master" if database.sqlite else "SELECT indexdef FROM pg_indexes"
    found = database.read(lambda connection: connection.exec_driver_sql(catalogue).scalars().all())
    partial = [
        sql for sql in found if sql and sql.startswith(("CREATE INDEX", "CREATE UNIQUE INDEX")) and " WHERE " in sql
    ]
    expected = [index for table in metadata.tables.values() for index in table.indexes if index.dialect_kwargs]
    assert len(partial) == len(expected) == 20
    database.close()


def test_agents_that_may_be_taken_are_indexed_in_the_order_in_which_they_are(empty_url: str) -> None:
    database = Database(empty_url)
    migrate.upgrade(database)
    catalogue = "SELECT sql FROM sqlite_master" if database.sqlite else "SELECT indexdef FROM pg_indexes"
    found = database.read(lambda connection: connection.exec_driver_sql(catalogue).scalars().all())
    (ready,) = [sql for sql in found if sql and "ix_agents_ready" in sql]
    (ours,) = [index for index in metadata.tables["agents"].indexes if index.name == "ix_agents_ready"]
    compiled = str(CreateIndex(ours).compile(database.engine))
    assert ready.partition("(")[2].partition(")")[0] == compiled.partition("(")[2].partition(")")[0]
    assert "pool, data_center, held DESC, id" in ready
    database.close()


def test_replicas_may_start_together(empty_url: str) -> None:
    stores = [Store(empty_url) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(Store.upgrade, stores))
    assert sorted(store.boot(0).epoch for store in stores) == [1, 2, 3, 4]
    for store in stores:
        store.close()


def test_migrations_are_found_in_the_wheel_before_the_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkout = migrate.migrations()
    assert (checkout / "versions").is_dir()
    (tmp_path / "env.py").touch()
    monkeypatch.setattr(migrate, "_PLACES", (tmp_path, checkout))
    assert migrate.migrations() == tmp_path
    monkeypatch.setattr(migrate, "_PLACES", (tmp_path / "nowhere",))
    with pytest.raises(FileNotFoundError, match="nowhere"):
        migrate.migrations()
