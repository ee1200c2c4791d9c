"""Many datagrams in one system call: ``recvmmsg`` and ``sendmmsg`` through ctypes, or one by one without them.

Each datagram has a *slot* of fixed size in one buffer: address, ancillary data, packet. The message headers that tell
the kernel where these are never move, so a call costs one copy of the pristine headers, and what came back is read with
``struct`` straight from the buffer. A call costs about a microsecond more than ``recvmsg`` and saves about one for each
datagram, so one way serves idle and busy sockets.

:data:`BATCHED` says whether this machine has them (Linux, 64 bits); the functions behave alike either way. Buffers
belong to a thread and are used within one call: all sockets of all agents in a process share them.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import struct
import sys
import threading
from collections.abc import Sequence

from probes.sockets.kernel import (
    ANCILLARY_SIZE,
    IP_TTL,
    MAX_DATAGRAM,
    MSG_ERRQUEUE,
    MSG_TRUNC,
    ORIGIN_TIMESTAMPING,
    SO_TIMESTAMPING,
    SOL_IP,
    SOL_SOCKET,
    Ancillary,
    address_of,
    raw_address,
    read_ancillary,
    read_departure,
)

BATCH = 64  # datagrams of one call
Arrival = tuple[bytes | None, int, int, bytes]  # packet (None: too long), kernel stamp (ns, 0: none), TTL, raw address
Departure = tuple[int, int]  # number of the packet (-1: news of something else), kernel stamp in ns
_ADDRESS_SIZE = 32  # sockaddr_in6, the longest, has 28
_PACKETS_AT = _ADDRESS_SIZE + ANCILLARY_SIZE
_STRIDE = _PACKETS_AT + MAX_DATAGRAM
_HEADER = struct.Struct("@QI4xQQQQi4xI4x")  # struct mmsghdr on 64-bit Linux
_RETURNED = struct.Struct("@8xI28xQi4xI4x")  # lengths of address and ancillary data, flags, length of the packet
_VECTOR = struct.Struct("@QQ")
_CONTROL = struct.Struct("@Qii")  # struct cmsghdr: length with this header, level, type
_ARRIVED = "@QiiqQ32xQiiI4x"  # SCM_TIMESTAMPING and TTL: all that most packets carry, 88 bytes
# Kind and stamp of SCM_TIMESTAMPING, origin and number of the sock_extended_err behind it.
_DEPARTED = struct.Struct(f"@{_ADDRESS_SIZE}x12xiqQ52xB7xI{_STRIDE - _ADDRESS_SIZE - 96}x")
_DEPARTED_SIZES = (112, 128)  # SCM_TIMESTAMPING and sock_extended_err with an address of either family
MAX_SHAPES = 64  # kinds of batches that were met and can be read without looking at each header
_MSG_DONTWAIT = 0x40
_SECOND_NS = 1_000_000_000
_TRY_AGAIN = (errno.EAGAIN, errno.EINTR)


def _library() -> ctypes.CDLL | None:
    if sys.platform != "linux" or ctypes.sizeof(ctypes.c_void_p) != 8:
        return None
    library = ctypes.CDLL(None, use_errno=True)
    if not (hasattr(library, "recvmmsg") and hasattr(library, "sendmmsg")):
        return None
    library.recvmmsg.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int, ctypes.c_void_p]
    library.sendmmsg.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int]
    return library


_LIBC = _library()
BATCHED = _LIBC is not None


class _Slots:
    """Buffers and message headers of one batch."""

    def __init__(self, ancillary_size: int) -> None:
        self.buffer = bytearray(_STRIDE * BATCH)
        self.view = memoryview(self.buffer)
        self.headers = bytearray(_HEADER.size * BATCH)
        self.vectors = bytearray(_VECTOR.size * BATCH)
        self._ancillary_size = ancillary_size
        self._buffer_at, self.base, self._vectors_at = (_pinned(p) for p in (self.buffer, self.headers, self.vectors))
        for index in range(BATCH):
            packet_at = self._buffer_at + index * _STRIDE + _PACKETS_AT
            _VECTOR.pack_into(self.vectors, index * _VECTOR.size, packet_at, MAX_DATAGRAM)
        self.pristine = self.shape(_ADDRESS_SIZE, ancillary_size, 0, 0)
        self.headers[:] = self.pristine
        self.sizes = [MAX_DATAGRAM] * BATCH  # of the packets, as the kernel was told
        self.address_sizes = [_ADDRESS_SIZE] * BATCH
        self.shapes: dict[tuple[int, ...], tuple[bytes, struct.Struct]] = {}

    def shape(self, *returned: int) -> bytes:
        """The headers of a batch whose datagrams all have these lengths and flags."""
        address_size, ancillary_size, flags, size = returned
        found = bytearray(_HEADER.size * BATCH)
        for index in range(BATCH):
            slot, vector = self._buffer_at + index * _STRIDE, self._vectors_at + index * _VECTOR.size
            _HEADER.pack_into(found, index * _HEADER.size, slot, address_size, vector, 1,
                              slot + _ADDRESS_SIZE, ancillary_size, flags, size)  # fmt: skip
        return bytes(found)

    def resize(self, index: int, size: int, address_size: int) -> None:
        """Send that many bytes of this slot to an address of that many bytes."""
        self.sizes[index], self.address_sizes[index] = size, address_size
        at = index * _VECTOR.size + 8
        self.vectors[at : at + 8] = size.to_bytes(8, sys.byteorder)
        at = index * _HEADER.size + 8
        self.headers[at : at + 4] = address_size.to_bytes(4, sys.byteorder)


def _pinned(part: bytearray) -> int:
    """Address of a buffer, which cannot be resized from now on."""
    return ctypes.addressof((ctypes.c_char * len(part)).from_buffer(part))


class _Buffers(threading.local):
    """What this thread's sockets share."""

    def __init__(self) -> None:
        self.arriving = _Slots(ANCILLARY_SIZE)
        self.leaving = _Slots(0)


_buffers: _Buffers | None = None


def _slots() -> _Buffers:
    global _buffers  # a third of a megabyte that who never opens a socket need not have
    if _buffers is None:
        _buffers = _Buffers()
    return _buffers


def send_batch(sock: socket.socket, datagrams: Sequence[tuple[bytes, bytes]]) -> tuple[int, int]:
    """Send up to :data:`BATCH` of (packet, raw address); how many went, and the ``errno`` of the next one (0: none)."""
    if _LIBC is None:
        return _send_each(sock, datagrams)
    leaving = _slots().leaving
    buffer, sizes, address_sizes = leaving.buffer, leaving.sizes, leaving.address_sizes
    at = 0
    for index, (packet, address) in enumerate(datagrams):
        size, address_size = len(packet), len(address)
        if size > MAX_DATAGRAM:  # no slot is that long
            return _send_each(sock, datagrams)
        if sizes[index] != size or address_sizes[index] != address_size:
            leaving.resize(index, size, address_size)
        buffer[at : at + address_size] = address
        buffer[at + _PACKETS_AT : at + _PACKETS_AT + size] = packet
        at += _STRIDE
    sent = _LIBC.sendmmsg(sock.fileno(), leaving.base, len(datagrams), _MSG_DONTWAIT)
    if sent < 0:
        return 0, ctypes.get_errno()
    return sent, 0


def _send_each(sock: socket.socket, datagrams: Sequence[tuple[bytes, bytes]]) -> tuple[int, int]:
    for index, (packet, address) in enumerate(datagrams):
        try:
            sock.sendto(packet, address_of(address))
        except OSError as error:
            return index, error.errno or 0
    return len(datagrams), 0


def receive_batch(sock: socket.socket) -> list[Arrival]:
    """Up to :data:`BATCH` datagrams that have arrived, none if there are none. Raises ``OSError`` (a queued error)."""
    if _LIBC is None:
        return _receive_each(sock)
    slots = _slots().arriving
    slots.headers[:] = slots.pristine
    count = _LIBC.recvmmsg(sock.fileno(), slots.base, BATCH, _MSG_DONTWAIT, None)
    if count < 0:
        return _nothing()
    shape = _RETURNED.unpack_from(slots.headers)
    known = slots.shapes.get(shape)
    if known is None:
        known = _learn(slots, shape)
    end = count * _HEADER.size
    if known is not None and slots.headers[:end] == known[0][:end]:
        return [
            (packet, seconds * _SECOND_NS + nanoseconds, ttl, source)
            if kind == SO_TIMESTAMPING and level == SOL_SOCKET and ttl_kind == IP_TTL and ttl_level == SOL_IP
            else (packet, *read_ancillary(_controls(slots.buffer, index * _STRIDE + _ADDRESS_SIZE, shape[1])), source)
            for index, (source, _, level, kind, seconds, nanoseconds, _, ttl_level, ttl_kind, ttl, packet) in enumerate(
                known[1].iter_unpack(slots.view[: count * _STRIDE])
            )
        ]
    return _receive_mixed(slots, count)


def _learn(slots: _Slots, shape: tuple[int, ...]) -> tuple[bytes, struct.Struct] | None:
    """How to read batches of this shape at once, if they carry what most packets carry."""
    address_size, control_size, flags, size = shape
    if control_size != struct.calcsize(_ARRIVED) or flags & MSG_TRUNC or len(slots.shapes) >= MAX_SHAPES:
        return None
    rest = ANCILLARY_SIZE - control_size
    layout = f"{_ARRIVED}{rest}x{size}s{MAX_DATAGRAM - size}x"
    reader = struct.Struct(f"@{address_size}s{_ADDRESS_SIZE - address_size}x{layout[1:]}")
    slots.shapes[shape] = slots.shape(*shape), reader
    return slots.shapes[shape]


def _receive_mixed(slots: _Slots, count: int) -> list[Arrival]:
    found: list[Arrival] = []
    buffer, at = slots.buffer, 0
    for address_size, control_size, flags, size in _RETURNED.iter_unpack(slots.headers[: count * _HEADER.size]):
        stamp_ns, ttl = read_ancillary(_controls(buffer, at + _ADDRESS_SIZE, control_size))
        packet = None if flags & MSG_TRUNC else bytes(buffer[at + _PACKETS_AT : at + _PACKETS_AT + size])
        found.append((packet, stamp_ns, ttl, bytes(buffer[at : at + address_size])))
        at += _STRIDE
    return found


def _nothing() -> list[Arrival]:
    number = ctypes.get_errno()
    if number in _TRY_AGAIN:
        return []
    raise OSError(number, os.strerror(number))


def _receive_each(sock: socket.socket) -> list[Arrival]:
    found: list[Arrival] = []
    while len(found) < BATCH:
        try:
            packet, ancillary, flags, address = sock.recvmsg(MAX_DATAGRAM, ANCILLARY_SIZE)
        except BlockingIOError:
            break
        stamp_ns, ttl = read_ancillary(ancillary)
        found.append((None if flags & MSG_TRUNC else packet, stamp_ns, ttl, raw_address(address[:2])))
    return found


def departures(sock: socket.socket) -> list[Departure]:
    """Up to :data:`BATCH` entries of the error queue, in the order they came. Raises ``OSError``."""
    if _LIBC is None:
        return _departures_each(sock)
    slots = _slots().arriving
    slots.headers[:] = slots.pristine
    count = _LIBC.recvmmsg(sock.fileno(), slots.base, BATCH, _MSG_DONTWAIT | MSG_ERRQUEUE, None)
    if count < 0:
        _nothing()
        return []
    headers = slots.headers[: count * _HEADER.size]
    _, size, _, _ = shape = _RETURNED.unpack_from(headers)
    known = slots.shapes.get(shape)
    if known is None and size in _DEPARTED_SIZES and len(slots.shapes) < MAX_SHAPES:
        known = slots.shapes[shape] = slots.shape(*shape), _DEPARTED
    if known is None or headers != known[0][: len(headers)]:
        sizes = [size for _, size, _, _ in _RETURNED.iter_unpack(headers)]
        return [read_departure(_controls(slots.buffer, i * _STRIDE + _ADDRESS_SIZE, sizes[i])) for i in range(count)]
    return [
        (number, seconds * _SECOND_NS + nanoseconds)
        if origin == ORIGIN_TIMESTAMPING and kind == SO_TIMESTAMPING
        else read_departure(_controls(slots.buffer, index * _STRIDE + _ADDRESS_SIZE, size))
        for index, (kind, seconds, nanoseconds, origin, number) in enumerate(
            known[1].iter_unpack(slots.view[: count * _STRIDE])
        )
    ]


def _departures_each(sock: socket.socket) -> list[Departure]:
    found: list[Departure] = []
    while len(found) < BATCH:
        try:
            _, ancillary, _, _ = sock.recvmsg(MAX_DATAGRAM, ANCILLARY_SIZE, MSG_ERRQUEUE)
        except BlockingIOError:
            break
        found.append(read_departure(ancillary))
    return found


def _controls(buffer: bytearray, at: int, size: int) -> Ancillary:
    """Ancillary data as ``recvmsg`` gives it; ends where it stops making sense."""
    found: Ancillary = []
    end = at + min(size, ANCILLARY_SIZE)
    while at + _CONTROL.size <= end:
        length, level, kind = _CONTROL.unpack_from(buffer, at)
        if not _CONTROL.size <= length <= end - at:
            break
        found.append((level, kind, bytes(buffer[at + _CONTROL.size : at + length])))
        at += (length + 7) & ~7
    return found
