"""RFC 9457: every refusal of the HTTP edge is made here, from one table of stable codes to HTTP status.

Whose fault it is decides: ``InputRejected`` is 4xx, ``Unsafe`` 409 with the override that insists, ``Unavailable`` 503
with ``Retry-After``. Input is never echoed, only the field, the rule and the limit, so that no secret comes back in an
error; documents are ASCII, so that no malformed text can break them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from probes.wire import WireError
from router.core.errors import TendrilError, Unavailable, Unsafe

log = structlog.get_logger(__name__)

MAX_SHOWN_ERRORS = 20

STATUS: Mapping[str, int] = {
    # who is calling
    "key_missing": 401,
    "key_malformed": 401,
    "key_invalid": 401,
    "sign_in_invalid": 401,
    "sign_in_expired": 401,
    "scope_insufficient": 403,
    "csrf_header_missing": 403,
    "csrf_token_wrong": 403,
    "not_your_node": 403,
    "token_invalid": 403,
    "token_expired": 403,
    "token_unknown": 403,
    "token_used": 403,
    "token_revoked": 403,
    "wrong_data_center": 403,
    # what was asked
    "bad_request": 400,
    "malformed_json": 400,
    "not_found": 404,
    "method_not_allowed": 405,
    "body_too_large": 413,
    "unsupported_media_type": 415,
    "missing_field": 422,
    "unknown_field": 422,
    "invalid_field": 422,
    "missing_parameter": 422,
    "unknown_parameter": 422,
    "invalid_parameter": 422,
    "repeated_parameter": 422,
    "invalid_header": 422,
    "invalid_report": 422,
    "id_mismatch": 422,
    "same_data_center": 422,
    "policy_not_for_class": 422,
    "scope_invalid": 422,
    "selector_empty": 422,
    "selector_matches_nothing": 422,
    "unknown_reference": 422,
    "too_many_contexts": 422,
    "too_many_transports": 422,
    "conflicting_change": 422,
    "unknown_event": 422,
    "bad_value": 422,
    "time_in_the_past": 422,
    "range_empty": 422,
    "range_too_fine": 422,
    "range_too_long": 422,
    "position_unknown": 422,
    "webhook_address": 422,
    # what is there
    "unknown_provider": 404,
    "unknown_region": 404,
    "unknown_data_center": 404,
    "unknown_node": 404,
    "unknown_link": 404,
    "unknown_policy": 404,
    "unknown_pool": 404,
    "unknown_transport": 404,
    "unknown_agent": 404,
    "unknown_session": 404,
    "unknown_leg": 404,
    "unknown_drain": 404,
    "unknown_launch": 404,
    "unknown_ramp": 404,
    "unknown_key": 404,
    "unknown_join_token": 404,
    "unknown_webhook": 404,
    "revision_conflict": 412,
    "unknown_kind": 404,
    "link_exists": 409,
    "data_center_exists": 409,
    "ramp_exists": 409,
    "in_use": 409,
    "sessions_live": 409,
    "idempotency_conflict": 409,
    "fenced": 409,
    "agent_busy": 409,
    "write_conflict": 409,
    "key_exists": 409,
    "session_ended": 409,
    "too_many_legs": 409,
    "bad_transition": 409,
    "drain_overlaps": 409,
    "expires_too_late": 422,
    "drain_unsafe": 409,
    "return_unsafe": 409,
    "last_admin_key": 409,
    "too_many_webhooks": 409,
    # placement has no answer
    "no_edge": 409,
    "no_idle_agent": 409,
    "no_path": 409,
    "max_rtt": 409,
    # our fault
    "database_unavailable": 503,
    "not_ready": 503,
    "simulations_busy": 503,
    "simulation_too_slow": 503,
    "internal_error": 500,
}

_BY_STATUS = {400: "bad_request", 404: "not_found", 405: "method_not_allowed", 413: "body_too_large"}


def status_of(error: TendrilError) -> int:
    """HTTP status of an error; a code that the table does not know falls back to whose fault it is."""
    if isinstance(error, Unavailable):
        return STATUS.get(error.code, 503)
    return STATUS.get(error.code, 409 if isinstance(error, Unsafe) else 422)


def problem(
    status: int,
    code: str,
    detail: str,
    *,
    field: str | None = None,
    rule: str | None = None,
    limit: str | int | float | None = None,
    override: str | None = None,
    headers: Mapping[str, str] | None = None,
    **extensions: object,
) -> Response:
    """Build one problem document."""
    document = {
        "type": f"urn:tendril:problem:{code}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "code": code,
        "field": field,
        "rule": rule,
        "limit": limit,
        "override": override,
        **extensions,
    }
    return Response(json.dumps(document), status, dict(headers or {}), "application/problem+json")


def of_error(error: TendrilError, **extensions: object) -> Response:
    """Build the problem document of one of our own errors."""
    status = status_of(error)
    headers: dict[str, str] = {}
    if isinstance(error, Unavailable):
        headers["Retry-After"] = str(error.retry_after_s)
    if status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = 'Bearer realm="tendril"' + (
            "" if error.code == "key_missing" else ', error="invalid_token"'
        )
    if error.code == "scope_insufficient":
        headers["WWW-Authenticate"] = f'Bearer realm="tendril", error="insufficient_scope", scope="{error.limit}"'
    return problem(
        status,
        error.code,
        error.message,
        field=error.field,
        rule=error.rule,
        limit=error.limit,
        override=error.override,
        headers=headers,
        **extensions,
    )


_LIMITS = ("le", "ge", "lt", "gt", "max_length", "min_length", "pattern", "expected")


_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_BRANCH = re.compile(r"(constrained|function|nullable)-.*|[A-Z]\w*Body")


def _place(location: Sequence[object]) -> tuple[str, str]:
    """Pydantic's location -> (body | query | path | header, dotted field); names of union branches are left out."""
    where, *rest = [str(part) for part in location]
    kept = [part for part in rest if _NAME.fullmatch(part) and not _BRANCH.fullmatch(part)][:8]
    return where, ".".join(kept) or where


def _rule(error: Mapping[str, Any]) -> dict[str, object]:
    context = error.get("ctx") or {}
    limit = next((context[name] for name in _LIMITS if isinstance(context.get(name), str | int | float)), None)
    return {"field": _place(error["loc"])[1], "rule": str(error["msg"])[:300], "limit": limit}


_PREFIXES = {"missing": "missing", "extra_forbidden": "unknown"}


def of_validation(error: RequestValidationError) -> Response:
    """Build the problem document of a body, path or query that broke the schema."""
    errors = list(error.errors())
    first = errors[0]
    if first["type"] == "json_invalid":
        return problem(
            400, "malformed_json", "the body is not JSON", field="body", rule=str(first["ctx"]["error"])[:200]
        )
    where = _place(first["loc"])[0]
    code = f"{_PREFIXES.get(first['type'], 'invalid')}_{'field' if where == 'body' else 'parameter'}"
    rules = [_rule(one) for one in errors[:MAX_SHOWN_ERRORS]]
    told = rules[0]
    return problem(
        STATUS[code],
        code,
        f"{told['field']}: {told['rule']}",
        field=str(told["field"]),
        rule=str(told["rule"]),
        limit=told["limit"],  # type: ignore[arg-type]
        errors=rules,
    )


def of_http(error: HTTPException) -> Response:
    """Build the problem document of what the framework refused."""
    code = _BY_STATUS.get(error.status_code, "bad_request" if error.status_code < 500 else "internal_error")
    details = {404: "there is nothing at this path", 405: "this path does not take this method"}
    detail = details.get(error.status_code, str(error.detail))
    field = "body" if error.status_code == HTTPStatus.REQUEST_ENTITY_TOO_LARGE else None
    return problem(error.status_code, code, detail, field=field, headers=error.headers)


def install(app: FastAPI) -> None:
    """Make every refusal of an app a problem document."""

    async def ours(request: Request, error: Exception) -> Response:
        return of_error(error) if isinstance(error, TendrilError) else of_crash(request, error)

    async def wire(request: Request, error: Exception) -> Response:
        field, rule, limit = (
            (error.field, error.rule, error.limit) if isinstance(error, WireError) else (None, None, None)
        )
        return problem(422, "invalid_report", str(error)[:300], field=field, rule=rule, limit=limit)

    async def validation(request: Request, error: Exception) -> Response:
        return of_validation(error) if isinstance(error, RequestValidationError) else of_crash(request, error)

    async def http(request: Request, error: Exception) -> Response:
        return of_http(error) if isinstance(error, HTTPException) else of_crash(request, error)

    async def crash(request: Request, error: Exception) -> Response:
        return of_crash(request, error)

    app.add_exception_handler(TendrilError, ours)
    app.add_exception_handler(WireError, wire)
    app.add_exception_handler(RequestValidationError, validation)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(Exception, crash)


def of_crash(request: Request, error: Exception) -> Response:
    """Log a defect with its trace, and tell the caller no more than that it is ours."""
    log.error("request_failed", method=request.method, path=request.url.path, exc_info=error)
    return problem(500, "internal_error", "Tendril failed to answer; the log of the control plane says why")
