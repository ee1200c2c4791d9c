"""One database, and how its transactions begin, commit, are tried again, and fail.

SQLite runs in WAL mode with ``synchronous=FULL``: NORMAL could lose the last commits at a power cut, and what was
acknowledged must never be lost. Writers ``BEGIN IMMEDIATE``, so that nothing read inside a write can have changed
before it commits; within the process they queue on a lock, because SQLite's own busy handler sleeps and polls.

PostgreSQL runs writers at READ COMMITTED with row locks and compare-and-swap, and readers on one snapshot (REPEATABLE
READ). Losing a race there (a deadlock, a serialisation failure, two inserts of one key) shows as an error of the
driver; the whole transaction is then run again and finds the winner's rows, so that a caller sees the same refusal on
both databases. Functions given to :meth:`Database.write` must therefore have no effect outside the connection.

Errors: ``Unavailable("database_unavailable")`` when the database cannot be used now, ``InputRejected("bad_value")``
for text or numbers that it cannot hold (NUL, lone surrogates, integers beyond 64 bits), ``write_conflict`` for what a
constraint of the database refuses and no check of ours saw coming.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import (
    DataError,
    DBAPIError,
    DisconnectionError,
    IntegrityError,
    InterfaceError,
    InternalError,
    OperationalError,
    SQLAlchemyError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from router.core.errors import InputRejected, TendrilError, Unavailable

T = TypeVar("T")

ATTEMPTS = 4  # of one write that loses races; each needs another writer to commit meanwhile
BUSY_TIMEOUT_S = 5  # how long to wait for another process's write before saying "unavailable"
POOL_SIZE = 8  # connections kept; as many again may be opened under load
_RACES = {"40001", "40P01", "55P03"}  # serialisation failure, deadlock, lock not available
PINGED_AFTER_S = 1.0  # a connection that was not used for so long is asked whether it still stands
# Group commits run the same few statements thousands of times over tables that turn over within seconds, far ahead of
# any statistics. The right plan is known: nested loops over indexes.
_BATCHES = (
    " -c plan_cache_mode=force_generic_plan -c enable_seqscan=off -c enable_hashjoin=off -c enable_mergejoin=off"
    " -c jit=off"
)
_SQLITE_PRAGMAS = (
    "journal_mode=WAL",
    "synchronous=FULL",
    "foreign_keys=ON",
    f"busy_timeout={BUSY_TIMEOUT_S * 1000}",
    "temp_store=MEMORY",
)


class Database:
    """An engine with two ways to use it: :meth:`read` and :meth:`write`."""

    def __init__(self, url: str) -> None:
        parsed = make_url(url)
        self.sqlite = parsed.get_backend_name() == "sqlite"
        self.engine = _sqlite_engine(parsed) if self.sqlite else _postgres_engine(parsed)
        snapshot: dict[str, Any] = {} if self.sqlite else {"isolation_level": "REPEATABLE READ"}
        self._reader = self.engine.execution_options(**snapshot)
        self._writer = self.engine.execution_options(tendril_write=True)
        self._snapshot_writer = self._writer.execution_options(**snapshot)
        self._batcher = self._writer if self.sqlite else _postgres_engine(parsed, _BATCHES)
        self._queue = threading.Lock() if self.sqlite else nullcontext()

    def read(self, fn: Callable[[Connection], T]) -> T:
        """Run ``fn`` on one consistent snapshot."""
        with _translated(), self._reader.connect() as connection:
            return fn(connection)

    def write(self, fn: Callable[[Connection], T], *, snapshot: bool = False, batch: bool = False) -> T:
        """Run ``fn`` in one transaction, whole or not at all; again if it lost a race.

        With ``snapshot`` all its statements see the database as of the first one, on PostgreSQL too; with ``batch`` it
        gets a connection whose statements are planned once and always by index.
        """
        engine = self._batcher if batch else self._snapshot_writer if snapshot else self._writer
        with _translated():
            for _ in range(ATTEMPTS - 1):
                try:
                    return self._once(engine, fn)
                except DBAPIError as error:
                    if not _lost_race(error):
                        raise
            return self._once(engine, fn)

    def _once(self, engine: Engine, fn: Callable[[Connection], T]) -> T:
        with self._queue, engine.begin() as connection:
            return fn(connection)

    def pin(self) -> Connection:
        """A connection whose reads see the database as it is now; to be closed by whoever asked for it."""
        with _translated():
            connection = self._reader.connect()
            try:
                connection.exec_driver_sql("SELECT 1 FROM control_plane")  # the first question takes the snapshot
            except BaseException:
                connection.close()
                raise
            return connection

    def ask(self, connection: Connection, fn: Callable[[Connection], T]) -> T:
        """Run ``fn`` on a pinned connection."""
        with _translated():
            return fn(connection)

    def close(self) -> None:
        """Close every connection that is not in use."""
        self.engine.dispose()
        self._batcher.dispose()


def _sqlite_engine(url: URL) -> Engine:
    if url.database and url.database != ":memory:":
        path = Path(url.database)
        if path.parent.is_dir() and not path.exists():
            path.touch(mode=0o600)  # it will hold the signing secret and the hashes of keys
    engine = create_engine(url, pool_size=POOL_SIZE, max_overflow=POOL_SIZE, pool_timeout=BUSY_TIMEOUT_S)

    @event.listens_for(engine, "connect")
    def configure(connection: Any, _record: object) -> None:
        connection.isolation_level = None  # the driver must not begin transactions of its own
        for pragma in _SQLITE_PRAGMAS:
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        write = connection.get_execution_options().get("tendril_write")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")

    return engine


def _postgres_engine(url: URL, more: str = "") -> Engine:
    options = f"-c lock_timeout={BUSY_TIMEOUT_S}s -c statement_timeout=30s{more}"
    engine = create_engine(
        url,
        pool_size=POOL_SIZE,
        max_overflow=POOL_SIZE,
        pool_timeout=BUSY_TIMEOUT_S,
        connect_args={"options": options, "connect_timeout": BUSY_TIMEOUT_S, "application_name": "tendril"},
    )

    @event.listens_for(engine, "checkout")
    def ping(driver: Any, record: Any, _proxy: object) -> None:
        # A connection that was good a moment ago is not asked again: that costs as much as a short statement.
        if time.monotonic() - record.info.get("good_at", 0.0) > PINGED_AFTER_S:
            try:
                if not engine.dialect.do_ping(driver):
                    raise DisconnectionError
            except engine.dialect.loaded_dbapi.Error as error:
                raise DisconnectionError from error

    @event.listens_for(engine, "checkin")
    def note(_driver: object, record: Any) -> None:
        record.info["good_at"] = time.monotonic()

    return engine


def _lost_race(error: DBAPIError) -> bool:
    return isinstance(error, IntegrityError) or getattr(error.orig, "sqlstate", None) in _RACES


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except TendrilError:
        raise
    except (DataError, OverflowError, UnicodeEncodeError) as error:
        cause = getattr(error, "orig", error)
        raise InputRejected("bad_value", f"the database cannot hold this value: {cause}") from error
    except IntegrityError as error:
        raise InputRejected("write_conflict", f"this contradicts what is stored: {_cause(error)}") from error
    except (OperationalError, InterfaceError, InternalError, PoolTimeoutError) as error:
        raise Unavailable("database_unavailable", f"the database cannot be used now: {_cause(error)}") from error


def _cause(error: SQLAlchemyError) -> str:
    return str(getattr(error, "orig", error)).strip().splitlines()[0]
