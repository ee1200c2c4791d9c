"""Every request passes here first: who is calling, are all parameters known, is the body JSON; then its endpoint runs.

Authentication comes before anything is read or validated, so that a stranger learns nothing from error messages and
costs nothing. A request is authenticated by ``Authorization: Bearer KEY`` or, for the dashboard, by the cookie of a
sign-in; by cookie it may change something only with that sign-in's token (see :mod:`router.api.browsers`).
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from fastapi import Request, params
from fastapi.dependencies.utils import get_flat_params
from fastapi.routing import APIRoute
from fastapi.security import HTTPBearer
from starlette.responses import Response

from router.access import AGENT_PREFIX, Key, scope_allows
from router.api.browsers import COOKIE, CSRF_HEADER, BrowserSession, SignedOut, insist_on_csrf, read_cookie
from router.api.closing import Closing
from router.api.pulses import Pulses
from router.core.errors import InputRejected, Unavailable

if TYPE_CHECKING:
    from router.addresses import AddressBook
    from router.runtime import Runtime
    from router.settings import Settings
    from router.telemetry import Tallies

SAFE_METHODS = ("GET", "HEAD", "OPTIONS")


def runtime_of(request: Request) -> Runtime:
    """The runtime that this app serves."""
    return request.app.state.runtime  # type: ignore[no-any-return]


def settings_of(request: Request) -> Settings:
    """The settings that this app was made with."""
    return request.app.state.settings  # type: ignore[no-any-return]


def addresses_of(request: Request) -> AddressBook:
    """Whose addresses are, and where."""
    return runtime_of(request).addresses


def tallies_of(request: Request) -> Tallies:
    """What this app counts for ``/metrics``."""
    return request.app.state.tallies  # type: ignore[no-any-return]


def pulses_of(request: Request) -> Pulses:
    """When this app last heard each media node."""
    return request.app.state.pulses  # type: ignore[no-any-return]


def closing_of(request: Request) -> Closing:
    """Whether the server that runs this app is stopping."""
    return request.app.state.closing  # type: ignore[no-any-return]


def signed_out_of(request: Request) -> SignedOut:
    """The sign-ins that were ended at this app."""
    return request.app.state.signed_out  # type: ignore[no-any-return]


def key_of(request: Request) -> Key:
    """The key that authenticated this request."""
    return request.state.key  # type: ignore[no-any-return]


def actor_of(request: Request) -> str:
    """Who did it, for the audit trail: the key's id and its name."""
    key = key_of(request)
    return f"key:{key.id} {key.name}".strip()


def key_text(text: str) -> str:
    """A key as the ring knows it; text of another form (``TENDRIL_ADMIN_KEY``) is brought into that form by hashing."""
    if text.startswith("tk_"):
        return text
    digest = hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=38).digest()
    secret = base64.urlsafe_b64encode(digest[6:]).rstrip(b"=").decode()
    return f"tk_{digest[:6].hex()}_{secret}"


def session_of(request: Request) -> BrowserSession:
    """The sign-in that a request's cookie stands for. Raises ``sign_in_invalid`` or ``sign_in_expired``."""
    runtime = runtime_of(request)
    session = read_cookie(runtime.secret, request.cookies[COOKIE], runtime.now())
    if session in signed_out_of(request):
        raise InputRejected("sign_in_expired", "you have signed out; sign in again", field="Cookie")
    return session


def authenticate(request: Request) -> Key:
    """Return the caller's key. Raises ``key_missing``, ``key_malformed``, ``key_invalid``, and what cookies raise."""
    ring = runtime_of(request).keys
    header = request.headers.get("authorization")
    if header is not None:
        scheme, _, text = header.partition(" ")
        if scheme.lower() != "bearer" or not text.strip():
            raise InputRejected(
                "key_malformed", "Authorization must be: Bearer KEY", field="Authorization", rule="Bearer KEY"
            )
        key = ring.verify(key_text(text.strip()))
    elif COOKIE in request.cookies:
        session = session_of(request)
        if request.method not in SAFE_METHODS:
            insist_on_csrf(runtime_of(request).secret, session, request.headers.get(CSRF_HEADER))
        key = ring.get(session.key_id)
    else:
        raise InputRejected(
            "key_missing", "this call needs a key: Authorization: Bearer KEY", field="Authorization", rule="required"
        )
    if key is None:
        raise InputRejected("key_invalid", "the key is unknown or was revoked", field="Authorization")
    return key


class Require(HTTPBearer):
    """What an endpoint needs: a rung of the ladder, and whether a node's own key will do (``as_node``).

    As a dependency it only describes itself to OpenAPI; the check runs in :class:`Endpoint`, before the body is read.
    """

    def __init__(self, scope: str | None, *, as_node: bool = False) -> None:
        super().__init__(scheme_name="key", description="A key of sufficient scope", auto_error=False)
        self.scope = scope
        self.as_node = as_node

    async def __call__(self, request: Request) -> None:  # type: ignore[override]
        """Nothing is left to do here."""

    def admit(self, request: Request) -> Key:
        """Return the caller's key if it may do this. Raises as :func:`authenticate`, and ``scope_insufficient``."""
        key = authenticate(request)
        node = key.scope.removeprefix(AGENT_PREFIX) if key.scope.startswith(AGENT_PREFIX) else None
        if self.as_node and node is not None:
            named = request.path_params.get("id")
            if named is not None and named != node:
                raise not_your_node(node, named)
            return key
        if self.scope is None or not scope_allows(key.scope, self.scope):
            needed = " or ".join(s for s in (self.scope, "agent:<node>" if self.as_node else None) if s)
            raise InputRejected(
                "scope_insufficient",
                f"this call needs scope {needed}, the key has {key.scope}",
                field="Authorization",
                rule="scope",
                limit=needed,
            )
        return key


def not_your_node(own: str, named: str) -> InputRejected:
    """The error of a node that speaks for another one."""
    return InputRejected(
        "not_your_node", f"the key is that of node {own} and cannot act for {named}", field="node", limit=own
    )


def insist_on_own_node(request: Request, node: str) -> None:
    """Refuse a node's key that acts for another node. Raises ``not_your_node``."""
    scope = key_of(request).scope
    if scope.startswith(AGENT_PREFIX) and scope != f"{AGENT_PREFIX}{node}":
        raise not_your_node(scope.removeprefix(AGENT_PREFIX), node)


VIEWER = Require("viewer")
MEDIA = Require("media")
OPERATOR = Require("operator")
ADMIN = Require("admin")
NODE_OR_VIEWER = Require("viewer", as_node=True)
NODE_OR_MEDIA = Require("media", as_node=True)
NODE = Require(None, as_node=True)


class Endpoint(APIRoute):
    """A route of the API: admits, refuses unknown parameters and foreign media types, then runs."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Wrap FastAPI's handler."""
        inner = super().get_route_handler()
        known = frozenset(
            field.alias for field in get_flat_params(self.dependant) if isinstance(field.field_info, params.Query)
        )
        free = (self.openapi_extra or {}).get("x-free-parameters", "")
        need = need_of(self)
        takes_body = self.body_field is not None

        async def handle(request: Request) -> Response:
            if need is not None:
                request.state.key = need.admit(request)
            _check_parameters(request, known, free)
            if takes_body:
                _check_media_type(request)
            if not runtime_of(request).ready and need is not None:
                raise Unavailable("not_ready", "the control plane is still starting")
            return await inner(request)

        return handle


def need_of(route: APIRoute) -> Require | None:
    """What a route requires of its caller; ``None`` if nothing."""
    return next((d.call for d in route.dependant.dependencies if isinstance(d.call, Require)), None)


def _check_parameters(request: Request, known: frozenset[str], free: str) -> None:
    seen: set[str] = set()
    for name, _ in request.query_params.multi_items():
        if name not in known and not (free and name.startswith(free) and len(name) > len(free)):
            shown = name if name.isascii() and name.isprintable() else "?"
            raise InputRejected(
                "unknown_parameter",
                f"there is no parameter {shown[:64]}",
                field=shown[:64],
                rule="known: " + (", ".join(sorted(known)) or "none"),
            )
        if name in seen:
            raise InputRejected("repeated_parameter", f"{name} is given twice", field=name, rule="once")
        seen.add(name)


def _check_media_type(request: Request) -> None:
    if request.headers.get("content-length", "1") == "0":
        return  # a body that is missing is told as such
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json" and not (kind.startswith("application/") and kind.endswith("+json")):
        raise InputRejected(
            "unsupported_media_type", "the body must be JSON", field="Content-Type", rule="application/json"
        )
