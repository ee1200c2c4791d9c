"""Hot paths without the parser: the same bytes as with it, in order, and nothing that can be read in two ways."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.api import connection as module
from router.api.whole import MOST_BYTES, read
from tests.api.conftest import World, listening
from tests.api.test_repeats import wired

SOMEBODY = json.dumps({"client": {"latitude": 50.0, "longitude": 8.0}, "pool": "tutors"}).encode()
START = b"POST /v1/sessions HTTP/1.1\r\nHost: t\r\nAuthorization: Bearer x\r\nContent-Type: application/json\r\n"


def request(world: World, method: str, path: str, *more: str, body: bytes = b"") -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: tendril", f"Authorization: {world.http.headers['authorization']}"]
    lines += [*more, "Content-Type: application/json", f"Content-Length: {len(body)}"] if body else more
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + body


@pytest.fixture
def short_ways(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paths of the requests that went to their hot path without the parser."""
    seen: list[str] = []
    asked = module.Connection._asked

    def noting(self: module.Connection, whole: Any) -> Any:
        seen.append(whole.path)
        return asked(self, whole)

    monkeypatch.setattr(module.Connection, "_asked", noting)
    return seen


async def ready(world: World, agents: int = 1) -> None:
    await world.furnish()
    await world.measured()
    for number in range(agents):
        await world.agent(f"ai-{number}")


def undated(answer: tuple[bytes, bytes]) -> tuple[bytes, bytes]:
    head = re.sub(rb"date: [^\r]*", b"", answer[0])
    ages = rb'("(?:age_ms|epoch)":|"id":"s-)[0-9a-f.]+|"token":"[^"]+"|"[0-9-]{10}T[^"]+"|"reasons":\[[^]]*\]'
    return re.sub(rb"content-length: \d+", b"", head), re.sub(ages, b"", answer[1])


async def test_a_session_has_the_same_bytes_with_and_without_the_parser(world: World, short_ways: list[str]) -> None:
    await ready(world)
    async with listening(world.app) as url, wired(url) as wire:
        seen = []
        for more in ((), ("Connection: keep-alive",)):  # a header about framing: for the parser
            begun = await wire.ask(request(world, "POST", "/v1/sessions", *more, body=SOMEBODY))
            assert begun[0].startswith(b"HTTP/1.1 201 Created\r\n"), begun
            path = f"/v1/sessions/{json.loads(begun[1])['id']}"
            shown = await wire.ask(request(world, "GET", path, *more))
            ended = await wire.ask(request(world, "DELETE", path, *more))
            seen.append([undated(answer) for answer in (begun, shown, ended)])
        assert seen[0] == seen[1]
        assert len(short_ways) == 3


async def test_refusals_and_what_only_the_framework_knows(world: World, short_ways: list[str]) -> None:
    await ready(world, agents=0)
    async with listening(world.app) as url, wired(url) as wire:
        for data, status, code in (
            (request(world, "POST", "/v1/sessions", body=SOMEBODY), b"409", "no_idle_agent"),
            (request(world, "DELETE", "/v1/sessions/s-000000000000"), b"404", "unknown_session"),
            (request(world, "POST", "/v1/sessions", body=b"{}"), b"422", "missing_field"),
            (START + b"Content-Length: 2\r\n\r\n{}", b"401", "key_invalid"),
        ):
            head, body = await wire.ask(data)
            assert head.split()[1] == status and json.loads(body)["code"] == code, (head, body)
        assert len(short_ways) == 4


async def test_a_large_batch_is_whole_and_the_same_with_and_without_the_parser(
    world: World, short_ways: list[str]
) -> None:
    await ready(world, agents=0)
    ids = list(world.app.runtime.inventory.data_centers)
    pairs = [{"from": a, "to": b} for a in ids for b in ids if a != b]
    body = json.dumps({"pairs": pairs * (100 // len(pairs) + 1)}).encode()
    async with listening(world.app) as url, wired(url) as wire:
        seen = []
        for more in ((), (), ("Connection: keep-alive",)):
            seen.append(await wire.ask(request(world, "POST", "/v1/routes/batch", *more, body=body)))
            assert len(seen[-1][1]) > module.MOST_JOINED
            assert int(re.search(rb"content-length: (\d+)", seen[-1][0])[1]) == len(seen[-1][1])  # type: ignore[index]
        told = [json.loads(answer)["routes"] for _, answer in seen]
        assert [[(one["from"], one["to"]) for one in routes] for routes in told] == [
            [(pair["from"], pair["to"]) for pair in json.loads(body)["pairs"]]
        ] * 3
        assert len(short_ways) == 1, "the second head was known, the third is for the parser"


async def test_what_comes_meanwhile_waits_its_turn(world: World, short_ways: list[str]) -> None:
    await ready(world, agents=3)
    one = request(world, "POST", "/v1/sessions", body=SOMEBODY)
    other = request(world, "GET", "/v1/pools")
    async with listening(world.app) as url, wired(url) as wire:
        wire.writer.write(one)
        await asyncio.sleep(0)
        for data in (other, one[:40], one[40:], one):
            wire.writer.write(data)
            await wire.writer.drain()
            await asyncio.sleep(0.001)
        kinds = [json.loads((await wire.answer())[1]) for _ in range(4)]
        assert ["items" if "items" in found else found["state"] for found in kinds] == [
            "attaching", "items", "attaching", "attaching",
        ]  # fmt: skip
        assert len({found["id"] for found in kinds if "id" in found}) == 3
        assert (await wire.ask(other))[0].startswith(b"HTTP/1.1 200")


async def test_who_hangs_up_has_a_session_all_the_same_and_hurts_nobody(world: World) -> None:
    await ready(world)
    data = request(world, "POST", "/v1/sessions", "Idempotency-Key: k1", body=SOMEBODY)
    async with listening(world.app) as url:
        _, writer = await asyncio.open_connection(*url.removeprefix("http://").split(":"))
        writer.write(data)
        await writer.drain()
        writer.transport.abort()
        async with wired(url) as wire:
            again = await wire.ask(data)
            assert again[0].startswith(b"HTTP/1.1 201")
            assert len((await world.get("/v1/sessions"))["items"]) == 1


async def test_a_stop_lets_the_request_under_way_be_answered(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await ready(world)
    begun, go_on = asyncio.Event(), asyncio.Event()
    start = world.app.runtime.turnstile.start

    async def slow(what: Any) -> Any:
        begun.set()
        await go_on.wait()
        return await start(what)

    monkeypatch.setattr(world.app.runtime.turnstile, "start", slow)
    async with listening(world.app) as url:
        reader, writer = await asyncio.open_connection(*url.removeprefix("http://").split(":"))
        writer.write(request(world, "POST", "/v1/sessions", body=SOMEBODY))
        await begun.wait()
        asyncio.get_running_loop().call_later(0.3, go_on.set)
    text = await reader.read()
    writer.close()
    assert text.startswith(b"HTTP/1.1 201") and b"\r\nconnection: close\r\n" in text


@pytest.mark.parametrize(
    "data",
    [
        START + b"Content-Length: 2\r\n\r\n{",
        START + b"Content-Length: 2\r\n\r\n{}x",
        START + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}",
        START + b"content-length: 2\r\nCONTENT-LENGTH: 3\r\n\r\n{}",
        START + b"Content-Length: +2\r\n\r\n{}",
        START + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        START + b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n{}",
        START + b"Connection: close\r\nContent-Length: 2\r\n\r\n{}",
        START + b"Content-Length : 2\r\n\r\n{}",
        START + b"X-A: b\r\n c\r\nContent-Length: 2\r\n\r\n{}",
        START + b"X-A: b\nContent-Length: 2\r\n\r\n{}",
        START.replace(b"1.1", b"1.0") + b"Content-Length: 2\r\n\r\n{}",
        START.replace(b"/sessions", b"/%73essions") + b"Content-Length: 2\r\n\r\n{}",
        START.replace(b"/v1", b"http://t/v1") + b"Content-Length: 2\r\n\r\n{}",
        START.replace(b"Host: t\r\n", b"") + b"Content-Length: 2\r\n\r\n{}",
        START + b"X-A: \xe4\r\nContent-Length: 2\r\n\r\n{}",
        START + b"X-A: \x00\r\nContent-Length: 2\r\n\r\n{}",
        START + b"Content-Length: 70000\r\n\r\n" + b" " * 70_000,
        START,
        b"",
    ],
)
def test_what_could_be_read_in_two_ways_is_for_the_parser(data: bytes) -> None:
    assert read(data) is None


@given(body=st.binary(max_size=300), query=st.sampled_from([b"", b"?a=1&b=c"]), pad=st.sampled_from([b"", b" "]))
def test_a_whole_request_is_taken_apart(body: bytes, query: bytes, pad: bytes) -> None:
    data = START.replace(b"sessions", b"sessions" + query) + b"Content-Length:%s%d\r\n\r\n" % (pad, len(body)) + body
    found = read(data)
    assert found is not None and len(data) < MOST_BYTES
    assert (found.method, found.path, found.query, found.body) == ("POST", "/v1/sessions", query[1:], body)
    assert found.headers[0] == (b"host", b"t") and found.headers[-1] == (b"content-length", b"%d" % len(body))
