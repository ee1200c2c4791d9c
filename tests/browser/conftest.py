"""A real control plane with probe reports flowing in, and a browser to look at it.

The control plane runs as its own process on SQLite in a fresh folder. Six data centers are put through the API, one
node joins each, and a thread reports for them every second what the table below says their links are like.
"""

from __future__ import annotations

import itertools
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Request, Route, sync_playwright

from probes.wire import ProbeReport, ReportRows, bucket_of, encode
from router.access import mint_key
from router.api.browsers import COOKIE

DEADLINE_S = 60.0
# Cities with their one-way delays in ms, from row to column. São Paulo to Singapore is slow directly, and the best way
# there (by Virginia and Frankfurt) is not the best way back (by Frankfurt alone).
CITIES: dict[str, tuple[float, float] | None] = {
    "own-fra": (50.11, 8.68),
    "own-gru": (-23.55, -46.63),
    "own-iad": (38.95, -77.45),
    "own-lab": None,  # no position on the map
    "own-sin": (1.35, 103.82),
    "own-syd": (-33.87, 151.21),
}
ONE_WAY_MS: dict[str, dict[str, float]] = {
    "own-fra": {"own-gru": 96, "own-iad": 46, "own-lab": 12, "own-sin": 80, "own-syd": 140},
    "own-gru": {"own-fra": 130, "own-iad": 58, "own-lab": 120, "own-sin": 240, "own-syd": 160},
    "own-iad": {"own-fra": 46, "own-gru": 74, "own-lab": 60, "own-sin": 150, "own-syd": 105},
    "own-lab": {"own-fra": 12, "own-gru": 120, "own-iad": 60, "own-sin": 110, "own-syd": 150},
    "own-sin": {"own-fra": 80, "own-gru": 200, "own-iad": 125, "own-lab": 110, "own-syd": 48},
    "own-syd": {"own-fra": 140, "own-gru": 160, "own-iad": 105, "own-lab": 150, "own-sin": 48},
}
PROBES = 4  # per peer and report
CHROMIUM_FLAGS = [
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]


def wait_for(condition: Callable[[], bool], what: str, deadline_s: float = DEADLINE_S) -> None:
    """Return once ``condition`` holds; fail naming ``what`` when it does not in time."""
    pause, end = threading.Event(), time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < end, f"not within {deadline_s} s: {what}"
        pause.wait(0.1)


@dataclass
class Reporter:
    """Speaks for all probe agents: one report per node and second, from the delays above."""

    url: str
    keys: dict[str, str]
    silent: set[str] = field(default_factory=set)  # data centers that answer nobody and hear nobody
    _stop: threading.Event = field(default_factory=threading.Event)
    _failure: BaseException | None = None

    def run(self) -> None:
        """Report until stopped; the first failure is kept for ``stop`` to raise."""
        try:
            with httpx.Client(base_url=self.url) as client:
                sequence = 0
                while not self._stop.wait(0.8):
                    sequence += 1
                    for data_center, key in self.keys.items():
                        if data_center not in self.silent:
                            report = encode(self._report(data_center, sequence))
                            headers = {"authorization": f"Bearer {key}"}
                            client.post("/v1/reports", json=report, headers=headers).raise_for_status()
        except BaseException as failure:
            self._failure = failure
            raise

    def stop(self, thread: threading.Thread) -> None:
        """Stop reporting; raises if reporting had failed."""
        self._stop.set()
        thread.join(DEADLINE_S)
        assert self._failure is None, self._failure

    def _report(self, source: str, sequence: int) -> ProbeReport:
        links = [(peer, us(source, peer), us(peer, source), peer not in self.silent) for peer in ONE_WAY_MS[source]]
        there = [forward for _, forward, _, _ in links]
        back = [backward for _, _, backward, _ in links]
        rtt = [forward + backward for forward, backward in zip(there, back, strict=True)]
        heard = [alive for _, _, _, alive in links]
        n = len(links)
        rows = ReportRows(
            peer=tuple(f"{peer}-n1" for peer, _, _, _ in links),
            transport=("internet",) * n,
            sent=(PROBES,) * n,
            received=tuple(PROBES if alive else 0 for alive in heard),
            reflected=tuple(PROBES if alive else 0 for alive in heard),
            late=(0,) * n,
            duplicate=(0,) * n,
            rtt_min_us=tuple(v if alive else -1 for v, alive in zip(rtt, heard, strict=True)),
            forward_min_us=tuple(v if alive else 0 for v, alive in zip(there, heard, strict=True)),
            backward_min_us=tuple(v if alive else 0 for v, alive in zip(back, heard, strict=True)),
            jitter_us=tuple(300 if alive else -1 for alive in heard),
            forward_base_us=tuple(there),
            backward_base_us=tuple(back),
            rtt_sketch=tuple((bucket_of(v), PROBES) if alive else () for v, alive in zip(rtt, heard, strict=True)),
            forward_sketch=tuple((0, PROBES) if alive else () for alive in heard),
            backward_sketch=tuple((0, PROBES) if alive else () for alive in heard),
        )
        return ProbeReport(f"{source}-n1", "boot-1", sequence, 0, sequence * 800_000, 800_000, rows)


def us(source: str, target: str) -> int:
    """One-way delay in microseconds."""
    return int(ONE_WAY_MS[source][target] * 1000)


@dataclass
class World:
    """A running control plane, its admin key, and who reports to it."""

    url: str
    key: str
    reporter: Reporter

    def get(self, path: str) -> dict[str, object]:
        """GET with the admin key."""
        answer = httpx.get(f"{self.url}{path}", headers={"authorization": f"Bearer {self.key}"}, timeout=10)
        answer.raise_for_status()
        found: dict[str, object] = answer.json()
        return found

    def post(self, path: str, body: object) -> dict[str, object]:
        """POST with the admin key."""
        headers = {"authorization": f"Bearer {self.key}"}
        answer = httpx.post(f"{self.url}{path}", json=body, headers=headers, timeout=10)
        answer.raise_for_status()
        found: dict[str, object] = answer.json()
        return found

    def delete(self, path: str) -> None:
        """DELETE with the admin key."""
        headers = {"authorization": f"Bearer {self.key}"}
        httpx.delete(f"{self.url}{path}", headers=headers, timeout=10).raise_for_status()

    def sign_in(self, key: str) -> str:
        """Trade a key for the value of the dashboard's cookie."""
        answer = httpx.post(f"{self.url}/v1/sign-in", json={"key": key}, timeout=10)
        answer.raise_for_status()
        return answer.cookies[COOKIE]

    def on_map(self) -> list[str]:
        """Data centers that have a position."""
        return [id for id, position in CITIES.items() if position is not None]

    def length_ms(self, path: list[str]) -> float:
        """Delay of a path by the table that the reports come from."""
        return sum(ONE_WAY_MS[a][b] for a, b in itertools.pairwise(path))

    def wait_for(self, condition: Callable[[], bool], what: str) -> None:
        """Return once ``condition`` holds; fail naming ``what`` when it does not in time."""
        wait_for(condition, what)

    def states(self) -> dict[str, str]:
        """State of every data center as the API tells it."""
        data_centers = self.get("/v1/health")["data_centers"]
        assert isinstance(data_centers, list)
        return {dc["id"]: dc["state"] for dc in data_centers}


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _populate(url: str, key: str) -> dict[str, str]:
    """Put the inventory and join one node per data center; returns the nodes' keys by data center."""
    with httpx.Client(base_url=url, headers={"authorization": f"Bearer {key}"}, timeout=20) as client:
        client.put("/v1/providers/own", json={"name": "Own racks"}).raise_for_status()
        for id, position in CITIES.items():
            region = id.removeprefix("own-")
            client.put(f"/v1/regions/{region}", json={"name": region}).raise_for_status()
            body: dict[str, object] = {"provider": "own", "region": region, "roles": ["edge", "hub"]}
            if position is not None:
                body |= {"latitude": position[0], "longitude": position[1]}
            client.put(f"/v1/data-centers/{id}", json=body).raise_for_status()
        keys = {}
        for i, id in enumerate(CITIES):
            token = client.post(f"/v1/data-centers/{id}/join-tokens", json={"expires_in_s": 600}).json()["token"]
            node = {"id": f"{id}-n1", "addresses": {"internet": f"127.9.0.{i + 1}"}, "reflector_port": 7421}
            keys[id] = client.post("/v1/join", json={"token": token, "node": node}).raise_for_status().json()["key"]
        return keys


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A control plane that knows its six data centers and how far apart they are."""
    folder = tmp_path_factory.mktemp("control-plane")
    _, key = mint_key("admin", "browser tests", 0)
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    env = os.environ | {
        "TENDRIL_DATABASE_URL": f"sqlite:///{folder / 'tendril.db'}",
        "TENDRIL_HOST": "127.0.0.1",
        "TENDRIL_PORT": str(port),
        "TENDRIL_ADMIN_KEY": key,
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }
    with (folder / "log").open("wb") as log:
        command = [sys.executable, "-m", "router", "serve"]
        server = subprocess.Popen(command, cwd=folder, env=env, stdout=log, stderr=subprocess.STDOUT)
        try:
            wait_for(lambda: is_ready(url, server, folder / "log"), "the control plane is ready")
            reporter = Reporter(url, _populate(url, key))
            thread = threading.Thread(target=reporter.run, daemon=True)
            thread.start()
            world = World(url, key, reporter)
            wait_for(lambda: set(world.states().values()) == {"up"}, "all data centers are up")
            # Six whole routes: the hold after the start is over and the relay pays.
            wait_for(lambda: _relays(world), "the route from São Paulo to Singapore takes its relays")
            yield world
            reporter.stop(thread)
        finally:
            server.terminate()
            server.wait(30)


def is_ready(url: str, server: subprocess.Popen[bytes], log: Path) -> bool:
    """Whether it answers; fails when its process has ended."""
    assert server.poll() is None, log.read_text()
    try:
        return httpx.get(f"{url}/readyz", timeout=5).status_code == 200
    except httpx.TransportError:
        return False


def _relays(world: World) -> bool:
    forward = world.get("/v1/routes/own-gru/own-sin?class=voice")["forward"]
    return isinstance(forward, dict) and forward["path"] == ["own-gru", "own-iad", "own-fra", "own-sin"]


# --- the browser -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's Chromium."""
    path = shutil.which("chromium")
    if path is None:
        pytest.skip("chromium is not installed (Debian package chromium)")
    flags = [*CHROMIUM_FLAGS, *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=flags)
        yield browser
        browser.close()


@dataclass
class Watch:
    """What a browser context did that a user would not see: errors in the console, requests to other hosts."""

    host: str
    errors: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)

    def attach(self, context: BrowserContext) -> None:
        """Listen, and let no request leave for another host."""
        context.on("console", lambda message: self.errors.append(message.text) if message.type == "error" else None)
        context.on("weberror", lambda error: self.errors.append(str(error.error)))
        context.on("request", self._request)
        context.route("**/*", self._gate)

    def _local(self, request: Request) -> bool:
        parts = urlsplit(request.url)
        return parts.netloc == self.host or parts.scheme in ("data", "blob")

    def _request(self, request: Request) -> None:
        if not self._local(request):
            self.foreign.append(request.url)

    def _gate(self, route: Route) -> None:
        if self._local(route.request):
            route.continue_()
        else:
            route.abort()


@pytest.fixture
def watch(world: World) -> Watch:
    """What the contexts of this test do behind the scenes."""
    return Watch(urlsplit(world.url).netloc)


OpenPage = Callable[..., Page]


@dataclass
class Opener:
    """Opens pages of one control plane, each in a fresh context; ``clock`` is an init script that sets theirs."""

    browser: Browser
    watch: Watch
    url: str
    sign_in: Callable[[str], str]
    clock: str = ""
    contexts: list[BrowserContext] = field(default_factory=list)

    def __call__(
        self,
        path: str = "#/",
        *,
        signed_in: bool = True,
        scheme: str = "dark",
        width: int = 1440,
        height: int = 900,
        key: str = "",
    ) -> Page:
        """A page at a hash route; ``signed_in=False`` leaves the sign-in to the test."""
        context = self.browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme="light" if scheme == "light" else "dark",
            reduced_motion="reduce",
        )
        self.contexts.append(context)
        self.watch.attach(context)
        if self.clock:
            context.add_init_script(self.clock)
        if signed_in:
            context.add_cookies([{"name": COOKIE, "value": self.sign_in(key), "url": self.url}])
        context.set_default_timeout(20_000)
        page = context.new_page()
        page.goto(f"{self.url}/{path}")
        return page

    def close(self) -> None:
        """Close all contexts."""
        for context in self.contexts:
            context.close()


@pytest.fixture
def open_page(world: World, browser: Browser, watch: Watch) -> Iterator[OpenPage]:
    """Opens a hash route in a fresh, signed-in context."""
    opener = Opener(browser, watch, world.url, lambda key: world.sign_in(key or world.key))
    yield opener
    opener.close()


# --- a simulated world that stands still -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Still:
    """A control plane that serves one instant of a simulation; see ``frozen.py``."""

    url: str
    key: str

    def call(self, method: str, path: str) -> Any:
        """One request with the admin key."""
        headers = {"authorization": f"Bearer {self.key}"}
        answer = httpx.request(method, f"{self.url}{path}", headers=headers, timeout=60)
        answer.raise_for_status()
        return answer.json() if answer.content else None

    def let_pass(self, seconds: float) -> None:
        """Let its world go on for so long."""
        self.call("POST", f"/let-pass?seconds={seconds}")

    def sign_in(self, key: str) -> str:
        """The cookie that a key is traded for."""
        answer = httpx.post(f"{self.url}/v1/sign-in", json={"key": key or self.key}, timeout=20)
        answer.raise_for_status()
        return answer.cookies[COOKIE]


@pytest.fixture(scope="session")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Still, Still]]:
    """The same instant twice: simulated once, served by two processes, so that one may be changed."""
    folder = tmp_path_factory.mktemp("frozen")
    _, key = mint_key("admin", "frozen world", 0)
    found = tuple(Still(f"http://127.0.0.1:{port}", key) for port in (free_port(), free_port()))
    env = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    with (folder / "log").open("wb") as log:
        ports = [one.url.rpartition(":")[2] for one in found]
        command = [sys.executable, "-m", "tests.browser.frozen", str(folder), key, *ports]
        server = subprocess.Popen(command, cwd=folder, env=env, stdout=log, stderr=subprocess.STDOUT)
        try:
            for one in found:
                wait_for(lambda: is_ready(one.url, server, folder / "log"), "it is served", 5 * DEADLINE_S)  # noqa: B023
            yield found[0], found[1]
        finally:
            server.terminate()
            server.wait(30)


@pytest.fixture
def frozen(worlds: tuple[Still, Still]) -> Still:
    """The one that nobody changes."""
    return worlds[0]


@pytest.fixture
def going(worlds: tuple[Still, Still]) -> Still:
    """The one that goes on when it is told to."""
    return worlds[1]


def _open_still(world: Still, browser: Browser) -> Iterator[OpenPage]:
    """Opens a hash route in a browser whose clock is that world's; nothing may go wrong."""
    clock = f"const at = Date.parse('{world.call('GET', '/v1/health')['now']}'); Date.now = () => at"
    opener = Opener(browser, Watch(urlsplit(world.url).netloc), world.url, world.sign_in, clock)
    yield opener
    opener.close()
    # Chromium writes every answer of 4xx to the console; a refusal is an answer.
    errors = [error for error in opener.watch.errors if "status of 409" not in error]
    assert (errors, opener.watch.foreign) == ([], [])


@pytest.fixture
def open_frozen(frozen: Still, browser: Browser) -> Iterator[OpenPage]:
    yield from _open_still(frozen, browser)


@pytest.fixture
def open_going(going: Still, browser: Browser) -> Iterator[OpenPage]:
    yield from _open_still(going, browser)


# --- a control plane with nothing in it ------------------------------------------------------------------------------


@dataclass
class Bare:
    """A control plane with nothing in it, that can be killed and started again on the same port and database."""

    folder: Path
    port: int
    key: str
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start, and wait until it is ready."""
        env = os.environ | {
            "TENDRIL_DATABASE_URL": f"sqlite:///{self.folder / 'tendril.db'}",
            "TENDRIL_PORT": str(self.port),
            "TENDRIL_ADMIN_KEY": self.key,
            "PYTHONPATH": str(Path(__file__).parents[2]),
        }
        log = self.folder / "log"
        with log.open("ab") as out:
            command = [sys.executable, "-m", "router", "serve"]
            process = subprocess.Popen(command, cwd=self.folder, env=env, stdout=out, stderr=subprocess.STDOUT)
        self.process = process
        wait_for(lambda: is_ready(self.url, process, log), "the bare control plane is ready")

    def kill(self) -> None:
        """End it at once."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(30)

    def call(self, method: str, path: str, body: object = None) -> dict[str, object]:
        """One request with the admin key."""
        headers = {"authorization": f"Bearer {self.key}"}
        answer = httpx.request(method, f"{self.url}{path}", json=body, headers=headers, timeout=20)
        answer.raise_for_status()
        found: dict[str, object] = answer.json() if answer.content else {}
        return found

    def sign_in(self, key: str) -> str:
        """The cookie that a key is traded for."""
        answer = httpx.post(f"{self.url}/v1/sign-in", json={"key": key or self.key}, timeout=20)
        answer.raise_for_status()
        return answer.cookies[COOKIE]

    def put_data_center(self) -> None:
        """The smallest fleet."""
        self.call("PUT", "/v1/providers/own", {})
        self.call("PUT", "/v1/regions/fra", {})
        body = {"provider": "own", "region": "fra", "roles": ["edge"], "latitude": 50.1, "longitude": 8.7}
        self.call("PUT", "/v1/data-centers/own-fra", body)


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bare]:
    _, key = mint_key("admin", "browser tests", 0)
    made = Bare(tmp_path_factory.mktemp("bare"), free_port(), key)
    made.start()
    yield made
    made.kill()


@pytest.fixture
def open_bare(bare: Bare, browser: Browser) -> Iterator[OpenPage]:
    opener = Opener(browser, Watch(urlsplit(bare.url).netloc), bare.url, bare.sign_in)
    yield opener
    opener.close()
