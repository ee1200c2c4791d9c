"""The reflector: answers the probes of others. What it answers, and with what, is :class:`probes.stamp.Reflection`'s.

T2 is the kernel's arrival stamp. T3 is taken right before each ``sendto``, after the reply has been made if nothing but
the stamp depends on it (no HMAC, no TLVs): replies are never collected for one system
call, which would stamp all but the first too early. For a request with TLVs (it may ask for Follow-Up Telemetry) the
kernel is asked to stamp the departure as well; the sender learns it from the next reply.

Anybody may send requests with a forged source, so replies are no longer than their requests, and bounded in all and for
each source.
"""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Callable, Iterable

from probes.clock import Clock
from probes.sockets.batch import Arrival, Departure
from probes.sockets.kernel import STAMP_THIS, Address, address_of, monotonic_us, stamp_transmits, tell_classes, wall_ns
from probes.sockets.limits import SourceLimit, TokenBucket
from probes.sockets.loop import Ready
from probes.sockets.port import Port
from probes.sockets.selftest import error_estimate
from probes.stamp import AUTHENTICATED_SIZE, BASE_SIZE, ErrorEstimate, Flow, PacketError, Reflection, micros_to_ntp, tlv

REFLECTED_PER_S = 20_000  # this bounds what a reflector can be made to send
REFLECTED_PER_SOURCE_S = 4_000  # twice what one agent may probe at all
_T3_AT = 4  # in an unauthenticated reply
MAX_ADDRESSES = 8_192  # source addresses kept in readable form
MAX_DEPARTING = 1_024  # departures waited for


def mirror_each(
    descriptor: int,
    arrivals: list[Arrival],
    reflection: Reflection,
    addresses: dict[bytes, Address],
    bucket: TokenBucket,
    sources: SourceLimit,
    offset_us: int,
    now_us: int,
    hear: Callable[[str], None],
    other: Callable[[Arrival, int], None],
) -> tuple[int, int]:
    """Answer requests: ``other`` takes one, whatever it is. What most of them are, the compiled form does itself.

    Returns how many of those it sent, and how many the kernel would not send.
    """
    for arrival in arrivals:
        other(arrival, now_us)
    return 0, 0


try:
    from probes.sockets._batch import mirror
except ImportError:  # no compiler when it was installed, or not Linux
    mirror = mirror_each


class Reflector:
    """Stateful STAMP reflector: one sequence counter per (sender address, SSID), so that losses have a direction."""

    def __init__(
        self,
        sock: socket.socket,
        clock: Clock,
        on_reflected: Callable[[str], None] = lambda host: None,
        *,
        per_s: int = REFLECTED_PER_S,
        per_source_s: int = REFLECTED_PER_SOURCE_S,
        reflection: Reflection | None = None,
        on_drained: Ready = lambda: True,
        flow_of: Callable[[str], Flow | None] | None = None,
    ) -> None:
        """``on_drained`` is called when all that came is answered: True, if it touched nothing of the loop's.

        ``flow_of`` knows the counters of real media from a host and to it.
        """
        self.counters: Counter[str] = Counter()
        self._port = Port(sock, self.counters, self._take, self._departed, served=on_drained)
        self._sock = sock
        tell_classes(sock)
        self._clock = clock
        self._on_reflected = on_reflected
        self._bucket = TokenBucket(per_s)
        self._sources = SourceLimit(per_source_s)
        self._addresses: dict[bytes, Address] = {}
        if reflection is None:
            estimate = error_estimate(clock)
            reflection = Reflection(own_port=self.address[1], error_estimate=estimate, flow_of=flow_of)
            sync = tlv.SYNC_NTP if ErrorEstimate.decode(estimate).synchronized else tlv.SYNC_LOCAL
            reflection.stamping = tlv.TimestampInformation(sync, tlv.SOFTWARE, sync, tlv.SOFTWARE)
        self._reflection = reflection
        self._departing: dict[int, tuple[Address, int, int]] = {}  # by number: address, SSID, sequence of the reply
        self._number = 0
        self.stamps_departures = stamp_transmits(sock, each=False)

    @property
    def address(self) -> Address:
        """Where it listens."""
        return self._port.address

    def refuse(self, reflectors: Iterable[Address]) -> None:
        """Name other reflectors; packets from them are replies gone astray (or forged) and never answered."""
        self._reflection.refuse(reflectors)

    def trust(self, own_key: bytes, also: Iterable[bytes] = ()) -> None:
        """Derive the keys of senders from these keys of the node: authenticated requests are answered authenticated."""
        self._reflection.trust(own_key, also)

    def close(self) -> None:
        """Close the socket."""
        self._port.close()

    def _take(self, arrivals: list[Arrival]) -> None:
        now_us, clock = monotonic_us(), self._clock
        if clock.skew_ppm:
            for arrival in arrivals:
                self._take_one(arrival, now_us)
            return
        sent, refused = mirror(
            self._sock.fileno(), arrivals, self._reflection, self._addresses, self._bucket, self._sources,
            clock.offset_us, now_us, self._on_reflected, self._take_one,
        )  # fmt: skip
        if sent:
            self.counters["reflected"] += sent
        if refused:
            self.counters["send_errors"] += refused

    def _take_one(self, arrival: Arrival, now_us: int) -> None:
        """Answer one request, whatever it is."""
        packet, stamp_ns, ttl, source = arrival
        read, counters = self._clock.read, self.counters
        if packet is None:
            counters["too_long"] += 1
            return
        if not (self._bucket.take(now_us) and self._sources.take(source[4:-8], now_us)):
            counters["rate_limited"] += 1
            return
        address = self._addresses.get(source) or self._address(source)
        before_ns = wall_ns()
        try:
            reply = self._reflection.answer(packet, address, read((stamp_ns or before_ns) // 1_000),
                                            read(before_ns // 1_000), ttl & 0xFF, (ttl >> 8) - 1)  # fmt: skip
        except PacketError as error:
            counters[error.counter] += 1
            return
        if len(reply) == BASE_SIZE:
            t3 = micros_to_ntp(read(wall_ns() // 1_000))
            reply = reply[:_T3_AT] + t3.to_bytes(8, "big") + reply[_T3_AT + 8 :]
        if self._send(reply, address):
            counters["reflected"] += 1
            self._on_reflected(address[0])

    def _address(self, source: bytes) -> Address:
        if len(self._addresses) >= MAX_ADDRESSES:
            self._addresses.clear()
        address = self._addresses[source] = address_of(source)
        return address

    def _send(self, reply: bytes, address: Address) -> bool:
        try:
            if len(reply) in (BASE_SIZE, AUTHENTICATED_SIZE) or len(reply) < BASE_SIZE or not self.stamps_departures:
                self._sock.sendto(reply, address)
            else:
                self._sock.sendmsg([reply], [STAMP_THIS], 0, address)
                self._await_departure(reply, address)
        except OSError:
            self.counters["send_errors"] += 1
            return False
        return True

    def _await_departure(self, reply: bytes, address: Address) -> None:
        ssid = int.from_bytes(reply[14:16] if reply[13] else reply[26:28], "big")
        if len(self._departing) >= MAX_DEPARTING:
            del self._departing[next(iter(self._departing))]
        self._departing[self._number] = address, ssid, int.from_bytes(reply[:4], "big")
        self._port.awaited = len(self._departing)
        self._number = (self._number + 1) & 0xFFFFFFFF
        self._port.read_departures()

    def _departed(self, told: list[Departure]) -> None:
        for number, stamp_ns in told:
            reply = self._departing.pop(number, None)
            if reply is None:  # of another datagram, or an ICMP error
                self.counters["departures_refused"] += 1
                continue
            address, ssid, sequence = reply
            self._reflection.transmitted(address, ssid, self._clock.read(stamp_ns // 1_000), sequence)
        self._port.awaited = len(self._departing)
