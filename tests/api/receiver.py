"""A real receiver of webhooks on a loopback port, which answers as it is told."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Delivery:
    """One request as it came in."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def kind(self) -> str:
        """Of the event."""
        return str(json.loads(self.body)["type"])

    @property
    def data(self) -> dict[str, Any]:
        """What the message tells."""
        return dict(json.loads(self.body)["data"])


@dataclass
class Receiver:
    """``answer`` is a status, or a whole answer; None: it never answers."""

    port: int = 0
    answer: Callable[[Delivery], int | bytes | None] = lambda _: 200
    got: list[Delivery] = field(default_factory=list)
    news: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}/hooks"

    def kinds(self) -> list[str]:
        """What it was told, in the order it came."""
        return [one.kind for one in self.got]

    async def until(self, done: Callable[[], bool]) -> None:
        """Wait for deliveries until something is true; the test's own time limit ends it."""
        while not done():
            self.news.clear()
            await self.news.wait()


@asynccontextmanager
async def receiving(port: int = 0) -> AsyncIterator[Receiver]:
    """Run a receiver."""
    receiver = Receiver()
    open_ones: set[asyncio.StreamWriter] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        open_ones.add(writer)
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                first, *lines = head.decode("latin-1").rstrip().split("\r\n")
                headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                delivery = Delivery(first.split(" ")[1], headers, body)
                answer = receiver.answer(delivery)
                receiver.got.append(delivery)
                receiver.news.set()
                if answer is None:
                    await asyncio.Event().wait()
                whole = (
                    answer
                    if isinstance(answer, bytes)
                    else f"HTTP/1.1 {answer} X\r\ncontent-length: 0\r\n\r\n".encode()
                )
                writer.write(whole)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", port)
    receiver.port = server.sockets[0].getsockname()[1]
    try:
        yield receiver
    finally:
        server.close()
        for writer in open_ones:
            writer.transport.abort()
