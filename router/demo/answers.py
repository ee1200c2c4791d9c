"""One HTTP request in, JSON out: what the demo's own processes can be asked on a port of 127.0.0.1."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable

Answer = Callable[[str, str], Awaitable[tuple[bytes, object]]]
"""(method, path) -> status line and body."""


async def serve_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answer: Answer) -> None:
    """Answer one request and close."""
    try:
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5.0)
        method, path, *_ = (*head.split(b"\r\n", 1)[0].split(b" "), b"", b"")
        status, body = await answer(method.decode("latin-1"), path.split(b"?")[0].decode("latin-1"))
        payload = json.dumps(body).encode()
        writer.write(b"HTTP/1.1 %s\r\nContent-Type: application/json\r\nConnection: close\r\n" % status)
        writer.write(b"Content-Length: %d\r\n\r\n" % len(payload) + payload)
        await writer.drain()
    except (TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError):
        pass  # whoever asked has gone, or never said what
    finally:
        writer.close()
