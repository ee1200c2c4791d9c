"""Joining, probe plans, acknowledgements, reports: a node acts as itself and as nobody else."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from probes.wire import decode_plan, decode_reaction_plan
from tests.api.conftest import World, fleet, node_body, report_of


async def test_a_token_joins_one_node_once(bare: World) -> None:
    await bare.post("/v1/fleet", fleet())
    token = await bare.post("/v1/data-centers/gcp-ams/join-tokens", {"expires_in_s": 60})
    body = {"token": token["token"], "node": node_body("ams-1")}
    no_key = {"Authorization": ""}
    del bare.http.headers["Authorization"]
    joined = await bare.call("POST", "/v1/join", status=201, json=body)
    assert (joined["node"], joined["data_center"]) == ("ams-1", "gcp-ams")
    plan = decode_plan(joined["plan"])
    assert plan.node == "ams-1"
    own = {"Authorization": f"Bearer {joined['key']}"}
    assert (await bare.get("/v1/nodes/ams-1/plan", headers=own))["node"] == "ams-1"
    again = await bare.call("POST", "/v1/join", status=403, json=body)
    assert again["code"] == "token_used"
    assert no_key  # the calls above carried no Authorization header at all


@pytest.mark.parametrize(
    ("token", "code"),
    [
        ("garbage", "token_unknown"),
        ("tj_gcp-ams_" + "x" * 43, "token_unknown"),
        ("tj_nowhere_" + "x" * 43, "token_unknown"),
    ],
)
async def test_a_token_that_was_never_made_joins_nothing(bare: World, token: str, code: str) -> None:
    await bare.post("/v1/fleet", fleet())
    refused = await bare.call("POST", "/v1/join", status=403, json={"token": token, "node": node_body("n")})
    assert refused["code"] == code and token not in str(refused)
    assert (await bare.get("/v1/nodes"))["items"] == []


async def test_joining_again_replaces_the_nodes_key(world: World) -> None:
    old = world.node_headers("gcp-ams-1")
    await world.join("gcp-ams-1", "gcp-ams")
    await world.call("GET", "/v1/nodes/gcp-ams-1/plan", status=401, headers=old)
    await world.get("/v1/nodes/gcp-ams-1/plan", headers=world.node_headers("gcp-ams-1"))


async def test_a_plan_is_long_polled_and_acknowledged(world: World) -> None:
    mine = world.node_headers("gcp-ams-1")
    first = await world.http.get("/v1/nodes/gcp-ams-1/plan", headers=mine)
    plan = decode_plan(first.json())
    assert {peer.data_center for peer in plan.peers} == {"linode-fra", "oracle-iad", "oracle-sin"}
    tag = first.headers["ETag"]
    assert tag == f'"{plan.plan_version}"'
    held = await world.http.get("/v1/nodes/gcp-ams-1/plan", headers=mine | {"If-None-Match": tag})
    assert held.status_code == 304
    waiting = asyncio.ensure_future(
        world.http.get("/v1/nodes/gcp-ams-1/plan", params={"wait_s": 30}, headers=mine | {"If-None-Match": tag})
    )
    await asyncio.sleep(0)
    await world.join("oracle-sin-2", "oracle-sin")
    newer = await waiting
    assert newer.status_code == 200 and newer.json()["plan_version"] > plan.plan_version
    newest = newer.json()["plan_version"]
    ack = await world.post("/v1/nodes/gcp-ams-1/ack", {"plan_version": newest}, headers=mine)
    assert ack["plan_version"] >= newest
    future = await world.call(
        "POST", "/v1/nodes/gcp-ams-1/ack", status=422, json={"plan_version": newest + 99}, headers=mine
    )
    assert future["field"] == "plan_version"


async def test_a_reaction_plan_is_that_of_the_routes_and_is_long_polled(world: World) -> None:
    mine, path = world.node_headers("linode-fra-1"), "/v1/nodes/linode-fra-1/reaction-plan"
    await world.measured()
    first = await world.http.get(path, headers=mine)
    plan = decode_reaction_plan(first.json())
    assert (plan.node, plan.data_center) == ("linode-fra-1", "linode-fra")
    told = await world.get("/v1/routes", params={"from": "linode-fra"})
    assert plan.generation <= told["generation"]
    voice = plan.tables[plan.contexts.index("voice")]
    targets = [plan.data_centers[v] for t, v in zip(plan.rows.table, plan.rows.target, strict=True) if t == voice]
    assert targets == sorted(route["to"] for route in told["routes"])
    tag = first.headers["ETag"]
    assert tag == f'"{plan.generation}-{plan.plan_version}"'
    waiting = asyncio.ensure_future(world.http.get(path, params={"wait_s": 30}, headers=mine | {"If-None-Match": tag}))
    await world.report_all()
    newer = await waiting
    assert newer.status_code == 200 and newer.json()["generation"] > plan.generation
    held = await world.http.get(path, headers=mine | {"If-None-Match": "*"})
    assert held.status_code == 304 and held.headers["ETag"] != tag


async def test_a_reaction_plan_is_for_its_node_and_for_those_who_may_look(world: World) -> None:
    path = "/v1/nodes/gcp-ams-1/reaction-plan"
    before = decode_reaction_plan(await world.get(path, headers=world.node_headers("gcp-ams-1")))
    assert before.node == "gcp-ams-1" and before.triggers.down_missing > before.triggers.suspect_missing
    other = await world.call("GET", path, status=403, headers=world.node_headers("oracle-iad-1"))
    assert other["code"] == "not_your_node"
    await world.get(path, headers=await world.key("viewer"))
    unknown = await world.call("GET", "/v1/nodes/nobody/reaction-plan", status=404)
    assert unknown["code"] == "unknown_node"


async def test_a_node_reports_only_as_itself(world: World) -> None:
    report = report_of("gcp-ams", 1_000, world.app.runtime.now())
    lie = await world.call("POST", "/v1/reports", status=403, json=report, headers=world.node_headers("oracle-iad-1"))
    assert (lie["code"], lie["limit"]) == ("not_your_node", "oracle-iad-1")
    other = await world.call("GET", "/v1/nodes/gcp-ams-1/plan", status=403, headers=world.node_headers("oracle-iad-1"))
    assert other["code"] == "not_your_node"
    admin = await world.call("POST", "/v1/reports", status=403, json=report)
    assert admin["code"] == "scope_insufficient"
    taken = await world.post("/v1/reports", report, headers=world.node_headers("gcp-ams-1"))
    assert taken["plan_version"] == world.app.runtime.view.plan_version


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"version": 2}, "version"),
        ({"sequence": -1}, "sequence"),
        ({"extra": 1}, "report.extra"),
        ({"interval_us": "1"}, "interval_us"),
    ],
)
async def test_a_broken_report_names_its_field(world: World, change: dict[str, Any], field: str) -> None:
    report = report_of("gcp-ams", 1_000, world.app.runtime.now()) | change
    refused = await world.call("POST", "/v1/reports", status=422, json=report, headers=world.node_headers("gcp-ams-1"))
    assert (refused["code"], refused["field"]) == ("invalid_report", field)


@pytest.mark.parametrize(
    "body", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b"9" * 5_000, b'{"a": NaN}', b'"\\ud800"', b"null"]
)
async def test_garbage_is_no_report(world: World, body: bytes) -> None:
    response = await world.http.post("/v1/reports", content=body, headers=world.node_headers("gcp-ams-1"))
    assert response.status_code in (400, 422)
    assert response.json()["code"] in ("malformed_json", "invalid_report")


async def test_a_node_that_was_deleted_is_a_stranger(world: World) -> None:
    await world.call("DELETE", "/v1/nodes/gcp-ams-1", status=204)
    report = report_of("gcp-ams", 1_000, world.app.runtime.now())
    refused = await world.http.post("/v1/reports", json=report, headers=world.node_headers("gcp-ams-1"))
    assert refused.status_code == 401
    await world.join("linode-fra-1", "linode-fra")  # the others' keys are untouched
    await world.get("/v1/nodes/linode-fra-1/plan", headers=world.node_headers("linode-fra-1"))
