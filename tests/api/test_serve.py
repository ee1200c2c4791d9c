"""``tendril serve`` as a process: it listens, stops cleanly, and says what is in its way."""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from router.client import from_env

TENDRIL = [sys.executable, "-c", "import sys; from router.__main__ import main; sys.exit(main(sys.argv[1:]))"]


def environment() -> dict[str, str]:
    """This environment without settings, and with the checkout importable from any folder."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TENDRIL_")}
    return kept | {"PYTHONPATH": str(Path(__file__).resolve().parents[2])}


def start(tmp_path: Path, *arguments: str) -> tuple[subprocess.Popen[str], str]:
    """Start ``tendril serve`` and return it with its address once it listens."""
    process = subprocess.Popen(
        [*TENDRIL, "serve", "--port", "0", *arguments],
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("Dashboard"):
            return process, line.split()[1].rstrip("/")
    raise AssertionError(f"serve ended with {process.wait()} before it listened")


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_serve_runs_in_the_foreground_and_stops_cleanly(tmp_path: Path, stop: signal.Signals) -> None:
    process, url = start(tmp_path)
    with process:  # closes its pipe
        try:
            with from_env(url, environ={}, key_file=tmp_path / "var" / "admin.key") as client:
                assert client.health()["data_centers"] == []
                client.put("pools", "kept", {})
        finally:
            process.send_signal(stop)
            code = process.wait(timeout=60)
    assert code == 0
    assert not (tmp_path / "var" / "tendril.db-wal").exists()  # closed, not killed
    with sqlite3.connect(tmp_path / "var" / "tendril.db") as database:
        tables = {name for (name,) in database.execute("select name from sqlite_master")}
    database.close()
    assert "alembic_version" in tables


def test_serve_says_when_its_port_is_taken(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        command = [*TENDRIL, "serve", "--port", str(port)]
        done = subprocess.run(
            command, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=60, check=False
        )
    assert done.returncode == 1
    assert f"tendril: cannot listen on 127.0.0.1:{port}" in done.stderr
    assert "Traceback" not in done.stderr
