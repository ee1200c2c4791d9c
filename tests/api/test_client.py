"""The typed client against a real control plane over real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import TypeVar

import pytest

from router.client import ApiProblem, Client, ServerEvent
from tests.api.conftest import ADMIN_KEY, World, listening

T = TypeVar("T")


class Caller:
    """Runs a client's calls in a thread, as the loop of this test serves them."""

    def __init__(self, url: str) -> None:
        self.url = url

    async def __call__(self, ask: Callable[[Client], T], key: str | None = ADMIN_KEY) -> T:
        def work() -> T:
            with Client(self.url, key) as client:
                return ask(client)

        return await asyncio.to_thread(work)


@pytest.fixture
async def caller(world: World) -> AsyncIterator[Caller]:
    async with listening(world.app) as url:
        yield Caller(url)


async def test_routes_and_their_explanation(caller: Caller) -> None:
    route = await caller(lambda client: client.route("linode-fra", "oracle-iad"))
    assert route["forward"]["path"] == ["linode-fra", "gcp-ams", "oracle-iad"]
    explained = await caller(lambda client: client.explain("linode-fra", "oracle-iad", traffic_class="video"))
    assert explained["class"] == "video"
    assert "in force" in {candidate["verdict"] for candidate in explained["forward"]}
    batch = await caller(lambda client: client.routes([("linode-fra", "oracle-iad"), ("gcp-ams", "oracle-sin")]))
    assert [(r["from"], r["to"]) for r in batch["routes"]] == [("linode-fra", "oracle-iad"), ("gcp-ams", "oracle-sin")]


async def test_a_table_is_not_sent_twice_and_a_long_poll_waits(caller: Caller) -> None:
    table, etag = await caller(lambda client: client.table("linode-fra"))
    assert table is not None and len(table["routes"]) == 3
    assert etag == f'"{table["generation"]}"'
    again, newer = await caller(lambda client: client.table("linode-fra", etag=etag, wait_s=0.1))
    if again is None:  # nothing newer within the wait
        assert newer == etag
    else:
        assert again["generation"] > table["generation"]


async def test_links_matrix_health_flows(caller: Caller) -> None:
    links = await caller(lambda client: client.links(source="linode-fra", transport="internet"))
    assert {link["to"] for link in links} == {"gcp-ams", "oracle-iad", "oracle-sin"}
    matrix = await caller(lambda client: client.matrix())
    at = matrix["data_centers"].index
    assert matrix["rtt_ms"][at("linode-fra")][at("oracle-iad")] == pytest.approx(120, rel=0.02)
    health = await caller(lambda client: client.health())
    assert {dc["id"] for dc in health["data_centers"]} == set(matrix["data_centers"])
    assert (await caller(lambda client: client.flows()))["relays"] == []


async def test_resources_are_put_read_and_deleted_with_their_revision(caller: Caller) -> None:
    made = await caller(lambda client: client.put("pools", "night", {"class": "voice"}))
    same = await caller(lambda client: client.put("pools", "night", {"class": "voice"}, if_match=made["revision"]))
    assert same["revision"] == made["revision"]
    assert "night" in {pool["id"] for pool in await caller(lambda client: client.resources("pools"))}
    with pytest.raises(ApiProblem) as caught:
        await caller(lambda client: client.put("pools", "night", {"class": "video"}, if_match=made["revision"] + 1))
    assert (caught.value.status, caught.value.code) == (412, "revision_conflict")
    await caller(lambda client: client.delete("pools", "night"))
    with pytest.raises(ApiProblem) as caught:
        await caller(lambda client: client.resource("pools", "night"))
    assert (caught.value.status, caught.value.code) == (404, "unknown_pool")


async def test_a_session_from_start_to_end(caller: Caller) -> None:
    agent = {"id": "ai-1", "data_center": "oracle-iad", "address": "127.0.0.1:7424"}
    await caller(lambda client: client.register_agent("tutors", agent))
    body = {"client": {"latitude": 50.0, "longitude": 8.0}, "pool": "tutors"}
    placed = await caller(lambda client: client.steer(body))
    session = await caller(lambda client: client.start_session(body, idempotency_key="once"))
    replayed = await caller(lambda client: client.start_session(body, idempotency_key="once"))
    assert replayed["id"] == session["id"]
    assert session["edge"]["data_center"] == placed["edges"][0]["data_center"]
    assert session["agent"]["id"] == "ai-1"
    assert [s["id"] for s in await caller(lambda client: client.sessions({"pool": "tutors"}))] == [session["id"]]
    resumed = await caller(lambda c: c.resume_session(session["id"], session["token"], body["client"]))
    assert resumed["agent"]["id"] == "ai-1"
    given = [resumed["edge"]["data_center"]]
    newest = await caller(lambda c: c.resume_session(session["id"], resumed["token"], body["client"], given))
    assert newest["edge"]["data_center"] not in given
    with pytest.raises(ApiProblem) as caught:
        await caller(lambda c: c.resume_session(session["id"], session["token"], body["client"]))
    assert (caught.value.status, caught.value.code) == (409, "fenced")
    assert (await caller(lambda client: client.end_session(session["id"])))["state"] == "ended"
    kinds = [event["kind"] for event in await caller(lambda client: client.session_events(session["id"]))]
    assert kinds[0] == "session.started"
    assert [a["state"] for a in await caller(lambda client: client.agents("tutors"))] == ["ready"]


async def test_a_drain_from_plan_to_undo(caller: Caller) -> None:
    body = {"selector": "data_center=gcp-ams", "mode": "hard", "reason": "test", "dry_run": True}
    plan = await caller(lambda client: client.drain(body))
    assert (plan["targets"], plan["drain"]) == (["gcp-ams"], None)
    started = await caller(lambda client: client.drain(body | {"dry_run": False}))
    route = await caller(lambda client: client.route("linode-fra", "oracle-iad"))
    assert "gcp-ams" not in route["forward"]["path"]
    for _ in range(200):
        (drain,) = await caller(lambda client: client.drains())
        if drain["state"] == "drained":
            break
        await asyncio.sleep(0.05)
    assert (drain["id"], drain["state"]) == (started["id"], "drained")
    assert (await caller(lambda client: client.act_on_drain(started["id"], "undo")))["state"] == "undone"


async def test_keys_decide_what_may_be_done(caller: Caller) -> None:
    made = await caller(lambda client: client.create_key("viewer", "wall display"))
    assert (await caller(lambda client: client.health(), key=made["key"]))["generation"] > 0
    with pytest.raises(ApiProblem) as caught:
        await caller(lambda client: client.join_token("gcp-ams", 60), key=made["key"])
    assert (caught.value.status, caught.value.code) == (403, "scope_insufficient")
    await caller(lambda client: client.revoke_key(made["id"]))
    with pytest.raises(ApiProblem) as caught:
        await caller(lambda client: client.health(), key=made["key"])
    assert (caught.value.status, caught.value.code) == (401, "key_invalid")
    assert (await caller(lambda client: client.join_token("gcp-ams", 60)))["data_center"] == "gcp-ams"
    assert made["id"] in {key["id"] for key in await caller(lambda client: client.keys())}


async def test_events_are_paged_and_filtered(caller: Caller) -> None:
    for i in range(3):
        await caller(lambda client, i=i: client.put("pools", "night", {"max_rtt_ms": 100.0 + i}))  # type: ignore[misc]
    found = await caller(lambda client: client.events(subject="night", limit=2))
    assert [event["kind"] for event in found] == ["pool.updated", "pool.updated"]
    assert len(await caller(lambda client: client.events(kind="pool.created", subject="night"))) == 1


@pytest.mark.timeout(60)
async def test_the_stream_says_hello_and_tells_what_happens(world: World, caller: Caller) -> None:
    loop, greeted = asyncio.get_running_loop(), asyncio.Event()

    def follow(client: Client) -> tuple[ServerEvent, ServerEvent]:
        stream = client.stream()
        hello = next(stream)
        loop.call_soon_threadsafe(greeted.set)
        return hello, next(item for item in stream if item.kind == "event" and item.data["subject"] == "gcp-ams")

    following = asyncio.ensure_future(caller(follow))
    await greeted.wait()
    await world.put("/v1/data-centers/gcp-ams", await world.get("/v1/data-centers/gcp-ams") | {"intent": "cordoned"})
    hello, event = await following
    assert hello.kind == "hello" and hello.data["generation"] > 0
    assert event.data["kind"] == "data_center.updated" and event.data["actor"].startswith("key:")
    assert "cordoned" in str(event.data["detail"])


@pytest.mark.timeout(60)
async def test_watching_gives_the_table_first_and_then_what_changed(caller: Caller) -> None:
    def follow(client: Client) -> list[ServerEvent]:
        watch = client.watch("linode-fra")
        table = next(watch)
        with Client(caller.url, ADMIN_KEY) as other:
            other.drain({"selector": "data_center=gcp-ams", "mode": "hard", "reason": "test"})
        # Generations without news come as empty deltas; the drain's is the first that has a route.
        return [table, next(item for item in watch if item.data["routes"])]

    table, delta = await caller(follow)
    assert (table.kind, delta.kind) == ("table", "delta")
    ways = {route["to"]: route["forward"] for route in delta.data["routes"]}
    assert "gcp-ams" not in ways["oracle-iad"]["path"]


async def test_a_fleet_is_compared_and_applied(caller: Caller) -> None:
    body = {"pools": [{"id": "night", "class": "voice"}], "managed_by": "test"}
    planned = await caller(lambda client: client.apply_fleet(body | {"dry_run": True}))
    assert planned["applied"] is False
    applied = await caller(lambda client: client.apply_fleet(body))
    assert [(c["action"], c["kind"], c["id"]) for c in applied["changes"]] == [("create", "pools", "night")]
    pruned = await caller(lambda client: client.apply_fleet({"managed_by": "test", "prune": True}))
    assert [(c["action"], c["id"]) for c in pruned["changes"]] == [("delete", "night")]
