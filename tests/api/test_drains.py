"""Drains: planned, refused with numbers, forced, paused, resumed, undone."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.api.conftest import Json, World, running
from tests.api.test_ramps import until


async def test_a_dry_run_says_what_would_happen_and_does_nothing(world: World) -> None:
    await world.agent()
    session = await world.session()
    edge = session["edge"]["data_center"]
    plan = await world.call(
        "POST", "/v1/drains", status=200, json={"selector": {"data_center": edge}, "mode": "hard", "dry_run": True}
    )
    assert plan["dry_run"] is True and plan["drain"] is None and plan["id"] is None
    assert plan["targets"] == [edge] and plan["sessions"] == {edge: 1} and plan["sessions_to_move"] == 1
    (shift,) = plan["shifts"]
    assert shift["from"] == edge and shift["to"] != edge and shift["sessions"] == 1
    assert plan["headroom_after_pct"] is not None
    assert (await world.get("/v1/drains"))["items"] == []
    assert (await world.get(f"/v1/data-centers/{edge}"))["intent"] == "serving"


async def test_a_drain_takes_its_targets_out_of_routes_at_once_and_undo_brings_them_back(world: World) -> None:
    made = await world.call(
        "POST", "/v1/drains", status=201, json={"selector": "provider=gcp", "reason": "maintenance"}
    )
    assert made["drain"]["state"] in ("bleeding", "drained") and made["drain"]["selector"] == "provider=gcp"
    assert made["drain"]["created_by"].startswith("key:")
    route = await world.get("/v1/routes/linode-fra/oracle-iad")
    assert route["forward"]["path"] == ["linode-fra", "oracle-iad"]
    steered = await world.post("/v1/steer", {"client": {"latitude": 52.4, "longitude": 4.9}})
    assert "gcp-ams" not in [edge["data_center"] for edge in steered["edges"]]
    undone = await world.call("POST", f"/v1/drains/{made['id']}/undo", status=200)
    assert undone["state"] == "undone"
    assert (await world.get("/v1/data-centers/gcp-ams"))["intent"] == "serving"
    again = await world.call("POST", f"/v1/drains/{made['id']}/undo", status=409)
    assert again["code"] == "bad_transition"
    listed = await world.get("/v1/drains")
    assert [d["id"] for d in listed["items"]] == [made["id"]]
    assert (await world.get(f"/v1/drains/{made['id']}"))["finished_at"] is not None


@pytest.mark.parametrize("force", [False, True])
async def test_who_was_emptied_takes_its_users_back_by_a_ramp_and_force_jumps(world: World, force: bool) -> None:
    await world.agent()
    edge = (await world.session())["edge"]["data_center"]
    made = await world.post("/v1/drains", {"selector": {"data_center": edge}, "mode": "hard"})

    async def drained() -> Json | None:
        found: Json = await world.get(f"/v1/drains/{made['id']}")
        return found if found["state"] == "drained" else None

    await until(drained)
    undone = await world.call("POST", f"/v1/drains/{made['id']}/undo", status=200, json={"force": force})
    assert undone["state"] == "undone"
    assert (await world.get(f"/v1/data-centers/{edge}"))["intent"] == "serving"
    climbing = [(one["data_center"], one["kind"], one["share_pct"]) for one in (await world.get("/v1/ramps"))["items"]]
    assert climbing == ([] if force else [(edge, "return", 10.0)])


async def test_a_drain_that_would_hurt_is_refused_with_numbers_and_an_override(world: World) -> None:
    body = {"selector": {"provider": "oracle"}, "mode": "hard"}
    # three of four edges: first gcp, then both of oracle
    await world.post("/v1/drains", {"selector": "data_center=gcp-ams"})
    refused = await world.call("POST", "/v1/drains", status=409, json=body)
    assert (refused["code"], refused["override"]) == ("drain_unsafe", "force")
    assert refused["rule"] and refused["limit"] is not None
    assert refused["refusals"][0]["override"] == "force" and refused["plan"]["targets"] == ["oracle-iad", "oracle-sin"]
    assert (await world.get("/v1/data-centers/oracle-iad"))["intent"] == "serving"
    forced = await world.post("/v1/drains", body | {"force": True})
    assert forced["drain"]["targets"] == ["oracle-iad", "oracle-sin"]
    overlap = await world.call("POST", "/v1/drains", status=409, json=body | {"force": True})
    assert overlap["code"] == "drain_overlaps"


async def test_a_drain_is_paused_and_resumed(world: World) -> None:
    await world.agent()
    session = await world.session()
    made = await world.post("/v1/drains", {"selector": {"data_center": session["edge"]["data_center"]}})
    assert (await world.post(f"/v1/drains/{made['id']}/pause", None))["state"] == "paused"
    shown = await world.post(f"/v1/drains/{made['id']}/resume", None)
    assert (shown["state"], shown["sessions_left"], shown["sessions_at_start"]) == ("bleeding", 1, 1)


@pytest.mark.parametrize(
    ("body", "status", "code", "field"),
    [
        ({"selector": "planet=earth"}, 422, "invalid_field", "body"),
        ({"selector": "provider"}, 422, "invalid_field", "body"),
        ({"selector": "provider=A B"}, 422, "invalid_field", "body"),
        ({"selector": {}}, 422, "invalid_field", "selector"),
        ({}, 422, "missing_field", "selector"),
        ({"selector": "provider=nobody"}, 422, "selector_matches_nothing", "selector"),
        ({"selector": "provider=gcp", "mode": "rough"}, 422, "invalid_field", "mode"),
        ({"selector": "provider=gcp", "deadline_s": 0}, 422, "invalid_field", "deadline_s"),
        ({"selector": "provider=gcp", "expires_at": "2001-01-01T00:00:00Z"}, 422, "time_in_the_past", "expires_at"),
        ({"selector": "provider=gcp", "expires_at": 5}, 422, "invalid_field", "expires_at"),
        ({"selector": "provider=gcp", "force": "yes"}, 422, "invalid_field", "force"),
    ],
)
async def test_a_wrong_drain_names_its_field(world: World, body: Json, status: int, code: str, field: str) -> None:
    refused = await world.call("POST", "/v1/drains", status=status, json=body)
    assert (refused["code"], refused["field"]) == (code, field)
    assert (await world.get("/v1/drains"))["items"] == []


async def test_unknown_drains_are_404(bare: World) -> None:
    for method, path in (("GET", ""), ("POST", "/pause"), ("POST", "/resume"), ("POST", "/undo")):
        refused = await bare.call(method, f"/v1/drains/d-nothing{path}", status=404)
        assert refused["code"] == "unknown_drain"


async def test_the_list_says_what_is_practised_when(tmp_path: Path) -> None:
    async with running(tmp_path, practice_drains="tue 03:30 data_center=gcp-ams") as world:
        (one,) = (await world.get("/v1/drains"))["practices"]
        assert (one["selector"], one["at"]) == ("data_center=gcp-ams", "tue 03:30 UTC")
        assert "T03:30:00" in one["next_at"]
