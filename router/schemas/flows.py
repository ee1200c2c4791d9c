"""Flows: how many live sessions each link and each relay carries, and how many Mbit/s they are."""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import Field

from router.core.load import BITRATE_KBPS
from router.core.model import TrafficClass
from router.core.solve import PathAnswer
from router.schemas.fields import Answer


class LinkFlow(Answer):
    """Live sessions over one directed link; ``mbps`` is what their classes are reckoned with, not measured."""

    source: str = Field(alias="from")
    target: str = Field(alias="to")
    transport: str
    sessions: int
    mbps: float


class RelayFlow(Answer):
    """Live sessions that a data center only relays."""

    data_center: str
    sessions: int
    mbps: float


class Flows(Answer):
    """Where the sessions' media runs now; a session counts once in each direction it uses a link."""

    links: list[LinkFlow]
    relays: list[RelayFlow]


def flows_json(paths: Iterable[tuple[PathAnswer, int, TrafficClass]]) -> dict[str, object]:
    """Add up sessions per link and per relay over ``(path, sessions, class)``."""
    links: dict[tuple[str, str, str], tuple[int, int]] = {}
    relays: dict[str, tuple[int, int]] = {}
    for path, sessions, traffic_class in paths:
        kbps = sessions * BITRATE_KBPS[traffic_class]
        for link in zip(path.path, path.path[1:], path.transports, strict=False):
            links[link] = _plus(links.get(link), sessions, kbps)
        for relay in path.path[1:-1]:
            relays[relay] = _plus(relays.get(relay), sessions, kbps)
    return {
        "links": [
            {"from": source, "to": target, "transport": transport, "sessions": sessions, "mbps": kbps / 1000}
            for (source, target, transport), (sessions, kbps) in sorted(links.items())
        ],
        "relays": [
            {"data_center": relay, "sessions": sessions, "mbps": kbps / 1000}
            for relay, (sessions, kbps) in sorted(relays.items())
        ],
    }


def _plus(held: tuple[int, int] | None, sessions: int, kbps: int) -> tuple[int, int]:
    before = held or (0, 0)
    return before[0] + sessions, before[1] + kbps
