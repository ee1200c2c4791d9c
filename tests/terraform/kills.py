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
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
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
resource "tendril_policy" "p" {{
  id              = "killed"
  allow_providers = [tendril_provider.p.id]
}}
resource "tendril_link" "l" {{
  id   = "killed"
  from = tendril_data_center.dc[0].id
  to   = tendril_data_center.dc[1].id
}}
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
    "policies": ["killed"],
    "links": ["killed"],
}
NOTHING: dict[str, list[str]] = {kind: [] for kind in WHOLE}


@dataclass(frozen=True)
class Kill:
    """One turn: what was killed, and what was wrong after the next run of the same command."""

    turn: int
    command: str
    whom: str
    after_s: float
    hit: bool  # otherwise it was over before
    wrong: list[str]


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
        there = [id for id in plane.ids(kind) if id]  # links that nobody configured have none
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


def rounds(plane: Plane, work: Work, seed: int, first: int = 0) -> Iterator[Kill]:
    """Kills without end, applies and destroys in turns; begins with turn ``first``, which must be even."""
    work.write(CONFIG)
    work.run("init", "-no-color")
    takes_s = {command: _seconds(work, command) for command in ("apply", "destroy")}
    for turn in count(first):
        dice = random.Random(f"{seed}/{turn}")
        command, whom = ("apply", "destroy")[turn % 2], dice.choice(("both", "provider"))
        after_s, start = round(dice.uniform(0.05, 0.9) * takes_s[command], 3), time.monotonic()
        hit = killed(work, command, whom, after_s)
        if not hit:
            takes_s[command] = min(takes_s[command], time.monotonic() - start)  # the machine is shared
        yield Kill(turn, command, whom, after_s, hit, _wrong_after(plane, work, command))


def _wrong_after(plane: Plane, work: Work, command: str) -> list[str]:
    done = work.run(command, "-auto-approve", "-no-color", "-lock=false", ok=False)
    wrong = [f"{done.stdout[-300:]}{done.stderr[-700:]}"] if done.returncode else []
    wrong += different(plane, WHOLE if command == "apply" else NOTHING)
    if command == "apply" and not work.empty():
        wrong.append("the next plan is not empty")
    return wrong
