"""Adding a region: the guide word by word, and from ``apply`` to the first accepted probe of a real agent."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys

import pytest

from tests.terraform.conftest import DEPLOY, KEY, PROVIDER, ROOT, Plane, Work, wait_for
from tests.terraform.first_probe import region_that_runs
from tests.terraform.guides import Page, Shell


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


def test_the_guide_word_by_word(plane: Plane, alone: Work) -> None:
    page = Page("add-a-region.md")
    admin = Shell(alone.folder, plane.url, KEY)
    key = admin.run(page.take("tendril keys create operator --name terraform")).strip()
    outside = {k: v for k, v in os.environ.items() if not k.startswith("M")}  # a reader's shell is under no make
    made = subprocess.run(
        shlex.split(page.take("make terraform")), cwd=ROOT, env=outside, capture_output=True, text=True, check=True
    )
    page.says("This makes `deploy/terraform/provider/.venv` and `var/terraform/terraform.rc`")
    assert PROVIDER.exists() and (ROOT / "var/terraform/terraform.rc").exists()
    exports = [
        page.take("export TF_CLI_CONFIG_FILE=$PWD/var/terraform/terraform.rc").replace("$PWD", str(ROOT)),
        page.take("export TENDRIL_URL=http://127.0.0.1:7400").replace("http://127.0.0.1:7400", plane.url),
        page.take("export TENDRIL_KEY=THE_KEY").replace("THE_KEY", key),
    ]
    assert made.stdout.splitlines()[-1] == exports[0]
    alone.env |= dict(line.removeprefix("export ").split("=", 1) for line in exports)
    shell = Shell(alone.folder, plane.url, key)
    config = page.block("hcl")
    alone.write(config)
    assert "successfully initialized" in terraform(alone, page.take("terraform init"))
    _misspelt(page, alone, config)
    terraform(alone, page.take("terraform apply"), "-auto-approve")
    page.says("a second plan has nothing to do")
    assert "No changes" in terraform(alone, page.take("terraform plan"), "-detailed-exitcode")

    token = terraform(alone, page.take("terraform output -raw token"), plain=True)
    run = page.take(
        "TENDRIL_JOIN_TOKEN=TOKEN tendril agent run --node oracle-fra-a --url http://CONTROL_PLANE:7400"
        " --address internet=ITS_ADDRESS"
    )
    try:
        shell.start(run, token, "127.9.4.1")
        wait_for("the node", lambda: plane.call("GET", "/v1/nodes/oracle-fra-a")["addresses"])
        assert plane.call("GET", "/v1/data-centers/oracle-fra/join-tokens")["items"][0]["state"] == "used"
        page.says(
            "A used token makes no difference to the next plan, and neither does what the node says about itself."
        )
        assert "No changes" in terraform(alone, "terraform plan", "-detailed-exitcode")
        _taken_out(page, plane, alone)
    finally:
        shell.stop()
    page.take("terraform import")  # tests/terraform/test_life.py
    page.take("python deploy/terraform/tools/make_mirror.py FOLDER --packed")  # tests/terraform/test_packed.py
    page.nothing_left()


def _misspelt(page: Page, work: Work, config: str) -> None:
    page.says("a code that is misspelt, or is another provider's, is an error on its line")
    (line,) = [n for n, text in enumerate(config.splitlines(), 1) if "eu-frankfurt-1" in text]
    for wrong in ("eu-frankfort-1", "europe-west3"):
        work.write(config.replace("eu-frankfurt-1", wrong))
        (said,) = json.loads(work.run("validate", "-json", ok=False).stdout)["diagnostics"]
        assert said["range"]["start"]["line"] == line and wrong in said["summary"]
    work.write(config)


def _taken_out(page: Page, plane: Plane, work: Work) -> None:
    page.says(
        "With live sessions it drains the data center first and waits ten minutes for the last one",
        "if somebody stays, it is refused: the data center stays, and nobody is cut.",
        "A node that joined and is not in the configuration is in the way as well: it is nobody's to delete.",
        "the last one to go deletes it",
    )
    values = json.loads(work.run("show", "-json").stdout)["values"]["root_module"]["resources"]
    (center,) = [one["values"] for one in values if one["type"] == "tendril_data_center"]
    assert center["drain"]["timeout_s"] == 600  # ten minutes
    talking, destroy = {"client": {"latitude": 50.1, "longitude": 8.7}}, page.take("terraform destroy")
    alone = plane.call("POST", "/v1/sessions", talking)
    assert "cannot be drained safely" in terraform(work, destroy, "-auto-approve", ok=False)  # where to?
    assert plane.call("GET", f"/v1/sessions/{alone['id']}")["edge"]["data_center"] == "oracle-fra"
    plane.call("DELETE", f"/v1/sessions/{alone['id']}")
    plane.call("PUT", "/v1/nodes/by-hand", {"data_center": "oracle-fra"})
    assert "by-hand" in terraform(work, destroy, "-auto-approve", ok=False)
    plane.call("DELETE", "/v1/nodes/by-hand")

    terraform(work, "terraform apply", "-auto-approve")
    far = {"provider": "oracle", "region": "frankfurt", "latitude": 0, "longitude": 0}
    plane.call("PUT", "/v1/data-centers/other", far)
    moved = plane.call("POST", "/v1/sessions", talking)
    assert moved["edge"]["data_center"] == "oracle-fra"
    assert "Left in place" in terraform(work, destroy, "-auto-approve")
    after = plane.call("GET", f"/v1/sessions/{moved['id']}")
    assert after["edge"]["data_center"] == "other" and after["state"] not in ("ended", "lost")
    assert (plane.ids("data-centers"), plane.ids("regions")) == (["other"], ["frankfurt"])
    plane.call("DELETE", f"/v1/sessions/{moved['id']}")
    plane.call("DELETE", "/v1/data-centers/other")
    terraform(work, "terraform apply", "-auto-approve")
    terraform(work, destroy, "-auto-approve")
    assert (plane.ids("data-centers"), plane.ids("regions"), plane.ids("providers")) == ([], [], [])


def terraform(work: Work, command: str, *more: str, ok: bool = True, plain: bool = False) -> str:
    """What a command of the page prints; ``more`` is what a person would answer or look at."""
    done = work.run(*shlex.split(command)[1:], *(() if plain else ("-no-color",)), *more, ok=ok)
    assert (done.returncode == 0) is ok
    return done.stdout if plain else " ".join((done.stdout + done.stderr).split())


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
