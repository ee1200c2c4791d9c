"""Kill Terraform and the provider at random moments of applies and destroys, and count what the next run makes of it.

Each cycle kills twice: an apply that starts from nothing, after which an apply must end with exactly what is declared
and an empty plan; and a destroy that starts from everything, after which a destroy must leave nothing. Either the whole
process group is killed (the machine went down) or the provider alone (Terraform lives on, and saves its state).
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

from tests.terraform.conftest import HEAD, Plane, Work

DATA_CENTERS = 4
NODES = 4
CONFIG = (
    HEAD
    + f"""
resource "tendril_provider" "p" {{ id = "killed" }}
resource "tendril_region" "r" {{ id = "killed" }}
resource "tendril_data_center" "dc" {{
  count       = {DATA_CENTERS}
  id          = "killed-${{count.index}}"
  provider_id = tendril_provider.p.id
  region      = tendril_region.r.id
}}
resource "tendril_node" "n" {{
  count       = {NODES}
  id          = "killed-node-${{count.index}}"
  data_center = tendril_data_center.dc[count.index].id
}}
resource "tendril_pool" "p" {{ id = "killed" }}
resource "tendril_join_token" "t" {{
  count       = {DATA_CENTERS}
  data_center = tendril_data_center.dc[count.index].id
  name        = "killed-${{count.index}}"
}}
resource "tendril_drain" "d" {{
  selector   = {{ data_center = tendril_data_center.dc[0].id }}
  reason     = "killed"
  depends_on = [tendril_data_center.dc] # a drain of the only edge so far would be refused
}}
"""
)
WHOLE = {
    "providers": ["killed"],
    "regions": ["killed"],
    "data-centers": [f"killed-{i}" for i in range(DATA_CENTERS)],
    "nodes": [f"killed-node-{i}" for i in range(NODES)],
    "pools": ["killed"],
}
NOTHING: dict[str, list[str]] = {kind: [] for kind in WHOLE}


@dataclass
class Count:
    """What was done and what went wrong."""

    kills: int = 0
    hit: dict[str, int] = field(default_factory=dict)  # by what was running and who was killed
    late: int = 0  # it was over before
    wrong: list[str] = field(default_factory=list)


def _provider_of(group: int) -> list[int]:
    """Processes of the provider in a process group."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            fields = (place / "stat").read_text().rsplit(")", 1)[1].split()
            command = (place / "cmdline").read_bytes()
        except OSError:
            continue
        if int(fields[2]) == group and b"terraform-provider-tendril" in command:
            found.append(int(place.name))
    return found


def killed(work: Work, command: str, whom: str, after_s: float) -> bool:
    """Start a command in a process group of its own and kill in it; whether what was to be killed was still running."""
    process = subprocess.Popen(
        ["terraform", command, "-auto-approve", "-no-color", "-lock=false"],
        cwd=work.folder, env=work.env, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        process.wait(timeout=after_s)
        return False
    except subprocess.TimeoutExpired:
        pass
    if whom == "both":
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return True
    providers = _provider_of(process.pid)
    for pid in providers:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue  # between two starts of the provider
    process.wait()
    return bool(providers)


def different(plane: Plane, wanted: dict[str, list[str]]) -> list[str]:
    """What is there and should not be (orphans), what is missing, and what is there twice."""
    found = []
    for kind, ids in wanted.items():
        there = plane.ids(kind)
        found += [f"{kind}: {there} instead of {ids}"] if there != ids else []
    open_drains = [one for one in plane.call("GET", "/v1/drains")["items"] if one["state"] != "undone"]
    expected = 1 if wanted["data-centers"] else 0
    found += [f"{len(open_drains)} open drains instead of {expected}"] if len(open_drains) != expected else []
    for id in plane.ids("data-centers"):
        tokens = plane.call("GET", f"/v1/data-centers/{id}/join-tokens")["items"]
        unused = [one for one in tokens if one["state"] == "unused"]
        found += [f"{len(unused)} unused tokens of {id}"] if len(unused) != 1 else []
    return found


def _seconds(work: Work, command: str) -> float:
    start = time.monotonic()
    work.run(command, "-auto-approve", "-no-color")
    return time.monotonic() - start


def rounds(plane: Plane, work: Work, count: int, seed: int) -> Count:
    """So many kills that hit something, applies and destroys in turns."""
    dice = random.Random(seed)
    work.write(CONFIG)
    work.run("init", "-no-color")
    takes_s = {command: _seconds(work, command) for command in ("apply", "destroy")}
    counted, turn = Count(), 0
    while counted.kills < count:
        command, whom = ("apply", "destroy")[turn % 2], dice.choice(("both", "provider"))
        turn += 1
        start = time.monotonic()
        if killed(work, command, whom, dice.uniform(0.05, 0.9) * takes_s[command]):
            counted.kills += 1
            name = f"{command}, {whom}"
            counted.hit[name] = counted.hit.get(name, 0) + 1
        else:
            counted.late += 1
            takes_s[command] = min(takes_s[command], time.monotonic() - start)  # the machine is shared
        _converge(plane, work, command, f"turn {turn} ({command}, {whom})", counted)
    return counted


def _converge(plane: Plane, work: Work, command: str, label: str, counted: Count) -> None:
    done = work.run(command, "-auto-approve", "-no-color", "-lock=false", ok=False)
    counted.wrong += [f"{label}: {done.stdout[-300:]}{done.stderr[-700:]}"] if done.returncode else []
    counted.wrong += [f"{label}: {text}" for text in different(plane, WHOLE if command == "apply" else NOTHING)]
    if command == "apply" and not work.empty():
        counted.wrong.append(f"{label}: the next plan is not empty")
