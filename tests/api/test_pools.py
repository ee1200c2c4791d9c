"""Native agents: registered, kept alive, adopted, released, fenced, cordoned; sessions that wait for them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from tests.api.conftest import Json, World

PATH = "/v1/pools/tutors/agents"


async def until(ask: Callable[[], Awaitable[Any]], what: Callable[[Any], bool]) -> Any:
    """Ask until the answer is as wanted."""
    for _ in range(600):
        answer = await ask()
        if what(answer):
            return answer
        await asyncio.sleep(0.05)
    raise AssertionError(f"never came true: {answer}")


async def pool(world: World, **more: Any) -> None:
    """Change what the pool asks."""
    await world.put("/v1/pools/tutors", {"class": "agent", **more})


async def queued(world: World, queue_s: int = 60, **more: Any) -> Json:
    """A session that has to wait."""
    body = {"client": {"latitude": 50.0, "longitude": 8.0}, "pool": "tutors", "queue_s": queue_s} | more
    return dict(await world.call("POST", "/v1/sessions", status=202, json=body))


async def test_an_agent_lives_through_its_lease(world: World) -> None:
    agent = await world.agent()
    assert agent == {
        "id": "ai-1", "pool": "tutors", "data_center": "oracle-iad", "node": None, "state": "ready", "epoch": 0,
        "session": None, "address": "127.0.0.1:7424", "seen_at": agent["seen_at"], "since": agent["since"],
        "sessions": [], "capacity": 1, "held": 0, "served": 0, "cordoned": False, "version": "", "deadline_at": None,
        "drop": [], "heartbeat_s": 1.0,
    }  # fmt: skip
    session = await world.session()
    beat = await world.post(f"{PATH}/ai-1/heartbeat", {"epoch": 0})
    assert (beat["state"], beat["session"], beat["epoch"]) == ("reserved", session["id"], 1)
    assert beat["sessions"] == [{"id": session["id"], "epoch": 1}]
    adopted = await world.agent()
    assert (adopted["state"], adopted["session"]) == ("busy", session["id"])
    fenced = await world.call("POST", f"{PATH}/ai-1/release", status=409, json={"epoch": 0})
    assert (fenced["code"], fenced["limit"]) == ("fenced", 1)
    released = await world.post(f"{PATH}/ai-1/release", {"epoch": 1})
    assert (released["state"], released["session"], released["served"]) == ("ready", None, 1)
    ended = await world.get(f"/v1/sessions/{session['id']}")
    assert (ended["state"], ended["end_reason"]) == ("ended", "agent_released")


async def test_agents_are_listed_page_by_page(world: World) -> None:
    for i in range(3):
        await world.agent(f"ai-{i}")
    first = await world.get(PATH, params={"limit": 2})
    rest = await world.get(PATH, params={"after": first["next"]})
    assert [a["id"] for a in first["items"] + rest["items"]] == ["ai-0", "ai-1", "ai-2"]


async def test_wrong_agents_are_refused(world: World) -> None:
    body = {"id": "ai-1", "data_center": "oracle-iad", "address": "x:1"}
    assert (await world.call("POST", "/v1/pools/none/agents", status=404, json=body))["code"] == "unknown_pool"
    assert (await world.call("GET", "/v1/pools/none/agents", status=404))["code"] == "unknown_pool"
    nowhere = await world.call("POST", PATH, status=404, json=body | {"data_center": "nowhere"})
    assert nowhere["code"] == "unknown_data_center"
    elsewhere = await world.call("POST", PATH, status=403, json=body | {"node": "gcp-ams-1"})
    assert (elsewhere["code"], elsewhere["field"]) == ("wrong_data_center", "data_center")
    for bad in ({"address": "a b"}, {"state": "busy"}, {"capacity": 0}, {"sessions": ["../x"]}, {"nonce": "\n"}):
        assert (await world.call("POST", PATH, status=422, json=body | bad))["field"].startswith(next(iter(bad)))
    lost = await world.call("POST", f"{PATH}/ai-9/heartbeat", status=404, json={"epoch": 0})
    assert lost["code"] == "unknown_agent"
    assert (await world.call("POST", f"{PATH}/ai-9/heartbeat", status=422, json={"epoch": -1}))["field"] == "epoch"
    assert (await world.call("POST", f"{PATH}/ai-9/cordon", status=404))["code"] == "unknown_agent"


async def test_an_agent_with_room_lists_what_it_holds(world: World) -> None:
    body = {"id": "big", "data_center": "oracle-iad", "address": "x:1", "capacity": 2, "nonce": "one"}
    await world.post(PATH, body)
    ids = sorted([(await world.session())["id"] for _ in range(2)])
    held = await world.post(f"{PATH}/big/heartbeat", {"epoch": 0, "nonce": "one"})
    assert [lease["id"] for lease in held["sessions"]] == ids
    back = await world.post(PATH, body | {"sessions": [*ids, "s-other"]})
    assert (back["held"], back["drop"], back["state"]) == (2, ["s-other"], "busy")
    one = await world.post(f"{PATH}/big/release", {"epoch": back["epoch"], "session": ids[0]})
    assert [lease["id"] for lease in one["sessions"]] == ids[1:]
    stranger = await world.call("POST", f"{PATH}/big/heartbeat", status=409, json={"epoch": 2, "nonce": "two"})
    assert stranger["code"] == "fenced"


async def test_capacity_and_cordon(world: World) -> None:
    await world.agent("ai-1")
    await world.agent("ai-2", "oracle-sin")
    await world.post(PATH, {"id": "up", "data_center": "oracle-iad", "address": "x:1", "state": "warming"})
    await world.session()
    cordoned = await world.post(f"{PATH}/ai-2/cordon", {})
    assert cordoned["cordoned"] is True
    (found,) = (await world.get("/v1/capacity"))["items"]
    assert {name: found[name] for name in ("pool", "idle", "busy", "warming", "queued")} == {
        "pool": "tutors", "idle": 0, "busy": 1, "warming": 1, "queued": 0,
    }  # fmt: skip
    iad, sin = found["data_centers"]
    assert (iad["provider"], iad["states"], sin["cordoned"]) == ("oracle", {"reserved": 1, "warming": 1}, 1)
    refused = await world.call("POST", "/v1/sessions", status=409, json={"client": {}, "pool": "tutors"})
    assert refused["code"] == "no_idle_agent"
    await world.post(f"{PATH}/ai-2/uncordon", {})
    assert (await world.session())["agent"]["id"] == "ai-2"


async def test_who_finds_no_agent_waits_and_gets_the_next_one(world: World) -> None:
    await world.agent()
    first = await world.session()
    waiting = [await queued(world) for _ in range(2)]
    assert [(w["state"], w["position"], w["agent"]) for w in waiting] == [("queued", 1, None), ("queued", 2, None)]
    assert waiting[0]["token"] and waiting[0]["queued_until"]
    (capacity,) = (await world.get("/v1/capacity"))["items"]
    assert capacity["queued"] == 2
    await world.call("DELETE", f"/v1/sessions/{first['id']}")
    path = f"/v1/sessions/{waiting[0]['id']}"
    served = await until(lambda: world.get(path), lambda s: s["state"] == "attaching")
    assert (served["agent"]["id"], served["position"], served["queued_until"]) == ("ai-1", None, None)
    assert (await world.get(f"/v1/sessions/{waiting[1]['id']}"))["position"] == 1
    told = [event["kind"] for event in (await world.get(f"{path}/events"))["items"]]
    assert told == ["session.queued", "session.dispatched"]


async def test_an_agent_that_comes_up_serves_who_waits(world: World) -> None:
    await pool(world, queue_s=60)
    body = {"client": {"latitude": 50.0, "longitude": 8.0}, "pool": "tutors"}
    waiting = await world.call("POST", "/v1/sessions", status=202, json=body, headers={"Idempotency-Key": "k"})
    again = await world.call("POST", "/v1/sessions", status=202, json=body, headers={"Idempotency-Key": "k"})
    assert again["id"] == waiting["id"]
    await world.agent()
    await until(lambda: world.get(f"/v1/sessions/{waiting['id']}"), lambda s: s["state"] == "attaching")
    none = await world.call("POST", "/v1/sessions", status=409, json=body | {"queue_s": 0})
    assert none["code"] == "no_idle_agent"


async def test_patience_ends_and_is_told(world: World) -> None:
    waiting = await queued(world, 1)
    ended = await until(lambda: world.get(f"/v1/sessions/{waiting['id']}"), lambda s: s["state"] == "ended")
    assert ended["end_reason"] == "no_idle_agent"
    kinds = [event["kind"] for event in (await world.get(f"/v1/sessions/{waiting['id']}/events"))["items"]]
    assert kinds == ["session.queued", "session.refused", "session.ended"]


async def test_the_limit_of_the_pool_relaxes_but_not_the_callers_own(world: World) -> None:
    await pool(world, max_rtt_ms=10.0)
    await world.agent()
    body = {"client": {"latitude": 50.0, "longitude": 8.0}, "pool": "tutors"}
    far = await world.call("POST", "/v1/sessions", status=409, json=body)
    assert (far["code"], far["field"], far["limit"]) == ("max_rtt", "pool", 10)
    strict = await queued(world, constraints={"max_rtt_ms": 60.0})
    patient = await queued(world)
    served = await until(lambda: world.get(f"/v1/sessions/{patient['id']}"), lambda s: s["state"] == "attaching")
    assert served["agent"]["id"] == "ai-1"
    assert (await world.get(f"/v1/sessions/{strict['id']}"))["state"] == "queued"


async def test_a_session_follows_to_another_agent_when_its_own_is_lost(world: World) -> None:
    await pool(world, agent_grace_s=0)
    await world.agent("ai-1")
    session = await world.session()
    node = f"{session['edge']['data_center']}-1"
    beat: Json = {"node": node, "epoch": 1, "changed": [{"id": session["id"], "event": "attached"}]}
    headers = world.node_headers(node)
    assert (await world.post("/v1/sessions/heartbeat", beat, headers=headers))["rebound"] == []
    await world.agent("ai-2", "oracle-sin")
    runtime = world.app.runtime
    alive = runtime.now() + 1
    await world.post(f"{PATH}/ai-2/heartbeat", {"epoch": 0})
    old = await runtime.read(lambda store: store.agent("ai-1"))
    await runtime.commit(lambda store: store.expire_agents(old.seen_at + 1, alive))
    quiet = {"node": node, "epoch": 1}
    told = await until(
        lambda: world.post("/v1/sessions/heartbeat", quiet, headers=headers), lambda answer: bool(answer["rebound"])
    )
    agent = {"id": "ai-2", "data_center": "oracle-sin", "address": "127.0.0.1:7424"}
    assert told["rebound"] == [{"id": session["id"], "agent": agent}]
    assert (await world.get(f"/v1/sessions/{session['id']}"))["agent"] == agent
    confirm = quiet | {"changed": [{"id": session["id"], "event": "rebound"}]}
    await world.post("/v1/sessions/heartbeat", confirm, headers=headers)
    await until(lambda: world.post("/v1/sessions/heartbeat", quiet, headers=headers), lambda a: not a["rebound"])
    events = (await world.get(f"/v1/sessions/{session['id']}/events"))["items"]
    assert [e["kind"] for e in events][-2:] == ["session.agent_lost", "session.redispatched"]
