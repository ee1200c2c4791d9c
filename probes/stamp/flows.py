"""Packets of real media to each host and from it, for Direct Measurement (RFC 8972, 4.5). PURE.

The node's relay counts what it carries itself: what its tunnel takes for a host and what it delivers from one, a packet
once, however many copies of it travel. Media servers that send by themselves tell their counters through the local API.
Of a host both may tell of the same packets, so what is *carried* is answered where there is any, else what was *told*.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address

MAX_HOSTS = 4_096  # the one first met is forgotten first; twice as many as an agent has peers


@dataclass(frozen=True, slots=True)
class Flow:
    """Packets of real traffic from one host and to it, for Direct Measurement."""

    received: int
    sent: int


class Flows:
    """Counters since the start, by host."""

    def __init__(self) -> None:
        self._carried: dict[bytes, list[int]] = {}  # by packed address: received, sent
        self._told: dict[bytes, list[int]] = {}

    def carried(self, host: bytes, *, received: int = 0, sent: int = 0) -> None:
        """The relay delivered packets from a host (packed address), or sent some to it."""
        _add(self._carried, host, received, sent)

    def told(self, host: str, *, received: int, sent: int) -> None:
        """A media server counted packets; a host that is no numeric address is left out."""
        packed = _packed(host)
        if packed is not None and (received or sent):
            _add(self._told, packed, received, sent)

    def of(self, host: str) -> Flow | None:
        """What is known of a host; ``None`` if nothing is."""
        packed = _packed(host)
        if packed is None:
            return None
        found = self._carried.get(packed) or self._told.get(packed)
        return None if found is None else Flow(*found)

    def all(self) -> Mapping[str, Flow]:
        """What is known of every host."""
        return {str(ip_address(host)): Flow(*count) for host, count in (self._told | self._carried).items()}


def _add(counts: dict[bytes, list[int]], host: bytes, received: int, sent: int) -> None:
    count = counts.get(host)
    if count is None:
        if len(counts) >= MAX_HOSTS:
            del counts[next(iter(counts))]
        count = counts[host] = [0, 0]
    count[0] += received
    count[1] += sent


def _packed(host: str) -> bytes | None:
    try:
        return ip_address(host.partition("%")[0]).packed
    except ValueError:
        return None
