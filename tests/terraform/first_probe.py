"""From ``apply`` to the first accepted probe: real agents, started by what the bootstrap module renders."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tests.terraform.conftest import DEPLOY, HEAD, ROOT, Plane, Work, wait_for

REGION = (
    HEAD
    + f"""
resource "tendril_provider" "own" {{ id = "own" }}
resource "tendril_region" "lab" {{ id = "lab" }}
resource "tendril_data_center" "dc" {{
  for_each    = toset(["old", "new"])
  id          = "own-${{each.key}}"
  provider_id = tendril_provider.own.id
  region      = tendril_region.lab.id
  latitude    = 50
  longitude   = 8 # one place: loopback is faster than light between two
}}
resource "tendril_join_token" "t" {{
  for_each    = tendril_data_center.dc
  data_center = each.value.id
  name        = each.key
}}
module "bootstrap" {{
  source      = "{DEPLOY / "modules/bootstrap"}"
  for_each    = tendril_data_center.dc
  node        = "node-${{each.key}}"
  control_url = "URL"
  join_token  = tendril_join_token.t[each.key].token
  address     = each.key == "old" ? "127.9.1.1" : "127.9.1.2"
  media_url   = "udp://127.9.1.9:7423"
  ports       = {{ reflector = 7421 }}
}}
"""
)
MACHINES = """
resource "terraform_data" "machine" {
  for_each = module.bootstrap
  input    = each.key
  provisioner "local-exec" {
    command     = "./boot ${each.key}"
    environment = { START = each.value.start, ENVIRONMENT = each.value.environment }
    quiet       = true
  }
}
resource "tendril_node" "n" {
  for_each    = terraform_data.machine
  id          = "node-${each.key}"
  data_center = tendril_data_center.dc[each.key].id
  labels      = { managed_by = "terraform" }
  wait        = { until = "reported", timeout_s = 120 }
}
"""
# What a machine does with what the bootstrap renders, but for root: unpack, and start the script in the background.
BOOT = """#!/bin/sh
set -eu
mkdir -p "m-$1"
printf '%s' "$START" > "m-$1/start"
(umask 077; printf '%s' "$ENVIRONMENT" > "m-$1/env")
host=$(sed -n 's/^TENDRIL_ADDRESS=//p' "m-$1/env")
export TENDRIL_ENV="$PWD/m-$1/env" TENDRIL_STATE="$PWD/m-$1"
export TENDRIL_MORE_OPTIONS="--bind $host --local-api= --tunnel-port 0"
setsid sh "m-$1/start" > "m-$1/log" 2>&1 < /dev/null &
echo $! >> pids
"""


@contextmanager
def region_that_runs(plane: Plane, work: Work) -> Iterator[float]:
    """Apply a region of two data centers whose machines are processes here; seconds until both ways were measured."""
    program = work.folder / "bin/tendril"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m router "$@"\n')
    (work.folder / "boot").write_text(BOOT)
    for path in (program, work.folder / "boot"):
        path.chmod(0o755)
    work.env["PATH"] = f"{program.parent}:{work.env['PATH']}"
    work.write((REGION + MACHINES).replace("URL", plane.url))
    work.run("init", "-no-color")
    begun = time.monotonic()
    try:
        work.apply()
        wait_for("a measured link to the new data center", lambda: _measured(plane))
        yield time.monotonic() - begun
    finally:
        for pid in (work.folder / "pids").read_text().split():
            os.killpg(int(pid), signal.SIGTERM)
    work.run("destroy", "-auto-approve", "-no-color")


def _measured(plane: Plane) -> bool:
    links = plane.call("GET", "/v1/links")["items"]
    return {("own-old", "own-new"), ("own-new", "own-old")} <= {
        (one["from"], one["to"]) for one in links if one["samples"]
    }
