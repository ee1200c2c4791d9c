"""The cases: on each database a control plane without sessions, then the same with all of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from sqlalchemy import make_url

from bench._case import NO_BOUND, line, progress
from bench.freshness.served import ADMIN_KEY
from bench.freshness.wire import POST
from bench.freshness.world import World
from bench.sessions.fill import fill, live
from bench.take.history import percentile
from bench.take.places import POOL, Reporter, Server, children, cpu_s, furnish, postgres, routes_ready

DATA_CENTERS, NODES = 12, 1_000
HEARTBEAT_S = 2.0
LEASE_S = 40  # shorter than the default, so that a silent node's sessions end within the run
LIVES_PER_S = 20.0
EMPTY_S, FULL_S = 30.0, 100.0
GOAL_START_S = 30.0
CASES = ("sqlite", "postgres")
COUNT = int(os.environ.get("BENCH_SESSIONS", "1000000"))


def run(count: int = COUNT, wanted: Sequence[str] = CASES) -> bool:
    """Run the cases; whether every bound was met."""
    met = True
    for case in wanted:
        with _scene(case) as scene:
            met &= _case(case, scene, count)
    return met


@dataclass
class Scene:
    """A database, and what a control plane on it needs."""

    world: World
    url: str
    folder: Path
    data: Path | None  # of PostgreSQL

    def server(self) -> Server:
        """A control plane on it."""
        return Server(self.folder / "0", self.url, SESSION_LEASE_S=str(LEASE_S), AGENT_LEASE_S=str(LEASE_S))

    def database_cpu_s(self) -> float:
        """Processor seconds of PostgreSQL."""
        if self.data is None:
            return 0.0
        postmaster = int((self.data / "postmaster.pid").read_text(encoding="utf-8").split()[0])
        return cpu_s(children(postmaster))

    def size_mb(self) -> int:
        """What the database takes on disk."""
        files = (self.data or self.folder / "database").rglob("*")
        return sum(file.stat().st_size for file in files if file.is_file()) >> 20

    def nodes(self) -> list[tuple[str, str]]:
        """The media nodes with their data centers."""
        return [(f"m-{number:04}", self.world.ids[number % len(self.world.ids)]) for number in range(NODES)]


@contextmanager
def _scene(case: str) -> Iterator[Scene]:
    progress(f"sessions, {case}: starting")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="tendril-bench-")))
        (folder / "database").mkdir()
        data, url = None, f"sqlite:///{folder / 'database' / 'tendril.db'}"
        if case == "postgres":
            uri, data = stack.enter_context(postgres())
            url = make_url(uri).set(drivername="postgresql+psycopg").render_as_string(hide_password=False)
        yield Scene(World(DATA_CENTERS), url, folder, data)


def _case(case: str, scene: Scene, count: int) -> bool:
    server = scene.server()
    try:
        keys = _furnished(scene, server)
        empty = _watched(scene, server, keys, EMPTY_S)
    finally:
        server.stop()
    filled_s = fill(scene.url, POOL, scene.world.ids[::3], scene.nodes(), count)
    progress(f"sessions, {case}: {count} written in {filled_s:.0f} s; starting on them")
    started = time.monotonic()
    server = scene.server()
    try:
        server.connect().close()
        start_s = time.monotonic() - started
        full = _watched(scene, server, keys, FULL_S, silent=1)
        left = live(scene.url)
    finally:
        server.stop()
    gone = len(range(0, count, NODES))
    more = {
        "sessions": count, "database_mb": scene.size_mb(), "start_s": round(start_s, 2), "nodes": NODES,
        "heartbeats_per_s": round(len(full["heartbeat"]) / full["seconds"]),
        "lives_per_s": round(len(full["place"]) / full["seconds"], 1),
    }  # fmt: skip
    return _told(case, empty, full, more, wrong=abs(left - (count - gone)), gone=gone)


def _furnished(scene: Scene, server: Server) -> list[str]:
    keys = furnish(scene.world, server, 0)
    connection = server.connect()
    made = [
        {"id": node, "data_center": dc, "addresses": {"internet": "127.0.0.9"}, "reflector_port": 7421,
         "media_url": f"wss://{node}.example.com"} for node, dc in scene.nodes()
    ]  # fmt: skip
    for start in range(0, NODES, 250):
        connection.json(POST, "/v1/fleet", ADMIN_KEY, {"nodes": made[start : start + 250]})
    for number in range(200):  # for those who come while there is nobody else
        hub = scene.world.ids[::3][number % 4]
        body = {"id": f"b-{number:04}", "data_center": hub, "address": "127.0.0.9:7424"}
        connection.json(POST, f"/v1/pools/{POOL}/agents", ADMIN_KEY, body)
    connection.close()
    return keys


def _watched(scene: Scene, server: Server, keys: list[str], seconds: float, silent: int = 0) -> dict[str, Any]:
    """Nodes speak, users come and go; what it cost. The first ``silent`` nodes say nothing."""
    reporter = Reporter(scene.world, keys, [server])
    reporter.start()
    try:
        routes_ready(server, scene.world)
        places = [(dc.latitude, dc.longitude) for dc in scene.world.inventory.data_centers.values()]
        nodes = [node for node, _ in scene.nodes()][silent:]
        task = {
            "port": server.port, "key": ADMIN_KEY, "seconds": seconds, "nodes": nodes, "every_s": HEARTBEAT_S,
            "lives_per_s": LIVES_PER_S, "places": places,
        }  # fmt: skip
        file = scene.folder / "task.json"
        file.write_text(json.dumps(task), encoding="utf-8")
        before = server.cpu_s(), scene.database_cpu_s()
        subprocess.run([sys.executable, "-m", "bench.sessions.load", str(file)], check=True)
        after = server.cpu_s(), scene.database_cpu_s()
    finally:
        reporter.stop()
    seen: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    cores = [round((new - old) / seen["seconds"], 3) for new, old in zip(after, before, strict=True)]
    return seen | server.rss_mb() | {"api_cores": cores[0], "database_cores": cores[1]}


def _told(
    case: str, empty: dict[str, Any], full: dict[str, Any], more: dict[str, Any], *, wrong: int, gone: int
) -> bool:
    for kind in ("place", "resume", "end", "heartbeat"):
        shares = {f"p{round(100 * share)}_ms": round(percentile(full[kind], share), 1) for share in (0.5, 0.9, 0.99)}
        line(
            "sessions", f"{case}: p99 of {kind}", percentile(full[kind], 0.99), percentile(empty[kind], 0.99),
            "the same without sessions", "ms", "P9", NO_BOUND, requests=len(full[kind]), **shares,
        )  # fmt: skip
    cores = full["api_cores"] + full["database_cores"]
    spent = {f"{name}_{what}": seen[name] for what, seen in (("full", full), ("empty", empty))
             for name in ("api_cores", "database_cores", "rss_mb", "most_mb")}  # fmt: skip
    line(
        "sessions", f"{case}: processor while they are live", cores, empty["api_cores"] + empty["database_cores"],
        "the same without sessions", "cores", "P9", NO_BOUND, **spent, **more,
    )  # fmt: skip
    met = line("sessions", f"{case}: start until ready", more["start_s"], GOAL_START_S, "the bound", "s", "P9", 1.0)
    wrong += sum(full["wrong"].values())
    return met & line(
        "sessions", f"{case}: sessions lost, kept too long or refused", 1.0 + wrong, 1.0, "none (told as 1)",
        "wrong + 1", "P9", 1.0, ended_with_their_silent_node=gone, wrong=full["wrong"], skipped=full["skipped"],
    )  # fmt: skip
