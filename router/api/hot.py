"""Hot paths: the few requests that come thousands of times a second are answered before the framework sees them.

FastAPI spends about 150 us on a request's routing and parameter checks, several times what the answer itself costs.
So the app looks at the method and the path first. A hot path knows the *usual* form of its request: one bearer key, the
documented parameters, a JSON body of declared length. It answers that and nothing else: for whatever is unusual it
returns ``None``, and the request goes on to the same endpoint in FastAPI, body and all. Refusals come from there too,
so that there is one place where they are worded; only a hot path that has already acted raises them itself.

A hot path is ``async (Asked) -> Answered | Response | None``. To add some, write
``def add_paths(table: HotTable) -> None`` and name it in ``app.HOT``: :attr:`HotTable.exact` is for one path,
:attr:`HotTable.under` for everything below a prefix of two segments such as ``/v1/routes/``. One that needs nothing but
its body and waits for nothing is ``(Asked, body) -> Answered | None`` in :attr:`HotTable.plain`; it gets no task.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from router.access import AGENT_PREFIX, Key, scope_allows
from router.api import problems
from router.api.gate import Require, key_text
from router.core.errors import TendrilError

if TYPE_CHECKING:
    from router.api.heads import Heads
    from router.api.pulses import Pulses
    from router.api.repeats import Repeats
    from router.runtime import Runtime
    from router.settings import Settings
    from router.telemetry import Tallies

JSON_TYPE = (b"content-type", b"application/json")


@dataclass(frozen=True, slots=True)
class Answered:
    """What a hot path answers; ``headers`` without Content-Length, names in lower case."""

    body: bytes
    status: int = 200
    headers: tuple[tuple[bytes, bytes], ...] = ()

    def head(self) -> list[tuple[bytes, bytes]]:
        """The headers in the order in which the framework would send them."""
        if self.status in (204, 304):
            return list(self.headers)
        return [*self.headers, (b"content-length", b"%d" % len(self.body)), JSON_TYPE]


class Asked:
    """One request as a hot path sees it, and what it has read of the body so far."""

    __slots__ = (
        "_good_for",
        "_good_in",
        "_headers",
        "_is_json",
        "_receive",
        "_taken",
        "app",
        "key",
        "path",
        "query",
        "runtime",
        "scope",
    )

    def __init__(self, app: FastAPI, scope: Scope, receive: Receive) -> None:
        self.app = app
        self.scope = scope
        self.runtime: Runtime = app.state.runtime
        self.path: str = scope["path"]
        self.query: bytes = scope["query_string"]
        self.key: Key | None = None  # set by :meth:`admitted`
        self._receive = receive
        self._taken: list[Message] = []
        self._headers: dict[bytes, bytes] | None = None
        self._is_json: bool | None = None
        self._good_in: object = None  # edition of the keys in which it was admitted last,
        self._good_for: Require | None = None  # and to what

    @property
    def settings(self) -> Settings:
        """The settings that the app was made with."""
        return self.app.state.settings  # type: ignore[no-any-return]

    @property
    def tallies(self) -> Tallies:
        """What the app counts for ``/metrics``."""
        return self.app.state.tallies  # type: ignore[no-any-return]

    @property
    def pulses(self) -> Pulses:
        """When the app last heard each media node."""
        return self.app.state.pulses  # type: ignore[no-any-return]

    @property
    def headers(self) -> Mapping[bytes, bytes]:
        """Headers by lower-case name; of one that is repeated the first counts, as in the framework."""
        if self._headers is None:
            self._headers = dict(reversed(self.scope["headers"]))
        return self._headers

    def admitted(self, need: Require) -> bool:
        """Whether the caller showed one good key of sufficient scope and we are ready; if not, FastAPI says why not.

        A node's own key passes where ``need.as_node``; whether it is the node in question is for the path to ask.
        """
        ring = self.runtime.keys
        if self._good_in is ring.edition and self._good_for is need:
            return self.runtime.ready
        given, edition = self.headers.get(b"authorization"), ring.edition
        if given is None or given[:7] != b"Bearer " or not self.runtime.ready:
            return False
        key = ring.proven(given)
        if key is None:
            key = ring.verify(key_text(given[7:].decode("latin-1").strip()))
            if key is None:
                return False
            ring.remember(given, key)
        as_node = need.as_node and key.scope.startswith(AGENT_PREFIX)
        if not as_node and (need.scope is None or not scope_allows(key.scope, need.scope)):
            return False
        self.key, self._good_in, self._good_for = key, edition, need
        return True

    @property
    def announces_json(self) -> bool:
        """Whether a JSON body of a length that we take is announced."""
        if self._is_json is None:
            kind, declared = self.headers.get(b"content-type"), self.headers.get(b"content-length", b"")
            is_number = declared.isdigit() and len(declared) <= 18
            self._is_json = (
                kind == b"application/json" and is_number and 0 < int(declared) <= self.settings.max_body_bytes
            )
        return self._is_json

    async def body(self) -> bytes | None:
        """The whole JSON body; ``None`` if it is not announced as such, is too long, or its sender went away."""
        if not self.announces_json:
            return None
        parts, size = [], 0
        while True:
            message = await self._receive()
            self._taken.append(message)
            if message["type"] != "http.request":
                return None
            part = message.get("body", b"")
            parts.append(part)
            size += len(part)
            if size > self.settings.max_body_bytes:
                return None
            if not message.get("more_body", False):
                return parts[0] if len(parts) == 1 else b"".join(parts)

    async def receive(self) -> Message:
        """What the framework reads instead: first what was taken already, then the rest."""
        return self._taken.pop(0) if self._taken else await self._receive()


HotPath = Callable[[Asked], Awaitable[Answered | Response | None]]
PlainPath = Callable[[Asked, bytes], Answered | None]


@dataclass(slots=True)
class HotTable:
    """Which requests are hot: (method, path), or (method, prefix) for everything below ``/v1/NAME/``."""

    exact: dict[tuple[str, str], HotPath] = field(default_factory=dict)
    under: dict[tuple[str, str], HotPath] = field(default_factory=dict)
    plain: dict[tuple[str, str], PlainPath] = field(default_factory=dict)
    repeats: Repeats | None = None  # what a connection may answer by itself
    heads: Heads | None = None  # and what it need not read again

    def find(self, method: str, path: str) -> HotPath | None:
        """The hot path of a request, if it has one; an exact path wins."""
        found = self.exact.get((method, path))
        if found is not None:
            return found
        plain = self.plain.get((method, path))
        return self.under.get((method, path[: path.find("/", 4) + 1])) if plain is None else with_body(plain)


def with_body(path: PlainPath) -> HotPath:
    """A plain path as one that waits for its body."""

    async def waiting(asked: Asked) -> Answered | None:
        body = await asked.body()
        return None if body is None else path(asked, body)

    return waiting


def failed(error: Exception) -> HotPath:
    """A path that says what went wrong in a plain one."""

    async def failing(_: Asked) -> None:
        raise error

    return failing


class HotApp(FastAPI):
    """A FastAPI app with hot paths in front of all its middleware."""

    def __init__(self, *, hot: HotTable, **options: Any) -> None:
        super().__init__(**options)
        self.hot = hot

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer from a hot path, or let the framework."""
        path = None
        if scope["type"] == "http" and not scope.get("root_path"):
            path = self.hot.find(scope["method"], scope["path"])
        if path is not None:
            asked = Asked(self, scope, receive)
            if await self.short(path, asked, send):
                return
            receive = asked.receive
        await super().__call__(scope, receive, send)

    async def short(self, path: HotPath, asked: Asked, send: Send) -> bool:
        """Let a hot path answer, its refusals included; False, and nothing sent, if that is for the framework."""
        try:
            answer = await path(asked)
        except TendrilError as error:
            await problems.of_error(error)(asked.scope, asked.receive, send)
            return True
        except Exception as error:  # noqa: BLE001 - the framework's own net lies behind us, not around us
            await problems.of_crash(Request(asked.scope), error)(asked.scope, asked.receive, send)
            return True
        if answer is None:
            return False
        if isinstance(answer, Response):  # a refusal with fields of its own
            await answer(asked.scope, asked.receive, send)
            return True
        await send({"type": "http.response.start", "status": answer.status, "headers": answer.head()})
        await send({"type": "http.response.body", "body": answer.body})
        return True
