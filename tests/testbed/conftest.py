"""One running demo world: the real launcher, started as a user starts it, and seen from outside."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from router.demo.world import World, load

DATA_CENTERS = 10


def free_ports(count: int) -> list[int]:
    """TCP ports that nobody has now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]
    finally:
        for one in sockets:
            one.close()


def free_octet() -> int:
    """First of four second octets whose loopback addresses nobody uses."""
    for octet in range(20 + os.getpid() % 50 * 4, 248, 4):
        try:
            for second in (octet, octet + 1):
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
                    probe.bind((f"127.{second}.0.1", 7421))
        except OSError:
            continue
        return octet
    raise AssertionError("every address range is in use")


@dataclass
class LiveWorld:
    """The launcher's process and what can be asked from outside."""

    process: subprocess.Popen[bytes]
    state_dir: Path
    log: Path
    note: dict[str, str]
    http: httpx.Client
    measured: dict[str, object] = field(default_factory=dict)  # numbers worth printing at the end

    @property
    def truth(self) -> World:
        """The world file that the emulator plays."""
        return load(Path(self.note["folder"]) / "world.json")

    @property
    def key(self) -> str:
        """The administrator's key."""
        return (self.state_dir / "admin.key").read_text().strip()

    def api(self, method: str, path: str, body: object = None, *, expect: int | None = None) -> Any:
        """One call to the control plane."""
        headers = {"Authorization": f"Bearer {self.key}"}
        response = self.http.request(method, self.note["url"] + path, json=body, headers=headers)
        assert response.status_code == expect if expect else response.is_success, f"{path}: {response.text}"
        return response.json() if response.content else None

    def emulator(self, method: str, path: str, body: object = None) -> Any:
        """One call to the emulator."""
        response = self.http.request(method, self.note["emulator_url"] + path, json=body)
        assert response.is_success, response.text
        return response.json()

    def people(self) -> dict[str, dict[str, Any]]:
        """All users' statistics by id."""
        found = self.http.get(self.note["people_url"] + "/people").json()["people"]
        return {user["id"]: user for user in found}

    def tendril(self, *arguments: str) -> Any:
        """Run a command of the product and return its JSON."""
        done = subprocess.run([sys.executable, "-m", "router", *arguments], capture_output=True, timeout=120)
        assert done.returncode == 0, done.stderr.decode()
        return json.loads(done.stdout)

    def until(self, condition: Callable[[], Any], within_s: float, what: str) -> Any:
        """Wait until a condition holds and return its value; a service that restarts meanwhile is no failure."""
        deadline = time.monotonic() + within_s
        while True:
            try:
                value = condition()
            except httpx.HTTPError:
                value = None
            if value:
                return value
            assert self.process.poll() is None, f"the world ended: {self.log.read_text()}"
            assert time.monotonic() < deadline, f"not within {within_s} s: {what}\n{self.log.read_text()}"
            threading.Event().wait(0.05)

    def child(self, name: str) -> int | None:
        """Process id of a child by a piece of its command line, if it runs now."""
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                stat, command = (entry / "stat").read_text(), (entry / "cmdline").read_bytes().replace(b"\0", b" ")
            except OSError:  # gone meanwhile
                continue
            if int(stat.rpartition(")")[2].split()[1]) == self.process.pid and name.encode() in command:
                return int(entry.name)
        return None


def start_world(state_dir: Path, log: Path, *options: str) -> subprocess.Popen[bytes]:
    """Start the launcher as its own process."""
    with log.open("wb") as stream:
        command = [sys.executable, "-m", "router", "demo", "--state-dir", str(state_dir), *options]
        return subprocess.Popen(command, stdout=stream, stderr=subprocess.STDOUT)


@pytest.fixture(scope="module")
def live_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveWorld]:
    """A small world with its users talking; stopped, and checked to be gone, at the end."""
    folder = tmp_path_factory.mktemp("world")
    state_dir, log = folder / "var", folder / "launcher.log"
    ports = free_ports(3)
    options = dict(zip(("--port", "--emulator-port", "--people-port"), map(str, ports), strict=True))
    options |= {"--data-centers": str(DATA_CENTERS), "--octet": str(free_octet())}
    process = start_world(state_dir, log, *(part for pair in options.items() for part in pair))
    try:
        with httpx.Client(timeout=10.0, trust_env=False) as http:
            world = LiveWorld(process, state_dir, log, {}, http)
            world.until((state_dir / "demo.json").exists, 60, "the launcher leaves its note")
            world.note = json.loads((state_dir / "demo.json").read_text())
            yield world
            print(json.dumps(world.measured, indent=2))
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
