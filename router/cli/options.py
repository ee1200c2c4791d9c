"""Options that commands share, and the small texts they are given in: durations, selectors, ``key=value``.

A text that cannot be read is wrong usage (exit code 2) and says what would have been right.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from router.client import Client


class Format(StrEnum):
    """How an answer is printed."""

    TABLE = "table"
    JSON = "json"


class ClassName(StrEnum):
    """The traffic classes of the contract; spelled out here so that ``--help`` needs no import of the core."""

    VOICE = "voice"
    AGENT = "agent"
    VIDEO = "video"
    BULK = "bulk"


Output = Annotated[Format, typer.Option("-o", "--output", help="Print a table or the JSON of the API.")]
Url = Annotated[str | None, typer.Option("--url", help="Control plane [env: TENDRIL_URL; http://127.0.0.1:7400].")]
Key = Annotated[
    str | None,
    typer.Option("--key", help="Key [env: TENDRIL_KEY; for a control plane on this machine also var/admin.key]."),
]
TrafficClass = Annotated[ClassName, typer.Option("--class", help="Traffic class.")]
Policy = Annotated[str | None, typer.Option("--policy", help="Policy whose routes to ask for.")]
Limit = Annotated[int, typer.Option("--limit", min=1, max=10_000, help="Print at most this many.")]
Metadata = Annotated[list[str] | None, typer.Option("--metadata", metavar="KEY=VALUE", help="Metadata; repeatable.")]

_DURATION = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s?)?")
_SELECTOR_FIELDS = ("provider", "region", "data_center", "node")


def connect(url: str | None, key: str | None) -> Client:
    """Return a client for the options ``--url`` and ``--key``."""
    from router.client import from_env

    return from_env(url, key)


def duration_s(text: str | None, option: str) -> int | None:
    """Read ``10m``, ``1h30m``, ``45s``, ``2d`` or plain seconds."""
    if text is None:
        return None
    match = _DURATION.fullmatch(text.strip())
    if match is None or not any(match.groups()):
        raise typer.BadParameter(f"{text!r} is no duration; write 90s, 10m, 1h30m or 2d", param_hint=option)
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds


def selector(text: str) -> dict[str, str]:
    """Read ``provider=oracle,region=singapore``: all parts must match."""
    found: dict[str, str] = {}
    for part in text.split(","):
        name, equals, value = part.strip().partition("=")
        if not equals or not value or name not in _SELECTOR_FIELDS:
            known = ", ".join(f"{field}=…" for field in _SELECTOR_FIELDS)
            raise typer.BadParameter(f"{part.strip()!r} is no part of a selector; write {known}", param_hint="SELECTOR")
        if name in found:
            raise typer.BadParameter(f"{name} is given twice; all parts must match", param_hint="SELECTOR")
        found[name] = value
    return found


def selector_text(parts: dict[str, str | None]) -> str:
    """Return a selector of the API as the text an operator types."""
    return ",".join(f"{name}={parts[name]}" for name in _SELECTOR_FIELDS if parts.get(name))


def pairs(texts: Sequence[str] | None, option: str) -> dict[str, str]:
    """Read repeated ``key=value`` options."""
    found: dict[str, str] = {}
    for text in texts or ():
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise typer.BadParameter(f"{text!r} is not KEY=VALUE", param_hint=option)
        found[name] = value
    return found
