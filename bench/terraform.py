"""Terraform: 330 objects from nothing to an empty plan and back, and applies that are killed at random moments.

``python -m bench terraform`` (U3): seconds of the machine's own Terraform against a real control plane, and beside
them the same objects as its built-in ``terraform_data``: most of the time is Terraform's own, which writes its whole
state after every object. ``KILLS`` (200) kills must converge without duplicates or orphans, and every deliberate
mistake in modules and examples must be caught; it prints by whom.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections import Counter
from pathlib import Path

from bench._case import line, progress, timed
from tests.terraform.conftest import HEAD, Plane, Work, mirror_in, providers_running, work_in
from tests.terraform.kills import rounds
from tests.terraform.mutations import EXAMPLE, MODULES, Yard, clouds_in, of_example, of_modules

KILLS = int(os.environ.get("KILLS", "200"))
OBJECTS = 330
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


def _kills(plane: Plane, work: Work) -> bool:
    progress(f"{KILLS} killed applies and destroys")
    counted = rounds(plane, work, KILLS, seed=1)
    for text in counted.wrong:
        progress(text)
    row = {
        "name": "terraform", "case": "killed applies and destroys that converge", "ours": KILLS - len(counted.wrong),
        "peer": KILLS, "peer_name": "all", "unit": "kills", "ratio": (KILLS - len(counted.wrong)) / KILLS, "goal": "U3",
        "bound": 1.0, "met": not counted.wrong, "hit": counted.hit, "came_too_late": counted.late,
    }  # fmt: skip
    print(json.dumps(row), flush=True)
    return not counted.wrong


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


def main() -> bool:
    """All cases."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "plane").mkdir()
        plane = Plane(folder / "plane")
        plane.start()
        try:
            rc = mirror_in(folder / "mirror")
            met = _objects(*(work_in(folder / name, rc, plane.url) for name in ("objects", "built-in")))
            met &= _mutations(plane, folder)
            return _kills(plane, work_in(folder / "kills", rc, plane.url)) and met
        finally:
            plane.stop()
