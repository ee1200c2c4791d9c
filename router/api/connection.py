"""uvicorn's protocol with a short way in front: what needs no parser and no framework does not get them.

Repeated requests are answered at once (:mod:`router.api.repeats`). Requests for a hot path that come whole are given to
it directly (:mod:`router.api.whole`), without a task where it waits for nothing. Everything else, and what a hot path
leaves to the framework, goes to uvicorn as it came. On one connection one thing happens at a time: what arrives
meanwhile waits, and reading with it.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from starlette.types import Message
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from router.api.heads import Head
from router.api.hot import Asked, HotApp, HotPath, PlainPath, failed
from router.api.repeats import END, LEAD, MAX_REQUEST_BYTES
from router.api.whole import Whole, read

if TYPE_CHECKING:
    from router.runtime import Runtime

MOST_JOINED = 16_384  # a longer body is handed to the kernel beside its head; copying it would cost more
_OK = b"HTTP/1.1 200 OK\r\n"
_STATUS = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}


class Connection(HttpToolsProtocol):
    """One connection of a :class:`HotApp`."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        app = self.config.app
        assert isinstance(app, HotApp)
        self._hot_app = app
        self._repeats = app.hot.repeats
        self._heads = app.hot.heads if self.limit_concurrency is None else None
        self._runtime: Runtime = app.state.runtime
        self._between = True  # no part of a request is in the parser
        self._asked_at = 0.0  # when a request was answered the short way last
        self._fixed: tuple[object, bytes] = (None, b"")
        self._busy = False  # a hot path is at work
        self._held: list[bytes] = []  # what came meanwhile
        self._last = False  # no request after this one

    def data_received(self, data: bytes) -> None:
        """Answer a request that is known, give one that is hot to its path, or let uvicorn."""
        if self._busy:
            self._held.append(data)
            self.flow.pause_reading()
        elif not self._between or not self._idle():
            super().data_received(data)
        elif self._repeats is not None and data.startswith(LEAD):
            self._repeated(data)
        else:
            self._given(data)

    def _repeated(self, data: bytes) -> None:
        assert self._repeats is not None
        body = self._repeats.answer(data, self._runtime)
        if body is not None:
            own = b"content-length: %d\r\ncontent-type: application/json\r\n\r\n" % len(body)
            self.transport.write(_OK + self._defaults() + own + body)
            self._answered()
            return
        super().data_received(data)
        # Whole, and nothing behind it: these bytes, coming again, are this request again.
        whole = len(data) <= MAX_REQUEST_BYTES and data.find(END) == len(data) - len(END)
        if whole and self._between:
            self._repeats.learn(data, self.scope)

    def _given(self, data: bytes) -> None:
        known = None if self._heads is None else self._heads.find(data)
        if known is not None:
            head, body = known
            self._at_once(head.plain, head.asked, body, data)
            return
        request = None if self.limit_concurrency is not None else read(data)
        if request is None:
            super().data_received(data)
            return
        plain = self._hot_app.hot.plain.get((request.method, request.path))
        if plain is not None:
            asked = self._asked(request._replace(body=b""))
            if self._at_once(plain, asked, request.body, data) and self._heads is not None:
                self._heads.learn(data, Head(plain, asked, len(request.body)))
            return
        path = self._hot_app.hot.find(request.method, request.path)
        if path is None:
            super().data_received(data)
        else:
            self._begin(path, request, data)

    def _at_once(self, plain: PlainPath, asked: Asked, body: bytes, data: bytes) -> bool:
        """Answer what waits for nothing without a task; False if the framework had to."""
        try:
            answer = plain(asked, body) if asked.announces_json else None
        except Exception as error:  # noqa: BLE001 - it is told where those of all hot paths are
            request = read(data)
            assert request is not None  # it was read before
            self._begin(failed(error), request, data)
            return False
        if answer is None:
            super().data_received(data)
            return False
        self._unset_keepalive_if_required()
        own = b"content-length: %d\r\ncontent-type: application/json\r\n\r\n" % len(answer.body)
        if answer.status != 200 or answer.headers:
            own = b"".join(b"%s: %s\r\n" % header for header in answer.head()) + b"\r\n"
        head = _STATUS[answer.status] + self._defaults() + own
        if len(answer.body) < MOST_JOINED:
            self.transport.write(head + answer.body)
        else:
            self.transport.writelines((head, answer.body))
        self._answered()
        return True

    def _begin(self, path: HotPath, request: Whole, data: bytes) -> None:
        self._busy = True
        task = self.loop.create_task(self._hot(path, request, data))
        task.add_done_callback(self.tasks.discard)
        self.tasks.add(task)

    async def _hot(self, path: HotPath, request: Whole, data: bytes) -> None:
        parts: list[bytes] = []

        async def send(message: Message) -> None:
            if message["type"] == "http.response.start":
                parts.append(_STATUS[message["status"]] + self._defaults())
                parts.extend(b"%s: %s\r\n" % header for header in message["headers"])
                parts.append(b"connection: close\r\n\r\n" if self._last else b"\r\n")
            else:
                parts.append(message["body"])

        if not await self._hot_app.short(path, self._asked(request), send):
            self._busy = False
            if not self.transport.is_closing():
                super().data_received(data)
                self._release()
        elif not self.transport.is_closing():
            self.transport.write(b"".join(parts))
            self._busy = False
            self._answered()
            if self._last:
                self.transport.close()
            else:
                self._release()

    def _asked(self, request: Whole) -> Asked:
        async def receive() -> Message:
            return {"type": "http.request", "body": request.body, "more_body": False}

        scope: dict[str, Any] = {
            "type": "http", "http_version": "1.1", "method": request.method, "path": request.path,
            "query_string": request.query, "headers": request.headers, "client": self.client, "server": self.server,
            "scheme": self.scheme, "root_path": "", "app": self._hot_app, "state": {},
        }  # fmt: skip
        return Asked(self._hot_app, scope, receive)

    def _release(self) -> None:
        """Go on with what came meanwhile."""
        if not self._held:
            return
        held, self._held = b"".join(self._held), []
        self.flow.resume_reading()
        self.data_received(held)

    def _answered(self) -> None:
        self.server_state.total_requests += 1
        self._asked_at = self.loop.time()
        if self.timeout_keep_alive_task is None:
            self.timeout_keep_alive_handler()

    def _idle(self) -> bool:
        waiting = self.cycle is None or self.cycle.response_complete  # type: ignore[redundant-expr]  # before the first
        return waiting and not self.flow.write_paused

    def _defaults(self) -> bytes:
        """The headers that uvicorn puts first; it makes the list anew once a second."""
        defaults = self.server_state.default_headers
        if self._fixed[0] is not defaults:
            self._fixed = defaults, b"".join(b"%s: %s\r\n" % header for header in defaults)
        return self._fixed[1]

    def on_message_begin(self) -> None:
        """A request begins."""
        self._between = False
        super().on_message_begin()

    def on_message_complete(self) -> None:
        """A request is whole."""
        super().on_message_complete()
        self._between = True

    def shutdown(self) -> None:
        """Close now, or once the request under way is answered."""
        if self._busy:
            self._last = True
        else:
            super().shutdown()

    def timeout_keep_alive_handler(self) -> None:
        """Close a connection that has been quiet, by requests that took the short way too."""
        left = self._asked_at + self.timeout_keep_alive - self.loop.time()
        if left > 0 or self._busy:
            left = max(left, self.timeout_keep_alive) if self._busy else left
            self.timeout_keep_alive_task = self.loop.call_later(left, self.timeout_keep_alive_handler)
        else:
            super().timeout_keep_alive_handler()
