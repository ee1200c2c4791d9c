"""Signing in to the dashboard, staying signed in, and signing out."""

from __future__ import annotations

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from router.access import Key, scope_allows
from router.api.browsers import (
    COOKIE,
    CSRF_HEADER,
    SECOND_US,
    BrowserSession,
    begin,
    clear_cookie,
    cookie_text,
    csrf_token,
    insist_on_csrf,
    set_cookie,
)
from router.api.gate import VIEWER, Endpoint, key_of, key_text, runtime_of, session_of, signed_out_of
from router.api.reply import empty, reply
from router.core.errors import InputRejected
from router.schemas.access import SignInAnswer, SignInBody
from router.schemas.units import known_rfc3339

endpoints = APIRouter(prefix="/v1", route_class=Endpoint, tags=["access"])


def _answer(request: Request, key: Key, session: BrowserSession | None) -> Response:
    runtime = runtime_of(request)
    body = {
        "scope": key.scope,
        "name": key.name,
        "key": key.id,
        "expires_at": known_rfc3339(None if session is None else session.expires_at),
        "csrf_token": None if session is None else csrf_token(runtime.secret, session),
    }
    response = reply(body)
    response.headers["cache-control"] = "no-store"
    if session is not None:
        left_s = (session.expires_at - runtime.now()) // SECOND_US
        set_cookie(request, response, cookie_text(runtime.secret, session), left_s)
    return response


@endpoints.post("/sign-in", response_model=SignInAnswer)
async def sign_in(request: Request, body: SignInBody) -> Response:
    """Trade a key for an HttpOnly cookie of 12 h, so that the dashboard's scripts never hold it."""
    runtime = runtime_of(request)
    key = runtime.keys.verify(key_text(body.key))
    if key is None:
        raise InputRejected("key_invalid", "the key is unknown or was revoked", field="key")
    if not scope_allows(key.scope, "viewer"):
        message = f"the dashboard needs scope viewer or more, the key has {key.scope}"
        raise InputRejected("scope_insufficient", message, field="key", rule="scope", limit="viewer")
    return _answer(request, key, begin(key.id, runtime.now()))


@endpoints.get("/sign-in", response_model=SignInAnswer, dependencies=[Depends(VIEWER)])
async def who_am_i(request: Request) -> Response:
    """Say who is asking and what they may do; renews a sign-in for another 12 h, up to 7 days in all."""
    by_cookie = "authorization" not in request.headers
    session = session_of(request).renewed(runtime_of(request).now()) if by_cookie else None
    return _answer(request, key_of(request), session)


@endpoints.delete("/sign-in", status_code=204)
async def sign_out(request: Request) -> Response:
    """End the sign-in and forget the cookie; one that is worthless already is forgotten as well."""
    response = empty()
    clear_cookie(response)
    if COOKIE not in request.cookies:
        return response
    runtime = runtime_of(request)
    try:
        session = session_of(request)
    except InputRejected:
        return response
    insist_on_csrf(runtime.secret, session, request.headers.get(CSRF_HEADER))
    signed_out_of(request).add(session, runtime.now())
    return response
