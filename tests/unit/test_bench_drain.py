"""The instruments of the drain benchmark, as far as they need no namespaces."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

from bench.drain.wire import Wire


class _Process:
    """A server whose connections end with it."""

    def __init__(self) -> None:
        self._writers: list[asyncio.StreamWriter] = []

    async def start(self, port: int = 0) -> int:
        self._server = await asyncio.start_server(self._answer, "127.0.0.1", port)
        return int(self._server.sockets[0].getsockname()[1])

    async def end(self) -> None:
        self._server.close()
        for writer in self._writers:
            writer.close()
            await writer.wait_closed()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        while await reader.read(4_096):
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")


async def test_connections_kept_from_before_a_restart_are_not_used_again() -> None:
    """Else a media server stays silent for as many calls as it had connections, and its drain waits."""
    process = _Process()
    port = await process.start()
    lab: Any = SimpleNamespace(control_host="127.0.0.1")
    wire = Wire(lab, port, "key", connections=3)
    assert None not in await asyncio.gather(*(wire.call("GET", "/") for _ in range(3)))
    await process.end()
    process = _Process()
    await process.start(port)
    assert None not in [await wire.call("GET", "/") for _ in range(3)]
    wire.close()
    await process.end()
