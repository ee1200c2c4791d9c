"""A limit on request bodies, whether or not they say how long they are.

The limit bites when somebody starts to read the body, not before: who may not call at all is told so first, and an
endpoint that takes no body never notices one.
"""

from __future__ import annotations

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class BodyLimit:
    """ASGI middleware that stops reading at ``limit`` bytes."""

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self._app = app
        self._limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with a counting ``receive``."""
        if scope["type"] == "http":
            await self._app(scope, _Counted(receive, _declared(scope), self._limit), send)
        else:
            await self._app(scope, receive, send)


class _Counted:
    """``receive`` that knows how much it gave out; raises 413 beyond the limit."""

    def __init__(self, receive: Receive, declared: int, limit: int) -> None:
        self._receive = receive
        self._declared = declared
        self._limit = limit
        self._given = 0

    async def __call__(self) -> Message:
        if self._declared > self._limit:
            raise self._too_large()
        message = await self._receive()
        if message["type"] == "http.request":
            self._given += len(message.get("body", b""))
            if self._given > self._limit:
                raise self._too_large()
        return message

    def _too_large(self) -> HTTPException:
        # The rest of the body is not read: the connection cannot be used again.
        detail = f"the body is larger than {self._limit} bytes"
        return HTTPException(413, detail, headers={"Connection": "close"})


def _declared(scope: Scope) -> int:
    """What Content-Length says; a server has checked that it is a number, tests may not have."""
    value = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
    return int(value) if value.isdigit() and len(value) < 19 else 0
