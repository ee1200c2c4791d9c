"""Deliberate mistakes in modules and examples, one at a time, and who catches them: validate, plan, test or the API.

A mistake is one replaced text in one file (``mutations.json``). Modules are judged by ``terraform validate`` against
the clouds' real schemas and then by their own ``terraform test`` (the cloud mocked, Tendril real); the example of own
racks by ``validate``, ``plan`` and ``apply`` against a control plane with live sessions.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.terraform.conftest import DEPLOY, SCHEMAS, Plane, Work, mirror_in, work_in


@dataclass(frozen=True)
class Mutation:
    """One text for another in a file of ``modules``; ``judge`` is the module whose test is run."""

    judge: str
    file: str
    old: str
    new: str

    def __str__(self) -> str:
        return f"{self.file}: {self.old!r} -> {self.new!r}"


_LISTED = json.loads(Path(__file__).with_name("mutations.json").read_text(encoding="utf-8"))
MODULES = tuple(Mutation(**row) for row in _LISTED["modules"])
EXAMPLE = tuple((row["old"], row["new"]) for row in _LISTED["example"])  # own racks that run, with three live sessions


def clouds_in(folder: Path) -> Path | None:
    """A mirror with Tendril's provider and every cloud's schema; ``None`` where there are no schemas."""
    if not SCHEMAS:
        return None
    rc = mirror_in(folder)
    tool = DEPLOY / "tools/schema_only_provider.py"
    subprocess.run([sys.executable, str(tool), str(folder), *map(str, SCHEMAS)], check=True, capture_output=True)
    return rc


class Yard:
    """A copy of the modules, in which each can be judged."""

    def __init__(self, folder: Path, rc: Path, plane: Plane, attached: str = "") -> None:
        self.modules = folder / "modules"
        self._rc, self._plane, self._attached = rc, plane, attached
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copytree(DEPLOY / "modules", self.modules)
        self._ready: dict[str, Work] = {}

    def work(self, module: str) -> Work:
        """A module's own folder, initialised."""
        if module not in self._ready:
            work = work_in(self.modules / module, self._rc, self._plane.url, self._attached)
            work.run("init", "-no-color")
            self._ready[module] = work
        return self._ready[module]

    def judged(self, module: str) -> tuple[str, str]:
        """Who catches what is wrong with a module, and what it says; nobody where nothing is."""
        work = self.work(module)
        checked = json.loads(work.run("validate", "-json", ok=False).stdout)
        if not checked["valid"]:
            return "validate", _words(checked["diagnostics"][0])
        done = work.run("test", "-json", ok=False)
        return ("", "") if done.returncode == 0 else caught_by(done.stdout)

    def tried(self, one: Mutation) -> tuple[str, str]:
        """The same with a mistake in it. Raises ``AssertionError`` where the text to replace is not there."""
        path = self.modules / one.file
        text = path.read_text(encoding="utf-8")
        assert one.old in text, f"{one} replaces nothing"
        path.write_text(text.replace(one.old, one.new, 1), encoding="utf-8")
        try:
            if one.file.endswith("versions.tf"):
                return _of_init(self.work(one.judge))
            return self.judged(one.judge)
        finally:
            path.write_text(text, encoding="utf-8")


def _of_init(work: Work) -> tuple[str, str]:
    done = work.run("init", "-no-color", ok=False)
    return ("", "") if done.returncode == 0 else ("init", " ".join(done.stderr.split())[:160])


def caught_by(stdout: str) -> tuple[str, str]:
    """From what ``-json`` printed: the control plane, an assertion of the test, or the plan."""
    errors = []
    for line in stdout.splitlines():
        row = json.loads(line) if line.startswith("{") else {}
        if row.get("type") == "diagnostic" and row["@level"] == "error":
            errors.append(row["diagnostic"])
    said = [_words(one) for one in errors]
    for who, sign in (("API", "Tendril refused"), ("API", "is there already"), ("test", "Test assertion failed")):
        for text in said:
            if sign in text:
                return who, text
    return "plan", said[0] if said else "no diagnostic"


def _words(diagnostic: dict[str, str]) -> str:
    return re.sub(r"\s+", " ", f"{diagnostic['summary']}: {diagnostic.get('detail', '')}")[:160]


def of_modules(yard: Yard, mutations: tuple[Mutation, ...] = MODULES) -> Iterator[tuple[str, str, str]]:
    """``(mistake, who caught it, what was said)`` of each."""
    for one in mutations:
        yield (str(one), *yard.tried(one))


def of_example(plane: Plane, work: Work) -> Iterator[tuple[str, str, str]]:
    """The same of the example of own racks while it runs and has sessions."""
    text = (DEPLOY / "examples/own-datacenter/main.tf").read_text().replace("../../modules", "./modules")
    if not (work.folder / "modules").exists():
        (work.folder / "modules").symlink_to(DEPLOY / "modules")
    plane.call("PUT", "/v1/pools/taken", {"queue_s": 5})
    work.write(text)
    work.run("init", "-no-color")
    work.apply()
    sessions = [plane.call("POST", "/v1/sessions", {"client": {"country": "DE"}})["id"] for _ in range(3)]
    for old, new in EXAMPLE:
        assert old in text, f"{old!r} replaces nothing"
        work.write(text.replace(old, new, 1))
        yield (f"own-datacenter: {old!r} -> {new!r}", *_example_judged(work))
    for id in sessions:
        plane.call("DELETE", f"/v1/sessions/{id}")
    work.write(text)
    work.run("destroy", "-auto-approve", "-no-color")
    plane.call("DELETE", "/v1/pools/taken")


def _example_judged(work: Work) -> tuple[str, str]:
    checked = json.loads(work.run("validate", "-json", ok=False).stdout)
    if not checked["valid"]:
        return "validate", _words(checked["diagnostics"][0])
    for command, who in (("plan", "plan"), ("apply", "API")):
        done = work.run(command, "-json", *(["-auto-approve"] if command == "apply" else []), ok=False)
        if done.returncode:
            return who, caught_by(done.stdout)[1]
    return "", ""
