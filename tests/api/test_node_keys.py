"""Pairwise keys: the node itself gets them, they fit each other, and nobody else sees them anywhere."""

from __future__ import annotations

import gzip
import logging
from pathlib import Path

import httpx
import pytest

from probes.keys import derive
from probes.wire import ProbePlan, decode_plan
from router.api.node_keys import with_keys
from router.bootstrap import build
from tests.api.conftest import ADMIN_KEY, PLACES, World, fleet, node_body, settings_for

NODES = [f"{name}-1" for name in PLACES]


async def own_plan(world: World, node: str) -> ProbePlan:
    return decode_plan(await world.get(f"/v1/nodes/{node}/plan", headers=world.node_headers(node)))


def secrets_of(plan: ProbePlan) -> list[str]:
    own = [plan.own_key, *plan.own_keys_also]
    return [*own, *(peer.key for peer in plan.peers), *(relay.key for relay in plan.relays)]


async def test_the_receiver_derives_the_key_that_the_sender_was_given(world: World) -> None:
    plans = {node: await own_plan(world, node) for node in NODES}
    assert len({plan.own_key for plan in plans.values()}) == len(NODES)
    for plan in plans.values():
        assert len(plan.peers) == len(NODES) - 1
        for peer in plan.peers:
            assert peer.key == derive(bytes.fromhex(plans[peer.node].own_key), peer.key_id).hex()
    keys = [peer.key for plan in plans.values() for peer in plan.peers]
    assert len(set(keys)) == len(keys)  # per direction of each pair


async def test_joining_brings_the_keys_and_relays_that_are_not_probed_have_one_too(world: World) -> None:
    for number in (2, 3):
        token = await world.post("/v1/data-centers/oracle-sin/join-tokens", {"expires_in_s": 60})
        node = node_body(f"oracle-sin-{number}") | {"relay_port": 7422, "addresses": {"internet": f"127.0.0.{number}"}}
        joined = await world.call("POST", "/v1/join", json={"token": token["token"], "node": node})
        assert all(secrets_of(decode_plan(joined["plan"])))
    plan = await own_plan(world, "gcp-ams-1")
    assert {relay.node for relay in plan.relays} | {peer.node for peer in plan.peers} >= {
        "oracle-sin-2",
        "oracle-sin-3",
    }
    addresses = [(relay.host, relay.relay_port) for relay in plan.relays]
    assert addresses
    assert not set(addresses) & {(peer.host, peer.relay_port) for peer in plan.peers}
    assert all(secrets_of(plan))


@pytest.mark.parametrize("scope", ["viewer", "media", "operator", "admin"])
async def test_others_see_plans_without_keys(world: World, scope: str) -> None:
    plan = decode_plan(await world.get("/v1/nodes/gcp-ams-1/plan", headers=await world.key(scope)))
    assert not any(secrets_of(plan))
    assert plan.peers
    other = world.node_headers("oracle-iad-1")
    refused = await world.call("GET", "/v1/nodes/gcp-ams-1/plan", status=403, headers=other)
    assert refused["code"] == "not_your_node"


async def test_keys_are_nowhere_but_in_the_answers(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """Logs, events, metrics and everything on disk, the flight recorder's segments and the saved table included."""
    caplog.set_level(logging.DEBUG)
    settings = settings_for(tmp_path).model_copy(update={"flight_recorder_mb": 8})
    told = ""
    app = build(settings)
    await app.start()
    try:
        transport = httpx.ASGITransport(app=app.http, raise_app_exceptions=False)
        headers = {"Authorization": f"Bearer {ADMIN_KEY}"}
        async with httpx.AsyncClient(transport=transport, base_url="http://tendril", headers=headers) as http:
            world = World(app, http)
            await world.post("/v1/fleet", fleet())
            for name in PLACES:
                await world.join(f"{name}-1", name)
            await world.measured()
            plans = [await own_plan(world, node) for node in NODES]
            for path in ("/v1/events", "/v1/nodes", "/v1/health", "/metrics"):
                told += (await http.get(path)).text
    finally:
        await app.stop()
    keys = [key for plan in plans for key in secrets_of(plan)]
    assert len(keys) == 24 and all(keys)
    told += caplog.text + "".join(capfd.readouterr()) + repr(plans)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert any(path.suffix == ".db" or "db" in path.name for path in files) and any("flight" in str(p) for p in files)
    contents = [path.read_bytes() for path in files]
    contents += [gzip.decompress(content) for content in contents if content[:2] == b"\x1f\x8b"]
    for key in keys:
        assert key not in told
        assert not any(key.encode() in content or bytes.fromhex(key) in content for content in contents)


def test_a_plan_s_keys_depend_on_the_secret() -> None:
    plan = ProbePlan("a-1", "a", 1, 0, 1, 1_000_000, 1_000_000)
    one, two = with_keys(plan, b"one"), with_keys(plan, b"two")
    assert one.own_key != two.own_key
    assert one.own_key not in repr(one)
