"""Ramps over HTTP: begun by intent or by hand, shown with what they wait for, steered, and kept over a restart."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from router.api import calls
from tests.api.conftest import Json, World, running

NEW = "oracle-sin"
NEAR_SINGAPORE = {"latitude": 1.3, "longitude": 103.8}


async def until(look: Callable[[], Awaitable[Json | None]]) -> Json:
    """What is there once it is."""
    for _ in range(600):
        found = await look()
        if found is not None:
            return found
        await asyncio.sleep(0.05)
    raise AssertionError("it did not come")


async def ramp_of(world: World, data_center: str, state: str | None = None) -> Json:
    """The newest ramp of a data center, once it is in a state."""

    async def look() -> Json | None:
        items = (await world.get("/v1/ramps"))["items"]
        found = next((one for one in items if one["data_center"] == data_center), None)
        return found if found is not None and state in (None, found["state"]) else None

    return await until(look)


async def intend(world: World, data_center: str, intent: str) -> None:
    body = await world.get(f"/v1/data-centers/{data_center}")
    await world.put(f"/v1/data-centers/{data_center}", body | {"intent": intent})


async def test_the_intent_canary_begins_a_ramp_and_takes_nobody_until_it_is_proven(world: World) -> None:
    steer = {"client": NEAR_SINGAPORE, "class": "voice"}
    assert (await world.post("/v1/steer", steer))["edges"][0]["data_center"] == NEW
    await intend(world, NEW, "canary")
    found = await world.post("/v1/steer", steer)
    assert NEW not in [edge["data_center"] for edge in found["edges"]]
    (why,) = [one for one in found["rejected"] if one["data_center"] == NEW]
    assert why["rule"] == "dial" and "canary share 0 %, nobody is in it" in why["detail"]
    ramp = await ramp_of(world, NEW)
    assert (ramp["kind"], ramp["share_pct"], ramp["exposed"]) == ("new", 0.0, 0)
    assert ramp["created_by"] == "tendril" and ramp["reason"] == "its intent is canary"
    events = await world.get("/v1/events", params={"kind": "ramp.begun"})
    assert [event["subject"] for event in events["items"]] == [ramp["id"]]


async def test_reports_carry_it_to_its_shadow_and_a_person_may_vouch_for_the_rest(world: World) -> None:
    ramp = await world.post("/v1/ramps", {"data_center": NEW, "reason": "new rack"})
    assert (await world.get(f"/v1/data-centers/{NEW}"))["intent"] == "canary"
    again = await world.call("POST", "/v1/ramps", status=409, json={"data_center": NEW})
    assert again["code"] == "ramp_exists"

    async def in_shadow() -> Json | None:
        await world.report_all()
        found: Json = await world.get(f"/v1/ramps/{ramp['id']}")
        return found if found["state"] == "shadow" and found["climb"]["waits"] else None

    shadow = await until(in_shadow)
    assert "10 min of it, 0 are over" in shadow["climb"]["waits"]
    path = f"/v1/ramps/{ramp['id']}"
    assert (await world.call("POST", f"{path}/advance", status=200))["state"] == "synthetic"
    runs = [{"errand": "media", "passed": i > 0, "detail": "no answer"} for i in range(10)]
    robots = await world.post(f"{path}/robots", {"runs": runs})
    assert robots["climb"]["robots"] == {"media": {"tried": 10, "failed": 1}}
    canary = await world.call("POST", f"{path}/advance", status=200)
    assert (canary["state"], canary["share_pct"]) == ("canary", 1.0)
    assert (await world.call("POST", f"{path}/pause", status=200))["paused_from"] == "canary"
    assert (await world.call("POST", f"{path}/advance", status=409))["code"] == "bad_transition"
    assert (await world.call("POST", f"{path}/resume", status=200))["state"] == "canary"
    back = await world.call("POST", f"{path}/roll-back", status=200)
    assert (back["state"], back["share_pct"]) == ("rolled_back", 0.0) and back["retry_at"] is not None
    assert back["reason"] == "rolled back by a person"
    retried = await world.call("POST", f"{path}/advance", status=200)
    assert retried["attempt"] == 2 and retried["state"] in ("registered", "connected", "shadow")
    await intend(world, NEW, "serving")
    done = await ramp_of(world, NEW, "withdrawn")
    assert done["climb"] is None and "intent is now serving" in done["reason"]


async def synthetic(world: World) -> str:
    """A new data center that is at its robots, with an agent elsewhere; where its ramp is."""
    await world.agent("ai-1", "oracle-iad")
    ramp = await world.post("/v1/ramps", {"data_center": NEW})

    async def in_shadow() -> Json | None:
        await world.report_all()
        found: Json = await world.get(f"/v1/ramps/{ramp['id']}")
        return found if found["state"] == "shadow" else None

    await until(in_shadow)
    path = f"/v1/ramps/{ramp['id']}"
    assert (await world.call("POST", f"{path}/advance", status=200))["state"] == "synthetic"
    return path


ROBOT = {"client": NEAR_SINGAPORE, "pool": "tutors", "metadata": {"robot": "7"}}


async def test_robots_set_up_sessions_with_real_agents_where_no_user_goes_yet(world: World) -> None:
    path = await synthetic(world)
    called = await world.post(f"{path}/calls", ROBOT)
    assert (called["edge"]["data_center"], called["agent"]["id"], called["state"]) == (NEW, "ai-1", "attaching")
    assert called["token"] and called["metadata"] == {
        "robot": "7", "tendril.ramp": path.rsplit("/", 1)[1], "tendril.errand": "media",
    }  # fmt: skip
    taken = await world.call("POST", f"{path}/calls", status=409, json=ROBOT)
    assert taken["code"] == "no_idle_agent", "it was taken for the first"
    beat = {"node": f"{NEW}-1", "epoch": 1, "changed": [{"id": called["id"], "event": "attached"}]}
    await world.call("POST", "/v1/sessions/heartbeat", json=beat, headers=world.node_headers(f"{NEW}-1"))
    told = await world.call("POST", f"{path}/calls/{called['id']}", status=200, json={"heard": True})
    assert told["climb"]["robots"] == {"media": {"tried": 1, "failed": 0}}
    again = await world.call("POST", f"{path}/calls/{called['id']}", status=409, json={"heard": True})
    assert again["code"] == "session_ended"
    assert (await world.get(f"/v1/sessions/{called['id']}"))["end_reason"] == "robot"
    metrics = (await world.http.get("/metrics")).text
    assert 'tendril_ramps{state="synthetic"} 1.0' in metrics
    assert f'tendril_ramp_robots{{data_center="{NEW}",errand="media",result="passed"}} 1.0' in metrics


async def test_a_robot_that_hears_nobody_or_whom_the_edge_never_saw_has_failed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls, "TOLD_WITHIN_S", 0.2)
    path = await synthetic(world)
    for heard in (False, True):
        called = await world.post(f"{path}/calls", ROBOT)
        told = await world.call("POST", f"{path}/calls/{called['id']}", status=200, json={"heard": heard})
    assert told["climb"]["robots"] == {"media": {"tried": 2, "failed": 2}}


async def test_robots_call_only_where_and_as_they_should(world: World) -> None:
    path = await synthetic(world)
    own = await world.call("POST", "/v1/sessions", status=422, json={**ROBOT, "metadata": {"tendril.via": "x"}})
    assert "Tendril's own" in str(own)
    assert (await world.call("POST", f"{path}/calls", status=404, json={**ROBOT, "pool": "x"}))[
        "code"
    ] == "unknown_pool"
    user = await world.session()
    strange = await world.call("POST", f"{path}/calls/{user['id']}", status=404, json={"heard": True})
    assert strange["code"] == "unknown_session", "a user's session is no robot's"
    await world.call("POST", f"{path}/roll-back", status=200)
    assert (await world.call("POST", f"{path}/calls", status=409, json=ROBOT))["code"] == "bad_transition"


async def test_sessions_of_the_share_are_counted_and_what_their_node_says_of_them(world: World) -> None:
    ramp = await world.post("/v1/ramps", {"data_center": NEW, "kind": "return"})
    assert (ramp["state"], ramp["share_pct"]) == ("canary", 10.0)
    started = []
    for i in range(60):
        body = {"client": NEAR_SINGAPORE, "class": "voice", "metadata": {"user": f"u{i}"}}
        started.append(await world.post("/v1/sessions", body))
    mine = [one for one in started if one["edge"]["data_center"] == NEW]
    others = [one for one in started if one["edge"]["data_center"] != NEW]
    assert 1 <= len(mine) <= 15  # a tenth of sixty, by the hash of these very names
    found = await world.get(f"/v1/ramps/{ramp['id']}")
    assert found["exposed"] == found["climb"]["canary"]["begun"] == len(mine)
    assert 5 <= found["climb"]["control"]["begun"] <= len(others)  # the quarter of users next outside the share
    heard = [{"id": one["id"], "event": "attached", "rtt_ms": 20.0, "loss_pct": 0.1} for one in mine]
    beat = {"node": f"{NEW}-1", "epoch": 1, "changed": heard}
    beat["totals"] = {"sessions": len(mine), "good": 0, "bad": 0, "setup_failures": 0}
    await world.call("POST", "/v1/sessions/heartbeat", json=beat, headers=world.node_headers(f"{NEW}-1"))
    after = (await world.get(f"/v1/ramps/{ramp['id']}"))["climb"]["canary"]
    assert (after["set_up"], after["settled"]) == (len(mine), len(mine))


async def test_a_restart_goes_on_from_the_same_rung(tmp_path: Path) -> None:
    async with running(tmp_path) as first:
        await first.furnish()
        ramp = await first.post("/v1/ramps", {"data_center": NEW, "kind": "return"})
        await first.call("POST", f"/v1/ramps/{ramp['id']}/advance", status=200)
    async with running(tmp_path) as second:
        again = await second.get(f"/v1/ramps/{ramp['id']}")
        assert (again["state"], again["share_pct"], again["climb"]["canary"]["begun"]) == ("canary", 25.0, 0)
        await second.call("POST", f"/v1/ramps/{ramp['id']}/roll-back", status=200)


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        ("/v1/ramps", {"data_center": "nowhere"}, 404, "unknown_data_center"),
        ("/v1/ramps/r-0/pause", None, 404, "unknown_ramp"),
        ("/v1/ramps/r-0/robots", {"runs": [{"errand": "media", "passed": True}]}, 404, "unknown_ramp"),
    ],
)
async def test_what_is_not_there_is_refused(world: World, path: str, body: Json, status: int, code: str) -> None:
    assert (await world.call("POST", path, status=status, json=body))["code"] == code


async def test_only_operators_steer_ramps(world: World) -> None:
    viewer = await world.key("viewer")
    await world.call("GET", "/v1/ramps", status=200, headers=viewer)
    await world.call("POST", "/v1/ramps", status=403, json={"data_center": NEW}, headers=viewer)
    drained = await world.post("/v1/drains", {"selector": f"data_center={NEW}", "mode": "hard"})
    assert drained["id"]
    refused = await world.call("POST", "/v1/ramps", status=409, json={"data_center": NEW})
    assert refused["code"] == "bad_transition" and "undo its drain first" in refused["detail"]


async def versions(world: World) -> None:
    """A pool that sends new versions over ramps, with agents of two versions."""
    pool = await world.get("/v1/pools/tutors")
    await world.put("/v1/pools/tutors", pool | {"ramp_versions": True})
    for id, version in [*((f"old-{i}", "1.0") for i in range(50)), *((f"new-{i}", "2.0") for i in range(30))]:
        body = {"id": id, "data_center": "oracle-iad", "address": "127.0.0.1:7424", "version": version}
        await world.post("/v1/pools/tutors/agents", body)


async def test_a_new_version_of_agents_takes_its_share_of_users_and_goes_back_when_it_is_bad(world: World) -> None:
    await versions(world)
    (ramp,) = (await world.get("/v1/ramps"))["items"]
    assert (ramp["kind"], ramp["pool"], ramp["version"], ramp["data_center"]) == ("version", "tutors", "2.0", "")
    assert (ramp["state"], ramp["share_pct"], ramp["created_by"]) == ("canary", 1.0, "tendril")
    path = f"/v1/ramps/{ramp['id']}"
    for share in (5.0, 10.0, 25.0):
        assert (await world.call("POST", f"{path}/advance", status=200))["share_pct"] == share
    mine = await users(world, "u", 40)
    met = [one for one in mine if one["agent"]["id"].startswith("new-")]
    assert 4 <= len(met) <= 18, "a quarter of forty, by the hash of these very names"
    found = await world.get(path)
    assert found["exposed"] == found["climb"]["canary"]["begun"] == len(met)
    assert 2 <= found["climb"]["control"]["begun"] <= 40 - len(met)
    assert f'tendril_ramp_exposed{{data_center="tutors@2.0"}} {len(met)}.0' in (await world.http.get("/metrics")).text
    assert (await world.call("POST", f"{path}/roll-back", status=200))["share_pct"] == 0.0
    later = await users(world, "v", 5)
    assert all(one["agent"]["id"].startswith("old-") for one in later)
    robots = {"runs": [{"errand": "direct", "passed": True}]}
    assert "users show it" in (await world.call("POST", f"{path}/robots", status=409, json=robots))["detail"]


async def users(world: World, name: str, count: int) -> list[Json]:
    """Sessions of users with names of their own."""
    return [await world.session(metadata={"user": f"{name}{i}"}) for i in range(count)]


async def test_a_ramp_of_a_version_is_begun_by_hand_and_only_as_it_should(world: World) -> None:
    body = {"kind": "version", "pool": "tutors", "version": "3.0"}
    begun = await world.post("/v1/ramps", body)
    assert (begun["state"], begun["share_pct"], begun["reason"]) == ("canary", 1.0, "")
    twice = await world.call("POST", "/v1/ramps", status=409, json=body)
    assert (twice["code"], twice["field"]) == ("ramp_exists", "version")
    for wrong, status, code in (
        (body | {"pool": "x"}, 404, "unknown_pool"),
        (body | {"version": ""}, 422, "invalid_field"),
        (body | {"data_center": NEW}, 422, "invalid_field"),
        ({"kind": "new", "pool": "tutors"}, 422, "invalid_field"),
        ({"data_center": NEW, "version": "3.0"}, 422, "invalid_field"),
    ):
        assert (await world.call("POST", "/v1/ramps", status=status, json=wrong))["code"] == code


async def test_an_agent_that_is_lost_under_a_session_counts_against_its_version(world: World) -> None:
    await versions(world)
    (ramp,) = (await world.get("/v1/ramps"))["items"]
    path = f"/v1/ramps/{ramp['id']}"
    while (await world.call("POST", f"{path}/advance", status=200))["share_pct"] < 100:
        pass
    (mine,) = await users(world, "u", 1)
    agent = mine["agent"]["id"]
    assert agent.startswith("new-"), "everybody is in the share by now"
    beat = {"node": mine["edge"]["node"], "epoch": 1, "changed": [{"id": mine["id"], "event": "attached"}]}
    headers = world.node_headers(mine["edge"]["node"])
    await world.call("POST", "/v1/sessions/heartbeat", json=beat, headers=headers)
    again = {"id": agent, "data_center": "oracle-iad", "address": "127.0.0.1:7424", "version": "2.0", "sessions": []}
    await world.post("/v1/pools/tutors/agents", again)  # its process came back without the session

    async def counted() -> Json | None:
        climb: Json = (await world.get(path))["climb"]
        return climb["canary"] if climb["canary"]["dropped"] else None

    arm = await until(counted)
    assert (arm["begun"], arm["set_up"], arm["ended"], arm["dropped"]) == (1, 1, 1, 1)
