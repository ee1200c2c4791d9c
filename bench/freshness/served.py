"""A real control plane: ``tendril serve`` on SQLite in a folder of its own, 300 data centers, a key for every node."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bench.freshness.wire import GET, POST, Connection, Refused, request
from bench.freshness.world import World
from probes.wire import ProbeReport, encode
from router.core.tables import I64

ADMIN_KEY = "an-admin-key-for-the-benchmark"
START_S = 30.0
WARM_ROUNDS, WARM_S = 3, 90.0


class NotServing(Exception):
    """The control plane did not start, or stopped."""


@dataclass
class Served:
    """A control plane that listens on ``port``; ``keys`` are those of the nodes in the world's order."""

    world: World
    port: int
    process: subprocess.Popen[bytes]
    keys: list[str]

    def connect(self) -> Connection:
        """A connection of its own."""
        return Connection(self.port)

    def posted(self, source: int, peers: I64, **options: int) -> bytes:
        """The request by which a node sends its next report."""
        return report_request(self.world.report(source, peers, **options), self.keys[source])

    def link(self, source: int, target: int) -> bytes:
        """The request for one link."""
        return request(GET, f"/v1/links?from={self.world.ids[source]}&to={self.world.ids[target]}", ADMIN_KEY)

    def warm_up(self) -> None:
        """Measure every pair for some seconds, and on until links of the nodes that will be asked about have costs."""
        connection, rounds, deadline = self.connect(), 0, time.monotonic() + WARM_S
        while rounds < WARM_ROUNDS or (shown(connection.call(self.link(0, 1)))["metric_us"] or {}).get("voice") is None:
            if time.monotonic() > deadline:
                raise NotServing("no costs after the warm-up; is the machine busy?")
            started = time.monotonic()
            for source in range(self.world.n):
                connection.call(self.posted(source, self.world.half(source), faster_us=0))
            time.sleep(max(0.0, started + 1.0 - time.monotonic()))
            rounds += 1
        connection.close()


def report_request(report: ProbeReport, key: str) -> bytes:
    """A report as its node sends it."""
    return request(POST, "/v1/reports", key, json.dumps(encode(report), separators=(",", ":")).encode())


def shown(answer: bytes) -> dict[str, Any]:
    """The one link of an answer."""
    (item,) = json.loads(answer)["items"]
    return dict(item)


@contextmanager
def serving(world: World) -> Iterator[Served]:
    """Start, furnish, and in the end stop a control plane."""
    with TemporaryDirectory(prefix="tendril-bench-") as folder, socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
        probe.close()
        log = Path(folder) / "log"
        settings = {"STATE_DIR": folder, "PORT": str(port), "ADMIN_KEY": ADMIN_KEY, "LOG_LEVEL": "warning"}
        env = {k: v for k, v in os.environ.items() if not k.startswith("TENDRIL_")}
        env |= {f"TENDRIL_{name}": value for name, value in settings.items()}
        with log.open("wb") as out:
            command = [sys.executable, "-m", "router", "serve"]
            process = subprocess.Popen(command, env=env, stdout=out, stderr=subprocess.STDOUT)
        try:
            yield Served(world, port, process, _furnish(world, _listening(port, process, log)))
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _listening(port: int, process: subprocess.Popen[bytes], log: Path) -> Connection:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            connection = Connection(port)
            connection.json(GET, "/readyz", ADMIN_KEY)
        except (OSError, Refused):
            time.sleep(0.1)
        else:
            return connection
    raise NotServing(f"the control plane did not start:\n{log.read_text(errors='replace')[-2000:]}")


def _furnish(world: World, connection: Connection) -> list[str]:
    inventory = world.inventory
    fleet = {
        "providers": [{"id": id} for id in inventory.providers],
        "regions": [{"id": id} for id in inventory.regions],
        "data_centers": [
            {"id": dc.id, "provider": dc.provider, "region": dc.region, "roles": [role.value for role in dc.roles],
             "latitude": dc.latitude, "longitude": dc.longitude}
            for dc in inventory.data_centers.values()
        ],
        "nodes": [
            {"id": node.id, "data_center": node.data_center, "addresses": dict(node.addresses), "reflector_port": 7421}
            for node in inventory.nodes.values()
        ],
    }  # fmt: skip
    connection.json(POST, "/v1/fleet", ADMIN_KEY, fleet)
    scopes = [f"agent:{node}" for node in inventory.nodes]
    made = [connection.json(POST, "/v1/keys", ADMIN_KEY, {"scope": scope, "name": scope}) for scope in scopes]
    connection.close()
    return [key["key"] for key in made]
