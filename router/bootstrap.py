"""Composition root: the only place that picks real implementations and ties their lives together.

Order of a start: migrate, make sure there is an admin key, boot the runtime, listen. Order of a stop: stop listening,
let answers finish, stop the runtime (which saves the last routes), close the database.
"""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import structlog
import uvicorn
import uvloop
from fastapi import FastAPI

from router import purchasing as purchases
from router.access import Key, adopt_key, mint_key
from router.addresses import AddressBook
from router.api import create_app
from router.api.closing import Closing
from router.api.connection import Connection
from router.api.gate import key_text
from router.core.errors import Unavailable
from router.outbox import OutboxOptions
from router.runtime import Runtime, RuntimeOptions, system_clock
from router.runtime.clouds import Clouds
from router.settings import Settings
from router.solver import Simulations, Solver
from router.store import Store
from router.telemetry import set_up_logs
from router.vantages import read_vantages

log = structlog.get_logger("tendril.bootstrap")
ADMIN_KEY_FILE = "admin.key"
GRACEFUL_S = 3  # answers under way take milliseconds; streams and long-polls end at once
GC_THRESHOLDS = 10_000, 20, 50  # what a few dozen reports allocate is freed without a search; whole searches are rare
SWITCH_S = 0.0005  # how long a worker that computes in Python may keep the loop waiting


@dataclass(frozen=True)
class App:
    """A control plane, put together and not yet started."""

    settings: Settings
    store: Store
    runtime: Runtime
    http: FastAPI
    admin_key_path: Path
    simulations: Simulations

    async def start(self) -> None:
        """Migrate, make sure of the admin key, boot."""
        await asyncio.to_thread(self.store.upgrade)
        await asyncio.to_thread(ensure_admin_key, self.store, self.settings, self.runtime.now())
        await self.runtime.start()

    async def stop(self) -> None:
        """Stop what :meth:`start` started."""
        await self.runtime.stop()
        self.simulations.close()
        self.store.close()


def build(settings: Settings) -> App:
    """Put a control plane together; nothing runs and nothing is written yet, besides the state folder."""
    purchasing = purchases.load(settings)
    addresses = AddressBook(settings.asn_file, settings.location_file)
    vantages = read_vantages(settings.vantage_file, settings.vantage_contact)
    settings.state_dir.mkdir(parents=True, exist_ok=True)
    megabytes = settings.flight_recorder_mb
    options = RuntimeOptions(
        flight_folder=settings.state_dir / "flight" if megabytes else None,
        flight_bytes=megabytes * 1_000_000,
        agent_suspect_us=min(settings.agent_suspect_s, settings.agent_lease_s) * 1_000_000,
        attach_lease_us=settings.attach_lease_s * 1_000_000,
        ended_kept_us=settings.ended_sessions_days * 86_400 * 1_000_000,
        agent_silence_us=settings.agent_lease_s * 1_000_000,
        patience_us=max(settings.agent_lease_s, settings.session_lease_s) * 1_000_000,
        move_lease_us=settings.move_deadline_s * 1_000_000,
        node_key_lifetime_us=settings.node_key_lifetime_s * 1_000_000,
        practice=settings.practice,
        vantages=vantages,
        webhooks=OutboxOptions(
            settings.webhook_timeout_s, settings.webhook_networks, settings.webhook_disable_after_h * 3_600_000_000
        ),
    )
    if purchasing is not None:
        options = replace(options, buying=purchasing.buying)
    store = Store(settings.database)
    clouds = None if purchasing is None else Clouds(purchasing)
    runtime = Runtime(store, Solver(), options, system_clock(), clouds)
    runtime.addresses = addresses
    simulations = Simulations()
    http = create_app(runtime, settings, simulations.ask)
    return App(settings, store, runtime, http, settings.state_dir / ADMIN_KEY_FILE, simulations)


def ensure_admin_key(store: Store, settings: Settings, now: int) -> None:
    """Let the configured key in; without one the key file's, which is made at the first start (mode 0600)."""
    if settings.admin_key is not None:
        _let_in(store, settings.admin_key.get_secret_value(), "TENDRIL_ADMIN_KEY", now)
        return
    path = settings.state_dir / ADMIN_KEY_FILE
    if path.exists():
        _let_in(store, path.read_text(encoding="ascii").strip(), ADMIN_KEY_FILE, now)
        return
    key, text = mint_key("admin", ADMIN_KEY_FILE, now)
    # The file first: a key in the database that nobody was told would lock the operator out.
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w", encoding="ascii") as file:
        file.write(text + "\n")
        file.flush()
        os.fsync(file.fileno())
    store.add_key(key, actor="tendril", now=now)


def _let_in(store: Store, text: str, name: str, now: int) -> Key:
    key = adopt_key(key_text(text), "admin", name, now)
    stored = store.keys()
    known = next((other for other in stored if other.id == key.id), None)
    if known is not None:
        if known.revoked_at is not None:
            log.warning("admin_key_revoked", id=key.id, source=name)
        return known
    return store.add_key(key, actor="tendril", now=now).result


def config_of(app: App) -> uvicorn.Config:
    """How uvicorn serves an app: one process, uvloop and httptools, repeated requests before them, no access log."""
    return uvicorn.Config(
        app.http,
        host=app.settings.host,
        port=app.settings.port,
        loop="uvloop",
        http=Connection,
        ws="none",
        lifespan="off",
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_graceful_shutdown=GRACEFUL_S,
        timeout_keep_alive=75,
    )


def say(text: str) -> None:
    """Tell the person at the terminal."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


class Server(uvicorn.Server):
    """uvicorn's server that says when it listens."""

    def __init__(self, app: App, started: Callable[[], None] | None = None) -> None:
        super().__init__(config_of(app))
        self._closing: Closing = app.http.state.closing
        self._told = started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, then tell."""
        await super().startup(sockets)
        self._closing.open()
        if self._told is not None:
            self._told()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let streams and long-polls end, then everything else."""
        self._closing.close()
        await super().shutdown(sockets)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop serving on SIGINT and SIGTERM and do not raise them again: what must be stopped after it would die."""
        with super().capture_signals():
            yield
            self._captured_signals.clear()


def listen(host: str, port: int) -> socket.socket:
    """Take the address before anything else starts. Raises ``cannot_listen``."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise Unavailable("cannot_listen", f"cannot listen on {host}:{port}: {error.strerror or error}") from error


async def serve(settings: Settings, started: Callable[[str], None] | None = None) -> None:
    """Run a control plane until it is told to stop (SIGINT, SIGTERM). Raises ``cannot_listen``."""
    set_up_logs(settings.log_format, settings.log_level)
    with listen(settings.host, settings.port) as taken:
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        url = f"http://{host}:{taken.getsockname()[1]}"
        app = build(settings)

        def tell() -> None:
            say(f"Dashboard  {url}/")
            say("Admin key  " + ("TENDRIL_ADMIN_KEY" if settings.admin_key is not None else str(app.admin_key_path)))
            if started is not None:
                started(url)

        try:
            await app.start()
            gc.freeze()  # modules and the inventory stay; searching them for garbage would hold up the loop
            gc.set_threshold(*GC_THRESHOLDS)
            await Server(app, tell).serve([taken])
        finally:
            await app.stop()


def run(settings: Settings) -> None:
    """Run :func:`serve` on uvloop, which costs less per request than the loop of the standard library."""
    sys.setswitchinterval(SWITCH_S)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(settings))
