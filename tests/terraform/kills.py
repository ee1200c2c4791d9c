"""Kill an apply, Terraform and provider at once, at a random moment, and count what the next one makes."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time

from tests.terraform.conftest import HEAD, Plane, Work

CONFIG = (
    HEAD
    + """
resource "tendril_provider" "p" { id = "killed" }
resource "tendril_region" "r" { id = "killed" }
resource "tendril_data_center" "dc" {
  count       = 4
  id          = "killed-${count.index}"
  provider_id = tendril_provider.p.id
  region      = tendril_region.r.id
}
resource "tendril_join_token" "t" {
  count       = 4
  data_center = tendril_data_center.dc[count.index].id
  name        = "killed-${count.index}"
}
resource "tendril_drain" "d" {
  selector   = { data_center = tendril_data_center.dc[0].id }
  reason     = "killed"
  depends_on = [tendril_data_center.dc] # a drain of the only edge so far would be refused
}
"""
)


def killed_apply(work: Work, after_s: float) -> bool:
    """Start an apply in a process group of its own and kill the group; whether it was still running."""
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    command = ["terraform", "apply", "-auto-approve", "-no-color", "-lock=false"]
    process = subprocess.Popen(command, cwd=work.folder, env=work.env, start_new_session=True, **quiet)  # type: ignore[call-overload]
    try:
        process.wait(timeout=after_s)
        return False
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return True


def duplicates(plane: Plane) -> list[str]:
    """What is there more often than it should be: open drains, and unused tokens."""
    open_drains = [one for one in plane.call("GET", "/v1/drains")["items"] if one["state"] != "undone"]
    found = [f"{len(open_drains)} drains"] if len(open_drains) > 1 else []
    for i in range(4):
        tokens = plane.call("GET", f"/v1/data-centers/killed-{i}/join-tokens")["items"]
        unused = [one for one in tokens if one["state"] == "unused"]
        found += [f"{len(unused)} tokens of killed-{i}"] if len(unused) != 1 else []
    return found


def rounds(plane: Plane, work: Work, count: int, seed: int) -> tuple[int, list[str]]:
    """So many kills; how many hit a running apply, and everything that did not converge."""
    dice = random.Random(seed)
    work.write(CONFIG)
    work.run("init", "-no-color")
    start = time.monotonic()
    work.apply()
    whole_s = time.monotonic() - start
    hit, wrong = 0, []
    for _ in range(count):
        work.run("destroy", "-auto-approve", "-no-color")
        hit += killed_apply(work, dice.uniform(0.2, 1.0) * whole_s)
        said = work.apply("-lock=false", ok=False)
        wrong += [] if "Apply complete" in said else [said[-500:]]
        wrong += duplicates(plane)
        wrong += [] if work.empty() else ["the next plan is not empty"]
    return hit, wrong
