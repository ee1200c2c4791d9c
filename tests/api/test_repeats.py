"""Requests that come again byte for byte: the same answers as the long way gives, and nothing else is remembered."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from router.api import repeats as module
from router.api.hot import HotApp
from tests.api.conftest import PLACES, World, listening
from tests.api.test_hot import stop

A, B = list(PLACES)[:2]


class Wire:
    """A bare connection: bytes out, one answer with its length in."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def ask(self, data: bytes) -> tuple[bytes, bytes]:
        self.writer.write(data)
        return await self.answer()

    async def answer(self) -> tuple[bytes, bytes]:
        head = await self.reader.readuntil(b"\r\n\r\n")
        found = re.search(rb"content-length: (\d+)", head)
        return head, await self.reader.readexactly(int(found[1]) if found else 0)


@asynccontextmanager
async def wired(url: str) -> AsyncIterator[Wire]:
    reader, writer = await asyncio.open_connection(*url.removeprefix("http://").split(":"))
    try:
        yield Wire(reader, writer)
    finally:
        writer.close()
        await writer.wait_closed()


def request(world: World, path: str, *more: str, key: str | None = None) -> bytes:
    text = key or world.http.headers["authorization"]
    lines = [f"GET {path} HTTP/1.1", "host: tendril", f"authorization: {text}", *more]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


@pytest.fixture
def short_ways(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What was answered without the parser."""
    seen: list[bytes] = []
    answer = module.Repeats.answer

    def counting(self: module.Repeats, data: bytes, runtime: Any) -> bytes | None:
        body = answer(self, data, runtime)
        if body is not None:
            seen.append(data)
        return body

    monkeypatch.setattr(module.Repeats, "answer", counting)
    return seen


async def test_the_second_answer_has_the_bytes_of_the_first(
    world: World, monkeypatch: pytest.MonkeyPatch, short_ways: list[bytes]
) -> None:
    await world.measured()
    stop(world, monkeypatch)
    asked = request(world, f"/v1/routes/{A}/{B}?class=voice")
    async with listening(world.app) as url, wired(url) as wire:
        first, *others = [await wire.ask(asked) for _ in range(4)]
        assert first[0].startswith(b"HTTP/1.1 200") and json.loads(first[1])["forward"]
        undated = [(re.sub(rb"date: [^\r]*", b"", head), body) for head, body in (first, *others)]
        assert undated == undated[:1] * 4
        assert short_ways == [asked] * 3
    async with listening(world.app) as url, wired(url) as wire:  # what one connection learned another one uses
        assert (await wire.ask(asked))[1] == first[1]
        assert len(short_ways) == 4


async def test_its_age_is_that_of_the_instant(
    world: World, monkeypatch: pytest.MonkeyPatch, short_ways: list[bytes]
) -> None:
    await world.measured()
    asked = request(world, f"/v1/routes/{A}/{B}")
    async with listening(world.app) as url, wired(url) as wire:
        ages = []
        for later_us in (0, 0, 5_000_000):
            stop(world, monkeypatch, later_us)
            ages.append(json.loads((await wire.ask(asked))[1])["age_ms"])
        assert len(short_ways) == 2
        assert ages[2] - ages[1] >= 5_000


async def test_a_revoked_key_is_refused_the_next_time(world: World, short_ways: list[bytes]) -> None:
    await world.measured()
    made = await world.post("/v1/keys", {"scope": "viewer", "name": "media"})
    asked = request(world, f"/v1/routes/{A}/{B}", key=f"Bearer {made['key']}")
    async with listening(world.app) as url, wired(url) as wire:
        for _ in range(2):
            assert (await wire.ask(asked))[0].startswith(b"HTTP/1.1 200")
        assert len(short_ways) == 1
        await world.call("DELETE", f"/v1/keys/{made['id']}")
        assert (await wire.ask(asked))[0].startswith(b"HTTP/1.1 401")


@pytest.mark.parametrize(
    ("path", "more", "key"),
    [
        (f"/v1/routes/{A}/{B}?class=nonsense", (), None),
        (f"/v1/routes/{A}/nowhere", (), None),
        (f"/v1/routes/{A}/{B}", ("connection: keep-alive",), None),
        (f"/v1/routes/{A}/{B}", ("content-length: 0",), None),
        (f"/v1/routes/{A}/{B}", (), "Bearer tk_000000000000_" + "a" * 43),
        (f"/v1/routes/{A}/{B}", (), "Basic abc"),
        (f"/v1/routes/{A}/{B}/explain", (), None),
    ],
)
async def test_the_unusual_takes_the_long_way_each_time(
    world: World, short_ways: list[bytes], path: str, more: tuple[str, ...], key: str | None
) -> None:
    await world.measured()
    asked = request(world, path, *more, key=key)
    async with listening(world.app) as url, wired(url) as wire:
        heads = [(await wire.ask(asked))[0].split(b"\r\n")[0] for _ in range(3)]
    assert len(set(heads)) == 1
    assert short_ways == []


async def test_pieces_and_pipelines_are_answered_in_order(world: World, short_ways: list[bytes]) -> None:
    await world.measured()
    asked, other = (request(world, f"/v1/routes/{a}/{b}") for a, b in ((A, B), (B, A)))
    async with listening(world.app) as url, wired(url) as wire:
        for data in (asked, asked, other):
            await wire.ask(data)
        assert len(short_ways) == 1
        wire.writer.write(asked[:30])  # the first piece of a request that is known
        await wire.writer.drain()
        await asyncio.sleep(0.05)
        wire.writer.write(asked[30:])
        assert json.loads((await wire.answer())[1])["from"] == A
        assert len(short_ways) == 1
        wire.writer.write(other + asked + other)
        assert [json.loads((await wire.answer())[1])["from"] for _ in range(3)] == [B, A, B]
        assert len(short_ways) == 1


async def test_memory_is_bounded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await world.measured()
    monkeypatch.setattr(module, "MAX_REMEMBERED", 3)
    async with listening(world.app) as url, wired(url) as wire:
        for i in range(10):
            await wire.ask(request(world, f"/v1/routes/{A}/{B}", f"x-trace: {i}"))
    assert isinstance(world.app.http, HotApp) and world.app.http.hot.repeats is not None
    assert 1 <= len(world.app.http.hot.repeats._known) <= 3
