"""UDP sockets of the agent: the sender of probes and the reflector that answers those of others.

Raw non-blocking sockets on the event loop's readiness callbacks: a drain loop takes what has arrived, and nothing in it
can raise because of a packet's contents; a broken packet is counted and forgotten.

Stamps. Receive stamps (T2, T4) come from the kernel where it gives them (``SO_TIMESTAMPNS``), so neither a busy loop
nor other agents in the same process add to a measured delay; otherwise the time of reading counts. Transmit stamps
(T1, T3) are taken right before ``sendto``; kernel transmit stamps would replace them in :meth:`ProbeSender.send` and
:meth:`Reflector._answer`. Both kinds are wall-clock nanoseconds and pass through the node's :class:`Clock`.

Ports. A STAMP reply looks like a request (same length, no type field), so sender and reflector have a port each, and
the reflector never answers a packet that comes from a reflector: two of them would otherwise play ball for ever.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import struct
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from probes.clock import Clock
from probes.stamp import (
    BASE_SIZE,
    TTL,
    UNREADABLE_TTL,
    ErrorEstimate,
    PacketError,
    micros_to_ntp,
    ntp_to_micros,
    pack_request,
    reflect,
    request_ssid,
    stamp_to_micros,
    unpack_reply,
)
from probes.summary import Outcome, Row

Address = tuple[str, int]

MAX_DATAGRAM = 2_048  # larger ones arrive cut off and are refused
MAX_DRAIN = 256  # datagrams per wake-up, then others get a turn
MAX_REFLECTED_SESSIONS = 8_192  # sequence counters; the longest unused one goes first
REFLECTED_PER_S = 20_000  # a reflector answers strangers one for one: this bounds what it can be made to send
_RECEIVE_BUFFER = 1 << 20  # a stalled process finds its probes waiting, with true kernel stamps
_ANCILLARY = socket.CMSG_SPACE(16) + socket.CMSG_SPACE(4)
_SO_TIMESTAMPNS = 35  # <asm-generic/socket.h>; the socket module has no name for it
_IP_RECVTTL = 12
_IPV6_RECVHOPLIMIT = 51
_IPV6_HOPLIMIT = 52
_IPV6_UNICAST_HOPS = 16
_SOL_SOCKET, _IPV6, _IP_TTL = int(socket.SOL_SOCKET), int(socket.IPPROTO_IPV6), int(socket.IP_TTL)
_MSG_TRUNC = int(socket.MSG_TRUNC)  # as an enum it would cost more than the rest of the loop
_TIMESPEC = struct.Struct("@qq")
_INT = struct.Struct("@i")
# Nobody vouches for the wall clock yet: S stays clear, and a second of error promises nothing.
ERROR_ESTIMATE = ErrorEstimate.of_micros(1_000_000).encode()


def open_udp(host: str, port: int) -> socket.socket:
    """A non-blocking UDP socket bound to a numeric address, with TTL 255, receive stamps and TTLs where available."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_DGRAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
        for level, option, value in _options(family):
            try:
                sock.setsockopt(level, option, value)
            except OSError as error:  # an older kernel: measured from user space, or TTL unknown
                if error.errno not in (errno.ENOPROTOOPT, errno.EINVAL):
                    raise
        sock.bind((host, port))
    except OSError:
        sock.close()
        raise
    return sock


def _options(family: int) -> tuple[tuple[int, int, int], ...]:
    stamps = ((socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1),) if sys.platform == "linux" else ()
    if family == socket.AF_INET6:
        hops = ((socket.IPPROTO_IPV6, _IPV6_UNICAST_HOPS, TTL), (socket.IPPROTO_IPV6, _IPV6_RECVHOPLIMIT, 1))
    else:
        hops = ((socket.IPPROTO_IP, socket.IP_TTL, TTL), (socket.IPPROTO_IP, _IP_RECVTTL, 1))
    return stamps + hops


def read_ancillary(ancillary: Iterable[tuple[int, int, bytes]]) -> tuple[int, int]:
    """Kernel receive stamp (wall-clock ns, 0 if there is none) and TTL as received (255 if unreadable)."""
    stamp_ns, ttl = 0, UNREADABLE_TTL
    for level, kind, data in ancillary:
        if kind == _SO_TIMESTAMPNS and level == _SOL_SOCKET and len(data) == 16:
            seconds, nanoseconds = _TIMESPEC.unpack(data)
            stamp_ns = seconds * 1_000_000_000 + nanoseconds
        elif len(data) == 4 and ((level == 0 and kind == _IP_TTL) or (level == _IPV6 and kind == _IPV6_HOPLIMIT)):
            ttl = _INT.unpack(data)[0] & 0xFF
    return stamp_ns, ttl


def monotonic_us() -> int:
    """The time deadlines are measured in."""
    return time.monotonic_ns() // 1_000


class TokenBucket:
    """At most ``per_s`` events a second, ``burst`` at once."""

    def __init__(self, per_s: int, burst: int | None = None) -> None:
        self._per_s = per_s
        self._capacity_us = (burst or max(1, per_s // 10)) * 1_000_000  # in event-microseconds
        self._level_us = self._capacity_us
        self._at_us = monotonic_us()

    def take(self) -> bool:
        """Use up one event if there is one."""
        now_us = monotonic_us()
        self._level_us = min(self._capacity_us, self._level_us + (now_us - self._at_us) * self._per_s)
        self._at_us = now_us
        if self._level_us < 1_000_000:
            return False
        self._level_us -= 1_000_000
        return True


class Receiver:
    """A socket whose datagrams are handed to ``handle(packet, ancillary, address)``; counts what it refuses."""

    def __init__(self, sock: socket.socket, handle: Callable[[bytes, list[tuple[int, int, bytes]], Address], None]):
        self.sock = sock
        self.address: Address = sock.getsockname()[:2]
        self.counters: Counter[str] = Counter()
        self._handle = handle
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(sock, self._drain)

    def _drain(self) -> None:
        receive, handle = self.sock.recvmsg, self._handle
        for _ in range(MAX_DRAIN):
            try:
                packet, ancillary, flags, address = receive(MAX_DATAGRAM, _ANCILLARY)
            except BlockingIOError:
                return
            except OSError:  # a queued ICMP error: the socket lives on
                self.counters["receive_errors"] += 1
                continue
            if flags & _MSG_TRUNC:
                self.counters["too_long"] += 1
                continue
            handle(packet, ancillary, address)

    def send(self, packet: bytes, address: Address) -> bool:
        """Hand a datagram to the kernel; False, and counted, if it will not have it."""
        try:
            self.sock.sendto(packet, address)
        except OSError:
            self.counters["send_errors"] += 1
            return False
        return True

    def close(self) -> None:
        """Stop reading and close the socket."""
        self._loop.remove_reader(self.sock)
        self.sock.close()


class Reflector:
    """Stateful STAMP reflector: one sequence counter per (sender address, SSID), so that losses have a direction."""

    def __init__(
        self,
        sock: socket.socket,
        clock: Clock,
        on_reflected: Callable[[str], None] = lambda host: None,
        *,
        per_s: int = REFLECTED_PER_S,
    ) -> None:
        self._receiver = Receiver(sock, self._answer)
        self._clock = clock
        self._on_reflected = on_reflected
        self._bucket = TokenBucket(per_s)
        self._sequences: dict[tuple[Address, int], int] = {}  # least recently used first
        self._reflectors: frozenset[Address] = frozenset()
        self.counters = self._receiver.counters

    @property
    def address(self) -> Address:
        """Where it listens."""
        return self._receiver.address

    def refuse(self, reflectors: Iterable[Address]) -> None:
        """Name other reflectors; packets from them are replies gone astray (or forged) and never answered."""
        self._reflectors = frozenset(reflectors)

    def close(self) -> None:
        """Close the socket."""
        self._receiver.close()

    def _answer(self, packet: bytes, ancillary: list[tuple[int, int, bytes]], address: Address) -> None:
        stamp_ns, ttl = read_ancillary(ancillary)
        received_us = (stamp_ns or time.time_ns()) // 1_000
        try:
            ssid = request_ssid(packet)
        except PacketError:
            self.counters["malformed"] += 1
            return
        if address[1] == self.address[1] or address in self._reflectors:
            self.counters["from_reflector"] += 1
            return
        if not self._bucket.take():
            self.counters["rate_limited"] += 1
            return
        read = self._clock.read
        received = micros_to_ntp(read(received_us))
        sequence = self._next_sequence((address, ssid))
        reply = reflect(packet, sequence, received, micros_to_ntp(read(time.time_ns() // 1_000)), ERROR_ESTIMATE, ttl)
        if self._receiver.send(reply, address):
            self.counters["reflected"] += 1
            self._on_reflected(address[0])

    def _next_sequence(self, session: tuple[Address, int]) -> int:
        sequence = self._sequences.pop(session, 0)
        if len(self._sequences) >= MAX_REFLECTED_SESSIONS:
            del self._sequences[next(iter(self._sequences))]
        self._sequences[session] = (sequence + 1) & 0xFFFFFFFF
        return sequence


@dataclass(slots=True)
class Target:
    """Where the probes of one row go: ``envelope`` is put before each packet (a relay header), ``ssid`` names it."""

    row: Row
    address: Address
    ssid: int
    envelope: bytes = b""
    samples: list[int] = field(default_factory=list)  # round trips in microseconds, if the sender keeps them


class ProbeSender:
    """Sends STAMP requests from one port and files the replies under their rows."""

    def __init__(
        self,
        sock: socket.socket,
        clock: Clock,
        *,
        unwrap: Callable[[bytes], bytes] | None = None,
        keep_samples: bool = False,
    ) -> None:
        self._receiver = Receiver(sock, self._take)
        self._clock = clock
        self._unwrap = unwrap  # takes a relay header off a reply; raises ValueError
        self._keep_samples = keep_samples
        self._targets: dict[int, Target] = {}
        self.counters = self._receiver.counters

    @property
    def address(self) -> Address:
        """Where it sends from."""
        return self._receiver.address

    def replace(self, targets: Iterable[Target]) -> None:
        """Know these targets from now on; replies to others become strays."""
        self._targets = {target.ssid: target for target in targets}

    def close(self) -> None:
        """Close the socket."""
        self._receiver.close()

    def send(self, target: Target) -> None:
        """Send one probe; one that the network refuses is lost like any other, one without buffer space is not sent."""
        row = target.row
        now_us = monotonic_us()
        t1_us = self._clock.read(time.time_ns() // 1_000)
        packet = pack_request(row.next_sequence, micros_to_ntp(t1_us), ERROR_ESTIMATE, target.ssid)
        try:
            self._receiver.sock.sendto(target.envelope + packet, target.address)
        except OSError as error:
            self.counters["send_errors"] += 1
            if error.errno in (errno.EAGAIN, errno.ENOBUFS, errno.ENOMEM):
                return
        row.send(t1_us, now_us)

    def _take(self, packet: bytes, ancillary: list[tuple[int, int, bytes]], address: Address) -> None:
        now_us = monotonic_us()
        stamp_ns, _ = read_ancillary(ancillary)
        t4_us = self._clock.read((stamp_ns or time.time_ns()) // 1_000)
        try:
            if self._unwrap is not None and len(packet) != BASE_SIZE:
                packet = self._unwrap(packet)
            _, t3, estimate, ssid, t2, sequence, t1, _, _ = unpack_reply(packet)
        except ValueError:
            self.counters["malformed"] += 1
            return
        target = self._targets.get(ssid)
        if target is None or address[:2] != target.address:
            self.counters["stray"] += 1
            return
        row = target.row
        t2_us, t3_us = stamp_to_micros(t2, estimate), stamp_to_micros(t3, estimate)
        outcome = row.answer(sequence, ntp_to_micros(t1), t2_us, t3_us, t4_us, now_us)
        if outcome is Outcome.ANSWERED and self._keep_samples:
            target.samples.append(row.last_rtt_us)
