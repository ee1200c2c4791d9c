"""What the socket module has no names for: kernel stamps, TTLs, and many datagrams in one system call.

Linux stamps a packet when it leaves for the device and when it arrives from it. Arrival stamps come with the packet as
ancillary data; departure stamps come back through the socket's *error queue*, numbered (``OPT_ID``) in the order of
sending and without the packet (``OPT_TSONLY``). :func:`stamp_transmits` asks for both, :func:`open_udp` for arrival
stamps only: a socket whose error queue nobody reads would keep its event loop awake for ever.

Options that a kernel does not know are left out; what really works is told by :mod:`probes.sockets.selftest`.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import struct
import sys
import time
from collections.abc import Iterable
from typing import Final

from probes.stamp import TTL, UNREADABLE_TTL

Address = tuple[str, int]
Ancillary = list[tuple[int, int, bytes]]

MAX_DATAGRAM = 2_048  # larger ones arrive cut off and are refused
ANCILLARY_SIZE: Final = 256  # room for a stamp (64 + 16), a TTL (4 + 16), an error with its sender (44 + 16), and more
_RECEIVE_BUFFER = 1 << 20  # a stalled process finds its probes waiting, with true kernel stamps
SO_TIMESTAMPNS: Final = 35  # <asm-generic/socket.h>
SO_TIMESTAMPING: Final = 37
SOF_TX_SOFTWARE: Final = 1 << 1  # <linux/net_tstamp.h>
SOF_RX_SOFTWARE: Final = 1 << 3
SOF_SOFTWARE: Final = 1 << 4
SOF_OPT_ID: Final = 1 << 7
SOF_OPT_TSONLY: Final = 1 << 11
STAMPING_FLAGS: Final = SOF_TX_SOFTWARE | SOF_RX_SOFTWARE | SOF_SOFTWARE | SOF_OPT_ID | SOF_OPT_TSONLY
IP_RECVERR: Final = 11
IPV6_RECVERR: Final = 25
ORIGIN_TIMESTAMPING: Final = 4  # SO_EE_ORIGIN_TIMESTAMPING
_IP_RECVTTL = 12
_IPV6_RECVHOPLIMIT = 51
_IPV6_HOPLIMIT = 52
_IPV6_UNICAST_HOPS = 16
SOL_SOCKET, SOL_IP, SOL_IPV6 = int(socket.SOL_SOCKET), int(socket.IPPROTO_IP), int(socket.IPPROTO_IPV6)
MSG_TRUNC = int(socket.MSG_TRUNC)  # as an enum it would cost more than the rest of the loop
MSG_CTRUNC = int(socket.MSG_CTRUNC)
MSG_ERRQUEUE: Final = 0x2000
IP_TTL = int(socket.IP_TTL)
TIMESPEC = struct.Struct("@qq")
STAMP_THIS = (SOL_SOCKET, SO_TIMESTAMPING, struct.pack("@I", SOF_TX_SOFTWARE))  # ancillary data of a datagram to send
EXTENDED_ERROR = struct.Struct("@IBBBBII")  # errno, origin, type, code, padding, info, data
_INT = struct.Struct("@i")
_TTLS = ((SOL_IP, IP_TTL), (SOL_IPV6, _IPV6_HOPLIMIT))
_IP_TOS, _IP_RECVTOS = 1, 13
_IPV6_RECVTCLASS, _IPV6_TCLASS = 66, 67
_CLASSES = ((SOL_IP, _IP_TOS, 1), (SOL_IPV6, _IPV6_TCLASS, 4))


def monotonic_us() -> int:
    """The time deadlines are measured in."""
    return time.monotonic_ns() // 1_000


def wall_ns() -> int:
    """The machine's wall clock, which kernel stamps are taken from."""
    return time.time_ns()


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
    stamps = ((SOL_SOCKET, SO_TIMESTAMPNS, 1),) if sys.platform == "linux" else ()
    if family == socket.AF_INET6:
        hops = ((SOL_IPV6, _IPV6_UNICAST_HOPS, TTL), (SOL_IPV6, _IPV6_RECVHOPLIMIT, 1))
    else:
        hops = ((SOL_IP, IP_TTL, TTL), (SOL_IP, _IP_RECVTTL, 1))
    return stamps + hops


def tell_classes(sock: socket.socket) -> None:
    """Ask for the traffic class of what arrives; a kernel that cannot tell it says nothing."""
    ipv6 = sock.family == socket.AF_INET6
    with contextlib.suppress(OSError):
        sock.setsockopt(SOL_IPV6 if ipv6 else SOL_IP, _IPV6_RECVTCLASS if ipv6 else _IP_RECVTOS, 1)


def stamp_transmits(sock: socket.socket, *, each: bool = True) -> bool:
    """Ask for stamps of both kinds, numbering departures from 0 on; False where the kernel cannot.

    Who calls this has to read the error queue from now on. Unless ``each`` departure is stamped, only those sent with
    :data:`STAMP_THIS` are, and only they are numbered.
    """
    if sys.platform != "linux":
        return False
    flags = STAMPING_FLAGS if each else STAMPING_FLAGS & ~SOF_TX_SOFTWARE
    try:
        sock.setsockopt(SOL_SOCKET, SO_TIMESTAMPNS, 0)  # it would add the same stamp a second time
        sock.setsockopt(SOL_SOCKET, SO_TIMESTAMPING, flags & ~SOF_OPT_ID & ~SOF_OPT_TSONLY)  # taken and given again,
        sock.setsockopt(SOL_SOCKET, SO_TIMESTAMPING, flags)  # the numbering starts at 0
    except OSError:
        sock.setsockopt(SOL_SOCKET, SO_TIMESTAMPNS, 1)
        return False
    return True


def read_ancillary(ancillary: Iterable[tuple[int, int, bytes]]) -> tuple[int, int]:
    """Kernel receive stamp (wall-clock ns, 0 if there is none) and TTL as received (255 if unreadable).

    From a socket that :func:`tell_classes` was called for, the traffic class plus one lies above the TTL's eight bits.
    """
    stamp_ns, ttl, traffic = 0, UNREADABLE_TTL, 0
    for level, kind, data in ancillary:
        if level == SOL_SOCKET and kind in (SO_TIMESTAMPNS, SO_TIMESTAMPING) and len(data) in (16, 48):
            seconds, nanoseconds = TIMESPEC.unpack_from(data)
            stamp_ns = seconds * 1_000_000_000 + nanoseconds
        elif len(data) == 4 and (level, kind) in _TTLS:
            ttl = _INT.unpack(data)[0] & 0xFF
        elif (level, kind, len(data)) in _CLASSES:
            traffic = int.from_bytes(data, sys.byteorder) & 0xFF
            traffic = (traffic + 1) << 8
    return stamp_ns, traffic | ttl


def read_departure(ancillary: Iterable[tuple[int, int, bytes]]) -> tuple[int, int]:
    """Number and wall-clock ns of a departure told by the error queue; number -1 if it tells something else."""
    stamp_ns, number = 0, -1
    for level, kind, data in ancillary:
        if level == SOL_SOCKET and kind == SO_TIMESTAMPING and len(data) == 48:
            seconds, nanoseconds = TIMESPEC.unpack_from(data)
            stamp_ns = seconds * 1_000_000_000 + nanoseconds
        elif (level, kind) in ((SOL_IP, IP_RECVERR), (SOL_IPV6, IPV6_RECVERR)) and len(data) >= EXTENDED_ERROR.size:
            _, origin, _, _, _, _, told = EXTENDED_ERROR.unpack_from(data)
            if origin == ORIGIN_TIMESTAMPING:
                number = told
    return (number, stamp_ns) if stamp_ns else (-1, 0)


def raw_address(address: Address) -> bytes:
    """A numeric address as the kernel writes it (``sockaddr_in`` or ``sockaddr_in6``)."""
    host, port = address
    if ":" in host:
        host, _, zone = host.partition("%")
        scope = (int(zone) if zone.isdigit() else socket.if_nametoindex(zone)) if zone else 0
        family = socket.AF_INET6.to_bytes(2, sys.byteorder)
        return (family + port.to_bytes(2, "big") + bytes(4) + socket.inet_pton(socket.AF_INET6, host)
                + scope.to_bytes(4, sys.byteorder))  # fmt: skip
    return socket.AF_INET.to_bytes(2, sys.byteorder) + port.to_bytes(2, "big") + socket.inet_aton(host) + bytes(8)


def address_of(raw: bytes) -> Address:
    """The numeric address in a ``sockaddr_in`` or ``sockaddr_in6``."""
    family, port = int.from_bytes(raw[:2], sys.byteorder), int.from_bytes(raw[2:4], "big")
    if family == socket.AF_INET6:
        return socket.inet_ntop(socket.AF_INET6, raw[8:24]), port
    return socket.inet_ntoa(raw[4:8]), port
