"""The machine's own Terraform, the provider in its own environment, and a real control plane as a process."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy/terraform"
PROVIDER = DEPLOY / "provider/.venv/bin/terraform-provider-tendril"
ADDRESS, VERSION = "tendril.example/tendril/tendril", "0.1.0"
KEY = "an-admin-key-for-tests"
SCHEMAS = sorted((ROOT / "../shared/specs/tfschemas").glob("*.json.gz"))
HEAD = f"""
terraform {{
  required_providers {{
    tendril = {{ source = "{ADDRESS}" }}
  }}
}}
"""
Json = dict[str, Any]


def _version() -> tuple[int, ...]:
    found = shutil.which("terraform")
    if found is None:
        return (0,)
    env = {**os.environ, "TF_CLI_CONFIG_FILE": os.devnull, "CHECKPOINT_DISABLE": "1"}
    shown = subprocess.run([found, "version", "-json"], capture_output=True, text=True, env=env, check=True).stdout
    return tuple(int(part) for part in re.findall(r"\d+", json.loads(shown)["terraform_version"])[:2])


@pytest.fixture(scope="session", autouse=True)
def _terraform() -> None:
    if _version() < (1, 11):
        pytest.skip("no Terraform 1.11 or newer on this machine")
    if not PROVIDER.exists():
        pytest.skip("the provider's environment is missing: make setup")


@dataclass
class Plane:
    """A control plane in a process of its own, on a port that stays the same when it starts again."""

    folder: Path
    port: int = 0
    process: subprocess.Popen[str] | None = None
    url: str = ""

    def start(self) -> None:
        """Start, and wait until it is ready."""
        env = {k: v for k, v in os.environ.items() if not k.startswith("TENDRIL_")}
        env |= {"TENDRIL_ADMIN_KEY": KEY, "TENDRIL_STATE_DIR": str(self.folder), "TENDRIL_FLIGHT_RECORDER_MB": "0"}
        env |= {"PYTHONPATH": str(ROOT), "TENDRIL_PORT": str(self.port), "TENDRIL_LOG_LEVEL": "warning"}
        with (self.folder / "log").open("a") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "router", "serve"], env=env, stdout=subprocess.PIPE, stderr=log, text=True
            )
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("Dashboard"):
                self.url = line.split()[1].rstrip("/")
                self.port = int(self.url.rsplit(":", 1)[1])
            if line.startswith("Admin key"):
                return
        raise AssertionError((self.folder / "log").read_text())

    def stop(self) -> None:
        """Stop it as an operator would."""
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(timeout=60)
            assert self.process.stdout is not None
            self.process.stdout.close()
            self.process = None

    def call(self, method: str, path: str, body: Any = None, status: int | None = None, key: str = KEY) -> Any:
        """One request, with the admin key unless another is given."""
        headers = {"Authorization": f"Bearer {key}"}
        answer = httpx.request(method, self.url + path, json=body, headers=headers, timeout=30)
        assert answer.is_success if status is None else answer.status_code == status, answer.text
        return answer.json() if answer.content else None

    def clear(self) -> None:
        """Leave nothing of an inventory."""
        for session in self.call("GET", "/v1/sessions?limit=1000")["items"]:
            self.call("DELETE", f"/v1/sessions/{session['id']}")
        for drain in self.call("GET", "/v1/drains")["items"]:
            if drain["state"] != "undone":
                self.call("POST", f"/v1/drains/{drain['id']}/undo", {"force": True})
        for kind in ("policies", "links", "nodes", "pools", "data-centers", "regions", "providers"):
            for id in filter(None, self.ids(kind)):  # links that nobody configured have none
                self.call("DELETE", f"/v1/{kind}/{id}")

    def ids(self, kind: str) -> list[str]:
        """Ids of a collection."""
        return [item["id"] for item in self.call("GET", f"/v1/{kind}")["items"]]


@dataclass
class Work:
    """A folder with a configuration, and Terraform run in it."""

    folder: Path
    env: dict[str, str]
    files: dict[str, str] = field(default_factory=dict)

    def write(self, text: str, name: str = "main.tf") -> None:
        """Replace the configuration."""
        (self.folder / name).write_text(text, encoding="utf-8")

    def run(self, *args: str, ok: bool = True, **env: str) -> subprocess.CompletedProcess[str]:
        """One command."""
        done = subprocess.run(
            ["terraform", *args], cwd=self.folder, env=self.env | env, capture_output=True, text=True, timeout=240
        )
        assert done.returncode == 0 or not ok, f"terraform {' '.join(args)}\n{done.stdout}\n{done.stderr}"
        return done

    def apply(self, *more: str, ok: bool = True) -> str:
        """Apply without asking."""
        done = self.run("apply", "-auto-approve", "-no-color", *more, ok=ok)
        return done.stdout + done.stderr

    def changes(self) -> dict[str, str]:
        """What a plan would change: address -> actions."""
        self.run("plan", "-out=p", "-no-color")
        shown = json.loads(self.run("show", "-json", "p").stdout)
        every = {one["address"]: "+".join(one["change"]["actions"]) for one in shown.get("resource_changes", [])}
        return {address: actions for address, actions in every.items() if actions not in ("no-op", "read")}

    def empty(self) -> bool:
        """Whether a plan has nothing to do."""
        done = self.run("plan", "-detailed-exitcode", "-no-color", ok=False)
        assert done.returncode in (0, 2), done.stdout + done.stderr
        return done.returncode == 0

    def errors(self, done: subprocess.CompletedProcess[str]) -> list[tuple[int, str]]:
        """``(line, text)`` of each error of a ``-json`` run."""
        found = []
        for line in done.stdout.splitlines():
            row = json.loads(line) if line.startswith("{") else {}
            if row.get("type") == "diagnostic" and row["@level"] == "error":
                told = row["diagnostic"]
                found.append((told.get("range", {}).get("start", {}).get("line", 0), told["summary"] + told["detail"]))
        return found

    def outputs(self) -> Json:
        """Outputs by name."""
        return {k: v["value"] for k, v in json.loads(self.run("output", "-json").stdout).items()}


def mirror_in(folder: Path) -> Path:
    """A command line configuration that finds the provider in a filesystem mirror, and nothing elsewhere."""
    place = folder / "mirror" / ADDRESS / VERSION / "linux_amd64"
    place.mkdir(parents=True)
    (place / f"terraform-provider-tendril_v{VERSION}").symlink_to(PROVIDER)
    rc = folder / "terraform.rc"
    rc.write_text(f'provider_installation {{\n  filesystem_mirror {{ path = "{folder / "mirror"}" }}\n}}\n')
    return rc


@pytest.fixture(scope="session")
def mirror(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the provider is found."""
    return mirror_in(tmp_path_factory.mktemp("mirror"))


@pytest.fixture(scope="session")
def one_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plane]:
    """The control plane of all tests."""
    plane = Plane(tmp_path_factory.mktemp("plane"))
    plane.start()
    yield plane
    plane.stop()


@pytest.fixture(scope="module")
def plane(one_plane: Plane) -> Iterator[Plane]:
    """An empty control plane for the tests of one file."""
    yield one_plane
    one_plane.clear()


@pytest.fixture(scope="session")
def attached(one_plane: Plane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Providers that run already, Tendril's and those that only have the clouds' schemas: ``TF_REATTACH_PROVIDERS``.

    Starting them is nine tenths of what a command takes. Tests of the start itself use ``alone``.
    """
    with providers_running(one_plane.url, tmp_path_factory.mktemp("home")) as told:
        yield told


@contextmanager
def providers_running(url: str, home: Path) -> Iterator[str]:
    """See ``attached``."""
    tool = DEPLOY / "tools/schema_only_provider.py"
    env = _bare_env() | {"TENDRIL_URL": url, "TENDRIL_KEY": KEY, "HOME": str(home)}
    argv = [str(PROVIDER.with_name("python")), str(tool), "stay", *map(str, SCHEMAS)]
    with subprocess.Popen(argv, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None and process.stdout is not None
        told = process.stdout.readline()
        assert told, "the providers did not start"
        yield told
        process.stdin.close()


def _bare_env() -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if not k.startswith(("TF_", "TENDRIL_"))}


def work_in(folder: Path, rc: Path, url: str, attached: str = "") -> Work:
    """A folder to run Terraform in, away from whatever the machine's user has set."""
    folder.mkdir(exist_ok=True)
    env = _bare_env() | {"TF_CLI_CONFIG_FILE": str(rc), "TF_IN_AUTOMATION": "1", "CHECKPOINT_DISABLE": "1"}
    env |= {"TF_REATTACH_PROVIDERS": attached} if attached else {}
    return Work(folder, env | {"TENDRIL_URL": url, "TENDRIL_KEY": KEY, "HOME": str(folder)})


@pytest.fixture
def work(tmp_path: Path, plane: Plane, mirror: Path, attached: str) -> Work:
    """A folder whose provider talks to the control plane."""
    return work_in(tmp_path / "work", mirror, plane.url, attached)


@pytest.fixture
def alone(tmp_path: Path, plane: Plane, mirror: Path) -> Work:
    """The same with a provider that Terraform starts from the mirror for every command, as users' does."""
    return work_in(tmp_path / "work", mirror, plane.url)


def wait_for(what: str, check: Any, seconds: float = 60.0) -> Any:
    """The first answer that is not empty."""
    deadline = time.monotonic() + seconds
    while not (found := check()):
        assert time.monotonic() < deadline, f"waited {seconds:g} s for {what}"
        time.sleep(0.05)
    return found
