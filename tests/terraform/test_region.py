"""Adding a region: the guide word by word, and from ``apply`` to the first accepted probe of a real agent."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.terraform.conftest import DEPLOY, HEAD, ROOT, Plane, Work, wait_for

GUIDE = ROOT / "docs/how-to/add-a-region.md"
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


def test_from_apply_to_the_first_accepted_probe(plane: Plane, alone: Work) -> None:
    program = alone.folder / "bin/tendril"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m router "$@"\n')
    (alone.folder / "boot").write_text(BOOT)
    for path in (program, alone.folder / "boot"):
        path.chmod(0o755)
    alone.env["PATH"] = f"{program.parent}:{alone.env['PATH']}"
    alone.write((REGION + MACHINES).replace("URL", plane.url))
    alone.run("init", "-no-color")
    begun = time.monotonic()
    try:
        alone.apply()
        wait_for("a measured link to the new data center", lambda: _measured(plane))
        print(f"apply to first accepted probe: {time.monotonic() - begun:.1f} s")
        assert alone.empty()
        states = {
            one["state"]
            for dc in ("own-old", "own-new")
            for one in plane.call("GET", f"/v1/data-centers/{dc}/join-tokens")["items"]
        }
        assert states == {"used"}
        secret = (alone.folder / "m-new/env").read_text()
        assert "TENDRIL_JOIN_TOKEN=tj_own-new_" in secret
    finally:
        for pid in (alone.folder / "pids").read_text().split():
            os.killpg(int(pid), signal.SIGTERM)
    alone.run("destroy", "-auto-approve", "-no-color")


def _measured(plane: Plane) -> bool:
    links = plane.call("GET", "/v1/links")["items"]
    return {("own-old", "own-new"), ("own-new", "own-old")} <= {
        (one["from"], one["to"]) for one in links if one["samples"]
    }


def test_the_guide_word_by_word(plane: Plane, alone: Work, tmp_path: Path) -> None:
    text = GUIDE.read_text(encoding="utf-8")
    (config,) = re.findall(r"```hcl\n(.*?)```", text, re.S)
    made = subprocess.run(
        [sys.executable, str(DEPLOY / "tools/make_mirror.py"), str(tmp_path / "terraform")],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert "make terraform" in text and "make_mirror.py var/terraform" in (ROOT / "Makefile").read_text()
    name, _, path = made.stdout.strip().removeprefix("export ").partition("=")
    assert f"export {name}=" in text
    commands = [line.strip() for line in re.findall(r"^ +(terraform \w+)$", text, re.M)]
    assert commands == ["terraform init", "terraform apply", "terraform plan"]
    alone.env[name] = path
    alone.write("".join(line.removeprefix("   ") for line in config.splitlines(keepends=True)))
    for command in commands:
        extra = {"apply": ["-auto-approve"], "plan": ["-detailed-exitcode"]}.get(command.split()[1], [])
        alone.run(command.split()[1], "-no-color", *extra)
    token = alone.run("output", "-raw", "token").stdout
    node = {"id": "oracle-fra-a", "addresses": {"internet": "192.0.2.1"}}
    plane.call("POST", "/v1/join", {"token": token, "node": node}, 201)
    assert alone.empty()
    assert "in_use" in alone.apply("-destroy", ok=False)  # the node that joined by hand is nobody's to delete
    plane.call("DELETE", "/v1/nodes/oracle-fra-a")
    alone.run("destroy", "-auto-approve", "-no-color")
    assert plane.ids("data-centers") == []


def test_what_the_bootstrap_renders_is_cloud_init(work: Work) -> None:
    if sys.platform != "linux":
        pytest.skip("cloud-init is for Linux")
    work.write(
        f'module "b" {{\n  source = "{DEPLOY / "modules/bootstrap"}"\n  node = "n-1"\n  join_token = "tj_x_y"\n'
        '  control_url = "https://tendril.example.org"\n  ssh_cidrs = ["192.0.2.0/24", "2001:db8::/32"]\n}\n'
        'output "u" {\n  value = module.b.user_data\n  sensitive = true\n}\n'
    )
    work.run("init", "-no-color")
    work.apply()
    head, body = work.outputs()["u"].split("\n", 1)
    document = json.loads(body)
    assert head == "#cloud-config"
    files = {one["path"]: one for one in document["write_files"]}
    assert files["/etc/tendril/agent.env"]["permissions"] == "0600"
    assert all(isinstance(step, list) for step in document["runcmd"])
    start = subprocess.run(["sh", "-n"], input=_text(files["/usr/local/sbin/tendril-node"]), text=True, check=False)
    assert start.returncode == 0
    rules = _text(files["/etc/nftables.conf"])
    assert "udp dport { 862, 7420, 7430, 7431, 7432, 7422, 7423 } accept" in rules
    assert "ip saddr 192.0.2.0/24 tcp dport 22 accept" in rules and "ip6 saddr 2001:db8::/32 tcp dport 22" in rules
    assert "tj_x_y" not in rules + document["runcmd"].__str__()


def _text(file: dict[str, str]) -> str:
    import base64

    return base64.b64decode(file["content"]).decode()
