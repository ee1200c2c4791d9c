"""A world of real agents in network namespaces (``tendril demo --namespaces``), run for a measurement. Needs root."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx

from router.core.errors import InputRejected
from router.demo.children import die_with
from router.demo.machines import clock_file, write_clock
from router.demo.namespaces import Lab, why_not
from router.demo.world import World, load

T = TypeVar("T")
READY_S = 240.0  # thirty agents on a busy machine
STOP_S = 60.0
PAUSE_S = 0.05
LOCAL_API_PORT, LOCAL_API_S = 7401, 2.0

__all__ = ["Testbed", "why_not"]


class Testbed:
    """One running world, as seen from outside; made by :meth:`running`."""

    __test__ = False  # its name begins like a test's

    def __init__(self, process: subprocess.Popen[bytes], state_dir: Path, lab: Lab, log: Path) -> None:
        self._process = process
        self._state_dir = state_dir
        self._log = log
        self.lab = lab
        self._http = httpx.Client(timeout=10.0, trust_env=False)
        note = json.loads((state_dir / "demo.json").read_text(encoding="utf-8"))
        self._url, self._emulator_url = note["url"], note["emulator_url"]
        self.folder = Path(note["folder"])
        self.world: World = load(self.folder / "world.json")

    @staticmethod
    @contextmanager
    def running(world: World, state_dir: Path, lab: int | None = None, users: int = 0) -> Iterator[Testbed]:
        """Start a world and stop it at the end; ``users`` talk. Raises RuntimeError with its log if it cannot start."""
        lab = free_lab() if lab is None else lab
        state_dir.mkdir(parents=True, exist_ok=True)
        file, log = state_dir / "true.json", state_dir / "demo.log"
        world.save(file)
        command = [sys.executable, "-m", "router", "demo", "--namespaces", "--world", str(file)]
        command += ["--octet", str(lab), "--emulator-port", str(_free_port()), "--state-dir", str(state_dir)]
        command += ["--users", str(users), "--people-port", str(_free_port())]
        with log.open("wb") as stream:
            process = subprocess.Popen(command, stdout=stream, stderr=subprocess.STDOUT)
        try:
            _until(process, log, (state_dir / "demo.json").exists, "the world's note")
            testbed = Testbed(process, state_dir, Lab(lab), log)
            try:
                yield testbed
            finally:
                testbed._http.close()
        finally:
            process.send_signal(signal.SIGINT)  # of one that has ended this does nothing
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    @property
    def state_dir(self) -> Path:
        """Where the world keeps its note and its keys."""
        return self._state_dir

    @property
    def pid(self) -> int:
        """The launcher's process."""
        return self._process.pid

    @property
    def control_address(self) -> tuple[str, int]:
        """Where the control plane listens."""
        parts = urlsplit(self._url)
        return str(parts.hostname), int(parts.port or 80)

    def until(self, condition: Callable[[], T | None], what: str, within_s: float = READY_S) -> T:
        """Wait for a condition and return its value. Raises RuntimeError when the world ends or it takes too long."""
        return _until(self._process, self._log, condition, what, within_s)

    def api(self, path: str) -> Any:
        """``GET`` from the control plane; ``None`` while it does not answer."""
        key = (self._state_dir / "admin.key").read_text(encoding="utf-8").strip()
        try:
            response = self._http.get(self._url + path, headers={"Authorization": f"Bearer {key}"})
        except httpx.HTTPError:
            return None
        return response.json() if response.is_success else None

    def emulator(self, method: str, path: str, body: object = None) -> Any:
        """One call to the emulator. Raises RuntimeError if it refuses."""
        response = self._http.request(method, self._emulator_url + path, json=body)
        if not response.is_success:
            raise RuntimeError(f"{method} {path}: {response.text}")
        return response.json()

    def fault(self, **body: object) -> str:
        """Break something; returns the id to :meth:`heal`."""
        return str(self.emulator("POST", "/faults", body)["id"])

    def heal(self, fault: str) -> None:
        """End a fault."""
        self.emulator("DELETE", f"/faults/{fault}")

    def state_of(self, node: str) -> Path:
        """The folder in which the agent of a node keeps its state."""
        return self.folder / "agents" / node

    def set_clock(self, node: str, offset_us: int, skew_ppm: int, anchor_us: int) -> None:
        """Make a node's clock wrong in another way, from now on."""
        write_clock(clock_file(self.state_of(node)), offset_us, skew_ppm, anchor_us)

    def kill_control_plane(self) -> int:
        """``kill -9``; the launcher starts it again. Returns the process that was killed."""
        pid = next(pid for pid, command in self._children() if b"router\0serve" in command)
        os.kill(pid, signal.SIGKILL)
        return pid

    @contextmanager
    def frozen_control_plane(self) -> Iterator[int]:
        """Stop the control plane's processes in their tracks meanwhile; yields how many they are."""
        stopped = [pid for child in self._children() if b"router\0serve" in child[1] for pid in _tree(child[0])]
        if not stopped:
            raise RuntimeError("there is no control plane to stop")
        try:
            for pid in stopped:
                os.kill(pid, signal.SIGSTOP)
            yield len(stopped)
        finally:
            for pid in stopped:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)

    def ask_agent(self, index: int, path: str) -> Any:
        """``GET`` from the local API of a node's agent, from inside its namespace; ``None`` if it has no answer."""
        connection = http.client.HTTPConnection("127.0.0.1", LOCAL_API_PORT)
        try:
            with self.lab.entered(index):
                connection.sock = socket.socket()
            connection.sock.settimeout(LOCAL_API_S)
            connection.sock.connect(("127.0.0.1", LOCAL_API_PORT))
            connection.request("GET", path)
            response = connection.getresponse()
            text = response.read()
            return json.loads(text) if response.status == http.HTTPStatus.OK else None
        except (OSError, http.client.HTTPException, ValueError):
            return None
        finally:
            connection.close()

    def run(self, argv: Sequence[str]) -> subprocess.Popen[bytes]:
        """Start a command that ends with this process, whatever happens to it."""
        parent = os.getpid()
        return subprocess.Popen(argv, preexec_fn=lambda: die_with(parent))

    def _children(self) -> list[tuple[int, bytes]]:
        return [(pid, Path(f"/proc/{pid}/cmdline").read_bytes()) for pid in _children_of(self._process.pid)]


def _children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()]


def _tree(pid: int) -> list[int]:
    return [pid, *(below for child in _children_of(pid) for below in _tree(child))]


def _until(
    process: subprocess.Popen[bytes],
    log: Path,
    condition: Callable[[], T | None],
    what: str,
    within_s: float = READY_S,
) -> T:
    deadline, pause = time.monotonic() + within_s, threading.Event()
    while (value := condition()) is None or value is False:
        if process.poll() is not None or time.monotonic() > deadline:
            ended = "the world ended before" if process.poll() is not None else f"not within {within_s:g} s:"
            raise RuntimeError(f"{ended} {what}\n{log.read_text(encoding='utf-8', errors='replace')[-2_000:]}")
        pause.wait(PAUSE_S)
    return value


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def free_lab() -> int:
    """A number that no running world has."""
    for number in range(2 + os.getpid() % 80, 99):
        lab = Lab(number)
        try:
            lab.build(0)
        except InputRejected as error:
            if error.code != "lab_in_use":
                raise
            continue
        lab.remove()
        return number
    raise RuntimeError("every lab is in use")
