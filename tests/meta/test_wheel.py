"""The wheel is all that an installation needs: its contents, the light base, and the living world from ``[control]``.

Everything is built and installed from the lock files, hashes insisted on, with whatever the package cache of ``make
setup`` holds. The installed programs run in an empty folder, so that nothing of the checkout can help them.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import tarfile
import threading
import time
import venv
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("wheel"), pytest.mark.timeout(240)]
ROOT = Path(__file__).parents[2]
PACKAGES = ("router", "probes", "providers")
COMPILED = r"(router/core/_kernel|router/core/_evidence|probes/_hot|probes/_report|probes/sockets/_batch)\.[\w.-]+\.so"
DEADLINE_S = 90.0
VENV_BIN = "bin"
UV = Path(sys.executable).with_name("uv")


def quiet_environment() -> dict[str, str]:
    """The environment without anything that leads back to the checkout or to settings of this machine's user."""
    ours = ("TENDRIL_", "PYTHON", "VIRTUAL_ENV", "PYTEST")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    cache = {"UV_CACHE_DIR": str(ROOT / "var/cache/uv")} if (ROOT / "var/cache/uv").is_dir() else {}
    return {"UV_SYSTEM_CERTS": "1"} | cache | kept


def run(*command: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        [str(word) for word in command], cwd=cwd, env=quiet_environment(), capture_output=True, text=True, timeout=120
    )


def succeed(*command: object, cwd: Path) -> str:
    """Run a command that must succeed; what it printed."""
    done = run(*command, cwd=cwd)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The source distribution, and the wheel that is built from it and from nothing else."""
    out = tmp_path_factory.mktemp("dist")
    succeed(UV, "build", "--no-build-isolation", "--python", sys.executable, "--out-dir", out, ROOT, cwd=out)
    (sdist,), (wheel,) = out.glob("*.tar.gz"), out.glob("*.whl")
    return sdist, wheel


def installed(folder: Path, wheel: Path, lock: str) -> Path:
    """An empty environment with what a lock file lists and the wheel; its folder of programs."""
    venv.create(folder, with_pip=False)
    install = (UV, "pip", "install", "--quiet", "--python", folder / VENV_BIN / "python")
    succeed(*install, "--require-hashes", "-r", ROOT / "requirements" / lock, cwd=folder)
    succeed(*install, "--no-deps", wheel, cwd=folder)
    succeed(UV, "pip", "check", "--python", folder / VENV_BIN / "python", cwd=folder)
    return folder / VENV_BIN


@pytest.fixture(scope="module")
def agent_only(built: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of a base install."""
    return installed(tmp_path_factory.mktemp("agent"), built[1], "agent.txt")


# --- what is in them -------------------------------------------------------------------------------------------------


def sources(pattern: str) -> set[str]:
    """Files of the packages in the checkout, as git keeps them."""
    found = (path for package in PACKAGES for path in (ROOT / package).glob(pattern))
    return {p.relative_to(ROOT).as_posix() for p in found if p.is_file() and "__pycache__" not in p.parts}


def test_the_wheel_has_all_that_the_packages_need_and_nothing_else(built: tuple[Path, Path]) -> None:
    with zipfile.ZipFile(built[1]) as wheel:
        names = set(wheel.namelist())
    (info,) = {name.split("/")[0] for name in names} - set(PACKAGES)
    assert re.fullmatch(r"tendril-[0-9.]+\.dist-info", info)
    needed = sources("**/*.py")
    needed |= {f"{package}/py.typed" for package in PACKAGES}
    needed |= sources("**/*.pyi") | sources("sim/scenarios/*.yaml") | {"router/api/beacon.js"}
    needed |= {name for name in names if re.fullmatch(COMPILED, name)}  # needs a compiler
    needed |= sources("dashboard/static/**/*") | sources("data/*.yaml") | {"providers/countries.yaml"}
    needed |= sources("data/bootstrap/*")  # what a bought machine starts with
    migrations = [p.relative_to(ROOT) for p in (ROOT / "migrations").rglob("*") if p.suffix in (".py", ".mako")]
    needed |= {f"router/store/{path.as_posix()}" for path in migrations}
    assert len(sources("data/*.yaml")) >= 6 and len(sources("dashboard/static/**/*")) >= 4 and len(migrations) >= 3
    needed |= {f"{info}/{name}" for name in ("METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE")}
    assert needed - names == set(), "is missing"
    assert names - needed == set(), "does not belong there"


def test_the_source_distribution_builds_but_carries_no_tests(built: tuple[Path, Path]) -> None:
    with tarfile.open(built[0]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    top = {name.split("/")[0] for name in names}
    expected = {*PACKAGES, "migrations", "hatch_build.py", "pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md"}
    assert top == expected | {"PKG-INFO", ".gitignore"}
    assert not [name for name in names if "node_modules" in name or re.search(r"(^|/)(tests|var)(/|$)", name)]


def test_the_metadata_asks_for_nothing_but_the_agents_needs(built: tuple[Path, Path]) -> None:
    with zipfile.ZipFile(built[1]) as wheel:
        (metadata,) = (name for name in wheel.namelist() if name.endswith("/METADATA"))
        text = wheel.read(metadata).decode()
    required = re.findall(r"^Requires-Dist: ([a-z0-9-]+)[^;\n]*$", text, re.M)
    assert required == ["httpx", "sniffio"]
    assert "Provides-Extra: control" in text and "License-Expression: Apache-2.0" in text


# --- the base install ------------------------------------------------------------------------------------------------


def test_the_base_install_is_the_agent(agent_only: Path, tmp_path: Path) -> None:
    text = succeed(agent_only / "tendril", "agent", "--help", cwd=tmp_path)
    assert all(command in text for command in ("run", "reflect", "once"))
    distributions = succeed(UV, "pip", "freeze", "--python", agent_only / "python", cwd=tmp_path).splitlines()
    locked = re.findall(r"^([a-z0-9-]+)==", (ROOT / "requirements/agent.txt").read_text(), re.M)
    assert sorted(re.split(r"==| @ ", line)[0] for line in distributions) == sorted([*locked, "tendril"])


def test_the_base_install_reflects_and_measures(agent_only: Path, tmp_path: Path) -> None:
    """Not only its help: real packets between two processes of it."""
    reflect = [str(agent_only / "tendril"), "agent", "reflect", "--bind", "127.0.0.1", "--port", "0"]
    process = subprocess.Popen(reflect, cwd=tmp_path, env=quiet_environment(), stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        port = process.stdout.readline().split()[-1]
        table = succeed(agent_only / "tendril", "agent", "once", f"127.0.0.1:{port}", "--count", 3, cwd=tmp_path)
        assert re.search(r"direct +\d+\.\d\d .* 0\.0", table), table
    finally:
        process.terminate()
        process.communicate(timeout=20)
    assert process.returncode == 0


def test_the_base_install_says_plainly_what_is_missing(agent_only: Path, tmp_path: Path) -> None:
    for arguments in (("route", "a", "b"), ("demo",), ()):
        done = run(agent_only / "tendril", *arguments, cwd=tmp_path)
        assert done.returncode == 1
        assert "pip install 'tendril[control]'" in done.stderr and "only `tendril agent` works here" in done.stderr
        assert "Traceback" not in done.stderr


# --- the control plane and the living world --------------------------------------------------------------------------


def free_ports(count: int) -> list[int]:
    """TCP ports that nobody has now."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    try:
        return [int(one.getsockname()[1]) for one in sockets]
    finally:
        for one in sockets:
            one.close()


def free_octet() -> int:
    """First of four second octets whose addresses nobody uses; looks from above, other tests do so from below."""
    for octet in range(248 - os.getpid() % 20 * 4, 160, -4):
        try:
            for second in (octet, octet + 1):
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
                    probe.bind((f"127.{second}.0.1", 7421))
        except OSError:
            continue
        return octet
    raise AssertionError("every address range is in use")


@pytest.fixture(scope="module")
def control(built: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an install with the control extra."""
    return installed(tmp_path_factory.mktemp("control"), built[1], "control.txt")


@pytest.fixture
def demo(control: Path, tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], str, list[str]]]:
    """``tendril demo`` of the installed wheel in an empty folder, its control plane's URL, and the lines it prints."""
    port, emulator_port, people_port = free_ports(3)
    command = [str(control / "tendril"), "demo", "--data-centers", "4", "--users", "1", "--octet", str(free_octet())]
    command += ["--port", str(port), "--emulator-port", str(emulator_port), "--people-port", str(people_port)]
    process = subprocess.Popen(
        command, cwd=tmp_path, env=quiet_environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    lines: list[str] = []
    assert process.stdout is not None
    reader = threading.Thread(target=lambda: lines.extend(process.stdout or ()), daemon=True)
    reader.start()
    try:
        yield process, f"http://127.0.0.1:{port}", lines
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        reader.join(20)
        process.stdout.close()


def until(condition: Callable[[], bool], lines: list[str], what: str) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, f"{what}: {''.join(lines)}"
        threading.Event().wait(0.1)


def test_the_living_world_runs_from_the_wheel(
    demo: tuple[subprocess.Popen[str], str, list[str]], control: Path, tmp_path: Path
) -> None:
    process, url, lines = demo

    def said(text: str) -> bool:
        assert process.poll() is None, "".join(lines)
        return any(text in line for line in lines)

    until(lambda: said("dashboard:"), lines, "the dashboard is announced")
    with httpx.Client(base_url=url, trust_env=False, timeout=10) as http:
        assert http.get("/readyz").is_success
        page = http.get("/")
        assert page.is_success and "<script" in page.text
        (script,) = re.findall(r'src="(/[^"]+\.js)"', page.text) or [""]
        assert http.get(script).is_success
        until(lambda: said("12 of 12 pairs measured"), lines, "real packets are measured")
        key = (tmp_path / "var/admin.key").read_text().strip()
        assert all(http.get(f"/v1/{kind}", headers={"Authorization": f"Bearer {key}"}).json()["items"]
                   for kind in ("data-centers", "nodes", "pools"))  # fmt: skip
    matrix = json.loads(succeed(control / "tendril", "matrix", "--url", url, "--key", key, "-o", "json", cwd=tmp_path))
    assert sum(rtt is not None for row in matrix["rtt_ms"] for rtt in row) >= 12
    children = children_of(process.pid)
    assert len(children) >= 3
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 0, "".join(lines)
    until(lambda: any("stopped" in line for line in lines), lines, "it says that it has stopped")
    assert [child for child in children if Path(f"/proc/{child}").exists()] == [], "nothing is left behind"
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{url}/healthz", trust_env=False)


def children_of(pid: int) -> list[int]:
    """Processes whose parent is this one."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it ended while we looked
        if int(fields[1]) == pid:
            found.append(int(stat.parent.name))
    return found
