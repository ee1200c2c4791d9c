"""Adding a region: the guide word by word, and from ``apply`` to the first accepted probe of a real agent."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.terraform.conftest import DEPLOY, ROOT, Plane, Work
from tests.terraform.first_probe import region_that_runs

GUIDE = ROOT / "docs/how-to/add-a-region.md"


def test_from_apply_to_the_first_accepted_probe(plane: Plane, alone: Work) -> None:
    with region_that_runs(plane, alone) as seconds:
        print(f"apply to first accepted probe: {seconds:.1f} s")
        assert alone.empty()
        states = {
            one["state"]
            for dc in ("own-old", "own-new")
            for one in plane.call("GET", f"/v1/data-centers/{dc}/join-tokens")["items"]
        }
        assert states == {"used"}
        secret = (alone.folder / "m-new/env").read_text()
        assert "TENDRIL_JOIN_TOKEN=tj_own-new_" in secret


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
