"""ICMP echo: one socket per address family, any number of requests in flight.

An unprivileged ping socket where the kernel allows one (``net.ipv4.ping_group_range``), otherwise a raw socket, which
needs privileges. A reply is ours if it comes from the asked address and returns our random token and sequence number.
Its arrival is the kernel's receive stamp, so that a busy loop adds nothing; the age of that stamp is taken off the
monotonic clock, so that a step of the wall clock spoils no more than one sample, and that one not beyond its bounds.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import time

_HEADER = struct.Struct(">BBHHH")  # type, code, checksum, identifier, sequence
_TIMESPEC = struct.Struct("@qq")
_SO_TIMESTAMPNS = 35  # <asm-generic/socket.h>
_ICMPV6 = 58
TOKEN_SIZE = 8
MAX_TEXT = 200  # bytes of the contact; the whole packet stays far below every MTU
_MAX_DRAIN = 64


class EchoUnavailableError(OSError):
    """Neither a ping socket nor a raw one may be opened here."""


def checksum(data: bytes) -> int:
    """Internet checksum (RFC 1071)."""
    if len(data) % 2:
        data += b"\0"
    total = sum(int(word) for (word,) in struct.iter_unpack(">H", data))
    total = (total >> 16) + (total & 0xFFFF)
    return ~(total + (total >> 16)) & 0xFFFF


def request(family: int, identifier: int, sequence: int, payload: bytes) -> bytes:
    """An echo request; the checksum of ICMPv6 covers the IP header and is the kernel's affair."""
    kind = 8 if family == socket.AF_INET else 128
    blank = _HEADER.pack(kind, 0, 0, identifier, sequence) + payload
    if family == socket.AF_INET6:
        return blank
    return _HEADER.pack(kind, 0, checksum(blank), identifier, sequence) + payload


def read(family: int, packet: bytes, *, raw: bool) -> tuple[int, bytes] | None:
    """Sequence number and payload of an echo reply; ``None`` if it is anything else."""
    if raw and family == socket.AF_INET:  # a raw IPv4 socket hands over the IP header too
        packet = packet[(packet[0] & 0x0F) * 4 :] if packet else b""
    if len(packet) < _HEADER.size:
        return None
    kind, code, _, _, sequence = _HEADER.unpack_from(packet)
    if code or kind != (0 if family == socket.AF_INET else 129):
        return None
    return sequence, packet[_HEADER.size :]


class EchoSocket:
    """Asks and listens; must be made inside a running loop."""

    def __init__(self, family: int, token: bytes, bind_host: str = "") -> None:
        self._family = family
        self._token = token
        self._sock, self._raw = _open(family)
        try:
            self._sock.setblocking(False)
            self._sock.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
            if bind_host:
                self._sock.bind((bind_host, 0))
        except OSError:
            self._sock.close()
            raise
        self._waiting: dict[tuple[str, int], tuple[int, asyncio.Future[int]]] = {}
        self._sequence = 0
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._sock, self._drain)

    async def ask(self, host: str, text: bytes, timeout_s: float) -> int | None:
        """Round trip to a numeric address in microseconds, or ``None`` without an answer in time."""
        sequence = self._sequence = (self._sequence + 1) & 0xFFFF
        answer: asyncio.Future[int] = self._loop.create_future()
        identifier = int.from_bytes(self._token[:2], "big")
        packet = request(self._family, identifier, sequence, self._token + text[:MAX_TEXT])
        self._waiting[host, sequence] = (time.monotonic_ns(), answer)
        try:
            self._sock.sendto(packet, (host, 0))
            return await asyncio.wait_for(answer, timeout_s)
        except (TimeoutError, OSError):  # unreachable, refused by a firewall of our own, or silent: all of it is a loss
            return None
        finally:
            self._waiting.pop((host, sequence), None)

    def close(self) -> None:
        """Stop listening."""
        self._loop.remove_reader(self._sock)
        self._sock.close()

    def _drain(self) -> None:
        for _ in range(_MAX_DRAIN):
            try:
                packet, ancillary, _, address = self._sock.recvmsg(2_048, socket.CMSG_SPACE(16))
            except BlockingIOError:
                return
            except OSError:  # a queued ICMP error
                continue
            self._take(packet, ancillary, str(address[0]))

    def _take(self, packet: bytes, ancillary: list[tuple[int, int, bytes]], host: str) -> None:
        now_ns, wall_ns = time.monotonic_ns(), time.time_ns()
        found = read(self._family, packet, raw=self._raw)
        if found is None or found[1][:TOKEN_SIZE] != self._token:
            return
        asked = self._waiting.get((host, found[0]))
        if asked is None or asked[1].done():
            return
        stamps = [data for level, kind, data in ancillary if (level, kind) == (socket.SOL_SOCKET, _SO_TIMESTAMPNS)]
        seconds, rest = _TIMESPEC.unpack(stamps[0]) if stamps and len(stamps[0]) == _TIMESPEC.size else (0, wall_ns)
        waited_ns = min(max(0, wall_ns - seconds * 1_000_000_000 - rest), now_ns - asked[0])
        asked[1].set_result((now_ns - asked[0] - waited_ns) // 1_000)


def _open(family: int) -> tuple[socket.socket, bool]:
    protocol = socket.IPPROTO_ICMP if family == socket.AF_INET else _ICMPV6
    try:
        return socket.socket(family, socket.SOCK_DGRAM, protocol), False
    except OSError:
        pass  # not among the groups that may: perhaps the privileges for a raw one are there
    try:
        return socket.socket(family, socket.SOCK_RAW, protocol), True
    except OSError as error:
        raise EchoUnavailableError(
            error.errno, "echo requests need CAP_NET_RAW, or this group in net.ipv4.ping_group_range"
        ) from error
