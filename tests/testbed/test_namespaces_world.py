"""A small world of real agents in namespaces: clocks that are half a second wrong, paths ranked right. Needs root."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from bench._testbed import Testbed
from bench.asymmetric_agents import complete, reported_delays, right_share, true_delays
from router.demo.namespaces import NAMES, remove_left_behind, why_not
from router.demo.world import Site, World, assemble

pytestmark = [
    pytest.mark.skipif(why_not() is not None, reason=str(why_not())),
    pytest.mark.slow,
]

BUSY_S = 120.0
MARGIN_US = 5_000  # a busy machine adds milliseconds to a probe; the right path is faster by far more
FAR, NEAR = 60_000, 12_000
SITES = [Site(f"dc-{name}", provider, f"r-{name}") for name, provider in zip("abcde", "oogga", strict=True)]


def lopsided() -> World:
    """Everything is far, but round the ring it is near one way: the best path there is not the best path back."""
    size = len(SITES)
    delay_us = [[None if a == b else FAR for b in range(size)] for a in range(size)]
    for a in range(size):
        delay_us[a][(a + 1) % size] = NEAR
    return assemble("lopsided", SITES, delay_us, nodes_per_data_center=[2, 1, 1, 1, 1], seed=5, max_skew_ppm=50)


@pytest.fixture(scope="module")
def testbed() -> Iterator[Testbed]:
    with (
        tempfile.TemporaryDirectory(prefix="tendril-") as folder,  # a Unix socket's path has at most 107 bytes
        Testbed.running(lopsided(), Path(folder) / "var", users=4) as running,
    ):
        yield running
    assert not any(NAMES.glob(f"tendril-{running.lab.number}-*"))


def ranked_right(testbed: Testbed) -> bool:
    found = complete(testbed, true_delays(testbed.world))
    return found is not None and right_share(found, true_delays(testbed.world), MARGIN_US) == 1.0


def test_paths_are_ranked_right_there_and_back_although_no_clock_is(testbed: Testbed) -> None:
    offsets = [node.clock_offset_us for node in testbed.world.nodes]
    assert max(offsets) - min(offsets) > 200_000
    testbed.until(lambda: ranked_right(testbed), "paths are ranked right", BUSY_S)
    route = testbed.api("/v1/routes/dc-a/dc-c?class=voice")
    assert route["direct_rtt_ms"] == pytest.approx(120, abs=10)


def test_clocks_that_step_change_nothing_for_long(testbed: Testbed) -> None:
    anchor_us = time.time_ns() // 1_000
    for node in testbed.world.nodes[::2]:
        testbed.set_clock(node.id, -node.clock_offset_us, node.clock_skew_ppm, anchor_us)
    generations: set[int] = set()  # of the routes, in a row with paths ranked right

    def stays_right() -> bool:
        generation = (testbed.api("/v1/links") or {}).get("generation", 0)
        generations.add(generation) if ranked_right(testbed) else generations.clear()
        return len(generations) > 5

    testbed.until(stays_right, "paths are and stay ranked right after the step", BUSY_S)


def test_what_users_hear_is_measured_through_tunnels_and_relays_while_a_path_dies(testbed: Testbed) -> None:
    url = json.loads((testbed.state_dir / "demo.json").read_text(encoding="utf-8"))["people_url"]

    def heard() -> list[dict[str, Any]]:
        try:
            return list(httpx.get(f"{url}/calls", trust_env=False).json()["calls"])
        except httpx.HTTPError:  # nobody talks before there are routes
            return []

    def talking() -> list[dict[str, Any]] | None:
        legs = heard()
        return legs if legs and all(leg["arrived"] > 50 for leg in legs) else None

    legs = testbed.until(talking, "everybody is heard", BUSY_S)
    assert len(legs) == 4
    assert all(leg["copies_heard_twice"] == 0 for leg in legs)
    leg = legs[0]
    index = testbed.world.index[leg["from"]]
    route = testbed.ask_agent(testbed.world.data_centers[index].nodes[0].index, f"/v1/routes/{leg['to']}?class=voice")
    fault = testbed.fault(link=route["forward"]["path"][:2], kind="blackhole")

    def healed() -> dict[str, Any] | None:
        now = next(one for one in heard() or legs if (one["from"], one["to"]) == (leg["from"], leg["to"]))
        if now["copies_dropped"] is None:  # the agent was too busy to say
            return None
        return now if now["lost"] > leg["lost"] and now["arrived"] > leg["arrived"] + 100 else None

    after = testbed.until(healed, "it goes on by another path", BUSY_S)
    testbed.heal(fault)
    assert after["gap_ms"]["longest"] >= 20
    assert after["gaps"] > leg["gaps"]
    assert after["copies_heard_twice"] == 0
    command = [sys.executable, "-m", "router", "demo", "calls", "--state-dir", str(testbed.state_dir)]
    table = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert len(table) == 1 + 4 + 2
    assert table[1].split()[:2] == [leg["from"], leg["to"]]


def test_a_frozen_control_plane_answers_nobody_and_packets_flow_on(testbed: Testbed) -> None:
    with testbed.frozen_control_plane():
        before = testbed.emulator("GET", "/state")["counters"]["forwarded"]
        testbed.until(
            lambda: testbed.emulator("GET", "/state")["counters"]["forwarded"] > before + 200, "agents probe on", BUSY_S
        )
        host, port = testbed.control_address
        with pytest.raises(httpx.TimeoutException):
            httpx.get(f"http://{host}:{port}/readyz", timeout=0.5, trust_env=False)
    testbed.until(lambda: reported_delays(testbed) is not None, "the control plane is back", BUSY_S)


def agents_run(testbed: Testbed) -> bool:
    return all(processes_in(testbed.lab.name(node.index)) for node in testbed.world.nodes)


def processes_in(namespace: str) -> list[str]:
    done = subprocess.run(["ip", "netns", "pids", namespace], capture_output=True, text=True, check=False)
    return done.stdout.split()


def test_after_kill_9_nothing_runs_on_and_the_next_world_cleans_up(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="the world ended"), Testbed.running(lopsided(), tmp_path / "var") as killed:
        killed.until(lambda: agents_run(killed), "agents", BUSY_S)
        names = [killed.lab.name(node.index) for node in killed.world.nodes]
        os.kill(killed.pid, signal.SIGKILL)
        killed.until(lambda: None, "its end", BUSY_S)
    deadline = time.monotonic() + BUSY_S
    while any(processes_in(name) for name in names):
        assert time.monotonic() < deadline, "somebody lives on"
        time.sleep(0.05)
    assert all((NAMES / name).exists() for name in names)
    assert killed.lab.number in remove_left_behind()  # as the next world does at its start
    assert not any((NAMES / name).exists() for name in names)
