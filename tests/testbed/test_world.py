"""The living world, judged from outside: real packets in, right answers out, and nothing breaks that should not.

The steps share one world and run in this order; each leaves the world whole. Times that the project promises (an
outage is in every answer within 5 s) are measured and printed; deadlines are generous, because test machines are busy.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from router.demo.launcher import best_detour

if TYPE_CHECKING:
    from tests.testbed.conftest import LiveWorld

pytestmark = [pytest.mark.world, pytest.mark.slow, pytest.mark.xdist_group("world"), pytest.mark.timeout(240)]
BUSY_S = 45.0  # deadline for things that take a few seconds on an idle machine
HEARD_S = 2.0  # more than the longest round trip between a user and its agent
ALMATY = {"country": "KZ", "latitude": 43.24, "longitude": 76.89}


def all_routes(world: LiveWorld) -> list[dict[str, Any]]:
    """Every answered route."""
    ids = [dc.id for dc in world.truth.data_centers]
    pairs = [{"from": a, "to": b} for a in ids for b in ids if a != b]
    found: list[dict[str, Any]] = world.api("POST", "/v1/routes/batch", {"class": "voice", "pairs": pairs})["routes"]
    return found


def uses(route: dict[str, Any], data_center: str) -> bool:
    """Whether an answer sends packets through, from or to a data center."""
    sides = (route["forward"], route["return"])
    return any(data_center in side["path"] for side in sides if side is not None)


def wholly_routed(world: LiveWorld) -> bool:
    """Whether every pair has a path each way."""
    return all(route["forward"] and route["return"] for route in all_routes(world))


@contextlib.contextmanager
def call_from(world: LiveWorld, client: dict[str, Any], seconds: int) -> Iterator[list[dict[str, Any]]]:
    """An extra user in the world for a while; its own account of the call is in the list afterwards."""
    command = [sys.executable, "-m", "router", "demo", "call", "--seconds", str(seconds), "-o", "json"]
    command += ["--state-dir", str(world.state_dir)]
    command += ["--lat", str(client["latitude"]), "--lon", str(client["longitude"])]
    account: list[dict[str, Any]] = []
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        yield account
        out, err = process.communicate(timeout=seconds + 60)
        assert process.returncode == 0, err.decode()
        account.append(json.loads(out))
    finally:
        process.kill()
        process.wait()


def session_of_call(world: LiveWorld) -> dict[str, Any]:
    """The active session of the extra user, once it has had the time to hear its agent."""

    def active() -> dict[str, Any]:
        items = world.api("GET", "/v1/sessions?state=active")["items"]
        return next((s for s in items if s["metadata"]["user"].startswith("call-")), {})

    world.until(active, BUSY_S, "the call is active")
    heard_by = time.monotonic() + HEARD_S
    return dict(world.until(lambda: time.monotonic() > heard_by and active(), BUSY_S, "the call is still active"))


def test_every_agent_joins_and_the_matrix_is_that_of_the_world_file(live_world: LiveWorld) -> None:
    truth = live_world.truth
    ids = [dc.id for dc in truth.data_centers]

    def reporting() -> bool:
        nodes = [node for dc in live_world.api("GET", "/v1/health")["data_centers"] for node in dc["nodes"]]
        return len(nodes) == len(ids) and all(node["age_ms"] is not None for node in nodes)

    def measured() -> dict[str, Any] | None:
        matrix: dict[str, Any] = live_world.api("GET", "/v1/matrix")
        if matrix["data_centers"] != ids:
            return None
        filled = all(matrix["rtt_ms"][i][j] is not None for i in range(len(ids)) for j in range(len(ids)) if i != j)
        return matrix if filled else None

    def wrong() -> list[tuple[str, str, float, float]]:
        matrix = measured()
        assert matrix is not None
        found = []
        for i, a in enumerate(ids):
            for j, b in enumerate(ids):
                base_us = truth.rtt_us(a, b)
                if i == j or base_us is None:
                    continue
                queueing_ms = (truth.jitter_us[i][j] + truth.jitter_us[j][i]) / 1_000  # mean extra delay of the model
                rtt_ms = matrix["rtt_ms"][i][j]
                if not -1.0 <= rtt_ms - base_us / 1_000 <= queueing_ms + max(1.0, 0.02 * base_us / 1_000):
                    found.append((a, b, base_us / 1_000, rtt_ms))
        return found

    live_world.until(reporting, 90, "every node reports")
    live_world.until(measured, BUSY_S, "every pair has a round trip")
    live_world.until(lambda: len(wrong()) <= 0.01 * len(ids) * (len(ids) - 1), BUSY_S, "99 % of round trips are right")
    live_world.until(lambda: wholly_routed(live_world), BUSY_S, "every pair is routed")


def test_a_relay_path_is_really_faster(live_world: LiveWorld) -> None:
    truth = live_world.truth
    source, target = best_detour(truth)

    def relayed() -> dict[str, Any] | None:
        route: dict[str, Any] = live_world.api("GET", f"/v1/routes/{source}/{target}?class=voice")
        return route if route["forward"] and len(route["forward"]["path"]) > 2 else None

    route = live_world.until(relayed, BUSY_S, f"{source} -> {target} takes a relay")
    path = route["forward"]["path"]
    hops_us = [truth.one_way_us(a, b) for a, b in itertools.pairwise(path)]
    direct_us = truth.one_way_us(source, target)
    assert direct_us is not None and None not in hops_us
    assert sum(us for us in hops_us if us is not None) < direct_us - 1_000
    node = next(dc.nodes[0].id for dc in truth.data_centers if dc.id == source)
    once = ["agent", "once", target, "--as", node, "--via", ",".join(path[1:-1]), "-o", "json"]
    results = live_world.tendril(*once, "--url", live_world.note["url"], "--key", live_world.key)["results"]
    via = next(result for result in results if result["via"])
    direct = next(result for result in results if not result["via"])
    assert via["received"] and direct["received"]
    assert via["rtt_ms"] < direct["rtt_ms"], "the relay path is measured end to end, and it must be faster"
    live_world.measured["relay saves, measured end to end (ms)"] = round(direct["rtt_ms"] - via["rtt_ms"], 1)


def test_a_call_from_kazakhstan_survives_a_hard_drain_of_its_edge(live_world: LiveWorld) -> None:
    with call_from(live_world, ALMATY, 16) as account:
        session = session_of_call(live_world)
        edge, agent = session["edge"]["data_center"], session["agent"]
        assert agent["data_center"] in live_world.truth.hubs
        assert session["forward"]["path"][0] == edge and session["forward"]["path"][-1] == agent["data_center"]
        assert session["return"]["path"][0] == agent["data_center"] and session["return"]["path"][-1] == edge
        assert session["reasons"]
        began = time.monotonic()
        body = {"selector": {"data_center": edge}, "mode": "hard", "reason": "test", "dry_run": False, "force": True}
        drain = live_world.api("POST", "/v1/drains", body)["drain"]["id"]

        def moved() -> dict[str, Any] | None:
            now: dict[str, Any] = live_world.api("GET", f"/v1/sessions/{session['id']}")
            return now if now["edge"]["data_center"] != edge and now["state"] == "active" else None

        after = live_world.until(moved, BUSY_S, "the session is active on another edge")
        live_world.measured["hard drain moves a session (s)"] = round(time.monotonic() - began, 2)
        assert after["agent"]["id"] == agent["id"]
        live_world.until(
            lambda: live_world.api("GET", f"/v1/drains/{drain}")["state"] == "drained", BUSY_S, "the drain is over"
        )
        again = {"client": ALMATY, "pool": "demo-agents", "class": "agent"}
        placed = live_world.api("POST", "/v1/steer", again)
        assert edge not in [ranked["data_center"] for ranked in placed["edges"]]
    live_world.api("POST", f"/v1/drains/{drain}/undo", {"force": True})  # a busy machine may have doubted it just now
    call = account[0]
    assert call["session"] == session["id"], "one and the same session all the time"
    assert (call["agent_changes"], call["memory_breaks"]) == (0, 0)
    assert call["agent"] == agent["id"]
    assert call["agent_heard"] >= 0.9 * call["answers"] > 0, "the agent remembers the whole conversation"
    (move,) = call["changes"]
    assert (move["kind"], move["from"], move["to"]) == ("move", edge, after["edge"]["data_center"])
    assert move["gap_ms"] is not None and move["gap_ms"] < 2_000
    live_world.measured["gap of a move, from the user's packets (ms)"] = move["gap_ms"]


def test_a_blackholed_data_center_leaves_every_answer_and_comes_back(live_world: LiveWorld) -> None:
    live_world.until(lambda: wholly_routed(live_world), BUSY_S, "every pair is routed")
    relays = [dc for route in all_routes(live_world) for dc in route["forward"]["path"][1:-1]]
    victim = max(sorted(set(relays)), key=relays.count)  # the busiest relay: its loss is felt most
    began = time.monotonic()
    live_world.emulator("POST", "/faults", {"target": f"data_center={victim}", "kind": "blackhole"})
    live_world.until(
        lambda: not any(uses(route, victim) for route in all_routes(live_world)), BUSY_S, f"no answer uses {victim}"
    )
    live_world.measured["blackhole leaves all answers (s)"] = round(time.monotonic() - began, 2)
    rest = [r for r in all_routes(live_world) if victim not in (r["from"], r["to"])]
    assert all(route["forward"] and route["return"] for route in rest), "everybody else is still connected"
    down = [dc["id"] for dc in live_world.api("GET", "/v1/health")["data_centers"] if dc["state"] == "down"]
    assert down == [victim]
    began = time.monotonic()
    live_world.emulator("DELETE", "/faults")
    live_world.until(lambda: wholly_routed(live_world), 90, f"{victim} is back")
    live_world.measured["healed data center is back (s)"] = round(time.monotonic() - began, 2)
    events = live_world.api("GET", f"/v1/events?subject={victim}&limit=100")["items"]
    downs = [event for event in events if event["kind"] == "data_center.down"]
    assert len(downs) == 1, "no flapping"


def test_a_user_whose_address_changes_keeps_session_and_agent(live_world: LiveWorld) -> None:
    """A phone leaves the Wi-Fi: same session, same agent with the same memory, a new address and a new token."""
    people = live_world.note["people_url"] + "/people"

    def talking() -> dict[str, Any]:
        users = live_world.http.get(people).json()["people"]
        return next((user for user in users if user["state"] == "talking" and user["answers"] > 20), {})

    user = dict(live_world.until(talking, BUSY_S, "a user talks"))
    answer = live_world.http.post(f"{people}/{user['id']}/roam")
    assert answer.status_code == 202, answer.text

    def back() -> dict[str, Any]:
        now = next(u for u in live_world.http.get(people).json()["people"] if u["id"] == user["id"])
        gaps = [change["gap_ms"] for change in now["changes"] if change["kind"] == "resume"]
        return now if now["resumes"] > user["resumes"] and gaps and gaps[-1] is not None else {}

    after = dict(live_world.until(back, BUSY_S, "it talks again"))
    assert after["session"] == user["session"]
    assert (after["agent_changes"], after["memory_breaks"]) == (user["agent_changes"], user["memory_breaks"])
    live_world.measured["gap of a changed address (ms)"] = after["changes"][-1]["gap_ms"]
    assert live_world.http.post(f"{people}/nobody/roam").json()["code"] == "unknown_user"


def test_a_user_whose_edge_goes_silent_saves_itself(live_world: LiveWorld) -> None:
    """Blackhole the edge of a user whose agent is elsewhere: same session, same agent, another edge."""
    hubs = set(live_world.truth.hubs)
    edge, home = next(
        (dc.id, {"latitude": dc.latitude, "longitude": dc.longitude})
        for dc in live_world.truth.data_centers
        if dc.id not in hubs and steered_to(live_world, {"latitude": dc.latitude, "longitude": dc.longitude}) == dc.id
    )
    with call_from(live_world, home, 16) as account:
        session = session_of_call(live_world)
        assert session["edge"]["data_center"] == edge
        live_world.emulator("POST", "/faults", {"target": f"data_center={edge}", "kind": "blackhole"})

        def elsewhere() -> bool:
            now = live_world.api("GET", f"/v1/sessions/{session['id']}")
            return now["edge"]["data_center"] != edge and now["state"] == "active"

        live_world.until(elsewhere, BUSY_S, "the user has resumed at another edge")
    live_world.emulator("DELETE", "/faults")
    call = account[0]
    assert call["session"] == session["id"]
    assert call["resumes"] >= 1
    assert (call["agent_changes"], call["memory_breaks"]) == (0, 0)
    gap_ms = max(change["gap_ms"] for change in call["changes"] if change["kind"] == "resume")
    assert gap_ms >= 400, "the silence itself is part of the stated gap"
    events = live_world.api("GET", f"/v1/sessions/{session['id']}/events")["items"]
    given = [event["detail"]["to"] for event in events if event["kind"] == "session.resumed"]
    assert given and edge not in given, "nobody is sent back to an edge that they could not reach"
    live_world.measured["gap of a dead edge, from the user's packets (ms)"] = gap_ms
    live_world.until(lambda: wholly_routed(live_world), 90, f"{edge} is back")


def steered_to(world: LiveWorld, client: dict[str, Any]) -> str:
    """The edge that placement would choose."""
    answer = world.api("POST", "/v1/steer", {"client": client, "pool": "demo-agents", "class": "agent"})
    return str(answer["edges"][0]["data_center"])


def test_a_killed_control_plane_comes_back_with_everything(live_world: LiveWorld) -> None:
    before = {user: seen["session"] for user, seen in live_world.people().items() if seen["state"] == "talking"}
    assert len(before) == 6
    cordoned = live_world.truth.data_centers[0].id
    dc = live_world.api("GET", f"/v1/data-centers/{cordoned}")
    body = {name: value for name, value in dc.items() if name != "revision"} | {"intent": "cordoned"}
    live_world.api("PUT", f"/v1/data-centers/{cordoned}", body)
    keys = {key["id"] for key in live_world.api("GET", "/v1/keys")["items"]}
    generation = live_world.api("GET", "/v1/matrix")["generation"]
    victim = live_world.child("router serve")
    assert victim is not None
    os.kill(victim, signal.SIGKILL)
    began = time.monotonic()
    live_world.until(
        lambda: live_world.child("router serve") not in (None, victim), BUSY_S, "the launcher starts it again"
    )
    live_world.until(lambda: live_world.http.get(live_world.note["url"] + "/readyz").is_success, BUSY_S, "it is ready")
    live_world.measured["control plane killed with -9 is ready again (s)"] = round(time.monotonic() - began, 2)
    live_world.until(lambda: wholly_routed(live_world), BUSY_S, "routes are answered again")

    def fresh() -> bool:
        matrix = live_world.api("GET", "/v1/matrix")
        ages = [age for i, row in enumerate(matrix["age_ms"]) for j, age in enumerate(row) if i != j]
        return all(age is not None and age < 10_000 for age in ages)

    live_world.until(fresh, BUSY_S, "measurements are back")
    live_world.measured["measurements are back after kill -9 (s)"] = round(time.monotonic() - began, 2)
    assert live_world.api("GET", "/v1/matrix")["generation"] > generation, "a generation never goes back"
    assert live_world.api("GET", f"/v1/data-centers/{cordoned}")["intent"] == "cordoned"
    assert {key["id"] for key in live_world.api("GET", "/v1/keys")["items"]} == keys
    after = {user: seen["session"] for user, seen in live_world.people().items() if user in before}
    assert after == before, "calls go on without a control plane"
    assert all(seen["memory_breaks"] == 0 for seen in live_world.people().values())
    live_world.api("PUT", f"/v1/data-centers/{cordoned}", body | {"intent": "serving"})
    assert "control plane: ended (SIGKILL)" in live_world.log.read_text()


def test_a_second_world_is_refused_clearly(live_world: LiveWorld) -> None:
    port = live_world.note["url"].rpartition(":")[2]
    same_state = [sys.executable, "-m", "router", "demo", "--state-dir", str(live_world.state_dir), "--port", port]
    done = subprocess.run(same_state, capture_output=True, timeout=60)
    assert done.returncode == 1
    assert b"must not be in use by another demo world" in done.stderr
    other = str(live_world.state_dir.with_name("other"))
    done = subprocess.run([*same_state[:4], "--state-dir", other, "--port", port], capture_output=True, timeout=60)
    assert done.returncode == 1
    assert f"TCP 127.0.0.1:{port} must be free".encode() in done.stderr


def test_z_nothing_outlives_a_launcher_that_is_killed(live_world: LiveWorld) -> None:
    """Last of all: SIGKILL to the launcher takes every child with it."""
    found = [live_world.child(name) for name in ("router serve", "demo.emulator", "demo.agents", "demo.people")]
    children = [pid for pid in found if pid is not None]
    assert len(children) == 4
    live_world.process.kill()
    live_world.process.wait()
    deadline = time.monotonic() + BUSY_S
    while any(_alive(pid) for pid in children):
        assert time.monotonic() < deadline, "a child outlived its launcher"
        threading.Event().wait(0.05)
    # A process is a zombie as soon as its first thread has ended; its sockets close with the last one.
    while _answers(int(live_world.note["url"].rpartition(":")[2])):
        assert time.monotonic() < deadline, "the control plane's port outlived its launcher"
        threading.Event().wait(0.05)


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(5)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as stat:  # noqa: PTH123 - a zombie's entry is there, and readable
            return stat.read().rpartition(")")[2].split()[0] not in ("Z", "X")
    except (FileNotFoundError, ProcessLookupError):
        return False
