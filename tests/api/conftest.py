"""A real control plane per test: SQLite in tmp_path, real runtime, real core; reports are fed like agents send them."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import pytest

from probes.wire import ProbeReport, ReportRows, bucket_of, encode
from router.bootstrap import App, Server, build
from router.core.messages import Tick
from router.settings import Settings
from router.store import Store

ADMIN_KEY = "an-admin-key-for-tests"
Json = dict[str, Any]

# name -> (provider, region, roles, latitude, longitude); a triangle whose long side is slower than the way round
PLACES: dict[str, tuple[str, str, list[str], float, float]] = {
    "gcp-ams": ("gcp", "amsterdam", ["edge"], 52.4, 4.9),
    "linode-fra": ("linode", "frankfurt", ["edge"], 50.1, 8.7),
    "oracle-iad": ("oracle", "ashburn", ["edge", "hub"], 39.0, -77.5),
    "oracle-sin": ("oracle", "singapore", ["edge", "hub"], 1.3, 103.8),
}
ONE_WAY_MS = {
    ("gcp-ams", "linode-fra"): 4.0,
    ("gcp-ams", "oracle-iad"): 36.0,
    ("linode-fra", "oracle-iad"): 60.0,  # via gcp-ams: 40
    ("gcp-ams", "oracle-sin"): 80.0,
    ("linode-fra", "oracle-sin"): 85.0,
    ("oracle-iad", "oracle-sin"): 115.0,
}


def one_way_us(a: str, b: str) -> int:
    """The true one-way delay of the test world."""
    return round(1000 * (ONE_WAY_MS.get((a, b)) or ONE_WAY_MS[b, a]))


@dataclass
class World:
    """A running control plane, a client that holds its admin key, and the nodes' keys."""

    app: App
    http: httpx.AsyncClient
    node_keys: dict[str, str] = field(default_factory=dict)
    sequence: int = 0

    async def call(self, method: str, path: str, status: int | None = None, **options: Any) -> Any:
        """One request; the JSON of its answer. The status must be ``status`` (2xx if not given)."""
        response = await self.http.request(method, path, **options)
        wanted = response.is_success if status is None else response.status_code == status
        assert wanted, f"{method} {path}: {response.status_code} {response.text}"
        return response.json() if response.content else None

    async def get(self, path: str, **options: Any) -> Any:
        """GET that must succeed."""
        return await self.call("GET", path, **options)

    async def post(self, path: str, body: object, **options: Any) -> Any:
        """POST that must succeed."""
        return await self.call("POST", path, json=body, **options)

    async def put(self, path: str, body: object, **options: Any) -> Any:
        """PUT that must succeed."""
        return await self.call("PUT", path, json=body, **options)

    async def key(self, scope: str) -> dict[str, str]:
        """Headers of a new key of some scope."""
        made = await self.post("/v1/keys", {"scope": scope, "name": f"test {scope}"})
        return {"Authorization": f"Bearer {made['key']}"}

    async def join(self, node: str, data_center: str) -> str:
        """Join a node as an agent does; its key."""
        token = await self.post(f"/v1/data-centers/{data_center}/join-tokens", {"expires_in_s": 60})
        body = {"token": token["token"], "node": node_body(node)}
        joined = await self.call("POST", "/v1/join", json=body, headers={"Authorization": ""})
        self.node_keys[node] = joined["key"]
        return str(joined["key"])

    def node_headers(self, node: str) -> dict[str, str]:
        """Headers of a joined node."""
        return {"Authorization": f"Bearer {self.node_keys[node]}"}

    async def furnish(self, **more: object) -> None:
        """Put the test world in: four data centers with one node each, and a pool; ``more`` of the fleet as it is."""
        await self.post("/v1/fleet", fleet(**more))
        for name in PLACES:
            await self.join(f"{name}-1", name)

    async def report_all(self) -> None:
        """Every node reports one second of clean measurements to every other."""
        self.sequence += 1
        for name in PLACES:
            report = report_of(name, self.sequence, self.app.runtime.now())
            await self.post("/v1/reports", report, headers=self.node_headers(f"{name}-1"))

    async def measured(self) -> None:
        """Report until every pair has a route both ways; the timers' next turns are not waited for."""
        runtime = self.app.runtime
        for _ in range(400):
            await self.report_all()
            generation = runtime.view.generation
            runtime.post(Tick("health"))
            runtime.post(Tick("routes"))
            await runtime.next_generation(generation, 1.0)
            table = await self.get("/v1/routes", params={"from": "linode-fra"})
            if len(table["routes"]) == len(PLACES) - 1 and all(r["forward"] and r["return"] for r in table["routes"]):
                return
        raise AssertionError(f"no routes after 400 reports: {table}")

    async def agent(self, id: str = "ai-1", data_center: str = "oracle-iad") -> Json:
        """Register an agent."""
        body = {"id": id, "data_center": data_center, "address": "127.0.0.1:7424"}
        return dict(await self.post("/v1/pools/tutors/agents", body))

    async def session(self, **more: Any) -> Json:
        """Start a session for somebody in Frankfurt."""
        body = {"client": {"latitude": 50.0, "longitude": 8.0}, "pool": "tutors"} | more
        return dict(await self.post("/v1/sessions", body))


def node_body(id: str) -> Json:
    """A node as it declares itself."""
    return {"id": id, "addresses": {"internet": "127.0.0.9"}, "reflector_port": 7421, "media_url": f"udp://{id}:7423"}


def fleet(**more: object) -> Json:
    """The test world as a fleet body."""
    return {
        "providers": [{"id": p} for p in sorted({place[0] for place in PLACES.values()})],
        "regions": [{"id": place[1]} for place in PLACES.values()],
        "data_centers": [
            {
                "id": id,
                "provider": provider,
                "region": region,
                "roles": roles,
                "latitude": latitude,
                "longitude": longitude,
                "capacity": {"sessions": 100, "mbps": 1000},
            }
            for id, (provider, region, roles, latitude, longitude) in PLACES.items()
        ],
        "pools": [{"id": "tutors", "class": "agent"}],
        **more,
    }


def report_of(source: str, sequence: int, now: int) -> Json:
    """One second of probing from a data center's node to all others."""
    peers = [name for name in PLACES if name != source]
    one_way = [one_way_us(source, peer) for peer in peers]
    n = len(peers)
    rows = ReportRows(
        peer=tuple(f"{peer}-1" for peer in peers),
        transport=("internet",) * n,
        sent=(5,) * n,
        received=(5,) * n,
        reflected=(5,) * n,
        late=(0,) * n,
        duplicate=(0,) * n,
        rtt_min_us=tuple(2 * us for us in one_way),
        forward_min_us=tuple(one_way),
        backward_min_us=tuple(one_way),
        jitter_us=(100,) * n,
        forward_base_us=tuple(one_way),
        backward_base_us=tuple(one_way),
        rtt_sketch=tuple((bucket_of(2 * us), 5) for us in one_way),
        forward_sketch=((0, 5),) * n,
        backward_sketch=((0, 5),) * n,
    )
    return encode(ProbeReport(f"{source}-1", "boot-1", sequence, 1, now, 1_000_000, rows))


def settings_for(folder: Path, **more: Any) -> Settings:
    """Settings of a test's own control plane."""
    return Settings(state_dir=folder, port=0, admin_key=ADMIN_KEY, **({"flight_recorder_mb": 0} | more))


@cache
def _migrated() -> bytes:
    """An empty SQLite database with all tables, made once per process: migrating takes longer than most tests."""
    with tempfile.TemporaryDirectory() as folder:
        store = Store(f"sqlite:///{folder}/tendril.db")
        store.upgrade()
        store.close()
        return (Path(folder) / "tendril.db").read_bytes()


@asynccontextmanager
async def running(folder: Path, **more: Any) -> AsyncIterator[World]:
    """A started control plane whose app is called in process; its database is the folder's, or a new one."""
    settings = settings_for(folder, **more)
    if "database_url" not in more and not (folder / "tendril.db").exists():
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "tendril.db").write_bytes(_migrated())
    app = build(settings)
    await app.start()
    headers = {"Authorization": f"Bearer {ADMIN_KEY}"}
    transport = httpx.ASGITransport(app=app.http, raise_app_exceptions=False)
    try:
        async with httpx.AsyncClient(
            transport=transport, base_url="http://tendril", headers=headers, timeout=30
        ) as http:
            yield World(app, http)
    finally:
        await app.stop()


@asynccontextmanager
async def listening(app: App) -> AsyncIterator[str]:
    """Serve an app by a real uvicorn on a free port of the loopback address; its URL."""
    server = Server(app)
    serving = asyncio.ensure_future(server.serve())
    while not server.started:
        assert not serving.done(), "the server did not start"
        await asyncio.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        await serving


@pytest.fixture
async def bare(tmp_path: Path) -> AsyncIterator[World]:
    """A control plane with an empty inventory."""
    async with running(tmp_path) as world:
        yield world


@pytest.fixture
async def world(bare: World) -> World:
    """A control plane with the test world in it, measured."""
    await bare.furnish()
    await bare.measured()
    return bare
