"""Server-sent events through a real server: the watch of an ingress' routes, and the live stream."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from router.api.closing import Closing
from router.api.watch import Watcher
from router.core.model import TrafficClass
from router.schemas.routes import worth_telling
from tests.api.conftest import ADMIN_KEY, World, listening


@dataclass
class Sse:
    """One event as it came over the wire."""

    kind: str
    data: Any
    id: str | None


class Reader:
    """Reads events one by one, with a deadline for each."""

    def __init__(self, response: httpx.Response) -> None:
        self._lines = response.aiter_lines()
        self.heartbeats = 0

    async def next(self, timeout_s: float = 20) -> Sse:
        return await asyncio.wait_for(self._next(), timeout_s)

    async def _next(self) -> Sse:
        fields: dict[str, str] = {}
        async for line in self._lines:
            if line.startswith(":"):
                self.heartbeats += 1
            elif line:
                name, _, value = line.partition(": ")
                fields[name] = value
            elif "data" in fields:
                return Sse(fields.get("event", "message"), json.loads(fields["data"]), fields.get("id"))
        raise AssertionError("the stream ended")


@asynccontextmanager
async def reading(url: str, path: str, **headers: str) -> AsyncIterator[Reader]:
    """Open a stream with the admin key, unless the headers say otherwise."""
    given = {"Authorization": f"Bearer {ADMIN_KEY}"} | headers
    async with (
        httpx.AsyncClient(base_url=url, headers=given, timeout=30) as http,
        http.stream("GET", path) as response,
    ):
        assert response.status_code == 200
        assert response.headers["Content-Type"].startswith("text/event-stream")
        assert response.headers["X-Accel-Buffering"] == "no"
        yield Reader(response)


async def test_a_watch_sends_a_table_then_deltas_and_resumes(world: World) -> None:
    async with listening(world.app) as url:
        path = "/v1/routes/watch?from=linode-fra"
        async with reading(url, path) as reader:
            table = await reader.next()
            assert table.kind == "table" and table.id == str(table.data["generation"])
            assert {r["to"] for r in table.data["routes"]} == {"gcp-ams", "oracle-iad", "oracle-sin"}
            relay = await world.get("/v1/data-centers/gcp-ams")
            await world.put("/v1/data-centers/gcp-ams", relay | {"intent": "drained"})
            while True:
                delta = await reader.next()
                assert delta.kind == "delta" and int(str(delta.id)) > int(str(table.id))
                changed = {r["to"]: r for r in delta.data["routes"]}
                if "oracle-iad" in changed:
                    break
            assert changed["oracle-iad"]["forward"]["path"] == ["linode-fra", "oracle-iad"]
        for _ in range(50):  # a generation may come between looking and asking
            generation = world.app.runtime.view.generation
            async with reading(url, path, **{"Last-Event-ID": str(generation)}) as reader:
                await world.report_all()
                if (first := await reader.next()).kind == "delta":
                    break
        assert first.kind == "delta"
        async with reading(url, path, **{"Last-Event-ID": "12"}) as reader:
            assert (await reader.next()).kind == "table"
            await world.call("DELETE", "/v1/nodes/oracle-sin-1", status=204)
            await world.call("DELETE", "/v1/data-centers/oracle-sin", status=204)
            while (delta := await reader.next()).data["gone"] != ["oracle-sin"]:
                assert delta.kind == "delta"


async def test_a_watch_ends_when_its_ingress_is_deleted(world: World) -> None:
    async with (
        listening(world.app) as url,
        reading(url, "/v1/routes/watch?from=oracle-sin") as reader,
    ):
        assert (await reader.next()).kind == "table"
        await world.call("DELETE", "/v1/nodes/oracle-sin-1", status=204)
        await world.call("DELETE", "/v1/data-centers/oracle-sin", status=204)
        while (last := await reader.next()).kind == "delta":
            pass
        assert (last.kind, last.data["code"]) == ("end", "unknown_data_center")


async def test_a_reader_that_was_slow_gets_a_fresh_table(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("router.api.watch.SLOW_US", -1)  # everybody is too slow
    stream = Watcher(world.app.runtime, "linode-fra", TrafficClass.VOICE, None).events(False, Closing())
    first, second, third = [await anext(stream) for _ in range(3)]
    assert b"event: table\n" in first
    assert b"event: delta\n" in second or second.startswith(b":")
    assert b"event: table\n" in third
    await stream.aclose()


def test_small_wobbles_are_not_worth_telling() -> None:
    held = (("a", "b"), 100_000)
    assert not worth_telling(held, (("a", "b"), 101_500))
    assert worth_telling(held, (("a", "b"), 102_500))
    assert worth_telling(held, (("a", "c"), 100_000))
    assert worth_telling(None, held)


async def test_the_live_stream_says_hello_then_everything_that_happens(world: World) -> None:
    signed = await world.http.post("/v1/sign-in", json={"key": ADMIN_KEY})
    cookie = signed.headers["Set-Cookie"].partition(";")[0]
    async with (
        listening(world.app) as url,
        httpx.AsyncClient(base_url=url, timeout=30) as http,
        http.stream("GET", "/v1/stream", headers={"Cookie": cookie}) as response,
    ):
        assert response.status_code == 200
        reader = Reader(response)
        hello = await reader.next()
        assert hello.kind == "hello" and hello.data["epoch"] == 1 and hello.data["now"].endswith("Z")
        seen: dict[str, Any] = {}
        await world.post("/v1/drains", {"selector": "data_center=gcp-ams"})
        while not {"generation", "event"} <= seen.keys():
            got = await reader.next()
            seen[got.kind] = got.data
        assert seen["generation"]["generation"] > hello.data["generation"]
        assert {"at", "kind", "subject", "actor", "reason", "detail"} <= seen["event"].keys()
        assert seen["event"]["at"].endswith("Z")


async def test_a_server_stops_although_a_stream_is_open(world: World) -> None:
    opened = asyncio.Event()
    ended = asyncio.Event()

    async def follow(url: str) -> None:
        async with reading(url, "/v1/stream") as reader:
            assert (await reader.next()).kind == "hello"
            opened.set()
            with pytest.raises((AssertionError, httpx.HTTPError)):
                while True:
                    await reader.next(60)
            ended.set()

    async with listening(world.app) as url:
        following = asyncio.ensure_future(follow(url))
        await asyncio.wait_for(opened.wait(), 20)
    await asyncio.wait_for(following, 20)
    assert ended.is_set()


async def test_who_waits_is_let_go_when_the_server_stops(world: World) -> None:
    started = asyncio.get_running_loop().time()
    node = "gcp-ams-1"
    plan = await world.http.get(f"/v1/nodes/{node}/plan", headers=world.node_headers(node))
    async with httpx.AsyncClient(timeout=60) as http:
        async with listening(world.app) as url:
            headers = world.node_headers(node) | {"If-None-Match": plan.headers["ETag"]}
            polling = asyncio.ensure_future(http.get(f"{url}/v1/nodes/{node}/plan?wait_s=60", headers=headers))
            while not world.app.runtime._plans:  # until the poll is really waiting
                await asyncio.sleep(0.01)
        assert (await polling).status_code == 304
    assert asyncio.get_running_loop().time() - started < 30


async def test_who_follows_sees_ramps_go_on(world: World) -> None:
    async with listening(world.app) as url, reading(url, "/v1/stream") as reader:
        ramp = await world.post("/v1/ramps", {"data_center": "oracle-sin", "kind": "return"})
        while (item := await reader.next()).kind != "ramp":
            pass
        assert (item.data["id"], item.data["state"], item.data["share_pct"]) == (ramp["id"], "canary", 10.0)
        assert item.data["climb"]["canary"]["begun"] == 0


async def test_who_follows_sees_how_far_a_drain_is_and_what_holds_it_up(world: World) -> None:
    await world.agent()
    session = await world.session()
    edge = session["edge"]["data_center"]
    async with listening(world.app) as url, reading(url, "/v1/stream") as reader:
        made = await world.post("/v1/drains", {"selector": {"data_center": edge}})
        while (item := await reader.next()).kind != "drain" or not item.data["blocked_by"]:
            pass
        shown = await world.get(f"/v1/drains/{made['id']}")
    for told in (item.data, shown):
        assert (told["id"], told["sessions_left"], told["eta_s"]) == (made["id"], 1, None), "nobody leaves: no time"
        assert told["blocked_by"] == ["1 sessions must end by themselves: there is no deadline"]
    kinds = [one["kind"] for one in (await world.get("/v1/events"))["items"] if one["subject"] == made["id"]]
    assert any(kind.startswith("drain.") for kind in kinds)
