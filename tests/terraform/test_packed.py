"""The packed provider: one zip in a mirror, installed on a machine that has Python and no network."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

from tests.terraform.conftest import ADDRESS, DEPLOY, HEAD, PROVIDER, VERSION, Plane, Work, work_in


def test_the_packed_provider_needs_python_and_nothing_else(plane: Plane, tmp_path: Path) -> None:
    tool = DEPLOY / "tools/make_mirror.py"
    subprocess.run([sys.executable, str(tool), str(tmp_path / "pack"), "--packed"], check=True, capture_output=True)
    (packed,) = (tmp_path / "pack/mirror" / ADDRESS).iterdir()
    assert packed.name == f"terraform-provider-tendril_{VERSION}_linux_amd64.zip"
    (entry,) = zipfile.ZipFile(packed).infolist()
    assert entry.external_attr >> 16 == 0o100755
    work = machine(tmp_path, plane)
    work.write(HEAD + 'resource "tendril_region" "r" { id = "packed" }\n')
    work.run("init", "-no-color")
    installed = next((work.folder / ".terraform/providers" / ADDRESS / VERSION).rglob("terraform-provider-*"))
    assert (
        installed.is_file() and not installed.is_symlink() and str(PROVIDER.parent) not in installed.read_text("latin1")
    )
    assert "1 added" in work.apply() and work.empty()
    unpacked = list((tmp_path / "home/.cache").iterdir())
    assert [path.name for path in unpacked] == [f"terraform-provider-tendril-{VERSION}"]
    work.run("destroy", "-auto-approve", "-no-color")


def machine(folder: Path, plane: Plane) -> Work:
    """Another machine: a home of its own, the plain Python that this one was made from, and only our mirror."""
    rc = folder / "machine.rc"
    rc.write_text(f'provider_installation {{\n  filesystem_mirror {{ path = "{folder / "pack/mirror"}" }}\n}}\n')
    tools = folder / "tools"
    tools.mkdir()
    python = Path(sys.base_prefix) / f"bin/python{sys.version_info.major}.{sys.version_info.minor}"
    (tools / "python3").symlink_to(python)
    (folder / "home").mkdir()
    work = work_in(folder / "work", rc, plane.url)
    work.env |= {"HOME": str(folder / "home"), "PATH": f"{tools}:{os.environ['PATH']}"}
    for name in ("PYTHONPATH", "VIRTUAL_ENV", "XDG_CACHE_HOME"):
        work.env.pop(name, None)
    return work
