"""What comes back from the control plane: events, and the two ways in which a call can fail.

:class:`ApiProblem` is an answer that says no (from ``application/problem+json``, RFC 9457), :class:`Unreachable` no
usable answer at all. Both carry code, field, rule, limit and override like every error of the control plane, so that
callers print them alike.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx

from router.core.errors import TendrilError

Json = dict[str, Any]


class ApiProblem(TendrilError):
    """The control plane answered no: ``status`` and the fields of its problem document."""

    def __init__(self, status: int, code: str, detail: str, document: Json) -> None:
        super().__init__(
            code,
            detail,
            field=_text(document, "field"),
            rule=_text(document, "rule"),
            limit=document.get("limit"),
            override=_text(document, "override"),
        )
        self.status = status
        self.detail = detail
        self.document = document


class Unreachable(TendrilError):
    """No usable answer: nobody listens, the connection broke, or what answered is not a Tendril control plane."""

    def __init__(self, url: str, message: str) -> None:
        super().__init__("unreachable", message, field="--url", override="name it by --url or TENDRIL_URL")
        self.url = url


@dataclass(frozen=True, slots=True)
class ServerEvent:
    """One server-sent event; ``id`` resumes a stream after it."""

    kind: str
    data: Json
    id: str | None = None


def parse_events(lines: Iterable[str]) -> Iterator[ServerEvent]:
    """Turn the lines of an event stream into events (WHATWG HTML, "Interpreting an event stream")."""
    kind, last_id = "message", None
    data: list[str] = []
    for line in lines:
        if not line:
            if data:
                yield ServerEvent(kind, json.loads("\n".join(data)), last_id)
            kind, data = "message", []
            continue
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "event":
            kind = value
        elif name == "data":
            data.append(value)
        elif name == "id":
            last_id = value


def problem_of(response: httpx.Response) -> ApiProblem:
    """Build the error of an answer that says no, whether or not it brings a problem document."""
    try:
        document = response.json()
    except ValueError:
        document = {}
    if not isinstance(document, dict):
        document = {}
    status = response.status_code
    detail = document.get("detail") or document.get("title") or f"HTTP {status} {response.reason_phrase}"
    return ApiProblem(status, str(document.get("code") or f"http_{status}"), str(detail), document)


def object_of(url: str, response: httpx.Response) -> Json:
    """Return the JSON object of an answer. Raises :class:`Unreachable` when it is something else."""
    try:
        document = response.json()
    except ValueError as error:
        raise Unreachable(url, f"what answers at {url} is not a Tendril control plane (no JSON)") from error
    if not isinstance(document, dict):
        raise Unreachable(url, f"what answers at {url} is not a Tendril control plane (no JSON object)")
    return document


def why(url: str, error: Exception) -> str:
    """Say in words why no answer came."""
    if isinstance(error, httpx.TimeoutException):
        return f"{url} did not answer in time"
    if isinstance(error, httpx.ConnectError):
        return f"no control plane answers at {url} ({error})"
    return f"the connection to {url} failed ({type(error).__name__}: {error})"


def _text(document: Json, name: str) -> str | None:
    value = document.get(name)
    return None if value is None else str(value)
