"""The servers under load, each alone on the first core; what asks them runs on the second."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

SERVER_CORE, LOAD_CORE = 0, 1
START_S = 20.0
NGINX = """
daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{ worker_connections 1024; }}
http {{
  access_log off; sendfile on; tcp_nopush on; keepalive_requests 100000000; default_type application/json;
  open_file_cache max=16; open_file_cache_valid 60s;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  server {{ listen 127.0.0.1:{port}; root {folder}; }}
}}
"""


class NotStarted(Exception):
    """A server that did not come up."""


@dataclass(frozen=True, slots=True)
class Listening:
    """A server on the first core: its port, and the process that answers with whatever works for it."""

    port: int
    pid: int

    def cpu_s(self) -> float:
        """Processor seconds that it and its children have used."""
        ticks = 0
        for pid in _family(self.pid):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])  # utime, stime: fields 14 and 15 of proc(5)
        return ticks / os.sysconf("SC_CLK_TCK")


def pin(pid: int, core: int) -> None:
    """Put all threads of a process, and of its children, onto one core."""
    for member in _family(pid):
        for task in Path(f"/proc/{member}/task").iterdir():
            os.sched_setaffinity(int(task.name), {core})


def _family(pid: int) -> list[int]:
    found = [pid]
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            found += _family(int(child))
    return found


def free_port() -> int:
    """A port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def why_no_nginx() -> str | None:
    """Why nginx cannot be compared with here; ``None`` if it can."""
    return None if shutil.which("nginx") else "nginx is not installed (Debian: apt-get install nginx-light)"


@contextmanager
def nginx(folder: Path, content: bytes) -> Iterator[Listening]:
    """Serve ``/route.json`` statically by one worker on the server's core."""
    port = free_port()
    (folder / "route.json").write_bytes(content)
    (folder / "nginx.conf").write_text("user root;" + NGINX.format(folder=folder, port=port))
    with _process(["nginx", "-p", str(folder), "-c", str(folder / "nginx.conf")]) as process:
        _wait(port, process)
        yield Listening(port, process.pid)


@contextmanager
def plain(folder: Path, answers: list[object], key: str, nodes: list[str]) -> Iterator[Listening]:
    """Serve the same answers by FastAPI and pydantic on the server's core."""
    (folder / "answers.json").write_text(json.dumps({"answers": answers, "key": key, "nodes": nodes}))
    with _process([sys.executable, "-m", "bench.serve.peer", str(folder)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        _wait(port, process)
        yield Listening(port, process.pid)


@contextmanager
def _process(command: list[str], stdout: int | None = None) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(["taskset", "-c", str(SERVER_CORE), *command], stdout=stdout)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise NotStarted(f"nothing listens on port {port}")
