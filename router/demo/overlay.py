"""Sending media along answered routes: the demo world's data plane, as a media server on a node would do it.

The routes are those the control plane answered last; they stay in force when it is silent or dead, because nothing on
the path of a live session may need it. A packet takes its path hop by hop through the nodes' relays (source routing,
``probes.relay``); a direct path needs no relay. Everything leaves from the sending node's real address towards the next
hop's stand-in address, so that the emulator's delays, losses and black holes apply to it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from probes.relay import RelayHeader
from router.demo.udp import UdpPort

Pair = tuple[str, str]


@dataclass(frozen=True, slots=True)
class MediaNode:
    """A data center's first node: where its media edge and its AI agents are."""

    data_center: str
    node: str
    real_host: str
    stand_in: str
    hub: bool = False
    edge: bool = True


class Overlay:
    """Address book of all places, the routes between them, and the act of sending along a route."""

    def __init__(self, places: Iterable[MediaNode], relay_port: int) -> None:
        self.places: Mapping[str, MediaNode] = {place.data_center: place for place in places}
        self._by_stand_in = {place.stand_in: place for place in self.places.values()}
        self._relay_port = relay_port
        self._paths: dict[Pair, tuple[str, ...]] = {}
        self._via: dict[str, str] = {}  # session of a robot -> the relay that it tries, there and back
        self.unrouted = 0  # sent directly because no route was known

    def place_at(self, stand_in: str) -> MediaNode | None:
        """Return the place that others reach at this stand-in address."""
        return self._by_stand_in.get(stand_in)

    def pin(self, session: str, via: str | None) -> None:
        """Send one session over a relay from now on, whatever its route is; ``None``: over its route again."""
        if via is None or via not in self.places:
            self._via.pop(session, None)
        else:
            self._via[session] = via

    def path(self, source: str, target: str) -> tuple[str, ...]:
        """Return the path in force; the direct one when no answer is known."""
        return self._paths.get((source, target), (source, target))

    def learn(self, source: str, target: str, path: Iterable[str] | None) -> None:
        """Take over an answered path; ``None`` (no path now) keeps the old one, which may still work."""
        if path is None:
            return
        hops = tuple(path)
        if hops[:1] == (source,) and hops[-1:] == (target,) and all(hop in self.places for hop in hops):
            self._paths[source, target] = hops

    def send(self, port: UdpPort, source: str, target: str, destination_port: int, data: bytes, session: str) -> None:
        """Send ``data`` of a session from ``port`` (at ``source``) along its path to a port of ``target``."""
        there, via = self.places[target], self._via.get(session)
        if source == target:
            port.send(data, (there.real_host, destination_port))
            return
        if (source, target) not in self._paths:
            self.unrouted += 1
        path = self.path(source, target) if via is None else (source, via, target)
        if len(path) == 2:
            port.send(data, (there.stand_in, destination_port))
            return
        hops = [(self.places[dc].stand_in, self._relay_port) for dc in path[1:]]
        port.send(RelayHeader.wrap(hops, destination_port, data), hops[0])
