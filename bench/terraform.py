"""Terraform: 330 objects from nothing to an empty plan and back, and applies that are killed at random moments.

``python -m bench terraform`` (U3): seconds of the machine's own Terraform against a real control plane, with an empty
configuration's plan told beside them, since most of a plan is Terraform's own start. ``KILLS`` rounds of kills must
converge without duplicates.
"""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

from bench._case import line, progress, timed
from tests.terraform.conftest import HEAD, Plane, Work, mirror_in, work_in
from tests.terraform.kills import rounds

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


def _objects(plane: Plane, work: Work) -> bool:
    work.write(FLEET)
    work.run("init", "-no-color")
    progress(f"{OBJECTS} objects: apply, empty plan, destroy")
    took = {}
    took["apply"], said = timed(lambda: work.apply("-parallelism=10"))
    took["empty plan"], empty = timed(work.empty)
    took["destroy"], gone = timed(lambda: work.apply("-destroy"))
    whole = f"{OBJECTS} added" in said and empty and f"{OBJECTS} destroyed" in gone
    load = os.getloadavg()[0]
    met = [
        line("terraform", f"{OBJECTS} objects, {name}", took[name], limit_s, "limit", "s", "U3", 1.0, load=load)
        for name, limit_s in LIMITS_S.items()
    ]
    return all(met) and whole


def _kills(plane: Plane, work: Work) -> bool:
    progress(f"{KILLS} killed applies")
    hit, wrong = rounds(plane, work, KILLS, seed=1)
    for text in wrong:
        progress(text)
    row = {
        "name": "terraform", "case": "killed applies that converge", "ours": KILLS - len(wrong), "peer": KILLS,
        "peer_name": "all", "unit": "applies", "ratio": (KILLS - len(wrong)) / KILLS, "goal": "U3", "bound": 1.0,
        "met": not wrong, "hit_while_running": hit,
    }  # fmt: skip
    print(json.dumps(row), flush=True)
    return not wrong


def main() -> bool:
    """Both cases."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "plane").mkdir()
        plane = Plane(folder / "plane")
        plane.start()
        try:
            rc = mirror_in(folder / "mirror")
            met = _objects(plane, work_in(folder / "objects", rc, plane.url))
            return _kills(plane, work_in(folder / "kills", rc, plane.url)) and met
        finally:
            plane.stop()
