"""Answers: JSON dumped once, entity tags, pages, and the parameters that many endpoints share."""

from __future__ import annotations

import asyncio
import gzip
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, Any, TypeVar

from fastapi import Header, Path, Query, Request
from pydantic import StringConstraints
from starlette.responses import Response

from router.core.errors import InputRejected
from router.core.model import ID_PATTERN

T = TypeVar("T")
WORTH_PACKING = 8_192  # bytes: below that a thread costs more than the network

PathId = Annotated[str, Path(pattern=ID_PATTERN, max_length=63)]
PathFrom = Annotated[str, Path(alias="from", pattern=ID_PATTERN, max_length=63)]
PathTo = Annotated[str, Path(alias="to", pattern=ID_PATTERN, max_length=63)]
QueryFrom = Annotated[str | None, Query(alias="from", pattern=ID_PATTERN, max_length=63)]
QueryTo = Annotated[str | None, Query(alias="to", pattern=ID_PATTERN, max_length=63)]
QueryId = Annotated[str | None, Query(pattern=ID_PATTERN, max_length=63)]
Limit = Annotated[int, Query(ge=1, le=10_000)]
After = Annotated[str | None, Query(pattern=ID_PATTERN, max_length=63, description="`next` of the page before")]
WaitS = Annotated[float, Query(ge=0, le=60, allow_inf_nan=False, description="wait so long for something newer")]
IfMatch = Annotated[str | None, Header(alias="If-Match", max_length=64)]
IfNoneMatch = Annotated[str | None, Header(alias="If-None-Match", max_length=1_000)]
IdempotencyKey = Annotated[
    str | None, Header(alias="Idempotency-Key"), StringConstraints(min_length=1, max_length=128, pattern=r"^[!-~]+$")
]

PROBLEMS: dict[int | str, dict[str, Any]] = {
    "default": {
        "description": "Refused: see docs/reference/errors.md",
        "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
}

dump: Callable[[object], str] = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, separators=(",", ":"), check_circular=False
).encode
"""JSON text of an answer; NaN is a defect and raises."""


def reply(data: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Dump an answer once; NaN is a defect and raises."""
    return Response(dump(data).encode(), status, dict(headers or {}), "application/json")


async def large(request: Request, data: object) -> Response:
    """Like ``reply``, for answers that grow with the fleet: compressed, in a thread, for those who take that."""
    body = dump(data).encode()
    headers = {"Vary": "Accept-Encoding"}
    if len(body) >= WORTH_PACKING and "gzip" in request.headers.get("accept-encoding", ""):
        body = await asyncio.to_thread(gzip.compress, body, 1, mtime=0)
        headers["Content-Encoding"] = "gzip"
    return Response(body, 200, headers, "application/json")


def empty(headers: Mapping[str, str] | None = None) -> Response:
    """204: done, and there is nothing to say."""
    return Response(status_code=204, headers=dict(headers or {}))


def etag(version: int | str) -> str:
    """Entity tag of a version."""
    return f'"{version}"'


def unchanged(if_none_match: str | None, version: int | str) -> bool:
    """Whether the caller already holds this version."""
    if if_none_match is None:
        return False
    tags = [tag.strip().removeprefix("W/") for tag in if_none_match.split(",")]
    return "*" in tags or etag(version) in tags


def not_modified(version: int | str) -> Response:
    """304 with the tag it is about."""
    return Response(status_code=304, headers={"ETag": etag(version)})


_REVISION = re.compile(r'(?:W/)?"?([0-9]{1,15})"?')


def revision_of(if_match: str | None) -> int | None:
    """The revision a caller insists on. Raises ``invalid_header``."""
    if if_match is None:
        return None
    found = _REVISION.fullmatch(if_match.strip())
    if found is None:
        raise InputRejected(
            "invalid_header", 'If-Match must be one revision, such as "7"', field="If-Match", rule='"REVISION"'
        )
    return int(found[1])


def page(
    items: Sequence[T], limit: int, after: str | None, id_of: Callable[[T], str]
) -> tuple[Sequence[T], str | None]:
    """Cut one page out of items in id order: those after the cursor, and the cursor of the next page."""
    rest = [item for item in items if after is None or id_of(item) > after]
    cut = rest[:limit]
    return cut, id_of(cut[-1]) if len(rest) > limit and cut else None


def listing(items: Iterable[dict[str, object]], next: str | None) -> Response:
    """Answer with one page of a collection."""
    return reply({"items": list(items), "next": next})
