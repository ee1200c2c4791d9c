"""Slotting in a data center: the guide word by word, with real agents, up to the first users' share and to serving."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import yaml

from tests.terraform.conftest import KEY, ROOT, Plane, wait_for

GUIDE = ROOT / "docs/how-to/slot-in-your-own-data-center.md"
PLACE = {"latitude": 50.11, "longitude": 8.68}  # one place: loopback is faster than light between two


def blocks(text: str, language: str) -> list[str]:
    """Code blocks of the guide, taken out of their list."""
    found = re.findall(r"^ *```(\w*)\n(.*?)^ *```$", text, re.M | re.S)
    mine = [body for name, body in found if name == language]
    return ["".join(line.removeprefix("   ") for line in body.splitlines(keepends=True)) for body in mine]


class Shell:
    """A person's shell with ``tendril`` in it."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder, self.env = folder, {k: v for k, v in os.environ.items() if not k.startswith("TENDRIL_")}
        self.env |= {"TENDRIL_URL": url, "TENDRIL_KEY": KEY, "PYTHONPATH": str(ROOT), "COLUMNS": "200"}
        self.agents: list[subprocess.Popen[bytes]] = []

    def run(self, command: str) -> str:
        """What ``tendril …`` prints."""
        argv = [sys.executable, "-m", "router", *shlex.split(command.removeprefix("tendril "))]
        done = subprocess.run(argv, cwd=self.folder, env=self.env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def start(self, command: str, host: str) -> None:
        """An agent in the background: on loopback every machine has an address of 127/8 and the same ports."""
        token, _, rest = command.partition(" tendril ")
        more = f" --bind {host} --local-api= --tunnel-port 0 --state-dir {host} --reflector-port 7421"
        argv = [sys.executable, "-m", "router", *shlex.split(rest + more)]
        env = self.env | {"TENDRIL_JOIN_TOKEN": token.split("=", 1)[1]}
        with (self.folder / f"log-{host}").open("wb") as log:
            self.agents.append(subprocess.Popen(argv, cwd=self.folder, env=env, stdout=log, stderr=log))

    def stop(self) -> None:
        """End the agents."""
        for agent in self.agents:
            agent.send_signal(signal.SIGTERM)
        for agent in self.agents:
            agent.wait(timeout=60)


def test_the_guide_word_by_word(plane: Plane, tmp_path: Path) -> None:
    text = GUIDE.read_text(encoding="utf-8")
    (fleet,) = blocks(text, "yaml")
    first, second, watch, vouch = (block.splitlines() for block in blocks(text, ""))
    assert first == ["tendril fleet apply fleet.yaml", "tendril ramps"]
    (show,), (advance,) = watch, vouch
    join, run = second
    shell = Shell(tmp_path, plane.url)
    try:
        for kind in ("providers/own", "regions/frankfurt"):
            plane.call("PUT", f"/v1/{kind}", {})
        plane.call("PUT", "/v1/data-centers/old", {"provider": "own", "region": "frankfurt", **PLACE})
        _agent(shell, plane, "tendril keys join-token old", run.replace("own-fra-a", "old-a"), "127.9.3.1")

        (tmp_path / "fleet.yaml").write_text(fleet)
        assert yaml.safe_load(fleet)["data_centers"][0]["intent"] == "canary"
        shell.run(first[0])
        edges = plane.call("POST", "/v1/steer", {"client": PLACE})["edges"]
        assert [edge["data_center"] for edge in edges] == ["old"]
        wait_for("its ramp", lambda: "registered" in shell.run(first[1]))

        _agent(shell, plane, join, run, "127.9.3.2")
        wait_for("what it is measured for", lambda: _state(plane) == "shadow", 120)
        assert "shadow" in shell.run(show)
        shell.run(advance)
        assert _state(plane) == "synthetic"
        shell.run(advance)
        assert "canary" in shell.run(show) and _ramp(plane)["share_pct"] == 1.0
        while _state(plane) == "canary":
            shell.run(advance)
        wait_for("its intent", lambda: plane.call("GET", "/v1/data-centers/own-fra")["intent"] == "serving")
    finally:
        shell.stop()


def _agent(shell: Shell, plane: Plane, join: str, run: str, host: str) -> None:
    (token,) = re.findall(r"tj_\S+", shell.run(join))
    command = run.replace("=TOKEN", f"={token}").replace("http://CONTROL_PLANE:7400", plane.url)
    assert "TOKEN " not in command.split("=", 1)[1] and "CONTROL_PLANE" not in command
    shell.start(command.replace("ITS_ADDRESS", host), host)


def _ramp(plane: Plane) -> dict[str, object]:
    (found,) = [one for one in plane.call("GET", "/v1/ramps")["items"] if one["data_center"] == "own-fra"]
    assert isinstance(found, dict)
    return found


def _state(plane: Plane) -> object:
    return _ramp(plane)["state"]
