"""Server-sent events: framing, heartbeats, and an answer that proxies do not buffer."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

from starlette.responses import StreamingResponse

HEARTBEAT_S = 10.0  # a reader that hears nothing for three of these may give the connection up
HEARTBEAT = b": heartbeat\n\n"
SSE_DOC = {200: {"description": "server-sent events", "content": {"text/event-stream": {"schema": {"type": "string"}}}}}


def event(kind: str, data: object, id: int | None = None) -> bytes:
    """Frame one event; data is one line of JSON."""
    head = f"id: {id}\n" if id is not None else ""
    return f"{head}event: {kind}\ndata: {json.dumps(data, allow_nan=False, separators=(',', ':'))}\n\n".encode()


def streaming(events: AsyncIterator[bytes]) -> StreamingResponse:
    """Answer with a stream of events."""
    headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
    return StreamingResponse(events, media_type="text/event-stream", headers=headers)
