"""Native agents: registered, kept alive, adopted, released, fenced."""

from __future__ import annotations

from tests.api.conftest import World


async def test_an_agent_lives_through_its_lease(world: World) -> None:
    agent = await world.agent()
    assert agent == {
        "id": "ai-1", "pool": "tutors", "data_center": "oracle-iad", "node": None, "state": "ready", "epoch": 0,
        "session": None, "address": "127.0.0.1:7424", "seen_at": agent["seen_at"],
    }  # fmt: skip
    session = await world.session()
    beat = await world.post("/v1/pools/tutors/agents/ai-1/heartbeat", {"epoch": 0})
    assert (beat["state"], beat["session"], beat["epoch"]) == ("busy", session["id"], 1)
    adopted = await world.agent()
    assert (adopted["state"], adopted["session"]) == ("busy", session["id"])
    fenced = await world.call("POST", "/v1/pools/tutors/agents/ai-1/release", status=409, json={"epoch": 0})
    assert (fenced["code"], fenced["limit"]) == ("fenced", 1)
    released = await world.post("/v1/pools/tutors/agents/ai-1/release", {"epoch": 1})
    assert (released["state"], released["session"]) == ("ready", None)
    ended = await world.get(f"/v1/sessions/{session['id']}")
    assert (ended["state"], ended["end_reason"]) == ("ended", "agent_released")


async def test_agents_are_listed_page_by_page(world: World) -> None:
    for i in range(3):
        await world.agent(f"ai-{i}")
    first = await world.get("/v1/pools/tutors/agents", params={"limit": 2})
    rest = await world.get("/v1/pools/tutors/agents", params={"after": first["next"]})
    assert [a["id"] for a in first["items"] + rest["items"]] == ["ai-0", "ai-1", "ai-2"]


async def test_wrong_agents_are_refused(world: World) -> None:
    body = {"id": "ai-1", "data_center": "oracle-iad", "address": "x:1"}
    path = "/v1/pools/tutors/agents"
    assert (await world.call("POST", "/v1/pools/none/agents", status=404, json=body))["code"] == "unknown_pool"
    assert (await world.call("GET", "/v1/pools/none/agents", status=404))["code"] == "unknown_pool"
    nowhere = await world.call("POST", path, status=404, json=body | {"data_center": "nowhere"})
    assert nowhere["code"] == "unknown_data_center"
    elsewhere = await world.call("POST", path, status=403, json=body | {"node": "gcp-ams-1"})
    assert (elsewhere["code"], elsewhere["field"]) == ("wrong_data_center", "data_center")
    assert (await world.call("POST", path, status=422, json=body | {"address": "a b"}))["field"] == "address"
    assert (await world.call("POST", f"{path}/ai-9/heartbeat", status=404, json={"epoch": 0}))[
        "code"
    ] == "unknown_agent"
    assert (await world.call("POST", f"{path}/ai-9/heartbeat", status=422, json={"epoch": -1}))["field"] == "epoch"
