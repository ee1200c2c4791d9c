"""``GET /v1/routes/watch``: one ingress' table once, then what changed, with generations as event ids.

There is no queue per reader: each remembers what it was last shown and is compared with the newest View when it is
ready for more. A slow reader therefore skips generations instead of piling them up, and one that took longer than
``SLOW_US`` to accept an event gets a fresh table, since most of what it holds is old by then.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Request
from starlette.responses import Response

from router.api.closing import Closing
from router.api.gate import VIEWER, Endpoint, closing_of, runtime_of
from router.api.reply import QueryId
from router.api.routes import Class, From, table_of
from router.api.sse import HEARTBEAT, HEARTBEAT_S, SSE_DOC, event, streaming
from router.core.errors import InputRejected
from router.core.model import TrafficClass
from router.core.solve import RouteAnswer
from router.runtime import Runtime
from router.schemas.routes import Shown, shown, table_json, worth_telling

endpoints = APIRouter(prefix="/v1", route_class=Endpoint, tags=["routes"])
SLOW_US = 5_000_000  # a media server that takes so long for one event has missed what it was for


class Watcher:
    """One reader's question, and what it has been shown."""

    def __init__(self, runtime: Runtime, source: str, traffic_class: TrafficClass, policy: str | None) -> None:
        self._runtime = runtime
        self._question = (source, traffic_class, policy)
        self._shown: dict[str, tuple[Shown, int]] = {}
        self.generation = runtime.view.generation

    def look(self) -> list[RouteAnswer]:
        """All routes now. Raises ``unknown_data_center``, ``unknown_policy``."""
        view = self._runtime.view
        self.generation = view.generation
        return table_of(view, *self._question, self._runtime.now())

    def table(self) -> bytes:
        """A whole table, noted as shown."""
        answers = self.look()
        self.note(answers)
        return self._event("table", answers)

    def delta(self) -> bytes:
        """What is worth telling since the last event; routes to data centers that are gone are in ``gone``."""
        answers = self.look()
        news = [a for a in answers if worth_telling(self._shown.get(a.target), shown(a))]
        gone = sorted(self._shown.keys() - {answer.target for answer in answers})
        for target in gone:
            del self._shown[target]
        self._shown |= {answer.target: shown(answer) for answer in news}
        return self._event("delta", news, gone)

    def note(self, answers: list[RouteAnswer]) -> None:
        """Take these answers for what the reader holds."""
        self._shown = {answer.target: shown(answer) for answer in answers}

    def _event(self, kind: str, answers: list[RouteAnswer], gone: list[str] | None = None) -> bytes:
        document = table_json(*self._question, self.generation, answers)
        return event(kind, document if gone is None else document | {"gone": gone}, self.generation)

    async def events(self, resume: bool, closing: Closing) -> AsyncIterator[bytes]:
        """The stream; with ``resume`` the reader holds this generation; ``end`` when its question lost its sense."""
        if resume:
            self.note(self.look())
            yield HEARTBEAT  # sends the headers, so that the reader knows it is connected
        else:
            yield self.table()
        slow = False
        while True:
            waiting = self._runtime.next_generation(self.generation, 0 if slow else HEARTBEAT_S)
            view = await closing.or_closing(waiting)
            if view is None or not self._runtime.ready:
                return
            newer = view.generation > self.generation
            offered_at = self._runtime.now()
            try:
                shown_now = self.table() if slow else self.delta() if newer else HEARTBEAT
            except InputRejected as error:
                yield event("end", {"code": error.code, "detail": error.message})
                return
            yield shown_now
            slow = self._runtime.now() - offered_at > SLOW_US


@endpoints.get("/routes/watch", dependencies=[Depends(VIEWER)], responses=SSE_DOC)  # type: ignore[arg-type]
async def watch_routes(
    request: Request,
    source: From,
    traffic_class: Class = TrafficClass.VOICE,
    policy: QueryId = None,
    last_event_id: Annotated[str | None, Header(alias="Last-Event-ID", max_length=32)] = None,
) -> Response:
    """Follow one ingress' routes: ``table`` once, then ``delta``; ``Last-Event-ID`` resumes without a table."""
    watcher = Watcher(runtime_of(request), source, traffic_class, policy)
    watcher.look()  # refuse an unknown ingress now, with a status and not in the middle of a stream
    return streaming(watcher.events(last_event_id == str(watcher.generation), closing_of(request)))
