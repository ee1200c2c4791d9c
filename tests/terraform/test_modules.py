"""Modules and examples: formatted, documented, and applied to a real control plane with an empty second plan."""

from __future__ import annotations

import json
import re
import subprocess

import pytest

from tests.terraform.conftest import DEPLOY, Plane, Work

EXAMPLE = DEPLOY / "examples/own-datacenter/main.tf"


def example(work: Work) -> str:
    """The example, with the modules beside it: Terraform takes an absolute path for a package of its own."""
    (work.folder / "modules").symlink_to(DEPLOY / "modules")
    return EXAMPLE.read_text().replace("../../modules", "./modules")


def test_everything_is_formatted_described_and_without_provider_blocks() -> None:
    done = subprocess.run(["terraform", "fmt", "-check", "-recursive", str(DEPLOY)], capture_output=True, check=False)
    assert done.returncode == 0, done.stdout
    for path in sorted(DEPLOY.glob("modules/*/*.tf")):
        text = path.read_text()
        for block in re.findall(r'^(?:variable|output) "\w+" \{.*?^\}', text, re.M | re.S):
            assert "description" in block, (path, block)
        assert not re.search(r"^provider ", text, re.M), path


def test_an_own_data_center_applies_and_a_node_taken_out_touches_no_other(plane: Plane, work: Work) -> None:
    text = example(work)
    work.write(text)
    work.run("init", "-no-color")
    assert "7 added" in work.apply()
    assert work.empty()
    assert plane.call("GET", "/v1/nodes/own-fra-a")["labels"] == {"managed_by": "terraform"}
    tokens = re.findall(r"tj_own-fra_", json.dumps(plane.call("GET", "/v1/data-centers/own-fra/join-tokens")))
    assert tokens == []
    work.write(re.sub(r"    a = .*\n", "", text))
    assert set(work.changes()) == {
        'module.racks.tendril_node.this["a"]',
        'module.racks.tendril_join_token.this["a"]',
    }
    work.run("destroy", "-auto-approve", "-no-color")
    assert plane.ids("data-centers") == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ('code        = "Own FRA"', "code is 3 to 41"),
        ("nodes = {}", "at least one node"),
        ("location    = { latitude = 50.11 }", 'attribute "longitude" is required'),
        ("capacity    = { sessions = -5 }", "at least 0"),
    ],
)
def test_wrong_inputs_of_the_module_are_refused_by_the_plan(work: Work, change: str, said: str) -> None:
    name = change.split()[0]
    whole = example(work)
    pattern = rf"  {name} += \{{\n.*?\n  \}}" if name == "nodes" else rf"  {name} += .*"
    wrong = re.sub(pattern, lambda _: f"  {change}", whole, count=1, flags=re.S if name == "nodes" else 0)
    assert wrong != whole
    work.write(wrong)
    work.run("init", "-no-color")
    done = work.run("plan", "-no-color", ok=False)
    assert done.returncode == 1 and said in " ".join((done.stdout + done.stderr).split())
