"""The intent resources: create, read, replace, delete, revisions, paging, whole fleets; nothing is half-applied."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.conftest import World, fleet

BODIES: dict[str, dict[str, Any]] = {
    "providers": {"name": "Oracle Cloud", "labels": {"tier": "a"}},
    "regions": {"name": "Almaty", "country": "KZ", "latitude": 43.2, "longitude": 76.9},
    "data-centers": {
        "provider": "gcp",
        "region": "amsterdam",
        "roles": ["hub", "edge"],
        "latitude": 52.0,
        "longitude": 5.0,
        "capacity": {"sessions": 10, "mbps": 100},
        "egress_usd_per_gb": 0.085,
        "media_url": "wss://x.example:7443",
        "intent": "cordoned",
        "labels": {"a": "b"},
    },
    "nodes": {
        "data_center": "gcp-ams",
        "addresses": {"internet": "192.0.2.1"},
        "reflector_port": 862,
        "relay_port": 7422,
    },
    "links": {"from": "gcp-ams", "to": "oracle-iad", "transport": "backbone", "price_usd_per_gb": 0.01},
    "policies": {
        "priority": 5,
        "match": {"class": "agent", "pool": "tutors", "labels": {"tenant": "x"}},
        "allow_providers": ["gcp", "oracle"],
        "deny_regions": ["singapore"],
        "max_relays": 1,
        "pin": ["gcp-ams"],
    },
    "pools": {"class": "voice", "max_rtt_ms": 250.5},
}


@pytest.mark.parametrize("kind", BODIES)
async def test_a_resource_lives(bare: World, kind: str) -> None:
    await bare.post("/v1/fleet", fleet())
    path, body = f"/v1/{kind}/thing", BODIES[kind]
    made = await bare.call("PUT", path, status=201, json=body)
    assert made["id"] == "thing" and made["revision"] == 1
    for name, value in body.items():
        if isinstance(value, list):
            assert sorted(made[name]) == sorted(value), name
        else:
            assert made[name] == value, name
    shown = await bare.http.get(path)
    assert shown.json() == made and shown.headers["ETag"] == '"1"'
    again = await bare.call("PUT", path, status=200, json=made)
    assert again["revision"] == 1, "an identical PUT changes nothing"
    await bare.call("PUT", path, status=412, json=body, headers={"If-Match": '"7"'})
    await bare.call("DELETE", path, status=412, headers={"If-Match": '"7"'})
    await bare.call("DELETE", path, status=204, headers={"If-Match": '"1"'})
    gone = await bare.call("GET", path, status=404)
    assert gone["code"].startswith("unknown_") and gone["field"] == "id"
    await bare.call("DELETE", path, status=404)


async def test_a_revision_that_is_not_current_is_named(bare: World) -> None:
    await bare.put("/v1/providers/gcp", {"name": "a"})
    await bare.put("/v1/providers/gcp", {"name": "b"}, headers={"If-Match": '"1"'})
    refused = await bare.call("PUT", "/v1/providers/gcp", status=412, json={"name": "c"}, headers={"If-Match": '"1"'})
    assert (refused["code"], refused["limit"]) == ("revision_conflict", 2)
    bad = await bare.call("PUT", "/v1/providers/gcp", status=422, json={"name": "c"}, headers={"If-Match": "x"})
    assert (bad["code"], bad["field"]) == ("invalid_header", "If-Match")
    assert (await bare.get("/v1/providers/gcp"))["name"] == "b"


@pytest.mark.parametrize(
    ("kind", "body", "code", "field"),
    [
        ("providers", {"nmae": "x"}, "unknown_field", "nmae"),
        ("providers", {"name": "x" * 256}, "invalid_field", "name"),
        ("providers", {"name": "a\x00b"}, "invalid_field", "name"),
        ("providers", {"name": 5}, "invalid_field", "name"),
        ("providers", {"id": "other"}, "id_mismatch", "id"),
        ("providers", {"labels": {"": "x"}}, "invalid_field", "labels"),
        ("providers", {"labels": {f"k{i}": "" for i in range(65)}}, "invalid_field", "labels"),
        ("regions", {"country": "kz"}, "invalid_field", "country"),
        ("regions", {"latitude": 91, "longitude": 0}, "invalid_field", "latitude"),
        ("regions", {"latitude": 1.0}, "invalid_field", "body"),
        ("regions", {"latitude": "1", "longitude": 0}, "invalid_field", "latitude"),
        ("data-centers", {"region": "amsterdam"}, "missing_field", "provider"),
        ("data-centers", {"provider": "gcp", "region": "amsterdam", "roles": []}, "invalid_field", "roles"),
        ("data-centers", {"provider": "gcp", "region": "amsterdam", "intent": "maybe"}, "invalid_field", "intent"),
        ("data-centers", {"provider": "gcp", "region": "amsterdam", "capacity": {"sessions": -1}}, "invalid_field",
         "capacity.sessions"),
        ("data-centers", {"provider": "gcp", "region": "amsterdam", "capacity": {"sessions": True}}, "invalid_field",
         "capacity.sessions"),
        ("data-centers", {"provider": "gcp", "region": "atlantis"}, "unknown_reference", "region"),
        ("nodes", {"data_center": "gcp-ams", "addresses": {"internet": "two words"}}, "invalid_field",
         "addresses.internet"),
        ("nodes", {"data_center": "gcp-ams", "reflector_port": 0}, "invalid_field", "reflector_port"),
        ("links", {"from": "gcp-ams", "to": "gcp-ams"}, "invalid_field", "body"),
        ("links", {"from": "gcp-ams", "to": "oracle-iad", "price_usd_per_gb": 1e9}, "invalid_field",
         "price_usd_per_gb"),
        ("policies", {"max_relays": 4}, "invalid_field", "max_relays"),
        ("policies", {"pin": ["gcp-ams", "gcp-ams"]}, "invalid_field", "pin"),
        ("pools", {"max_rtt_ms": 60_001}, "invalid_field", "max_rtt_ms"),
    ],
)  # fmt: skip
async def test_a_wrong_body_names_field_and_rule(
    bare: World, kind: str, body: dict[str, Any], code: str, field: str
) -> None:
    await bare.post("/v1/fleet", fleet())
    refused = await bare.call("PUT", f"/v1/{kind}/thing", status=422, json=body)
    assert (refused["code"], refused["field"]) == (code, field)
    assert refused["rule"] and refused["detail"]
    await bare.call("GET", f"/v1/{kind}/thing", status=404)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "9" * 400])
async def test_numbers_that_are_none_are_refused(bare: World, number: str) -> None:
    body = f'{{"latitude": {number}, "longitude": 0}}'
    refused = await bare.call(
        "PUT", "/v1/regions/r", status=422, content=body, headers={"Content-Type": "application/json"}
    )
    assert (refused["code"], refused["field"]) == ("invalid_field", "latitude")


async def test_collections_are_paged_in_id_order(bare: World) -> None:
    await bare.post("/v1/fleet", fleet())
    first = await bare.get("/v1/data-centers", params={"limit": 3})
    assert [item["id"] for item in first["items"]] == ["gcp-ams", "linode-fra", "oracle-iad"]
    second = await bare.get("/v1/data-centers", params={"limit": 3, "after": first["next"]})
    assert [item["id"] for item in second["items"]] == ["oracle-sin"] and second["next"] is None
    refused = await bare.call("GET", "/v1/data-centers", status=422, params={"limit": 0})
    assert (refused["field"], refused["limit"]) == ("limit", 1)


async def test_what_is_in_use_stays(world: World) -> None:
    refused = await world.call("DELETE", "/v1/providers/gcp", status=409)
    assert refused["code"] == "in_use" and "gcp-ams" in refused["detail"]
    await world.agent()
    session = await world.session()
    held = await world.call("DELETE", f"/v1/data-centers/{session['edge']['data_center']}", status=409)
    assert (held["code"], held["limit"]) == ("sessions_live", 1)


async def test_an_intent_that_is_not_named_stays(bare: World) -> None:
    await bare.post("/v1/fleet", fleet())
    shown = await bare.get("/v1/data-centers/gcp-ams")
    await bare.put("/v1/data-centers/gcp-ams", shown | {"intent": "drained"})
    without = {name: value for name, value in shown.items() if name != "intent"}
    assert (await bare.put("/v1/data-centers/gcp-ams", without | {"media_url": "udp://new:1"}))["intent"] == "drained"
    assert (await bare.post("/v1/fleet", fleet()))["applied"] is True
    assert (await bare.get("/v1/data-centers/gcp-ams"))["intent"] == "drained"


async def test_too_many_contexts_and_transports_are_refused(bare: World) -> None:
    await bare.post("/v1/fleet", fleet())
    for i in range(7):  # 4 plain classes and 4 per policy without a class: 32
        await bare.put(f"/v1/policies/p{i}", {})
    refused = await bare.call("PUT", "/v1/policies/p7", status=422, json={})
    assert (refused["code"], refused["limit"]) == ("too_many_contexts", 32)
    body = {"from": "gcp-ams", "to": "oracle-iad"}
    for i in range(3):
        await bare.put(f"/v1/links/l{i}", body | {"transport": f"t{i}"})
    refused = await bare.call("PUT", "/v1/links/l3", status=422, json=body | {"transport": "t3"})
    assert (refused["code"], refused["limit"]) == ("too_many_transports", 4)


async def test_a_fleet_is_compared_then_applied_whole(bare: World) -> None:
    planned = await bare.post("/v1/fleet", fleet(dry_run=True))
    assert planned["applied"] is False
    assert {(c["action"], c["kind"], c["id"]) for c in planned["changes"]} >= {("create", "data-centers", "gcp-ams")}
    assert (await bare.get("/v1/data-centers"))["items"] == []
    applied = await bare.post("/v1/fleet", fleet())
    assert applied["applied"] is True and applied["changes"] == planned["changes"]
    assert (await bare.post("/v1/fleet", fleet()))["changes"] == []
    changed = fleet()
    changed["data_centers"][0]["capacity"]["sessions"] = 7
    update = await bare.post("/v1/fleet", changed)
    (change,) = update["changes"]
    assert (change["action"], change["id"], list(change["fields"])) == ("update", "gcp-ams", ["capacity"])
    assert change["fields"]["capacity"]["before"]["sessions"] == 100
    assert change["fields"]["capacity"]["after"]["sessions"] == 7


@pytest.mark.parametrize("dry_run", [True, False])
async def test_a_fleet_with_one_mistake_changes_nothing(bare: World, dry_run: bool) -> None:
    broken = fleet(dry_run=dry_run, nodes=[{"id": "n", "data_center": "nowhere"}])
    refused = await bare.call("POST", "/v1/fleet", status=422, json=broken)
    assert refused["code"] == "unknown_reference" and refused["field"] == "nodes.n.data_center"
    assert (await bare.get("/v1/providers"))["items"] == []


async def test_prune_deletes_what_carries_the_label_and_nothing_else(bare: World) -> None:
    await bare.put("/v1/providers/by-hand", {})
    await bare.post("/v1/fleet", {"providers": [{"id": "a"}, {"id": "b"}], "managed_by": "team-x"})
    await bare.post("/v1/fleet", {"providers": [{"id": "c"}], "managed_by": "team-y"})
    pruned = await bare.post("/v1/fleet", {"providers": [{"id": "a"}], "managed_by": "team-x", "prune": True})
    assert [(c["action"], c["id"]) for c in pruned["changes"]] == [("delete", "b")]
    left = [item["id"] for item in (await bare.get("/v1/providers"))["items"]]
    assert left == ["a", "by-hand", "c"]
    refused = await bare.call("POST", "/v1/fleet", status=422, json={"prune": True})
    assert "managed_by" in refused["detail"]


async def test_a_fleet_names_each_id_once(bare: World) -> None:
    twice = await bare.call("POST", "/v1/fleet", status=422, json={"providers": [{"id": "a"}, {"id": "a"}]})
    assert "providers[1].id" in twice["detail"]
    none = await bare.call("POST", "/v1/fleet", status=422, json={"providers": [{}]})
    assert "providers[0].id is required" in none["detail"]
