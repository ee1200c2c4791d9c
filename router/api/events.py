"""Audit and decisions: looked up, and live for dashboards."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import Response

from router.api.closing import Closing
from router.api.gate import VIEWER, Endpoint, closing_of, runtime_of
from router.api.reply import large
from router.api.sse import HEARTBEAT, HEARTBEAT_S, SSE_DOC, event, streaming
from router.core.errors import InputRejected
from router.runtime import Runtime, StreamItem
from router.schemas.events import EventList, event_json
from router.schemas.fields import Time
from router.schemas.units import micros, rfc3339

endpoints = APIRouter(prefix="/v1", route_class=Endpoint, tags=["events"])
Filter = Annotated[str | None, Query(max_length=128, pattern=r"^[!-~]+$")]


@endpoints.get("/events", response_model=EventList, dependencies=[Depends(VIEWER)])
async def list_events(
    request: Request,
    since: Annotated[Time | None, Query()] = None,
    until: Annotated[Time | None, Query()] = None,
    kind: Filter = None,
    subject: Filter = None,
    limit: Annotated[int, Query(ge=1, le=1_000)] = 200,
    after: Annotated[str | None, Query(pattern=r"^[0-9]{1,15}$", description="`next` of the page before")] = None,
) -> Response:
    """List events, newest first."""
    start, end = (None if since is None else micros(since)), (None if until is None else micros(until))
    if start is not None and end is not None and start >= end:
        raise InputRejected("range_empty", "since must be before until", field="since", rule="before until")
    before = None if after is None else int(after)
    found = await runtime_of(request).read(
        lambda store: store.events(
            since=start, until=end, kind=kind, subject=subject, limit=limit + 1, before_id=before
        )
    )
    shown = found[:limit]
    more = str(shown[-1][0]) if len(found) > limit else None
    return await large(request, {"items": [event_json(one, id) for id, one in shown], "next": more})


def _frame(item: StreamItem) -> bytes:
    data = dict(item.data)
    at = data.pop("at_us", None)
    if isinstance(at, int):
        data = {"at": rfc3339(at), **data}
    return event(item.kind, data)


async def _live(runtime: Runtime, closing: Closing) -> AsyncIterator[bytes]:
    with runtime.stream() as stream:
        view = runtime.view
        hello = {"generation": view.generation, "now": rfc3339(runtime.now()), "epoch": view.epoch}
        yield event("hello", hello)
        while runtime.ready:
            item = await closing.or_closing(stream.next(HEARTBEAT_S))
            if closing.closed:
                return
            yield HEARTBEAT if item is None else _frame(item)


@endpoints.get("/stream", dependencies=[Depends(VIEWER)], responses=SSE_DOC)  # type: ignore[arg-type]
async def stream(request: Request) -> Response:
    """Follow everything: ``hello`` once, then changes; ``resync`` after a reader was too slow."""
    return streaming(_live(runtime_of(request), closing_of(request)))
