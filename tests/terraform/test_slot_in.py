"""Slotting in a data center: the guide word by word, with real agents, up to the first users' share and to serving."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from tests.terraform.conftest import KEY, Plane, wait_for
from tests.terraform.guides import Page, Shell

PLACE = {"latitude": 50.11, "longitude": 8.68}  # one place: loopback is faster than light between two
RUN = "TENDRIL_JOIN_TOKEN=TOKEN tendril agent run --node own-fra-a --url http://CONTROL_PLANE:7400"
RUN += " --address internet=ITS_ADDRESS"


def test_the_guide_word_by_word(plane: Plane, tmp_path: Path) -> None:
    page, shell = Page("slot-in-your-own-data-center.md"), Shell(tmp_path, plane.url, KEY)
    join, run = page.take("tendril keys join-token own-fra"), page.take(RUN)
    try:
        for kind in ("providers/own", "regions/frankfurt"):
            plane.call("PUT", f"/v1/{kind}", {})
        plane.call("PUT", "/v1/data-centers/old", {"provider": "own", "region": "frankfurt", **PLACE})
        _agent(shell, join.replace("own-fra", "old"), run.replace("own-fra-a", "old-a"), "127.9.3.1")
        _written(page, plane, shell)
        _agent(shell, join, run, "127.9.3.2")
        _climbed(page, plane, shell)
        _besides(page, plane, shell)
    finally:
        shell.stop()
    page.nothing_left()


def _written(page: Page, plane: Plane, shell: Shell) -> None:
    (shell.folder / "fleet.yaml").write_text(page.block("yaml"))
    shell.run(page.take("tendril fleet apply fleet.yaml"))
    page.says("From the answer on it takes nobody and relays nobody; within a second it has a ramp.")
    assert plane.call("GET", "/v1/data-centers/own-fra")["intent"] == "canary"
    found = plane.call("POST", "/v1/steer", {"client": PLACE})
    assert [edge["data_center"] for edge in found["edges"]] == ["old"]
    ramps = page.take("tendril ramps")
    wait_for("its ramp", lambda: "registered" in shell.run(ramps))


def _climbed(page: Page, plane: Plane, shell: Shell) -> None:
    show, advance = page.take("tendril ramp show own-fra"), page.take("tendril ramp advance own-fra")
    page.says("The ramp goes on by itself: `registered`, `connected` (a node reports), `shadow`")
    wait_for("what it is measured for", lambda: _ramp(plane)["state"] == "shadow", 120)
    page.says("It says how many sessions met it, how both arms fare, and what it waits for.")
    wait_for("what it waits for", lambda: "10 min of it" in shell.run(show))
    shell.run(advance)
    assert _ramp(plane)["state"] == "synthetic"
    _robot_calls(page, plane, shell)
    page.says("`tendril ramp advance ID` vouches for everything.")
    shell.run(page.take("tendril ramp advance ID").replace("ID", str(_ramp(plane)["id"])))
    page.says("takes 1, 5, 10, 25, 50 and 100 % of the users")
    shares = [_ramp(plane)["share_pct"]]
    assert _ramp(plane)["state"] == "canary"
    page.says("A rung takes 200 sessions and ten minutes.")
    wait_for("what it waits for", lambda: "10 min on this rung" in shell.run(show))
    while _ramp(plane)["state"] == "canary":
        shell.run(advance)
        shares.append(_ramp(plane)["share_pct"])
    assert shares == [1.0, 5.0, 10.0, 25.0, 50.0, 100.0, 100.0]
    page.says("At the end its intent is `serving`.")
    wait_for("its intent", lambda: plane.call("GET", "/v1/data-centers/own-fra")["intent"] == "serving")


def _robot_calls(page: Page, plane: Plane, shell: Shell) -> None:
    page.says("It needs a key with the scope `media`", "`metadata` has the errand.")
    key = shell.run("tendril keys create media --name robots").strip()
    plane.call("PUT", "/v1/pools/tutors", {"max_sessions": 1})  # the agent retires after the call
    agent = {"id": "ai-1", "data_center": "old", "address": "127.0.0.1:7424"}
    plane.call("POST", "/v1/pools/tutors/agents", agent)
    path = page.take("POST /v1/ramps/{id}/calls").replace("POST ", "").replace("{id}", str(_ramp(plane)["id"]))
    made = plane.call("POST", path, {"client": PLACE, "pool": "tutors"}, 201, key)
    assert made["edge"]["data_center"] == "own-fra" and made["metadata"]["tendril.errand"] == "media"
    assert made["token"] and made["agent"]["id"] == "ai-1"
    page.says("`heard: true`, or `false` and a `detail`, before the session's lease ends. It ends the session.")
    tell = page.take("POST /v1/ramps/{id}/calls/{session}").split("/calls/")[1].replace("{session}", made["id"])
    told = plane.call("POST", f"{path}/{tell}", {"heard": False, "detail": "nobody spoke"}, 200, key)
    assert told["climb"]["robots"]["media"] == {"tried": 1, "failed": 1}
    assert plane.call("GET", f"/v1/sessions/{made['id']}")["end_reason"] == "robot"
    assert page.take("POST /v1/sessions")  # what a call is like


def _besides(page: Page, plane: Plane, shell: Shell) -> None:
    """What it says of a data center that comes back."""
    page.says("comes back by a ramp of kind `return`, which begins with the undo of the drain: it starts at 10 %")
    for force in ("", " --force"):
        talking = _talking(plane)
        wanted = {"selector": {"data_center": "own-fra"}, "mode": "hard"}
        drain = plane.call("POST", "/v1/drains", wanted)["drain"]["id"]
        wait_for("the drain's end", lambda id=drain: plane.call("GET", f"/v1/drains/{id}")["state"] == "drained")
        plane.call("DELETE", f"/v1/sessions/{talking}")
        if force:
            page.says("`tendril undrain --force` gives it all of its users at once.")
            page.take("tendril undrain --force")
        shell.run(f"tendril undrain{force} {drain}")
        if not force:
            assert (_ramp(plane)["kind"], _ramp(plane)["share_pct"]) == ("return", 10.0)
        assert plane.call("GET", "/v1/data-centers/own-fra")["intent"] == "serving"
    page.says("To let a new one in at once set its intent to `serving`: that ends its ramp.")
    for intent, state in (("canary", "registered"), ("serving", "withdrawn")):
        body = plane.call("GET", "/v1/data-centers/own-fra")
        plane.call("PUT", "/v1/data-centers/own-fra", body | {"intent": intent})
        wait_for(f"a ramp that is {state}", lambda state=state: _is(_ramp(plane), state))
    page.take("POST /v1/ramps")
    page.says("`POST /v1/ramps` with `kind: return`")
    doubted = plane.call("POST", "/v1/ramps", {"data_center": "own-fra", "kind": "return"}, 201)
    assert (doubted["state"], doubted["share_pct"]) == ("canary", 10.0)


def _talking(plane: Plane) -> str:
    """Somebody talks there, whom a drain has to move."""
    old = plane.call("GET", "/v1/data-centers/old") | {"intent": "cordoned"}
    plane.call("PUT", "/v1/data-centers/old", old)
    made = plane.call("POST", "/v1/sessions", {"client": PLACE})
    assert made["edge"]["data_center"] == "own-fra"
    plane.call("PUT", "/v1/data-centers/old", plane.call("GET", "/v1/data-centers/old") | {"intent": "serving"})
    return str(made["id"])


def _agent(shell: Shell, join: str, run: str, host: str) -> None:
    (token,) = re.findall(r"tj_\S+", shell.run(join))
    shell.start(run, token, host)


def _is(ramp: dict[str, Any], state: str) -> bool:
    return ramp["kind"] == "new" and (ramp["state"] == state or (state == "registered" and ramp["finished_at"] is None))


def _ramp(plane: Plane) -> dict[str, Any]:
    """The newest ramp of the data center."""
    found = [one for one in plane.call("GET", "/v1/ramps")["items"] if one["data_center"] == "own-fra"]
    newest: dict[str, Any] = max(found, key=lambda one: str(one["created_at"]))
    return newest
