"""The cases: PostgreSQL with three control planes and SQLite with one, each quiet (the figures) and killed (the truth);
and placements alone.

Rates come from a closed loop: so many callers, each asking again as soon as it was answered. What such a caller waits
is its share of the rate and nothing else, so waiting is measured apart from it, with requests that are due at random
times at half of the rate just measured, counted from when they were due.
"""

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

from bench._case import NO_BOUND, line, progress
from bench.freshness.served import ADMIN_KEY
from bench.freshness.world import World
from bench.take.apart import held_or_lost, stock
from bench.take.history import doubles, percentile, repeated
from bench.take.placements import placements
from bench.take.places import (
    POOL,
    Killer,
    Reporter,
    Server,
    children,
    cpu_s,
    furnish,
    postgres,
    routes_ready,
    written,
)

DATA_CENTERS, AGENTS, MORE_AGENTS = 12, 300, 25_000  # the many are for takes without returns
QUIET_S, OFFERED_S, HARSH_S, KILL_EVERY_S = 20.0, 10.0, 40.0, 12.0
NEVER = 1 << 40
CALLERS = {"postgres": 192, "sqlite": 64}
OFFERED = 0.5  # of what a closed loop reached
MOST_AT_ONCE = 512  # requests under way in an open loop
GOAL_PER_S = {"postgres": 2_000.0, "sqlite": 1_000.0}
GOAL_P99_MS = 25.0
PEER_PER_S = 400.0  # Agones: 300-400 allocations/s, as published
CASES = ("placements", "postgres", "sqlite")


def run(takes: int = 0, wanted: Sequence[str] = CASES) -> bool:
    """Run the cases; whether every bound was met. ``takes``: so many per database under kill -9, and nothing else."""
    met = True
    for case in wanted:
        if case == "placements":
            met &= placements()
            continue
        with _running(case) as scene:
            if not takes:
                _load(scene, case, "warm", 3.0)
                met &= _apart(case, scene)
                met &= _pairs(case, scene)
            met &= _harsh(case, scene, takes)
    return met


class Scene:
    """Servers on one database."""

    def __init__(
        self, world: World, servers: list[Server], url: str, uri: str | None, folder: Path, data: Path | None
    ) -> None:
        self.world, self.servers, self.url, self.uri, self.folder = world, servers, url, uri, folder
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
        stock(database, POOL, world.ids[::3], MORE_AGENTS)
        servers[0].kill()
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
        yield Scene(world, servers, database, uri, folder, data)


def _load(scene: Scene, case: str, run: str, seconds: float, **more: Any) -> dict[str, Any]:
    """What callers saw; ``more`` is what :class:`bench.take.load.Task` is told besides."""
    places = [(dc.latitude, dc.longitude) for dc in scene.world.inventory.data_centers.values()]
    task = {
        "ports": [server.port for server in scene.servers], "key": ADMIN_KEY, "callers": CALLERS[case],
        "seconds": seconds, "takes": 0, "lose_one_in": NEVER, "places": places, "run": run,
    } | more  # fmt: skip
    file = scene.folder / f"{run}.json"
    file.write_text(json.dumps(task), encoding="utf-8")
    command = [sys.executable, "-m", "bench.take.load", str(file)]
    if "lose_one_in" in more:  # whoever is killed counts anew
        subprocess.run(command, check=True)
        return _seen(file)
    before, cpu = scene.writes(), scene.cpu()
    subprocess.run(command, check=True)
    after, done = scene.writes(), scene.cpu()
    seen = _seen(file)
    count = max(1, len(seen["holds"]))
    spent = {"api": done[0] - cpu[0], "database": done[1] - cpu[1], "callers": seen["cpu_s"]}
    seen["per_s"] = count / seen["seconds"]
    seen["told"] = {name: after[name] - before[name] for name in after if name != "fsync_on"}
    seen["told"] |= {name: value for name, value in after.items() if name == "fsync_on"}
    seen["told"]["cpu_us_each"] = {name: round(1e6 * value / count) for name, value in spent.items()}
    seen["told"]["cores"] = round(sum(spent.values()) / seen["seconds"], 2)
    return seen


def _seen(file: Path) -> dict[str, Any]:
    seen: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return seen


def _apart(case: str, scene: Scene) -> bool:
    """Takes alone, then all returns, as fast as they go; then takes at half that rate."""
    progress(f"{case}: takes of a pool of {MORE_AGENTS}, then returns")
    taken = _load(scene, case, "takes", 300.0, does="takes", takes=MORE_AGENTS)
    given = _load(scene, case, "returns", 300.0, does="returns", held=taken["holds"])
    wrong = _judged(scene, given)
    peer, bound = "400 allocations/s, published for Agones; the goal is the bound", GOAL_PER_S[case] / PEER_PER_S
    more: dict[str, Any] = {"callers": CALLERS[case], "takes": len(taken["holds"]), "refused": taken["refused"]}
    met = line(
        "take", f"{case}: takes, nothing returned meanwhile", taken["per_s"], PEER_PER_S, peer, "takes/s", "P8", bound,
        **more, **taken["told"], **wrong,
    )  # fmt: skip
    line(
        "take", f"{case}: returns of them all", given["per_s"], PEER_PER_S, peer, "returns/s", "P8", NO_BOUND,
        callers=CALLERS[case], returns=len(given["holds"]), **given["told"],
    )  # fmt: skip
    offered = _load(scene, case, "offered-takes", OFFERED_S, does="takes", **_at(OFFERED * taken["per_s"]))
    _load(scene, case, "offered-returns", 300.0, does="returns", held=offered["holds"])
    return met & _waits(f"{case}: p99 of a take, takes alone at half that rate", offered, 1.0)


def _pairs(case: str, scene: Scene) -> bool:
    """Takes with their returns, as fast as they go, then at half that rate."""
    progress(f"{case}: takes and returns, nothing is killed")
    seen = _load(scene, case, "quiet", QUIET_S)
    peer = "400 allocations/s, published for Agones"
    line(
        "take", f"{case}: takes, each with its return", seen["per_s"], PEER_PER_S, peer, "takes/s", "P8", NO_BOUND,
        callers=CALLERS[case], takes=len(seen["holds"]), refused=seen["refused"], **seen["told"],
        **_judged(scene, seen), **_shares(seen),
    )  # fmt: skip
    offered = _load(scene, case, "offered", OFFERED_S, **_at(OFFERED * seen["per_s"]))
    return _waits(f"{case}: p99 of a take, takes and returns at half that rate", offered, NO_BOUND)


def _at(per_s: float) -> dict[str, Any]:
    return {"per_s": per_s, "callers": MOST_AT_ONCE}


def _waits(name: str, seen: dict[str, Any], bound: float) -> bool:
    p99 = percentile(seen["took_ms"], 0.99)
    more = {"offered_per_s": round(seen["per_s"]), "refused": seen["refused"], **_shares(seen), **seen["told"]}
    return line("take", name, p99, GOAL_P99_MS, "the goal", "ms", "P8", bound, **more)


def _shares(seen: dict[str, Any]) -> dict[str, float]:
    shares = {f"p{round(100 * share)}_ms": round(percentile(seen["took_ms"], share), 1) for share in (0.5, 0.9, 0.99)}
    return shares | {"return_p99_ms": round(percentile(seen["returned_ms"], 0.99), 1)}


def _harsh(case: str, scene: Scene, takes: int) -> bool:
    progress(f"{case}: the same with kill -9 and lost replies")
    killer = Killer(scene.servers, KILL_EVERY_S)
    killer.start()
    try:
        seen = _load(scene, case, "harsh", 24 * 3600.0 if takes else HARSH_S, takes=takes, lose_one_in=200)
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
    return {
        "doubles": len(doubles(holds)), "given_twice": len(repeated(holds)), "leaked": held_or_lost(scene.url),
        "missing": seen["missing"],
    }  # fmt: skip
