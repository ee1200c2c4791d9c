"""Terraform: 330 objects from nothing to an empty plan and back, and applies that are killed at random moments.

``python -m bench terraform`` (U3): seconds of the machine's own Terraform against a real control plane, and beside
them the same objects as its built-in ``terraform_data``: most of the time is Terraform's own, which writes its whole
state after every object. A region whose machines are processes here must have its first accepted probe within 15 s.
``KILLS`` (200) kills must converge without duplicates or orphans, and every deliberate mistake in modules and examples
must be caught; it prints by whom.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from bench._case import line, progress, timed
from tests.terraform.conftest import HEAD, Plane, Work, mirror_in, providers_running, work_in
from tests.terraform.first_probe import region_that_runs
from tests.terraform.kills import Kill, rounds
from tests.terraform.mutations import EXAMPLE, MODULES, Yard, clouds_in, of_example, of_modules

KILLS = int(os.environ.get("KILLS", "200"))
OBJECTS = 330
FIRST_PROBE_S = 15.0  # U3
LIMITS_S = {"apply": 10.0, "empty plan": 4.0, "destroy": 12.0}  # issue 7: apply and plan are promised
FLEET = (
    HEAD
    + """
resource "tendril_provider" "p" { id = "bench" }
resource "tendril_region" "r" {
  count = 29
  id    = "market-${count.index}"
}
resource "tendril_data_center" "dc" {
  count       = 100
  id          = "dc-${count.index}"
  provider_id = tendril_provider.p.id
  region      = tendril_region.r[count.index % 29].id
}
resource "tendril_node" "n" {
  count       = 200
  id          = "node-${count.index}"
  data_center = tendril_data_center.dc[count.index % 100].id
}
"""
)


# The same objects and references, of a resource that Terraform has built in: no provider, no control plane.
BUILT_IN = """
resource "terraform_data" "p" { input = "bench" }
resource "terraform_data" "r" {
  count = 29
  input = "market-${count.index}"
}
resource "terraform_data" "dc" {
  count = 100
  input = {
    id    = "dc-${count.index}", provider = terraform_data.p.output, region = terraform_data.r[count.index % 29].output
    roles = ["edge"], capacity = { sessions = 0, mbps = 0 }, labels = {}, drain = { timeout_s = 600, mode = "hard" }
  }
}
resource "terraform_data" "n" {
  count = 200
  input = {
    id     = "node-${count.index}", data_center = terraform_data.dc[count.index % 100].output.id
    labels = {}, drain = { timeout_s = 600, mode = "hard" }, wait = { until = "declared", timeout_s = 900 }
  }
}
"""


def _steps(work: Work, text: str) -> dict[str, float]:
    """Seconds of each step. Raises ``AssertionError`` where a step did not do all of it."""
    work.write(text)
    work.run("init", "-no-color")
    took, said = {}, {}
    took["apply"], said["apply"] = timed(work.apply)
    took["empty plan"], empty = timed(work.empty)
    took["destroy"], said["destroy"] = timed(lambda: work.apply("-destroy"))
    assert f"{OBJECTS} added" in said["apply"] and empty and f"{OBJECTS} destroyed" in said["destroy"]
    return took


def _objects(work: Work, built_in: Work) -> bool:
    progress(f"{OBJECTS} objects: apply, empty plan, destroy")
    took, theirs = _steps(work, FLEET), _steps(built_in, BUILT_IN)
    load = os.getloadavg()[0]
    met = [
        line("terraform", f"{OBJECTS} objects, {name}", took[name], limit_s, "limit", "s", "U3", 1.0,
             load=load, terraform_data_s=round(theirs[name], 2))
        for name, limit_s in LIMITS_S.items()
    ]  # fmt: skip
    return all(met)


def _first_probe(plane: Plane, work: Work) -> bool:
    progress("a region with two real agents: apply to first accepted probe")
    load = os.getloadavg()[0]
    with region_that_runs(plane, work) as seconds:
        return line(
            "terraform", "apply to first accepted probe", seconds, FIRST_PROBE_S, "limit", "s", "U3", 1.0, load=load
        )


def _kills(plane: Plane, work: Work, wanted: int, seed: int, ledger: Path | None) -> bool:
    """Kill until so many kills hit something; those that a ledger holds already count."""
    done = [] if ledger is None or not ledger.exists() else [Kill(**json.loads(row)) for row in ledger.open()]
    progress(f"{wanted} killed applies and destroys, {sum(one.hit for one in done)} done before")
    if sum(one.hit for one in done) < wanted:
        first = max((one.turn + 1 for one in done), default=0)
        for kill in rounds(plane, work, seed, first + first % 2):
            done.append(kill)
            if ledger is not None:
                with ledger.open("a") as file:
                    file.write(json.dumps(asdict(kill)) + "\n")
            progress(f"{sum(one.hit for one in done)}: {kill}")
            if sum(one.hit for one in done) >= wanted:
                break
    bad = sum(bool(one.wrong) for one in done)
    hit = Counter(f"{one.command}, {one.whom}" for one in done if one.hit)
    row = {
        "name": "terraform", "case": "killed applies and destroys that converge", "ours": len(done) - bad,
        "peer": len(done), "peer_name": "all", "unit": "kills", "ratio": (len(done) - bad) / len(done), "goal": "U3",
        "bound": 1.0, "met": not bad, "seed": seed, "hit": dict(sorted(hit.items())),
        "came_too_late": len(done) - hit.total(),
    }  # fmt: skip
    print(json.dumps(row), flush=True)
    return not bad


def _mutations(plane: Plane, folder: Path) -> bool:
    rc = clouds_in(folder / "clouds")
    if rc is None:
        progress("no provider schemas in ../shared/specs/tfschemas: no mutations")
        return True
    with providers_running(plane.url, folder) as attached:
        return _mistakes(
            Yard(folder / "yard", rc, plane, attached), plane, work_in(folder / "example", rc, plane.url, attached)
        )


def _mistakes(yard: Yard, plane: Plane, example: Work) -> bool:
    progress(f"{len(MODULES) + len(EXAMPLE)} deliberate mistakes")
    caught: Counter[str] = Counter()
    for found in (of_modules(yard), of_example(plane, example)):
        for mistake, who, said in found:
            caught[who or "nobody"] += 1
            progress(f"{who or 'SURVIVED':8} {mistake} | {said}")
    total, survived = caught.total(), caught["nobody"]
    row = {
        "name": "terraform", "case": "deliberate mistakes caught", "ours": total - survived, "peer": total,
        "peer_name": "all", "unit": "mistakes", "ratio": (total - survived) / total, "goal": "U3", "bound": 1.0,
        "met": not survived, "caught_by": dict(sorted(caught.items())),
    }  # fmt: skip
    print(json.dumps(row), flush=True)
    return not survived


def main(argv: Sequence[str] = ()) -> bool:
    """All cases; ``python -m bench.terraform --case kills --ledger FILE`` is one that may be done in pieces."""
    parser = argparse.ArgumentParser(prog="python -m bench.terraform")
    parser.add_argument("--case", choices=("objects", "probe", "mistakes", "kills", "all"), default="all")
    parser.add_argument("--kills", type=int, default=KILLS)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--ledger", type=Path, help="a file that keeps every kill; what it holds is not done again")
    asked = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "plane").mkdir()
        plane = Plane(folder / "plane")
        plane.start()
        try:
            return _cases(asked, plane, folder)
        finally:
            plane.stop()


def _cases(asked: argparse.Namespace, plane: Plane, folder: Path) -> bool:
    rc, met = mirror_in(folder / "mirror"), True
    if asked.case in ("objects", "all"):
        met &= _objects(*(work_in(folder / name, rc, plane.url) for name in ("objects", "built-in")))
    if asked.case in ("probe", "all"):
        met &= _first_probe(plane, work_in(folder / "probe", rc, plane.url))
    if asked.case in ("mistakes", "all"):
        met &= _mutations(plane, folder)
    if asked.case in ("kills", "all"):
        met &= _kills(plane, work_in(folder / "kills", rc, plane.url), asked.kills, asked.seed, asked.ledger)
    return met


if __name__ == "__main__":
    sys.exit(0 if main(sys.argv[1:]) else 1)
