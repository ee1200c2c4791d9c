"""Further legs of a session over HTTP: a person and another agent join, attach, resume, and end with the session."""

from __future__ import annotations

import pytest

from tests.api.conftest import World, listening
from tests.api.test_cli_live import Terminal


async def test_legs_join_attach_resume_and_end_with_their_session(world: World) -> None:
    await world.furnish()
    await world.measured()
    await world.agent("ai-1")
    await world.agent("ai-2")
    session = await world.session()
    base = f"/v1/sessions/{session['id']}/legs"
    person = await world.post(base, {"client": {"latitude": 1.0, "longitude": 103.0}})
    helper = await world.post(base, {"pool": "tutors"})
    assert {session["agent"]["id"], helper["agent"]["id"]} == {"ai-1", "ai-2"}
    assert helper["edge"] is None
    line = {"id": f"{session['id']}/{person['id']}", "event": "attached"}
    await world.post("/v1/sessions/heartbeat", {"node": person["edge"]["node"], "epoch": 1, "changed": [line]})
    assert (await world.get(f"{base}/{person['id']}"))["state"] == "active"
    moved = {"token": person["token"], "client": {"latitude": 50.0, "longitude": 8.0}}
    resumed = await world.post(f"{base}/{person['id']}/resume", moved)
    assert resumed["epoch"] == 2 and resumed["token"] != person["token"]
    assert len((await world.get(f"/v1/sessions/{session['id']}"))["legs"]) == 2
    await world.call("DELETE", f"/v1/sessions/{session['id']}")
    ended = await world.get(f"/v1/sessions/{session['id']}")
    assert {leg["state"] for leg in ended["legs"]} == {"ended"}
    agents = await world.get("/v1/pools/tutors/agents")
    assert {agent["state"] for agent in agents["items"]} == {"ready"}


@pytest.mark.parametrize("hot", [True, False])
async def test_answers_about_a_session_show_its_legs(world: World, hot: bool) -> None:
    await world.furnish()
    await world.measured()
    for id in ("ai-1", "ai-2", "ai-3"):
        await world.agent(id)
    session, alone = await world.session(), await world.session()
    leg = await world.post(f"/v1/sessions/{session['id']}/legs", {"pool": "tutors"})
    listed = {one["id"]: one["legs"] for one in (await world.get("/v1/sessions"))["items"]}
    assert [one["id"] for one in listed[session["id"]]] == [leg["id"]]
    assert listed[alone["id"]] == []
    headers = {} if hot else {"Authorization": world.http.headers["authorization"].replace("Bearer", "bearer")}
    for _ in range(2):  # ending it again shows the same
        ended = await world.call("DELETE", f"/v1/sessions/{session['id']}", headers=headers)
        assert [(one["id"], one["state"], one["agent"]) for one in ended["legs"]] == [
            (leg["id"], "ended", leg["agent"]["id"])
        ]
    assert (await world.call("DELETE", f"/v1/sessions/{alone['id']}", headers=headers))["legs"] == []


async def test_operators_see_the_legs_of_a_session(world: World) -> None:
    await world.furnish()
    await world.measured()
    await world.agent("ai-1")
    session = await world.session()
    person = await world.post(f"/v1/sessions/{session['id']}/legs", {"client": {"country": "SG"}})
    async with listening(world.app) as url:
        shown = await Terminal(url)("session", "show", session["id"])
    assert person["id"] in shown
    assert person["edge"]["data_center"] in shown.split(person["id"])[1]
