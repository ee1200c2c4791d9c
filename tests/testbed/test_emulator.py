"""The emulator as a process, with real packets on loopback addresses of this test's own."""

from __future__ import annotations

import itertools
import json
import os
import re
import select
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

from router.demo.access_leg import access_us
from router.demo.loopback import MAX_USERS
from router.demo.world import Site, World, assemble

DEADLINE_S = 20.0
PROBE, REFLECTOR, USER = 7420, 7421, 7425
# Four second octets per running emulator, from a place that differs between processes; taken ones are skipped.
_BLOCKS = itertools.count(os.getpid())
DELAY_US = [
    [None, 12_000, None],
    [20_000, None, 3_000],
    [4_000, 3_000, None],
]


def make_world(octets: tuple[int, int, int, int]) -> World:
    sites = [
        Site("oracle-a", "oracle", "east", 50.0, 8.0),
        Site("oracle-b", "oracle", "west", 50.0, 8.0),
        Site("gcp-c", "gcp", "east"),
    ]
    return assemble("test", sites, DELAY_US, nodes_per_data_center=2, octets=octets)


class Running:
    """One emulator process, its world and its API."""

    def __init__(self, folder: Path) -> None:
        for _ in range(54):
            first = 30 + 4 * (next(_BLOCKS) % 54)
            self.world = make_world((first, first + 1, first + 2, first + 3))
            self.file = folder / "world.json"
            self.world.save(self.file)
            self.process = start(self.file, "0")
            said = line(self.process)
            found = re.search(r"API (http://\S+)", said)
            if found:
                self.api = httpx.Client(base_url=found[1], timeout=DEADLINE_S, trust_env=False)
                return
            _, errors = self.process.communicate(timeout=DEADLINE_S)
            assert "cannot be listened on" in errors, errors
        raise AssertionError("no free loopback addresses")

    def close(self) -> None:
        self.api.close()
        self.process.terminate()
        self.process.communicate(timeout=DEADLINE_S)

    def state(self) -> dict[str, Any]:
        answer = self.api.get("/state")
        assert answer.status_code == 200
        return dict(answer.json())

    def count(self, name: str) -> int:
        return int(self.state()["counters"][name])

    def fault(self, **body: Any) -> dict[str, Any]:
        answer = self.api.post("/faults", json=body)
        assert answer.status_code == 201, answer.text
        return dict(answer.json())

    def node(self, data_center: str, port: int, place: int = 0) -> socket.socket:
        return listen(self.world.data_centers[self.world.index[data_center]].nodes[place].real_host, port)

    def standin(self, data_center: str, port: int, place: int = 0) -> tuple[str, int]:
        return self.world.data_centers[self.world.index[data_center]].nodes[place].standin_host, port


def start(world: Path, port: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "router.demo.emulator", "--world", str(world), "--api-port", port]
    root = Path(__file__).resolve().parents[2]
    return subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    assert select.select([process.stdout], (), (), DEADLINE_S)[0], "the emulator says nothing"
    return process.stdout.readline()


def listen(host: str, port: int) -> socket.socket:
    opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    opened.bind((host, port))
    opened.settimeout(DEADLINE_S)
    return opened


def wait_until(condition: Callable[[], bool]) -> None:
    deadline, pause = time.monotonic() + DEADLINE_S, threading.Event()
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        pause.wait(0.02)


def nothing_waits(receiver: socket.socket) -> bool:
    return not select.select([receiver], (), (), 0)[0]


def median_ms(sender: socket.socket, to: tuple[str, int], receiver: socket.socket) -> float:
    """Median one-way time; the best of three rounds, because another program on the machine can only add to it."""
    return min(statistics.median(one_way_ms(sender, to, receiver, 15)) for _ in range(3))


def one_way_ms(sender: socket.socket, to: tuple[str, int], receiver: socket.socket, packets: int = 25) -> list[float]:
    """Send one packet after the other and time each."""
    times = []
    for i in range(packets):
        payload = i.to_bytes(44, "big")
        begin = time.perf_counter()
        sender.sendto(payload, to)
        assert receiver.recv(2_048) == payload
        times.append((time.perf_counter() - begin) * 1e3)
    return times


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    running = Running(tmp_path_factory.mktemp("emulator"))
    yield running
    running.close()


@pytest.fixture
def emulator(shared: Running) -> Iterator[Running]:
    """The module's emulator, healed and without users before each test."""
    assert shared.api.delete("/faults").status_code == 200
    for user in shared.state()["users"]:
        assert shared.api.delete(f"/users/{user['id']}").status_code == 200
    yield shared


@pytest.fixture
def ends(emulator: Running) -> Iterator[tuple[socket.socket, socket.socket]]:
    """Probe sender of oracle-a, reflector of oracle-b."""
    with emulator.node("oracle-a", PROBE) as a, emulator.node("oracle-b", REFLECTOR) as b:
        yield a, b


Ends = tuple[socket.socket, socket.socket]


def test_each_direction_has_its_own_delay(emulator: Running, ends: Ends) -> None:
    a, b = ends
    assert median_ms(a, emulator.standin("oracle-b", REFLECTOR), b) == pytest.approx(12, abs=1)
    assert median_ms(b, emulator.standin("oracle-a", PROBE), a) == pytest.approx(20, abs=1)
    assert min(one_way_ms(a, emulator.standin("oracle-b", REFLECTOR), b)) > 12 - 0.5  # early is as wrong as late


def test_the_receiver_sees_the_senders_standin_and_can_answer_it(emulator: Running, ends: Ends) -> None:
    a, b = ends
    a.sendto(b"question", emulator.standin("oracle-b", REFLECTOR))
    question, source = b.recvfrom(2_048)
    assert (question, source) == (b"question", emulator.standin("oracle-a", PROBE))
    b.sendto(b"answer", source)
    assert a.recvfrom(2_048) == (b"answer", emulator.standin("oracle-b", REFLECTOR))


def test_inside_a_data_center_it_is_fast(emulator: Running) -> None:
    with emulator.node("oracle-a", PROBE) as first, emulator.node("oracle-a", REFLECTOR, 1) as second:
        assert median_ms(first, emulator.standin("oracle-a", REFLECTOR, 1), second) < 1


def test_a_port_nobody_announced_gets_answers(emulator: Running, ends: Ends) -> None:
    """A person probes by hand from a node, from whatever port the kernel gave."""
    _, b = ends
    with emulator.node("oracle-a", 0) as by_hand:
        by_hand.sendto(b"hello", emulator.standin("oracle-b", REFLECTOR))
        data, source = b.recvfrom(2_048)
        assert source[1] == by_hand.getsockname()[1]
        b.sendto(data, source)
        assert by_hand.recv(2_048) == b"hello"


def test_a_missing_link_carries_nothing_one_way(emulator: Running, ends: Ends) -> None:
    a, _ = ends
    before = emulator.count("no_link")
    with emulator.node("gcp-c", REFLECTOR) as c:
        a.sendto(b"x", emulator.standin("gcp-c", REFLECTOR))
        wait_until(lambda: emulator.count("no_link") == before + 1)
        assert nothing_waits(c)
        c.sendto(b"y", emulator.standin("oracle-a", PROBE))
        assert a.recv(2_048) == b"y"


def test_blackhole_in_one_direction_and_heal(emulator: Running, ends: Ends) -> None:
    a, b = ends
    fault = emulator.fault(link=["oracle-a", "oracle-b"], kind="blackhole")
    assert (fault["direction"], fault["legs"], fault["heals_in_s"]) == ("out", 4, None)
    before = emulator.count("blackholed")
    a.sendto(b"swallowed", emulator.standin("oracle-b", REFLECTOR))
    wait_until(lambda: emulator.count("blackholed") == before + 1)
    assert len(one_way_ms(b, emulator.standin("oracle-a", PROBE), a, 3)) == 3
    assert [f["id"] for f in emulator.state()["faults"]] == [fault["id"]]
    answer = emulator.api.delete(f"/faults/{fault['id']}")
    assert (answer.status_code, answer.json()) == (200, {"healed": [fault["id"]]})
    assert len(one_way_ms(a, emulator.standin("oracle-b", REFLECTOR), b, 3)) == 3  # and nothing late from before
    assert emulator.api.delete(f"/faults/{fault['id']}").status_code == 404


def test_a_fault_heals_by_itself(emulator: Running, ends: Ends) -> None:
    a, b = ends
    fault = emulator.fault(target="provider=oracle", kind="blackhole", for_s=0.3)
    assert 0 < fault["heals_in_s"] <= 0.3
    before = emulator.count("blackholed")
    a.sendto(b"swallowed", emulator.standin("oracle-b", REFLECTOR))
    wait_until(lambda: emulator.state()["faults"] == [])
    assert emulator.count("blackholed") == before + 1
    assert len(one_way_ms(a, emulator.standin("oracle-b", REFLECTOR), b, 3)) == 3


def test_faults_compose(emulator: Running, ends: Ends) -> None:
    a, b = ends
    emulator.fault(target="data_center=oracle-b", direction="in", kind="delay", value=5)
    emulator.fault(link=["oracle-a", "oracle-b"], kind="delay", value=3)
    assert median_ms(a, emulator.standin("oracle-b", REFLECTOR), b) == pytest.approx(20, abs=1)
    assert median_ms(b, emulator.standin("oracle-a", PROBE), a) == pytest.approx(20, abs=1)
    emulator.fault(target="region=west", kind="loss", value=100, direction="in")
    before = emulator.count("lost")
    for _ in range(10):
        a.sendto(b"x", emulator.standin("oracle-b", REFLECTOR))
    wait_until(lambda: emulator.count("lost") == before + 10)


def test_jitter_spreads_packets_and_keeps_their_order(emulator: Running, ends: Ends) -> None:
    a, b = ends
    emulator.fault(link=["oracle-a", "oracle-b"], kind="jitter", value=10)
    spread = one_way_ms(a, emulator.standin("oracle-b", REFLECTOR), b, 40)
    assert max(spread) - min(spread) > 8
    for i in range(100):
        a.sendto(i.to_bytes(2, "big"), emulator.standin("oracle-b", REFLECTOR))
    assert [int.from_bytes(b.recv(2_048), "big") for _ in range(100)] == list(range(100))


def test_strangers_and_giants_are_counted_not_carried(emulator: Running, ends: Ends) -> None:
    a, b = ends
    unknown, giants = emulator.count("unknown_source"), emulator.count("too_big")
    with listen(f"127.{emulator.world.octets[0]}.9.9", PROBE) as stranger:
        stranger.sendto(b"x", emulator.standin("oracle-b", REFLECTOR))
        wait_until(lambda: emulator.count("unknown_source") == unknown + 1)
    a.sendto(bytes(1_473), emulator.standin("oracle-b", REFLECTOR))
    wait_until(lambda: emulator.count("too_big") == giants + 1)
    assert nothing_waits(b)
    a.sendto(bytes(1_472), emulator.standin("oracle-b", REFLECTOR))
    assert len(b.recv(2_048)) == 1_472
    a.sendto(b"", emulator.standin("oracle-b", REFLECTOR))
    assert b.recv(2_048) == b""


def put_user(emulator: Running, name: str, latitude: float, longitude: float) -> dict[str, Any]:
    answer = emulator.api.put(f"/users/{name}", json={"latitude": latitude, "longitude": longitude})
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def test_a_user_talks_to_an_edge_at_the_access_legs_delay(emulator: Running, ends: Ends) -> None:
    _, b = ends
    place = put_user(emulator, "nina", 52.0, 9.0)
    expected_ms = access_us(52.0, 9.0, 50.0, 8.0) / 1e3
    with listen(place["real_host"], place["port"]) as user:
        assert median_ms(user, emulator.standin("oracle-b", REFLECTOR), b) == pytest.approx(expected_ms, abs=1)
        assert median_ms(b, (place["standin_host"], place["port"]), user) == pytest.approx(expected_ms, abs=1)
        emulator.fault(target="data_center=oracle-b", kind="blackhole")
        before = emulator.count("blackholed")
        user.sendto(b"x", emulator.standin("oracle-b", REFLECTOR))
        b.sendto(b"x", (place["standin_host"], place["port"]))
        wait_until(lambda: emulator.count("blackholed") == before + 2)
        unknown = emulator.count("unknown_source")
        assert emulator.api.delete("/users/nina").status_code == 200
        user.sendto(b"x", emulator.standin("oracle-b", REFLECTOR))
        wait_until(lambda: emulator.count("unknown_source") == unknown + 1)
    assert emulator.api.delete("/users/nina").status_code == 404


def test_users_keep_their_address_and_are_bounded(emulator: Running) -> None:
    first = put_user(emulator, "nina", 1.0, 2.0)
    assert put_user(emulator, "nina", 3.0, 4.0) == first
    assert put_user(emulator, "omar", 1.0, 2.0)["real_host"] != first["real_host"]
    assert [(u["id"], u["latitude"]) for u in emulator.state()["users"]] == [("nina", 3.0), ("omar", 1.0)]
    for i in range(MAX_USERS - 2):
        put_user(emulator, f"user-{i}", 0.0, 0.0)
    answer = emulator.api.put("/users/one-too-many", json={"latitude": 0, "longitude": 0})
    assert (answer.status_code, answer.json()["code"], answer.json()["limit"]) == (409, "too_many_users", MAX_USERS)


def test_state(emulator: Running, ends: Ends) -> None:
    a, b = ends
    one_way_ms(a, emulator.standin("oracle-b", REFLECTOR), b, 5)
    state = emulator.state()
    assert (state["world"], state["links"]) == ("test", 5)
    assert [dc["id"] for dc in state["data_centers"]] == ["oracle-a", "oracle-b", "gcp-c"]
    assert state["counters"]["forwarded"] >= 5
    assert state["accuracy"]["samples"] >= 5
    assert state["accuracy"]["p50_us"] < 1_000


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code", "field"),
    [
        ("POST", "/faults", '{"target": "provider=oracle", "kind": "loss", "value": 101}', 422, "bad_fault", "value"),
        ("POST", "/faults", '{"target": "provider=x", "kind": "blackhole"}', 422, "selector_matches_nothing", "target"),
        ("POST", "/faults", '{"link": ["oracle-a", "x"], "kind": "blackhole"}', 422, "selector_matches_nothing",
         "link[1]"),
        ("POST", "/faults", '{"target": "provider=oracle", "kind": "delay", "value": NaN}', 422, "bad_fault", "value"),
        ("POST", "/faults", "{", 400, "bad_json", "body"),
        ("POST", "/faults", "", 400, "bad_json", "body"),
        ("POST", "/faults", "\udcff", 400, "bad_json", "body"),
        ("POST", "/faults", " " * 20_000, 413, "body_too_large", "body"),
        ("POST", "/faults", "[" * 10_000, 400, "bad_json", "body"),
        ("GET", "/faults", None, 405, "method_not_allowed", "method"),
        ("DELETE", "/faults/none", None, 404, "unknown_fault", "id"),
        ("GET", "/nowhere", None, 404, "unknown_path", "path"),
        ("PUT", "/users/Nina", '{"latitude": 0, "longitude": 0}', 422, "bad_user", "id"),
        ("PUT", "/users/nina", '{"latitude": 90.5, "longitude": 0}', 422, "bad_user", "latitude"),
        ("PUT", "/users/nina", '{"latitude": 0}', 422, "bad_user", "longitude"),
        ("PUT", "/users/nina", '{"latitude": 0, "longitude": true}', 422, "bad_user", "longitude"),
        ("PUT", "/users/nina", '{"latitude": 0, "longitude": 0, "x": 1}', 422, "bad_user", "x"),
        ("DELETE", "/users/nina", None, 404, "unknown_user", "id"),
    ],
)  # fmt: skip
def test_bad_calls_are_problems(
    emulator: Running, method: str, path: str, body: str | None, status: int, code: str, field: str
) -> None:
    content = None if body is None else body.encode("utf-8", "surrogateescape")
    answer = emulator.api.request(method, path, content=content)
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert (answer.status_code, problem["code"], problem["field"], problem["status"]) == (status, code, field, status)
    assert emulator.state()["faults"] == []


def test_other_sites_pages_are_refused(emulator: Running) -> None:
    for headers in ({"Origin": "https://evil.example"}, {"Host": "rebound.example"}, {"Origin": "null"}):
        answer = emulator.api.delete("/faults", headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (403, "foreign_origin")
    assert emulator.api.get("/state", headers={"Origin": "http://127.0.0.1:7400"}).status_code == 200


def test_it_sleeps_when_nothing_happens(emulator: Running) -> None:
    """The CPU time of a second in which nothing is sent (a busy loop would use all of it)."""
    emulator.fault(target="provider=oracle", kind="blackhole", for_s=1.0)
    with ExitStack() as stack:
        sockets = [stack.enter_context(emulator.node("gcp-c", port)) for port in (PROBE, REFLECTOR)]
        before = cpu_s(emulator.process.pid)
        assert select.select(sockets, (), (), 1.0)[0] == []
        assert cpu_s(emulator.process.pid) - before < 0.2
    wait_until(lambda: emulator.state()["faults"] == [])


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_a_second_emulator_says_why_not_and_the_first_ends_on_a_signal(tmp_path: Path) -> None:
    running = Running(tmp_path)
    second = start(running.file, "0")
    _, errors = second.communicate(timeout=DEADLINE_S)
    assert second.returncode == 1
    assert re.search(r"emulator: 127\.\d+\.0\.1:7420 cannot be listened on", errors)
    running.api.close()
    running.process.send_signal(signal.SIGTERM)
    _, errors = running.process.communicate(timeout=DEADLINE_S)
    assert (running.process.returncode, errors) == (0, "")


def test_a_broken_world_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "world.json"
    path.write_text(json.dumps({"format": "tendril-world-0"}))
    process = start(path, "0")
    _, errors = process.communicate(timeout=DEADLINE_S)
    assert (process.returncode, errors) == (1, "emulator: world: format must be tendril-world-1\n")
