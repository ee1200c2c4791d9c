"""Flows: how many live sessions each link and each relay carries."""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import Field

from router.core.solve import PathAnswer
from router.schemas.fields import Answer


class LinkFlow(Answer):
    """Live sessions over one directed link."""

    source: str = Field(alias="from")
    target: str = Field(alias="to")
    transport: str
    sessions: int


class RelayFlow(Answer):
    """Live sessions that a data center only relays."""

    data_center: str
    sessions: int


class Flows(Answer):
    """Where the sessions' media runs now; a session counts once in each direction it uses a link."""

    links: list[LinkFlow]
    relays: list[RelayFlow]


def flows_json(paths: Iterable[tuple[PathAnswer, int]]) -> dict[str, object]:
    """Add up sessions per link and per relay over ``(path, sessions)``."""
    links: dict[tuple[str, str, str], int] = {}
    relays: dict[str, int] = {}
    for path, sessions in paths:
        for source, target, transport in zip(path.path, path.path[1:], path.transports, strict=False):
            links[source, target, transport] = links.get((source, target, transport), 0) + sessions
        for relay in path.path[1:-1]:
            relays[relay] = relays.get(relay, 0) + sessions
    return {
        "links": [
            {"from": source, "to": target, "transport": transport, "sessions": sessions}
            for (source, target, transport), sessions in sorted(links.items())
        ],
        "relays": [{"data_center": relay, "sessions": sessions} for relay, sessions in sorted(relays.items())],
    }
