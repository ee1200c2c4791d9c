"""Requests that come again byte for byte: a media server that asks for the same route a thousand times a second.

The text of a request says everything about its answer but the instant and what changes inside: who asks (its key), for
which pair, of which class. So a request for a route that was asked in its usual form is remembered by its bytes, and
when the very same bytes come in again, alone and whole, on a connection that waits for nothing else, the answer is
written at once: no parser, no task, no framework. The key must still be good, the age is that of the instant, and the
bytes of the answer are those of the hot path; whatever is unusual, the first time included, takes the long way.

Both ends of that are here: :class:`Repeats` knows requests, :class:`Connection` is uvicorn's protocol, which asks it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from router.access import AGENT_PREFIX, scope_allows
from router.api.gate import VIEWER, key_text
from router.api.hot import HotApp
from router.schemas.fragments import moment_of

if TYPE_CHECKING:
    from router.api.hot_routes import HotRoutes
    from router.core.tables import Context
    from router.runtime import Runtime
    from router.schemas.fragments import Fragment

LEAD = b"GET /v1/routes/"
END = b"\r\n\r\n"
MAX_REQUEST_BYTES = 1_024  # a request with an ordinary client's headers has 200 to 400
MAX_REMEMBERED = 16_384  # two for each pair of 90 data centers; then all are forgotten and learned anew
# Headers that change how an answer is framed or what it is; a request with one of them is never remembered.
_FRAMING = frozenset(
    (b"connection", b"content-length", b"expect", b"if-none-match", b"te", b"transfer-encoding", b"upgrade")
)
_HEAD = b"HTTP/1.1 200 OK\r\n"


@dataclass(slots=True)
class Repeat:
    """What the bytes of a request ask; in which edition of the key ring they were found good, and the fragment."""

    context: Context
    pair: tuple[str, str]
    key: str
    good_in: object = None
    found_in: object = None
    fragment: Fragment | None = None


class Repeats:
    """The requests that one app remembers."""

    def __init__(self, routes: HotRoutes) -> None:
        self._routes = routes
        self._known: dict[bytes, Repeat] = {}

    def learn(self, data: bytes, scope: Any) -> None:
        """Remember a request by its bytes, if it is one for a route in its usual form."""
        headers: list[tuple[bytes, bytes]] = scope["headers"]
        names = [name for name, _ in headers]
        if scope["http_version"] != "1.1" or len(set(names)) < len(names) or not _FRAMING.isdisjoint(names):
            return
        given = dict(headers).get(b"authorization", b"")
        question, pair = self._routes.question(scope["query_string"]), scope["path"].split("/")
        if given[:7] != b"Bearer " or question is None or question.source is not None or len(pair) != 5:
            return
        if len(self._known) >= MAX_REMEMBERED:
            self._known.clear()
        text = key_text(given[7:].decode("latin-1").strip())
        self._known[data] = Repeat(question.context, (pair[3], pair[4]), text)

    def answer(self, data: bytes, runtime: Runtime) -> bytes | None:
        """The body for these bytes at this instant; ``None`` if the long way must be taken."""
        asked = self._known.get(data)
        if asked is None or not runtime.ready or not self._admitted(asked, runtime):
            return None
        view = runtime.view
        if view.routes is None:
            return None
        fragments = self._routes.fragments
        fragments.look(view)
        if asked.fragment is None or asked.found_in is not fragments.edition:
            asked.fragment = self._routes.find(view, asked.context, *asked.pair)
            asked.found_in = fragments.edition  # after: making one may cost others their place
        if asked.fragment is None:
            return None
        return asked.fragment.at(moment_of(view.routes, runtime.now())).encode()

    def _admitted(self, asked: Repeat, runtime: Runtime) -> bool:
        edition = runtime.keys.edition
        if asked.good_in is edition:
            return True
        key = runtime.keys.verify(asked.key)
        if key is None or key.scope.startswith(AGENT_PREFIX) or not scope_allows(key.scope, VIEWER.scope or ""):
            return False
        asked.good_in = edition
        return True


class Connection(HttpToolsProtocol):
    """uvicorn's protocol with the repeated requests of a :class:`HotApp` answered before its parser."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        app = self.config.app
        assert isinstance(app, HotApp)
        self._repeats = app.hot.repeats
        self._runtime: Runtime = app.state.runtime
        self._between = True  # no part of a request is in the parser
        self._asked_at = 0.0  # when a repeated request was answered last
        self._fixed: tuple[object, bytes] = (None, b"")

    def data_received(self, data: bytes) -> None:
        """Answer a request that is known, or let uvicorn."""
        repeats = self._repeats
        if repeats is None or not self._between or not self._idle() or not data.startswith(LEAD):
            super().data_received(data)
            return
        body = repeats.answer(data, self._runtime)
        if body is not None:
            own = b"content-length: %d\r\ncontent-type: application/json\r\n\r\n" % len(body)
            self.transport.write(self._head() + own + body)
            self.server_state.total_requests += 1
            self._asked_at = self.loop.time()
            if self.timeout_keep_alive_task is None:
                self.timeout_keep_alive_handler()
            return
        super().data_received(data)
        # Whole, and nothing behind it: these bytes, coming again, are this request again.
        whole = len(data) <= MAX_REQUEST_BYTES and data.find(END) == len(data) - len(END)
        if whole and self._between:
            repeats.learn(data, self.scope)

    def _idle(self) -> bool:
        waiting = self.cycle is None or self.cycle.response_complete  # type: ignore[redundant-expr]  # before the first
        return waiting and not self.flow.write_paused

    def _head(self) -> bytes:
        """Status line and the headers that uvicorn puts first; it makes the list anew once a second."""
        defaults = self.server_state.default_headers
        if self._fixed[0] is not defaults:
            self._fixed = defaults, _HEAD + b"".join(b"%s: %s\r\n" % header for header in defaults)
        return self._fixed[1]

    def on_message_begin(self) -> None:
        """A request begins."""
        self._between = False
        super().on_message_begin()

    def on_message_complete(self) -> None:
        """A request is whole."""
        super().on_message_complete()
        self._between = True

    def timeout_keep_alive_handler(self) -> None:
        """Close a connection that has been quiet, by repeated requests too."""
        left = self._asked_at + self.timeout_keep_alive - self.loop.time()
        if left <= 0:
            super().timeout_keep_alive_handler()
        else:
            self.timeout_keep_alive_task = self.loop.call_later(left, self.timeout_keep_alive_handler)
