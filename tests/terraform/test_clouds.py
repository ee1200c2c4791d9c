"""The modules against the clouds' real schemas (schema-only provider) and a real control plane; no cloud is asked."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.terraform.conftest import DEPLOY, Plane, Work, work_in
from tests.terraform.mutations import EXAMPLE, MODULES, Yard, clouds_in

SAME = ("variables.tf", "tendril.tf", "outputs.tf")
CLOUDS = sorted(path.name for path in (DEPLOY / "modules").glob("region-*"))
TOOLS = DEPLOY / "tools"


def names(module: str, file: str) -> set[str]:
    """Variables or outputs of a module."""
    text = (DEPLOY / "modules" / module / file).read_text()
    return set(re.findall(r'^(?:variable|output) "(\w+)"', text, re.M))


@pytest.fixture(scope="session")
def clouds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A mirror with Tendril's provider and every cloud's schema."""
    rc = clouds_in(tmp_path_factory.mktemp("clouds"))
    if rc is None:
        pytest.skip("no provider schemas in ../shared/specs/tfschemas")
    return rc


@pytest.fixture
def bare(tmp_path: Path, clouds: Path, attached: str) -> Work:
    """A folder to run Terraform in, with the modules beside it."""
    work = work_in(tmp_path / "work", clouds, "http://127.0.0.1:9", attached)
    (work.folder / "modules").symlink_to(DEPLOY / "modules")
    return work


def test_all_clouds_have_one_interface_and_own_racks_have_a_part_of_it() -> None:
    assert len(CLOUDS) == 5
    for file in SAME:
        assert len({(DEPLOY / "modules" / cloud / file).read_text() for cloud in CLOUDS}) == 1, file
    assert names("datacenter-own", "variables.tf") <= names(CLOUDS[0], "variables.tf")
    assert names("datacenter-own", "outputs.tf") == names(CLOUDS[0], "outputs.tf")


def test_the_tables_of_the_modules_readmes_are_in_step() -> None:
    done = subprocess.run(
        [sys.executable, str(TOOLS / "module_readme.py"), "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def yard(tmp_path_factory: pytest.TempPathFactory, clouds: Path, plane: Plane, attached: str) -> Yard:
    """A copy of the modules, with the clouds' schemas and a control plane."""
    return Yard(tmp_path_factory.mktemp("yard"), clouds, plane, attached)


@pytest.mark.parametrize("module", [*CLOUDS, "datacenter-own"])
def test_a_module_is_valid_and_passes_its_own_test_with_its_cloud_mocked_and_tendril_real(
    yard: Yard, plane: Plane, module: str
) -> None:
    assert yard.judged(module) == ("", "")
    assert plane.ids("data-centers") == []


@pytest.mark.parametrize(
    ("mistake", "who"),
    [("regoin", "validate"), ('"de-fra-9"', "plan"), ('"ACCEPT"', "test"), ('"sctp"', "plan")],
)
def test_a_mistake_is_caught_and_it_is_told_by_whom(yard: Yard, mistake: str, who: str) -> None:
    (one,) = [m for m in MODULES if m.judge == "region-linode" and mistake in m.new]
    assert yard.tried(one)[0] == who


def test_every_mistake_has_something_to_replace() -> None:
    for one in MODULES:
        assert one.old in (DEPLOY / "modules" / one.file).read_text(), one
    text = (DEPLOY / "examples/own-datacenter/main.tf").read_text()
    assert [old for old, _ in EXAMPLE if old not in text] == []
    assert len(MODULES) + len(EXAMPLE) >= 60


def test_a_misspelt_attribute_and_a_missing_block_are_refused(tmp_path: Path, clouds: Path) -> None:
    work = work_in(tmp_path / "wrong", clouds, "http://127.0.0.1:9")
    head = 'terraform {\n  required_providers {\n    linode = { source = "linode/linode" }\n'
    head += '    google = { source = "hashicorp/google" }\n  }\n}\n'
    wrong = 'resource "linode_instance" "a" {\n  regoin = "de-fra-2"\n}\n'
    wrong += 'resource "google_compute_instance" "a" {\n  name = "a"\n  machine_type = "e2-small"\n}\n'
    work.write(head + wrong)
    work.run("init", "-no-color")
    done = work.run("validate", "-no-color", ok=False)
    said = " ".join((done.stdout + done.stderr).split())
    assert done.returncode == 1
    assert 'An argument named "regoin" is not expected here' in said
    assert "Insufficient boot_disk blocks" in said
    assert "Insufficient network_interface blocks" in said


def test_a_schema_is_all_that_the_schema_only_provider_has(tmp_path: Path, clouds: Path) -> None:
    work = work_in(tmp_path / "alone", clouds, "http://127.0.0.1:9")
    work.write(
        'terraform {\n  required_providers {\n    vultr = { source = "vultr/vultr" }\n  }\n}\n'
        'resource "vultr_firewall_group" "a" {}\n'
    )
    work.run("init", "-no-color")
    done = work.run("plan", "-no-color", ok=False)
    assert done.returncode == 1


@pytest.mark.parametrize("example", ["burst-policy", "one-region"])
def test_an_example_is_valid(bare: Work, example: str) -> None:
    bare.write((DEPLOY / "examples" / example / "main.tf").read_text().replace("../../modules", "./modules"))
    bare.run("init", "-no-color")
    bare.run("validate", "-no-color")


def test_five_clouds_apply_and_are_destroyed_with_every_provider_mocked(bare: Work) -> None:
    example = DEPLOY / "examples/five-clouds"
    bare.write((example / "main.tf").read_text().replace("../../modules", "./modules"))
    bare.write((example / "tests/mocked.tftest.hcl").read_text(), "mocked.tftest.hcl")
    bare.run("init", "-no-color")
    assert "1 passed, 0 failed" in bare.run("test", "-no-color").stdout
