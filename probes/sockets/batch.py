"""Many datagrams in one system call (``_batch.c``), or one by one where that could not be compiled.

:data:`BATCHED` says which of the two this is; they behave alike. What the agent does for each probe in Python is in
:mod:`probes.sockets.sender`; here is what it asks of the kernel, and in which form the answers come.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence

from probes.sockets.kernel import (
    ANCILLARY_SIZE,
    MAX_DATAGRAM,
    MSG_ERRQUEUE,
    MSG_TRUNC,
    address_of,
    raw_address,
    read_ancillary,
    read_departure,
)

__all__ = [
    "BATCH",
    "BATCHED",
    "Arrival",
    "Departure",
    "departures",
    "departures_each",
    "receive_batch",
    "receive_each",
    "send_batch",
    "send_each",
]

BATCH = 64  # datagrams of one call
Arrival = tuple[bytes | None, int, int, bytes]  # packet (None: too long), kernel stamp (ns, 0: none), TTL, address
Departure = tuple[int, int]  # number of the packet (-1: news of something else), kernel stamp in ns


def send_each(sock: socket.socket, datagrams: Sequence[tuple[bytes, bytes]]) -> tuple[int, int]:
    """Send up to :data:`BATCH` of (packet, raw address); how many went, and the ``errno`` of the next one (0: none)."""
    for index, (packet, address) in enumerate(datagrams):
        try:
            sock.sendto(packet, address_of(address))
        except OSError as error:
            return index, error.errno or 0
    return len(datagrams), 0


def receive_each(sock: socket.socket) -> list[Arrival]:
    """Up to :data:`BATCH` datagrams that have arrived, none if there are none. Raises ``OSError`` (a queued error)."""
    found: list[Arrival] = []
    while len(found) < BATCH:
        try:
            packet, ancillary, flags, address = sock.recvmsg(MAX_DATAGRAM, ANCILLARY_SIZE)
        except BlockingIOError:
            break
        stamp_ns, ttl = read_ancillary(ancillary)
        found.append((None if flags & MSG_TRUNC else packet, stamp_ns, ttl, raw_address(address[:2])))
    return found


def departures_each(sock: socket.socket) -> list[Departure]:
    """Up to :data:`BATCH` entries of the error queue, in the order they came. Raises ``OSError``."""
    found: list[Departure] = []
    while len(found) < BATCH:
        try:
            _, ancillary, _, _ = sock.recvmsg(MAX_DATAGRAM, ANCILLARY_SIZE, MSG_ERRQUEUE)
        except BlockingIOError:
            break
        found.append(read_departure(ancillary))
    return found


try:
    from probes.sockets._batch import departures, receive_batch, send_batch
except ImportError:  # no compiler when it was installed, or not Linux
    BATCHED = False
    send_batch, receive_batch, departures = send_each, receive_each, departures_each
else:
    BATCHED = True
