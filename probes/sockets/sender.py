"""The sender of probes: STAMP requests out of one or several source ports, replies filed under their rows.

Source ports. Routers spread flows over parallel links by a hash of addresses and ports. Probes that take turns (at
random, so that no schedule falls in step with them) over several source ports see all of these links; a *confirm*
probe leaves by another port than the one that seems lost, which tells a broken path from one broken link of a bundle.

T1 is taken before sending and goes into the packet: the reply must echo it. What is measured with is the kernel's
departure stamp, if it has come when the reply does (:mod:`probes.sockets.port`). Probes due at the same time therefore
go out together in one system call and still each have their own stamp; without departure stamps they go one by one.
"""

from __future__ import annotations

import errno
import random
import socket
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from probes.clock import Clock
from probes.sockets.batch import BATCH, Arrival, Departure, send_batch
from probes.sockets.kernel import Address, monotonic_us, raw_address, stamp_transmits, wall_ns
from probes.sockets.port import Port
from probes.sockets.selftest import error_estimate
from probes.stamp import (
    AUTHENTICATED_SIZE,
    BASE_SIZE,
    Key,
    PacketError,
    TooLongError,
    WrongKeyError,
    micros_to_ntp,
    ntp_to_micros,
    sign_request,
    tlv,
    unpack_reply,
    verify_reply,
)
from probes.stamp.ntp import stamp_to_micros, stamps_to_micros
from probes.stamp.packet import ReplyFields, pack_sender
from probes.summary import DEPARTED, SEQUENCE, T1, Outcome, Probe, Row

RING = 1_024  # departures waited for, a power of two
MAX_DEPARTURE_US = 1_000_000  # what waits longer for its device is stamped when it was handed over
ANSWERED = Outcome.ANSWERED
Request = Callable[["Target", int, int], bytes]  # (target, sequence, raw timestamp) -> datagram
NOT_SENT = (errno.EAGAIN, errno.ENOBUFS, errno.ENOMEM)  # out of buffer space: the network never saw it


def _follow_up_request(key: Key | None, sequence: int) -> bytes:
    return tlv.FOLLOW_UP_REQUEST if key is None else tlv.seal(tlv.FOLLOW_UP_REQUEST, key, sequence)


def _followed_up(reply: bytes, key: Key | None, number: int, estimate: int) -> tuple[int, int]:
    """Number of the reply before, and when it really left in microseconds; number -1 if the reply does not tell."""
    if key is None:
        told, stamp = tlv.read_follow_up(reply[BASE_SIZE:])
    else:
        found = tlv.read(reply[AUTHENTICATED_SIZE:], key, number, signed=True).follow_up
        told, stamp = (found.sequence, found.timestamp) if found is not None and found.timestamp else (-1, 0)
    return told, stamp_to_micros(stamp, estimate)


def _verified(key: Key, former: Key | None, packet: bytes) -> ReplyFields:
    try:
        return verify_reply(key, packet)
    except WrongKeyError:
        if former is None:
            raise
        return verify_reply(former, packet)


class StrayError(PacketError):
    """A reply from somebody who was not asked."""

    counter = "stray"


@dataclass(slots=True)
class Target:
    """Where the probes of one row go: ``envelope`` is put before each packet (a relay header), ``ssid`` names it."""

    row: Row
    address: Address
    ssid: int
    envelope: bytes = b""
    samples: list[int] = field(default_factory=list)  # round trips in microseconds, if the sender keeps them
    key: Key | None = None  # with one, requests are authenticated and replies have to be
    former: Key | None = None  # the key before: replies to what was asked under it are still on their way
    follow_up: bool = False  # whether replies are asked when the one before really left
    hops: int = -1  # TTLs of the newest answer: there (upper byte), as the reflector saw it, and back
    last_port: int = 0  # index of the source port that the newest probe left by
    wrap: Callable[[bytes], bytes] | None = None  # makes the datagram of each packet, where an ``envelope`` cannot
    raw: bytes = field(init=False)

    def __post_init__(self) -> None:
        self.raw = raw_address(self.address)


def launch_each(
    targets: Sequence[Target], port_index: int, t1_us: int, now_us: int, timestamp: int, estimate: int, request: Request
) -> tuple[list[tuple[bytes, bytes]], list[Probe]]:
    """Open a probe to each; returns their datagrams with raw addresses, and the probes.

    ``timestamp`` is ``t1_us`` as it is sent. ``estimate`` is for the compiled form, which makes plain requests itself.
    """
    datagrams: list[tuple[bytes, bytes]] = []
    probes: list[Probe] = []
    for target in targets:
        probe = target.row.launch(t1_us, now_us)
        target.last_port = port_index
        probes.append(probe)
        datagrams.append((request(target, probe[SEQUENCE], timestamp), target.raw))
    return datagrams, probes


def take_each(
    arrivals: list[Arrival],
    targets: dict[tuple[bytes, int], Target],
    relays: frozenset[bytes],
    offset_us: int,
    now_us: int,
    followed: Callable[[Target, bytes, int, int], None],
    heard: Callable[[Target, int, int, int], None] | None,
    other: Callable[[Arrival, int], None],
) -> None:
    """File replies: ``other`` takes one, whatever it is. What most of them are, the compiled form does itself."""
    for arrival in arrivals:
        other(arrival, now_us)


try:
    from probes._hot import launch, take
except ImportError:  # no compiler when it was installed
    launch, take = launch_each, take_each


class _Source(Port):
    """A source port. A *ring* has the probe of each number, which the departure of that number fills in.

    A kernel may or may not count a datagram that it refused, depending on its version, so after each of these the error
    queue is emptied and the numbering starts anew. A departure that never comes, or comes when its place in the ring is
    taken, leaves the time before sending in force.
    """

    def __init__(
        self,
        sock: socket.socket,
        clock: Clock,
        counters: Counter[str],
        take: Callable[[list[Arrival]], None],
        *,
        stamped: bool,
    ) -> None:
        super().__init__(sock, counters, take, self._fill, patient=stamped)
        self.stamped = stamped and stamp_transmits(sock)
        self._clock = clock
        self._ring: list[Probe | None] = [None] * RING
        self._number = 0  # of the next datagram
        self.awaited = 0

    def send(self, datagrams: Sequence[tuple[bytes, bytes]], probes: Sequence[Probe]) -> list[tuple[int, int]]:
        """Send (packet, raw address) pairs, up to a batch; returns (index, ``errno``) of each that did not go."""
        refused: list[tuple[int, int]] = []
        done = 0
        while done < len(datagrams):
            sent, number = send_batch(self.sock, datagrams[done:] if done else datagrams)
            if self.stamped and sent:
                self._expect(probes[done : done + sent])
            done += sent
            if number:
                refused.append((done, number))
                done += 1
                self._counters["send_errors"] += 1
                self._renumber()
        return refused

    def _expect(self, probes: Sequence[Probe]) -> None:
        ring, number = self._ring, self._number
        for probe in probes:
            ring[number & (RING - 1)] = probe
            number += 1
        self._number = number & 0xFFFFFFFF
        self.awaited += len(probes)
        self.read_departures()

    def _renumber(self) -> None:
        if self.stamped:
            self.read_departures()
            self._ring = [None] * RING
            self.awaited = 0
            self._number = 0
            self.stamped = stamp_transmits(self.sock)

    def _fill(self, told: list[Departure]) -> None:
        ring, read = self._ring, self._clock.read
        for number, stamp_ns in told:
            if number < 0:
                self._counters["network_errors"] += 1  # ICMP, for one
                continue
            self.awaited -= 1
            probe = ring[number & (RING - 1)]
            if probe is None:
                continue
            ring[number & (RING - 1)] = None
            departed_us = read(stamp_ns // 1_000)
            if 0 <= departed_us - probe[T1] <= MAX_DEPARTURE_US:
                probe[DEPARTED] = departed_us
            else:  # of another datagram, long ago, or somebody set the clock
                self._counters["departures_refused"] += 1


class ProbeSender:
    """Sends STAMP requests and files the replies.

    ``on_answer`` hears (target, sequence, round trip, now) of each, ``on_drained`` when a batch of them has been read.
    """

    def __init__(
        self,
        sock: socket.socket | Sequence[socket.socket],
        clock: Clock,
        *,
        unwrap: Callable[[bytes], bytes] | None = None,
        keep_samples: bool = False,
        departures: bool = True,
        on_answer: Callable[[Target, int, int, int], None] | None = None,
        on_drained: Callable[[], None] | None = None,
    ) -> None:
        self.counters: Counter[str] = Counter()
        self._clock = clock
        self._unwrap = unwrap  # takes a relay header off a reply; raises ValueError
        self._keep_samples = keep_samples
        self.on_answer = on_answer
        self._on_drained = on_drained
        self._error_estimate = error_estimate(clock)
        socks = [sock] if isinstance(sock, socket.socket) else list(sock)
        self._ports = [_Source(one, clock, self.counters, self._take, stamped=departures) for one in socks]
        self._targets: dict[tuple[bytes, int], Target] = {}  # by raw address and SSID
        self._relays: frozenset[bytes] = frozenset()  # raw addresses whose replies come wrapped

    @property
    def address(self) -> Address:
        """Where it sends from, by the first of its ports."""
        return self._ports[0].address

    @property
    def ports(self) -> tuple[int, ...]:
        """Its source ports."""
        return tuple(port.address[1] for port in self._ports)

    @property
    def stamps_departures(self) -> bool:
        """Whether the kernel tells when probes really left."""
        return all(port.stamped for port in self._ports)

    def replace(self, targets: Iterable[Target]) -> None:
        """Know these targets from now on; replies to others become strays."""
        known = {(target.raw, target.ssid): target for target in targets}
        self._targets = known
        self._relays = frozenset(target.raw for target in known.values() if target.envelope or target.wrap is not None)

    def attend(self, wanted: bool) -> None:
        """Take answers as they come, or only at :meth:`read`: they wait with their stamps."""
        for port in self._ports:
            port.attend(wanted)

    def read(self) -> None:
        """Take the answers that have come."""
        for port in self._ports:
            port.read()

    def close(self) -> None:
        """Close the sockets."""
        for port in self._ports:
            port.close()

    def send(self, target: Target, port_index: int | None = None) -> int | None:
        """Send one probe from a port (``None``: any) and return its sequence number.

        One that the network refuses is lost like any other; ``None`` if there was no buffer space and it was not sent.
        """
        return self.send_all((target,), port_index)[0]

    def confirm(self, target: Target) -> int | None:
        """Send one probe from another port than the newest one's, if there is another."""
        return self.send(target, target.last_port + 1)

    def send_all(self, targets: Sequence[Target], port_index: int | None = None) -> list[int | None]:
        """Send one probe to each, in few system calls; what :meth:`send` returns, for each."""
        if port_index is None:
            port_index = random.randrange(len(self._ports)) if len(self._ports) > 1 else 0
        port_index %= len(self._ports)
        port = self._ports[port_index]
        at_once = BATCH if port.stamped else 1
        sequences: list[int | None] = []
        for start in range(0, len(targets), at_once):
            sequences += self._send(port, port_index, targets[start : start + at_once])
        return sequences

    def _send(self, port: _Source, port_index: int, targets: Sequence[Target]) -> Sequence[int | None]:
        t1_us = self._clock.read(wall_ns() // 1_000)
        now_us, timestamp, estimate = monotonic_us(), micros_to_ntp(t1_us), self._error_estimate
        datagrams, probes = launch(targets, port_index, t1_us, now_us, timestamp, estimate, self._request)
        targets[0].row.trim()
        sequences: list[int | None] = [probe[SEQUENCE] for probe in probes]
        for index, number in port.send(datagrams, probes):
            if number in NOT_SENT:
                targets[index].row.withdraw(probes[index])
                sequences[index] = None
        return sequences

    def _request(self, target: Target, sequence: int, timestamp: int) -> bytes:
        """The datagram of one probe."""
        if target.key is None:
            packet = pack_sender(sequence, timestamp, self._error_estimate, target.ssid)
        else:
            packet = sign_request(target.key, sequence, timestamp, self._error_estimate, target.ssid)
        if target.follow_up:
            packet += _follow_up_request(target.key, sequence)
        return target.envelope + packet if target.wrap is None else target.wrap(packet)

    def _take(self, arrivals: list[Arrival]) -> None:
        now_us, clock = monotonic_us(), self._clock
        if clock.skew_ppm or self._keep_samples:
            for arrival in arrivals:
                self._take_one(arrival, now_us)
        else:
            take(arrivals, self._targets, self._relays, clock.offset_us, now_us, self._followed, self.on_answer,
                 self._take_one)  # fmt: skip
        if self._on_drained is not None:
            self._on_drained()

    def _take_one(self, arrival: Arrival, now_us: int) -> None:
        """File one reply, whatever it is."""
        packet, stamp_ns, ttl, source = arrival
        try:
            target, (number, t3, estimate, _, t2, sequence, t1, _, ttl_there) = self._read(packet, source)
        except PacketError as error:
            self.counters[error.counter] += 1
            return
        except ValueError:  # a broken relay header
            self.counters["malformed"] += 1
            return
        row, t4_us = target.row, self._clock.read((stamp_ns or wall_ns()) // 1_000)
        t2_us, t3_us = stamps_to_micros(t2, t3, estimate)
        if row.answer(sequence, ntp_to_micros(t1), t2_us, t3_us, t4_us, now_us) is not ANSWERED:
            return
        hops = ttl_there << 8 | ttl & 0xFF
        if hops != target.hops:
            if target.hops >= 0:
                self.counters["hops_changed"] += 1
            target.hops = hops
        if target.follow_up and packet is not None:
            self._followed(target, packet, number, estimate)
        if self._keep_samples:
            target.samples.append(row.last_rtt_us)
        if self.on_answer is not None:
            self.on_answer(target, sequence, row.last_rtt_us, now_us)

    def _followed(self, target: Target, packet: bytes, number: int, estimate: int) -> None:
        """The newest answer of this target was the reflector's reply ``number``."""
        target.row.follow_up(number, *_followed_up(packet, target.key, number, estimate))

    def _read(self, packet: bytes | None, source: bytes) -> tuple[Target, ReplyFields]:
        """Whose reply it is, and its fields; with a key known, only what was made with it. Raises ``ValueError``."""
        if packet is None:
            raise TooLongError("it arrived cut off")
        if source in self._relays and self._unwrap is not None:
            packet = self._unwrap(packet)
        if packet[13:14] != b"\0":
            fields = unpack_reply(packet)
            target = self._targets.get((source, fields[3]))
            if target is not None and target.key is None:
                return target, fields
        else:
            target = self._targets.get((source, int.from_bytes(packet[26:28], "big")))
            if target is not None and target.key is not None:
                return target, _verified(target.key, target.former, packet)
            if len(packet) < AUTHENTICATED_SIZE:
                raise PacketError("an error estimate with multiplier 0 is invalid")
        raise StrayError("no target sends such replies")
