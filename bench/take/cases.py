"""The cases: PostgreSQL with three control planes and SQLite with one, each quiet (the figures) and killed (the truth);
and placements alone."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from sqlalchemy import make_url

from bench._case import line, progress
from bench.freshness.served import ADMIN_KEY
from bench.freshness.world import World
from bench.take.history import doubles, percentile, repeated
from bench.take.placements import placements
from bench.take.places import (
    Killer,
    Reporter,
    Server,
    agents_of,
    children,
    cpu_s,
    furnish,
    postgres,
    routes_ready,
    written,
)

DATA_CENTERS, AGENTS = 12, 300
QUIET_S, HARSH_S, KILL_EVERY_S = 20.0, 40.0, 12.0
NEVER = 1 << 40
CALLERS = {"postgres": 48, "sqlite": 32}
GOAL_PER_S = {"postgres": 2_000.0, "sqlite": 1_000.0}
GOAL_P99_MS = 25.0
PEER_PER_S = 400.0  # Agones: 300-400 allocations/s, as published
CASES = ("placements", "postgres", "sqlite")


def run(takes: int = 0, wanted: Sequence[str] = CASES) -> bool:
    """Run the cases; whether every bound was met. ``takes``: how many per database, besides those of the quiet run."""
    met = True
    for case in wanted:
        if case == "placements":
            met &= placements()
            continue
        with _running(case) as scene:
            met &= _quiet(case, scene)
            met &= _harsh(case, scene, takes)
    return met


class Scene:
    """Servers on one database."""

    def __init__(self, world: World, servers: list[Server], uri: str | None, folder: Path, data: Path | None) -> None:
        self.world, self.servers, self.uri, self.folder = world, servers, uri, folder
        self._data = data

    def writes(self) -> dict[str, int]:
        """Commits and fsyncs so far, as the database counts them; on SQLite the turnstile's transactions."""
        if self.uri is not None:
            return written(self.uri)
        batches, requests = self.servers[0].batches()
        return {"commits": batches, "requests": requests}

    def cpu(self) -> tuple[float, float]:
        """Processor seconds of the control planes and of the database server."""
        mine = sum(server.cpu_s() for server in self.servers)
        if self._data is None:
            return mine, 0.0
        postmaster = int((self._data / "postmaster.pid").read_text(encoding="utf-8").split()[0])
        return mine, cpu_s(children(postmaster))


@contextmanager
def _running(case: str) -> Iterator[Scene]:
    progress(f"{case}: starting")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="tendril-bench-")))
        uri = data = None
        database = f"sqlite:///{folder / 'tendril.db'}"
        if case == "postgres":
            uri, data = stack.enter_context(postgres())
            database = make_url(uri).set(drivername="postgresql+psycopg").render_as_string(hide_password=False)
        world = World(DATA_CENTERS)
        servers = [Server(folder / "0", database)]
        stack.callback(servers[0].stop)
        keys = furnish(world, servers[0], AGENTS)
        for number in (1, 2) if case == "postgres" else ():
            servers.append(Server(folder / str(number), database))
            stack.callback(servers[-1].stop)
        for server in servers:
            server.connect().close()
        reporter = Reporter(world, keys, servers)
        reporter.start()
        stack.callback(reporter.stop)
        for server in servers:
            routes_ready(server, world)
        yield Scene(world, servers, uri, folder, data)


def _load(scene: Scene, case: str, run: str, seconds: float, takes: int, lose_one_in: int) -> dict[str, Any]:
    places = [(dc.latitude, dc.longitude) for dc in scene.world.inventory.data_centers.values()]
    task = {
        "ports": [server.port for server in scene.servers], "key": ADMIN_KEY, "callers": CALLERS[case],
        "seconds": seconds, "takes": takes, "lose_one_in": lose_one_in, "places": places, "run": run,
    }  # fmt: skip
    file = scene.folder / f"{run}.json"
    file.write_text(json.dumps(task), encoding="utf-8")
    subprocess.run([sys.executable, "-m", "bench.take.load", str(file)], check=True)
    seen: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return seen


def _quiet(case: str, scene: Scene) -> bool:
    progress(f"{case}: takes and returns, nothing is killed")
    _load(scene, case, "warm", 3.0, 0, NEVER)
    before, cpu = scene.writes(), scene.cpu()
    seen = _load(scene, case, "quiet", QUIET_S, 0, NEVER)
    after, done = scene.writes(), scene.cpu()
    takes = len(seen["holds"])
    rate, p99 = takes / seen["seconds"], percentile(seen["took_ms"], 0.99)
    spent = {
        name: round(1e6 * value / max(1, takes))
        for name, value in (("api", done[0] - cpu[0]), ("database", done[1] - cpu[1]), ("callers", seen["cpu_s"]))
    }
    more: dict[str, Any] = {name: after[name] - before[name] for name in after if name != "fsync_on"}
    more |= {name: value for name, value in after.items() if name == "fsync_on"}
    more |= {"takes": takes, "refused": seen["refused"], "cpu_us_per_take_and_return": spent}
    more |= _judged(scene, seen)
    peer = "400 allocations/s, published for Agones; the goal is the bound"
    bound = GOAL_PER_S[case] / PEER_PER_S
    met = line("take", f"{case}: takes (each with its return)", rate, PEER_PER_S, peer, "takes/s", "P8", bound, **more)
    shares = {f"p{round(100 * share)}_ms": round(percentile(seen["took_ms"], share), 1) for share in (0.5, 0.9, 0.99)}
    shares["return_p99_ms"] = round(percentile(seen["returned_ms"], 0.99), 1)
    met &= line("take", f"{case}: p99 of a take", p99, GOAL_P99_MS, "the goal", "ms", "P8", 1.0, **shares)
    return met


def _harsh(case: str, scene: Scene, takes: int) -> bool:
    progress(f"{case}: the same with kill -9 and lost replies")
    killer = Killer(scene.servers, KILL_EVERY_S)
    killer.start()
    try:
        seen = _load(scene, case, "harsh", 24 * 3600.0 if takes else HARSH_S, takes, 200)
    finally:
        killer.stop()
    told = ("lost_on_purpose", "lost", "nobody", "refused", "unavailable", "gave_up", "unexpected")
    more = _judged(scene, seen) | {name: seen[name] for name in told}
    wrong = (
        more["doubles"]
        + more["leaked"]
        + more["missing"]
        + more["given_twice"]
        + seen["gave_up"]
        + len(seen["unexpected"])
    )
    total = len(seen["holds"])
    more |= {"kills": killer.kills, "takes": total, "takes_per_s": round(total / seen["seconds"], 1)}
    name = f"{case}: doubles, leaks and lost sessions under kill -9"
    return line("take", name, 1.0 + wrong, 1.0, "none (told as 1)", "wrong + 1", "P8", 1.0, **more)


def _judged(scene: Scene, seen: dict[str, Any]) -> dict[str, Any]:
    """What is wrong in the end: all that was taken was returned, so every agent must be free."""
    time.sleep(0.5)
    holds = [tuple(hold) for hold in seen["holds"]]
    held = [agent for agent in agents_of(scene.servers[0]) if agent["state"] != "ready" or agent["session"]]
    return {
        "doubles": len(doubles(holds)), "given_twice": len(repeated(holds)), "leaked": len(held),
        "missing": seen["missing"],
    }  # fmt: skip
