"""The WAN between network namespaces, as a process, with real kernels at both ends. Needs root."""

from __future__ import annotations

import os
import re
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from router.core.errors import InputRejected
from router.demo.namespaces import NAMES, Lab, remove_left_behind, why_not, with_ordinary_addresses
from router.demo.world import Site, World, assemble, load

pytestmark = pytest.mark.skipif(why_not() is not None, reason=str(why_not()))

ROOT = Path(__file__).resolve().parents[2]
LAB = 100 + os.getpid() % 75 * 2  # and the next one
DEADLINE_S = 20.0
PORT = 7421
DELAY_US = [
    [None, 12_000, 40_000, 9_000],
    [20_000, None, 3_000, 9_000],
    [4_000, 3_000, None, None],
    [9_000, 9_000, 9_000, None],
]


class Network:
    """One lab with its emulator process."""

    def __init__(self, folder: Path) -> None:
        sites = [Site(f"dc-{name}", provider, "r") for name, provider in zip("abcd", "oogg", strict=True)]
        world = assemble("test", sites, DELAY_US, nodes_per_data_center=[2, 1, 1, 1], octets=(LAB, 1, 2, 3))
        self.world = with_ordinary_addresses(world)
        self.lab = Lab(LAB)
        self.lab.build(len(self.world.nodes))
        self.world.save(folder / "world.json")
        self.process = emulate(folder / "world.json")
        assert self.process.stdout is not None
        said = self.process.stdout.readline()
        found = re.search(r"API (http://\S+)", said)
        assert found, said
        self.api = httpx.Client(base_url=found[1], timeout=DEADLINE_S, trust_env=False)

    def close(self) -> None:
        self.api.close()
        self.process.terminate()
        self.process.communicate(timeout=DEADLINE_S)
        self.lab.remove()

    def fault(self, **body: Any) -> dict[str, Any]:
        answer = self.api.post("/faults", json=body)
        assert answer.status_code == 201, answer.text
        return dict(answer.json())

    def count(self, name: str) -> int:
        return int(self.api.get("/state").json()["counters"][name])

    def host(self, node: str) -> str:
        return next(n.real_host for n in self.world.nodes if n.id == f"dc-{node}")

    def open(self, node: str, port: int = PORT) -> socket.socket:
        index = next(n.index for n in self.world.nodes if n.id == f"dc-{node}")
        with self.lab.entered(index):
            opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        opened.bind((self.host(node), port))
        opened.settimeout(DEADLINE_S)
        return opened


def emulate(world: Path) -> subprocess.Popen[str]:
    command = [
        sys.executable,
        "-m",
        "router.demo.emulator",
        "--world",
        str(world),
        "--api-port",
        "0",
        "--lab",
        str(LAB),
    ]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def one_way_ms(sender: socket.socket, to: tuple[str, int], receiver: socket.socket, packets: int = 25) -> list[float]:
    times = []
    for i in range(packets):
        payload = i.to_bytes(44, "big")
        begin = time.perf_counter()
        sender.sendto(payload, to)
        assert receiver.recv(2_048) == payload
        times.append((time.perf_counter() - begin) * 1e3)
    return times


def until(condition: Callable[[], Any], what: str = "it did not happen") -> Any:
    deadline, pause = time.monotonic() + DEADLINE_S, threading.Event()
    while not (found := condition()):
        assert time.monotonic() < deadline, what
        pause.wait(0.02)
    return found


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    network = Network(tmp_path_factory.mktemp("namespaces"))
    yield network
    network.close()


@pytest.fixture
def network(shared: Network) -> Network:
    """The module's network, healed."""
    assert shared.api.delete("/faults").status_code == 200
    return shared


def test_each_direction_has_its_own_delay(network: Network) -> None:
    with network.open("a-n1") as a, network.open("b-n1") as b:
        there = one_way_ms(a, (network.host("b-n1"), PORT), b)
        back = one_way_ms(b, (network.host("a-n1"), PORT), a)
    assert statistics.median(there) == pytest.approx(12, abs=2)
    assert statistics.median(back) == pytest.approx(20, abs=2)
    assert min(there) == pytest.approx(12, abs=0.5)  # early is as wrong as late
    assert min(back) == pytest.approx(20, abs=0.5)


def test_nodes_see_ordinary_addresses_and_one_router_on_the_way(network: Network) -> None:
    with network.open("a-n1", 7_777) as a, network.open("b-n1") as b:
        a.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 99)
        b.setsockopt(socket.IPPROTO_IP, 12, 1)  # IP_RECVTTL
        a.sendto(b"x", (network.host("b-n1"), PORT))
        data, ancillary, _, source = b.recvmsg(100, socket.CMSG_SPACE(4))
    assert (data, source) == (b"x", (network.host("a-n1"), 7_777))
    assert int.from_bytes(ancillary[0][2], sys.byteorder) == 98


def test_nodes_of_one_data_center_are_near_but_apart(network: Network) -> None:
    with network.open("a-n1") as first, network.open("a-n2") as second:
        assert min(one_way_ms(first, (network.host("a-n2"), PORT), second)) < 1
        network.fault(target="node=dc-a-n2", kind="blackhole")
        before = network.count("blackholed")
        first.sendto(b"x", (network.host("a-n2"), PORT))
        until(lambda: network.count("blackholed") == before + 1)


def test_a_missing_link_carries_nothing_one_way(network: Network) -> None:
    with network.open("c-n1") as c, network.open("d-n1") as d:
        before = network.count("no_link")
        c.sendto(b"x", (network.host("d-n1"), PORT))
        until(lambda: network.count("no_link") == before + 1)
        assert len(one_way_ms(d, (network.host("c-n1"), PORT), c, 3)) == 3


def test_a_blackhole_bites_one_way_and_heals(network: Network) -> None:
    with network.open("a-n1") as a, network.open("b-n1") as b:
        fault = network.fault(link=["dc-a", "dc-b"], kind="blackhole")
        before = network.count("blackholed")
        a.sendto(b"swallowed", (network.host("b-n1"), PORT))
        until(lambda: network.count("blackholed") == before + 1)
        assert len(one_way_ms(b, (network.host("a-n1"), PORT), a, 3)) == 3
        assert network.api.delete(f"/faults/{fault['id']}").status_code == 200
        assert len(one_way_ms(a, (network.host("b-n1"), PORT), b, 3)) == 3


def test_a_gray_failure_takes_the_same_flows_every_time(network: Network) -> None:
    """Half of the source ports are dead, and stay dead; the others never lose a packet."""
    network.fault(link=["dc-a", "dc-b"], kind="gray", value=50)
    rounds: list[set[int]] = []
    with ExitStack() as opened, network.open("b-n1") as b:
        senders = [opened.enter_context(network.open("a-n1", 20_000 + i)) for i in range(40)]
        for _ in range(2):
            before = network.count("packets_in")
            for sender in senders:
                sender.sendto(b"x", (network.host("b-n1"), PORT))
            until(lambda: network.count("packets_in") >= before + 40 and not network.count("in_flight"))  # noqa: B023
            rounds.append(set())
            b.setblocking(False)
            try:
                while True:
                    rounds[-1].add(b.recvfrom(100)[1][1])
            except BlockingIOError:
                pass
    assert rounds[0] == rounds[1]
    assert 8 <= len(rounds[0]) <= 32


def test_who_forges_a_source_address_is_ignored(network: Network) -> None:
    index = next(n.index for n in network.world.nodes if n.id == "dc-c-n1")
    with network.lab.entered(index), socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
        before = network.count("unknown_source")
        forged = socket.inet_aton(network.host("b-n1")) + socket.inet_aton(network.host("a-n1"))
        raw.sendto(bytes.fromhex("4500001c000000004011 0000") + forged + bytes(8), (network.host("a-n1"), 0))
        until(lambda: network.count("unknown_source") == before + 1)


def test_the_control_address_is_reached_from_everywhere_without_the_emulator(network: Network) -> None:
    before = network.count("packets_in")
    with socket.create_server((network.lab.control_host, 0)) as server:
        for node in network.world.nodes:
            with network.lab.entered(node.index):
                client = socket.create_connection(server.getsockname(), timeout=DEADLINE_S)
            client.close()
    assert network.count("packets_in") == before


def test_a_lab_in_use_is_refused_and_a_world_that_is_too_large(network: Network) -> None:
    with pytest.raises(InputRejected) as refused:
        Lab(LAB).build(1)
    assert refused.value.code == "lab_in_use"
    assert LAB not in remove_left_behind()
    sites = [Site(f"s-{i}", "p", "r") for i in range(126)]
    world = assemble("large", sites, [[None] * 126 for _ in range(126)], nodes_per_data_center=2)
    with pytest.raises(InputRejected, match="at most 250 nodes"):
        with_ordinary_addresses(world)


def test_what_a_killed_lab_leaves_is_removed_by_the_next(tmp_path: Path) -> None:
    script = f"from router.demo.namespaces import *; Lab({LAB + 1}).build(2); print(1, flush=True); input()"
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stdin=pipe, stdout=pipe) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGKILL)
    lab = Lab(LAB + 1)
    assert (NAMES / lab.name(1)).exists()
    assert LAB + 1 in remove_left_behind()
    assert not (NAMES / lab.name(1)).exists()
    assert list(Path("/sys/class/net").glob(f"tnd{LAB + 1}-*")) == []
    lab.remove()


def test_without_root_the_reason_is_told() -> None:
    done = subprocess.run(
        ["setpriv", "--reuid=65534", "--clear-groups", sys.executable, "-c",
         "from router.demo.namespaces import why_not; print(why_not())"],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    if done.returncode:
        pytest.skip(f"another user cannot run this interpreter here: {done.stderr.strip()[-80:]}")
    assert done.stdout.strip() == "network namespaces need root"


def test_a_world_file_keeps_its_ordinary_addresses(network: Network, tmp_path: Path) -> None:
    network.world.save(tmp_path / "world.json")
    again: World = load(tmp_path / "world.json")
    assert [node.real_host for node in again.nodes] == [f"198.18.0.{i + 1}" for i in range(5)]
    assert [node.id for node in again.nodes[:3]] == ["dc-a-n1", "dc-a-n2", "dc-b-n1"]
