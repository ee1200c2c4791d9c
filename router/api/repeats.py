"""Requests that come again byte for byte: a media server that asks for the same route a thousand times a second.

The text of a request says everything about its answer but the instant and what changes inside: who asks (its key), for
which pair, of which class. So a request for a route that was asked in its usual form is remembered by its bytes, and
when the very same bytes come in again, alone and whole, on a connection that waits for nothing else, the answer is
written at once: no parser, no task, no framework. The key must still be good, the age is that of the instant, and the
bytes of the answer are those of the hot path; whatever is unusual, the first time included, takes the long way.

Who asks :class:`Repeats` is the connection (:mod:`router.api.connection`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from router.access import AGENT_PREFIX, scope_allows
from router.api.gate import VIEWER, key_text
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
