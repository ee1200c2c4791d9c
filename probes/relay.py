"""Source-routed UDP forwarder: the small data plane (off by default).

A packet carries the list of relays it visits; each relay hands it to the next, and the last one delivers the payload to
a UDP port of its own machine. Layout, examples and limits: ``docs/reference/relay.md``.

The way back. Every relay replaces its own entry in the list by the address the packet came from (IP's loose source
route does the same), so at the last hop the list, read backwards, is the path of the answer, as the packets themselves
saw it: address translation and the demo's stand-in addresses need no special case. A relay on the way keeps no state.
The last one keeps a *flow* per (path, destination port): a socket of its own from which it delivers. What comes back to
that socket travels along the reversed list to the sender, still in its envelope, marked as an answer.

Which hop am I? The index in the packet says so; addresses are never compared with one's own. The index only rises and
the list is short, which bounds every journey; ``ttl`` bounds it once more, against a relay that forgets to count.

Trust. There is no authentication in this version. A relay takes packets only from addresses in its probe plan (and its
own), forwards only to relay ports in it (an answer's last hop may be any port there), delivers only to named ports of
its own machine, and bounds its rate.
"""

from __future__ import annotations

import socket
import struct
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from probes.sockets import Address, Receiver, TokenBucket, monotonic_us, open_udp

MAGIC = 0x5452  # "TR"
VERSION = 1
MAX_HOPS = 4
FIRST_TTL = 8
MAX_PAYLOAD = 1_400  # with the longest header and UDP/IP below every usual MTU
MEDIA_PORTS = frozenset({7423, 7424})  # media edge and AI agent
PACKETS_PER_S = 20_000
MAX_FLOWS = 1_024
FLOW_IDLE_US = 60_000_000
_ANSWER = 0x01
_FIXED = struct.Struct(">HBBBBBxH")  # magic, version, flags, hop count, hop index, ttl, zero, destination port
_HOP = struct.Struct(">4sH")


class RelayError(ValueError):
    """Bytes that are not a relay packet, or a path that does not fit in one."""


@dataclass(frozen=True, slots=True)
class RelayHeader:
    """The envelope: ``hops[index]`` is who the packet is addressed to now, ``hops[:index]`` where it came from."""

    hops: tuple[Address, ...]
    index: int
    ttl: int
    destination_port: int  # on the last hop's machine; 0 in an answer
    answer: bool = False

    @staticmethod
    def wrap(hops: Sequence[Address], destination_port: int, payload: bytes) -> bytes:
        """A packet to send to ``hops[0]``; ``hops[-1]`` delivers the payload. Raises :class:`RelayError`."""
        if len(payload) > MAX_PAYLOAD:
            raise RelayError(f"a payload has at most {MAX_PAYLOAD} bytes, this has {len(payload)}")
        if not 1 <= destination_port <= 65_535:
            raise RelayError(f"destination port must be between 1 and 65535, not {destination_port}")
        return RelayHeader(tuple(hops), 0, FIRST_TTL, destination_port).encode() + payload

    def encode(self) -> bytes:
        """Return the header's bytes. Raises :class:`RelayError` if it would not decode."""
        if not 1 <= len(self.hops) <= MAX_HOPS:
            raise RelayError(f"a path has 1 to {MAX_HOPS} hops, this has {len(self.hops)}")
        flags = _ANSWER if self.answer else 0
        fixed = _FIXED.pack(MAGIC, VERSION, flags, len(self.hops), self.index, self.ttl, self.destination_port)
        try:
            return fixed + b"".join(_HOP.pack(socket.inet_aton(host), port) for host, port in self.hops)
        except (OSError, struct.error) as error:
            raise RelayError(f"a hop is an IPv4 address and a port: {error}") from error

    @staticmethod
    def decode(packet: bytes) -> tuple[RelayHeader, bytes]:
        """Header and payload of a packet. Raises :class:`RelayError`."""
        if len(packet) < _FIXED.size:
            raise RelayError("too short for a relay header")
        magic, version, flags, count, index, ttl, port = _FIXED.unpack_from(packet)
        size = _FIXED.size + count * _HOP.size
        if magic != MAGIC or version != VERSION or flags & ~_ANSWER or packet[7]:
            raise RelayError("not a relay packet of this version")
        if not (1 <= count <= MAX_HOPS and index < count and len(packet) >= size):
            raise RelayError("hop list and index do not fit the packet")
        if len(packet) - size > MAX_PAYLOAD:
            raise RelayError("payload too long")
        answer = bool(flags & _ANSWER)
        if answer == bool(port):
            raise RelayError("a destination port goes with a request, and only with a request")
        hops = tuple(
            (socket.inet_ntoa(host), hop_port) for host, hop_port in _HOP.iter_unpack(packet[_FIXED.size : size])
        )
        return RelayHeader(hops, index, ttl, port, answer), packet[size:]

    def forwarded(self, came_from: Address) -> RelayHeader:
        """The header for the next hop, with this hop's entry replaced by where the packet came from."""
        return RelayHeader(self._recorded(came_from), self.index + 1, self.ttl - 1, self.destination_port, self.answer)

    def way_back(self, came_from: Address) -> tuple[Address, ...]:
        """At the last hop: the hops of an answer, the original sender last."""
        return self._recorded(came_from)[::-1]

    def _recorded(self, came_from: Address) -> tuple[Address, ...]:
        return (*self.hops[: self.index], came_from, *self.hops[self.index + 1 :])


def unwrap(packet: bytes) -> bytes:
    """Payload of an answer that has arrived at the sender. Raises :class:`RelayError`."""
    header, payload = RelayHeader.decode(packet)
    if not header.answer or header.index != len(header.hops) - 1:
        raise RelayError("not an answer that has arrived")
    return payload


class Relay:
    """Forwards between the relays it is told about and delivers to ``deliver_ports`` of its own address."""

    def __init__(self, sock: socket.socket, deliver_ports: Iterable[int], *, packets_per_s: int = PACKETS_PER_S):
        self._receiver = Receiver(sock, self._take)
        host = self._receiver.address[0]
        self._own = "127.0.0.1" if host == "0.0.0.0" else host  # where local services are reached
        self._deliver_ports = frozenset(deliver_ports)
        self.allow(())
        self._bucket = TokenBucket(packets_per_s)
        self._flows: dict[tuple[tuple[Address, ...], int], _Flow] = {}  # least recently used first
        self.counters: Counter[str] = self._receiver.counters

    @property
    def address(self) -> Address:
        """Where it listens."""
        return self._receiver.address

    @property
    def flows(self) -> int:
        """Paths that can bring an answer back now."""
        return len(self._flows)

    def allow(self, relays: Iterable[Address]) -> None:
        """Know these relays (numeric address, port) from now on; port 0 means a machine that does not relay."""
        self._relays = frozenset(relays)
        self._hosts = frozenset({self._own, *(host for host, _ in self._relays)})

    def close(self) -> None:
        """Close all sockets."""
        for flow in self._flows.values():
            flow.close()
        self._flows.clear()
        self._receiver.close()

    def _take(self, packet: bytes, ancillary: object, address: Address) -> None:
        try:
            header, payload = RelayHeader.decode(packet)
        except RelayError:
            self.counters["malformed"] += 1
            return
        if address[0] not in self._hosts:
            self.counters["not_allowed"] += 1
        elif header.ttl == 0:
            self.counters["ttl_exceeded"] += 1
        elif not self._bucket.take():
            self.counters["rate_limited"] += 1
        elif header.index < len(header.hops) - 1:
            self._forward(header.forwarded(address[:2]), payload)
        else:
            self._deliver(header, payload, address[:2])

    def _forward(self, header: RelayHeader, payload: bytes) -> None:
        target = header.hops[header.index]
        to_sender = header.answer and header.index == len(header.hops) - 1
        if target[1] == 0 or (target[0] not in self._hosts if to_sender else target not in self._relays):
            self.counters["not_allowed"] += 1
        elif self._receiver.send(header.encode() + payload, target):
            self.counters["forwarded"] += 1

    def _deliver(self, header: RelayHeader, payload: bytes, came_from: Address) -> None:
        if header.answer or header.destination_port not in self._deliver_ports:
            self.counters["not_allowed"] += 1
            return
        key = (header.way_back(came_from), header.destination_port)
        flow = self._flows.pop(key, None) or self._open(key)
        if flow is None:
            return
        self._flows[key] = flow
        flow.used_us = monotonic_us()
        if flow.receiver.send(payload, (self._own, header.destination_port)):
            self.counters["delivered"] += 1

    def _open(self, key: tuple[tuple[Address, ...], int]) -> _Flow | None:
        self._expire()
        try:
            return _Flow(self, key[0], (self._own, key[1]))
        except OSError:  # out of descriptors or ports
            self.counters["flows_refused"] += 1
            return None

    def _expire(self) -> None:
        before_us = monotonic_us() - FLOW_IDLE_US
        while self._flows:
            key, flow = next(iter(self._flows.items()))
            if flow.used_us >= before_us and len(self._flows) < MAX_FLOWS:
                return
            flow.close()
            del self._flows[key]

    def answer(self, hops: tuple[Address, ...], payload: bytes) -> None:
        """Send what a local service answered along the reversed path; only flows call this."""
        if len(payload) > MAX_PAYLOAD:
            self.counters["too_long"] += 1
        elif not self._bucket.take():
            self.counters["rate_limited"] += 1
        else:
            self._forward(RelayHeader(hops, 0, FIRST_TTL, 0, answer=True), payload)


class _Flow:
    """A local socket from which one path's payloads are delivered to one port, and the way back for the answers."""

    def __init__(self, relay: Relay, hops: tuple[Address, ...], service: Address) -> None:
        self._relay = relay
        self._hops = hops
        self._service = service
        self.used_us = 0
        self.receiver = Receiver(open_udp(service[0], 0), self._take)

    def _take(self, packet: bytes, ancillary: object, address: Address) -> None:
        if address[:2] == self._service:
            self._relay.answer(self._hops, packet)

    def close(self) -> None:
        self.receiver.close()
