"""The launcher's parts: children that come back and do not outlive anybody, folders, ports, inventory, provisioning."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from probes.clock import parse_injection
from probes.state import Identity, StateDir
from providers import catalog
from router.core.errors import InputRejected, Unavailable
from router.core.model import Inventory
from router.demo import fleet_of_world, ground
from router.demo.agents import config_of
from router.demo.children import Child, ChildFailed
from router.demo.commands import app
from router.demo.control import ControlClient
from router.demo.ground import Options
from router.demo.launcher import best_detour
from router.demo.machines import Machines, clock_file, write_clock
from router.demo.namespaces import Lab
from router.demo.people import overlay_of, residents
from router.demo.provision import Provisioner
from router.demo.world import World
from router.schemas.resources import BODIES

SLEEPER = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(600)"]


def model(tmp_path: Path, **changes: Any) -> tuple[World, Path]:
    """A small model world in a folder."""
    return ground.prepare_world(Options(tmp_path, **{"data_centers": 9, **changes}))


async def until(condition: Any) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


# --- children --------------------------------------------------------------------------------------------------------


async def test_a_killed_child_is_started_again_and_the_launcher_says_so(tmp_path: Path) -> None:
    said: list[str] = []
    came_back = asyncio.Event()

    async def note() -> None:
        came_back.set()

    child = Child("sleeper", SLEEPER, tmp_path / "sleeper.log", came_back=note)
    await child.start(said.append)
    first = child.pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    await asyncio.wait_for(came_back.wait(), 30)
    assert child.pid not in (None, first)
    assert "sleeper: ended (SIGKILL), starting again in 0.3 s" in said[0]
    assert "sleeper: back" in said[1]
    await child.stop()
    assert child.pid is None


async def test_a_child_that_cannot_start_is_an_error_with_the_end_of_its_log(tmp_path: Path) -> None:
    async def never() -> None:
        await asyncio.Event().wait()

    argv = [sys.executable, "-c", "import sys; sys.exit('no such world')"]
    child = Child("broken", argv, tmp_path / "broken.log", ready=never)
    with pytest.raises(ChildFailed, match=r"broken did not start \(exit code 1\)(.|\n)*no such world"):
        await child.start(print)


async def test_a_child_that_ignores_sigterm_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("router.demo.children.STOP_WITHIN_S", 0.2)
    code = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(600)"
    )
    log = tmp_path / "deaf.log"
    child = Child("deaf", [sys.executable, "-c", code], log)
    await child.start(print)
    await until(lambda: "deaf" in log.read_text())
    await child.stop()
    assert child.pid is None


async def test_a_restart_on_request_is_no_accident(tmp_path: Path) -> None:
    said: list[str] = []
    child = Child("sleeper", SLEEPER, tmp_path / "sleeper.log")
    await child.start(said.append)
    first = child.pid
    child.restart()
    await until(lambda: child.pid not in (None, first))
    await until(lambda: said)
    assert said == [f"sleeper: back, process {child.pid}"]
    await child.stop()


# --- ground ----------------------------------------------------------------------------------------------------------


def test_the_same_options_give_the_same_folder_and_other_input_another(tmp_path: Path) -> None:
    matrix = tmp_path / "Measured RTT.csv"
    matrix.write_text("src_region,dst_region,p50_rtt_ms\na,b,10\nb,a,12\n")
    world, folder = ground.prepare_world(Options(tmp_path, matrix))
    assert [dc.id for dc in world.data_centers] == ["a", "b"]
    assert ground.prepare_world(Options(tmp_path, matrix)) == (world, folder)
    names = {ground.world_name(Options(tmp_path, matrix)), ground.world_name(Options(tmp_path, matrix, nodes=2))}
    names |= {ground.world_name(Options(tmp_path)), ground.world_name(Options(tmp_path, data_centers=9))}
    names.add(ground.world_name(Options(tmp_path, octet=9)))
    matrix.write_text("src_region,dst_region,p50_rtt_ms\na,b,10\nb,a,13\n")
    names.add(ground.world_name(Options(tmp_path, matrix)))
    assert len(names) == 6
    with pytest.raises(InputRejected, match="cannot be read"):
        ground.world_name(Options(tmp_path, tmp_path / "none.csv"))


def test_the_admin_key_is_made_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    key = ground.admin_key(tmp_path)
    assert key.startswith("tk_") and ground.admin_key(tmp_path) == key
    assert (tmp_path / "admin.key").stat().st_mode & 0o777 == 0o600


def test_a_state_folder_belongs_to_one_world_at_a_time(tmp_path: Path) -> None:
    claim = ground.lock(tmp_path)
    with pytest.raises(InputRejected) as refused:
        ground.lock(tmp_path)
    assert (refused.value.code, refused.value.field) == ("state_in_use", "--state-dir")
    claim.close()
    ground.lock(tmp_path).close()


def test_a_port_in_use_is_named_with_its_option(tmp_path: Path) -> None:
    world, _ = model(tmp_path, octet=240)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(InputRejected, match=f"TCP 127.0.0.1:{port} must be free") as refused:
            ground.check_ports(Options(tmp_path, emulator_port=port, port=1), world)
        assert refused.value.field in ("--port", "--emulator-port")  # port 1 needs root on some machines


def test_the_note_tells_others_where_the_world_is(tmp_path: Path) -> None:
    assert ground.read_note(tmp_path)["emulator_url"] == "http://127.0.0.1:7402"
    world, folder = model(tmp_path)
    ground.write_note(Options(tmp_path, emulator_port=9_999), world, folder)
    assert ground.read_note(tmp_path)["emulator_url"] == "http://127.0.0.1:9999"
    (tmp_path / "demo.json").write_text("{")
    assert ground.read_note(tmp_path)["emulator_url"] == "http://127.0.0.1:7402"


# --- inventory and agents --------------------------------------------------------------------------------------------


def test_the_inventory_is_what_the_contract_accepts(tmp_path: Path) -> None:
    world, _ = model(tmp_path, nodes=2)
    body = fleet_of_world.fleet(world)
    for name, kind in (("providers", "providers"), ("regions", "regions"), ("data_centers", "data-centers"),
                       ("nodes", "nodes"), ("pools", "pools")):  # fmt: skip
        resources = body[name]
        assert isinstance(resources, list) and resources
        for resource in resources:
            BODIES[kind].model_validate(resource).core(resource["id"], Inventory())
    assert len(body["nodes"]) == 18  # type: ignore[arg-type]
    assert "intent" not in body["data_centers"][0], "what operators asked stays"  # type: ignore[index]


def test_agents_and_media_nodes_agree_with_the_world_file(tmp_path: Path) -> None:
    world, folder = model(tmp_path)
    node = world.nodes[3]
    config = config_of(node, "http://x", folder, "token")
    assert (config.bind_host, config.advertise_addresses) == (node.real_host, {"internet": node.standin_host})
    assert (config.clock_offset_us, config.clock_skew_ppm) == (node.clock_offset_us, node.clock_skew_ppm)
    assert config.state_dir == folder / node.id
    overlay = overlay_of(world)
    assert sum(place.hub for place in overlay.places.values()) == len(world.hubs) == 3
    place = overlay.place_at(node.standin_host)
    assert place is not None and place.node == node.id


def test_the_best_detour_is_one(tmp_path: Path) -> None:
    world, _ = model(tmp_path)
    source, target = best_detour(world)
    direct = world.one_way_us(source, target)
    legs = [(world.one_way_us(source, dc.id), world.one_way_us(dc.id, target)) for dc in world.data_centers]
    assert direct is not None
    assert min(a + b for a, b in legs if a is not None and b is not None) < direct


def test_residents_have_ids_and_one_lives_in_almaty() -> None:
    people = residents(30)
    assert len({id for id, _ in people}) == 30
    assert people[0][0] == "almaty-1" and people[1][0] == "sao-paulo-1" and people[12][0] == "almaty-2"
    known = {region.country for region in catalog.load()}
    assert {home.country for _, home in people} - known <= {"KZ", "NG", "TR"}  # the far ones are the point


# --- provisioning ----------------------------------------------------------------------------------------------------


class Registrar:
    """Answers like a control plane that knows some keys."""

    def __init__(self, known: set[str]) -> None:
        self.known = known
        self.asked: list[tuple[str, str]] = []

    def answer(self, request: httpx.Request) -> httpx.Response:
        """One call."""
        self.asked.append((request.method, request.url.path))
        key = request.headers["Authorization"].removeprefix("Bearer ")
        match request.method, request.url.path.split("/")[2:]:
            case "GET", ["nodes", _, "plan"] | ["pools"]:
                return httpx.Response(200 if key in self.known else 401, json={})
            case "POST", ["data-centers", dc, "join-tokens"]:
                return httpx.Response(201, json={"token": f"tj_{dc}_x"})
            case "POST", ["keys"]:
                return httpx.Response(201, json={"key": "tk_media"})
            case _:
                return httpx.Response(503, json={"code": "busy", "detail": "later"})


async def test_only_nodes_whose_key_is_not_known_get_a_token(tmp_path: Path) -> None:
    world, folder = model(tmp_path)
    first, second, third = (node.id for node in world.nodes[:3])
    registrar = Registrar({"good"})
    control = ControlClient("http://x", "admin", httpx.MockTransport(registrar.answer))
    provisioner = Provisioner(control, world, folder)
    StateDir(provisioner.agents_dir / first).save_identity(Identity(first, "dc", "good"))
    StateDir(provisioner.agents_dir / second).save_identity(Identity(second, "dc", "of an older database"))
    damaged = StateDir(provisioner.agents_dir / third).path / "identity.json"
    damaged.write_text("{")
    assert await provisioner.make_join_tokens() == len(world.nodes) - 1
    tokens = json.loads(provisioner.tokens_file.read_text())
    assert first not in tokens and tokens[second].startswith("tj_") and tokens[third].startswith("tj_")
    assert not damaged.exists()
    assert provisioner.tokens_file.stat().st_mode & 0o777 == 0o600
    await control.close()


async def test_a_media_key_that_works_is_kept_and_one_that_does_not_is_replaced(tmp_path: Path) -> None:
    world, folder = model(tmp_path)
    registrar = Registrar({"tk_media"})
    control = ControlClient("http://x", "admin", httpx.MockTransport(registrar.answer))
    provisioner = Provisioner(control, world, folder)
    assert await provisioner.make_media_key()
    assert not await provisioner.make_media_key()
    assert registrar.asked.count(("POST", "/v1/keys")) == 1
    registrar.known.clear()
    assert await provisioner.make_media_key()
    assert registrar.asked.count(("POST", "/v1/keys")) == 2
    with pytest.raises(Unavailable, match="503 later"):
        await provisioner.apply_inventory()
    await control.close()


# --- commands --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--matrix", "x.csv", "--data-centers", "9"], "says itself which data centers"),
        (["break", "almaty"], "FROM:TO"),
        (["break", "a:b", "--for", "soon"], "no duration"),
        (["break", "a:b", "--kind", "earthquake"], "earthquake"),
    ],
)
def test_wrong_usage_is_exit_code_2_and_says_what_is_right(arguments: list[str], said: str) -> None:
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2
    assert said in result.output.replace("\n", " ")


def test_commands_without_a_world_say_so(tmp_path: Path) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        port = nobody.getsockname()[1]
        world, folder = model(tmp_path)
        ground.write_note(Options(tmp_path, emulator_port=port, people_port=port), world, folder)
        for command in ("state", "people", "heal"):
            result = CliRunner().invoke(app, [command, "--state-dir", str(tmp_path)])
            assert isinstance(result.exception, Unavailable)
            assert "is a demo world running?" in result.exception.message


# --- namespaces ------------------------------------------------------------------------------------------------------


def test_a_world_in_namespaces_has_a_folder_and_addresses_of_its_own(tmp_path: Path) -> None:
    world, folder = model(tmp_path, namespaces=True, nodes=2, octet=7)
    assert folder.name == "model-9x2-at7-ns"
    assert [node.real_host for node in world.nodes[:3]] == ["198.18.0.1", "198.18.0.2", "198.18.0.3"]
    assert all(node.real_host == node.standin_host for node in world.nodes)
    assert Options(tmp_path, namespaces=True, octet=7).url == "http://198.19.7.254:7400"


def test_a_world_file_of_ones_own_is_played(tmp_path: Path) -> None:
    world, folder = model(tmp_path)
    again, other = ground.prepare_world(Options(tmp_path, world=folder / "world.json"))
    assert again == world and other.name.startswith("world-")
    with pytest.raises(InputRejected, match="cannot be read"):
        ground.prepare_world(Options(tmp_path, world=tmp_path / "none.json"))


def test_without_privileges_the_launcher_says_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("router.demo.namespaces.why_not", lambda: "network namespaces need root")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    options = ["--data-centers", "4", "--octet", "9", "--emulator-port", port, "--state-dir", str(tmp_path)]
    done = CliRunner().invoke(app, ["--namespaces", *options])
    assert isinstance(done.exception, InputRejected)
    assert done.exception.code == "no_namespaces"
    assert "loopback" in str(done.exception.override)


def test_agents_on_machines_of_their_own(tmp_path: Path) -> None:
    world, _ = model(tmp_path, namespaces=True)
    tokens = tmp_path / "tokens.json"
    machines = Machines(world, Lab(3), "http://198.19.3.254:7400", tmp_path / "agents", tokens, tmp_path / "log")
    first = world.nodes[0]
    argv = list(machines.children[first.id].argv)
    assert argv[:3] == ["nsenter", "--net=/run/netns/tendril-3-0", "--"]
    assert argv[argv.index("--bind") + 1] == "198.18.0.1"
    write_clock(clock_file(tmp_path), -7, 8, 9)
    assert parse_injection(clock_file(tmp_path).read_text(), 0) == (-7, 8, 9)
