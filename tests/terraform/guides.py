"""Guides that are followed word by word: every command and block of a page is taken once, and no word of it is ours."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

from tests.terraform.conftest import ROOT

COMMANDS = ("terraform ", "tendril ", "make ", "python ", "export ", "TENDRIL_", "POST ", "PUT ")


class Page:
    """A guide: its blocks, and its commands in blocks and in sentences, until somebody has taken them."""

    def __init__(self, name: str) -> None:
        text = (ROOT / "docs/how-to" / name).read_text(encoding="utf-8")
        found = re.findall(r"^( *)```(\w*)\n(.*?)^ *```$", text, re.M | re.S)
        self._blocks = [(lang, re.sub(f"^{indent}", "", body, flags=re.M)) for indent, lang, body in found]
        self.words = " ".join(re.sub(r"^ *```.*?^ *```$", "", text, flags=re.M | re.S).split())
        spans = [one for one in re.findall(r"`([^`]+)`", self.words) if one.startswith(COMMANDS)]
        lines = [line for lang, body in self._blocks if not lang for line in body.splitlines()]
        self._commands = Counter([*lines, *spans])

    def take(self, command: str) -> str:
        """A command as the page has it. Raises ``AssertionError`` where it has another."""
        assert self._commands[command], f"the page has no {command}; left are {sorted(self._commands.elements())}"
        del self._commands[command]
        return command

    def block(self, language: str) -> str:
        """The only block of a language."""
        (body,) = [body for lang, body in self._blocks if lang == language]
        self._blocks = [one for one in self._blocks if one[0] != language]
        return body

    def says(self, *sentences: str) -> None:
        """What the page promises, before it is looked at. Raises ``AssertionError`` where it says something else."""
        for sentence in sentences:
            assert sentence in self.words, sentence

    def nothing_left(self) -> None:
        """Raise ``AssertionError`` if the page has a command or a block that nobody has followed."""
        assert (sorted(self._commands.elements()), [one for one in self._blocks if one[0]]) == ([], [])


class Shell:
    """A person's shell with ``tendril`` in it."""

    def __init__(self, folder: Path, url: str, key: str) -> None:
        self.folder, self.env = folder, {k: v for k, v in os.environ.items() if not k.startswith("TENDRIL_")}
        self.env |= {"TENDRIL_URL": url, "TENDRIL_KEY": key, "PYTHONPATH": str(ROOT), "COLUMNS": "200"}
        self.agents: list[subprocess.Popen[bytes]] = []

    def run(self, command: str) -> str:
        """What ``tendril …`` prints."""
        argv = [sys.executable, "-m", "router", *shlex.split(command.removeprefix("tendril "))]
        done = subprocess.run(argv, cwd=self.folder, env=self.env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def start(self, command: str, token: str, host: str) -> None:
        """``TENDRIL_JOIN_TOKEN=TOKEN tendril agent run …`` in the background.

        On loopback every machine has an address of 127/8 and the same ports.
        """
        filled = command.replace("=TOKEN ", f"={token} ").replace("http://CONTROL_PLANE:7400", self.env["TENDRIL_URL"])
        setting, _, rest = filled.replace("ITS_ADDRESS", host).partition(" tendril ")
        more = f" --bind {host} --local-api= --tunnel-port 0 --state-dir {host} --reflector-port 7421"
        argv = [sys.executable, "-m", "router", *shlex.split(rest + more)]
        env = self.env | {"TENDRIL_JOIN_TOKEN": setting.split("=", 1)[1]}
        with (self.folder / f"log-{host}").open("wb") as log:
            self.agents.append(subprocess.Popen(argv, cwd=self.folder, env=env, stdout=log, stderr=log))

    def stop(self) -> None:
        """End the agents."""
        for agent in self.agents:
            agent.send_signal(signal.SIGTERM)
        for agent in self.agents:
            agent.wait(timeout=60)
