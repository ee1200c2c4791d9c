"""Brings a database to the shape that this version of the program expects.

The migrations lie in ``migrations/`` of a checkout and in ``router/store/migrations`` of an installed wheel. A whole
upgrade is one transaction on both databases; replicas that start together queue on an advisory lock (PostgreSQL) or on
the write lock (SQLite), and the later ones find nothing to do.
"""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, text

from router.store.engine import Database

_PLACES = (Path(__file__).parent / "migrations", Path(__file__).parents[2] / "migrations")
_LOCK = 0x7E4D_0002  # advisory lock number, the same in every replica


def upgrade(database: Database, revision: str = "head") -> None:
    """Migrate forward to ``revision``."""
    database.write(lambda connection: command.upgrade(_config(connection), revision))


def downgrade(database: Database, revision: str) -> None:
    """Migrate back to ``revision``; ``base`` is an empty database."""
    database.write(lambda connection: command.downgrade(_config(connection), revision))


def migrations() -> Path:
    """Return the folder with the migrations."""
    for place in _PLACES:
        if (place / "env.py").is_file():
            return place
    raise FileNotFoundError(f"no migrations in {' or '.join(map(str, _PLACES))}")


def _config(connection: Connection) -> Config:
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": _LOCK})
    config = Config()
    config.set_main_option("script_location", str(migrations()).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config
