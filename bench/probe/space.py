"""Two network namespaces joined by a veth pair, and processes in them. Needs root; taken down whatever happens."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from router.core.errors import Unavailable

NEAR, FAR = "10.219.77.1", "10.219.77.2"


@dataclass(frozen=True, slots=True)
class Space:
    """The names of the two namespaces."""

    near: str
    far: str

    def run(self, command: Sequence[str], timeout_s: float) -> subprocess.CompletedProcess[str]:
        """Run to the end at the near end. Raises :class:`Unavailable` if it fails."""
        done = subprocess.run(
            _inside(self.near, command), capture_output=True, text=True, timeout=timeout_s, check=False
        )
        if done.returncode:
            raise Unavailable("bench_process", f"{command[0]} ended with {done.returncode}: {done.stderr[-500:]}")
        return done

    @contextmanager
    def serve(self, command: Sequence[str]) -> Iterator[subprocess.Popen[str]]:
        """Keep a process at the far end."""
        pipe = subprocess.PIPE
        process = subprocess.Popen(_inside(self.far, command), stdin=pipe, stdout=pipe, text=True)
        try:
            yield process
        finally:
            process.terminate()
            process.communicate(timeout=20)


def python(module: str, *arguments: object) -> list[str]:
    """Command line of one of our ends."""
    return [sys.executable, "-m", f"bench.probe.{module}", *map(str, arguments)]


def ask(process: subprocess.Popen[str]) -> dict[str, Any]:
    """What the far end has used and reflected so far."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("\n")
    process.stdin.flush()
    found: dict[str, Any] = json.loads(process.stdout.readline())
    return found


def process_cpu_s(process: subprocess.Popen[str]) -> float:
    """CPU seconds of a process that runs."""
    fields = Path(f"/proc/{process.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def space() -> Iterator[Space]:
    """Make the namespaces. Raises :class:`Unavailable` where that is not allowed."""
    if os.geteuid() != 0:
        raise Unavailable("not_root", "network namespaces need root")
    made = Space(f"tb-near-{os.getpid()}", f"tb-far-{os.getpid()}")
    before = signal.signal(signal.SIGTERM, _leave)
    try:
        for name in (made.near, made.far):
            _ip("netns", "add", name)
        _ip("link", "add", "v0", "netns", made.near, "type", "veth", "peer", "name", "v1", "netns", made.far)
        for name, device, address in ((made.near, "v0", NEAR), (made.far, "v1", FAR)):
            _ip("-n", name, "address", "add", f"{address}/24", "dev", device)
            _ip("-n", name, "link", "set", "lo", "up")
            _ip("-n", name, "link", "set", device, "up")
        yield made
    finally:
        for name in (made.near, made.far):
            subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False)
        signal.signal(signal.SIGTERM, before)


def _leave(number: int, _: object) -> None:
    raise SystemExit(128 + number)  # past everything that has to be taken down


def _inside(name: str, command: Sequence[str]) -> list[str]:
    return ["ip", "netns", "exec", name, *command]


def _ip(*arguments: str) -> None:
    try:
        subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)
    except FileNotFoundError as error:
        raise Unavailable("no_ip", "the command ip (iproute2) is missing") from error
    except subprocess.CalledProcessError as error:
        raise Unavailable("no_namespaces", f"ip {' '.join(arguments)}: {error.stderr.strip()}") from error
