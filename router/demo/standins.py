"""The emulator's sockets: one per stand-in address and port, and the two look-ups that a packet needs.

A packet arrives at B's stand-in, which says where it goes; its source address says who sent it. ``receivers`` maps a
file descriptor to the destination, ``senders`` a source address and port to the stand-in socket that must forward it,
so that B can answer to what it sees. A known host that sends from a port that nobody listens on yet (a person running
``tendril agent once`` on a node) gets a stand-in for that port on the spot; the oldest such port makes room for the
next.
"""

from __future__ import annotations

import resource
import select
import socket
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from router.core.errors import InputRejected

MAX_LEARNT_PORTS = 1_024
BUFFER_BYTES = 1 << 20  # as much as the kernel gives: a burst waits here while a fault is folded in
SPARE_DESCRIPTORS = 128
SO_TIMESTAMPNS = 35  # asm-generic/socket.h: the kernel stamps a packet when it arrives; the module has no name for it

Address = tuple[str, int]
Receive = Callable[[int, int], tuple[bytes, list[tuple[int, int, bytes]], int, Any]]
Send = Callable[[bytes, Address], int]


class Standins:
    """Opens and closes stand-in sockets; the emulator's loop reads ``receivers`` and ``senders`` directly."""

    def __init__(self, poller: select.epoll) -> None:
        self._poller = poller
        self._sockets: dict[Address, socket.socket] = {}  # by real address
        self._hosts: dict[str, tuple[int, str]] = {}  # real host -> endpoint number, stand-in host
        self._learnt: deque[Address] = deque()
        self.receivers: dict[int, tuple[Receive, int, Address]] = {}  # descriptor -> receive, endpoint, real address
        self.senders: dict[Address, tuple[int, Send]] = {}  # real address -> endpoint, send

    def add(self, endpoint: int, real: str, standin: str, ports: Sequence[int]) -> None:
        """Listen for an endpoint on all of ``ports``. Raises :class:`InputRejected` if an address is taken."""
        self._hosts[real] = (endpoint, standin)
        for port in ports:
            try:
                self._open(endpoint, standin, (real, port))
            except OSError as error:
                raise address_taken(f"{standin}:{port}", error) from error

    def remove(self, real: str) -> None:
        """Stop listening for an endpoint."""
        del self._hosts[real]
        for address in [address for address in self._sockets if address[0] == real]:
            self._close(address)
        self._learnt = deque(address for address in self._learnt if address[0] != real)

    def learn(self, peer: Address) -> tuple[int, Send] | None:
        """Sender for a source address not seen before, ``None`` if nobody in this world has that host."""
        known = self._hosts.get(peer[0])
        if known is None:
            return None
        if len(self._learnt) >= MAX_LEARNT_PORTS:
            self._close(self._learnt.popleft())
        try:
            self._open(*known, peer)
        except OSError:  # another program has that port on all addresses, or the process has no more descriptors
            return None
        self._learnt.append(peer)
        return self.senders[peer]

    def close(self) -> None:
        """Close every socket."""
        for address in list(self._sockets):
            self._close(address)

    def _open(self, endpoint: int, standin: str, real: Address) -> None:
        opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        try:
            opened.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
            opened.bind((standin, real[1]))
            self._poller.register(opened, select.EPOLLIN)
        except OSError:
            opened.close()
            raise
        self._sockets[real] = opened
        self.receivers[opened.fileno()] = (opened.recvmsg, endpoint, real)
        self.senders[real] = (endpoint, opened.sendto)

    def _close(self, real: Address) -> None:
        closed = self._sockets.pop(real)
        del self.senders[real], self.receivers[closed.fileno()]
        self._poller.unregister(closed)
        closed.close()


def address_taken(address: str, error: OSError) -> InputRejected:
    """The error for an address that cannot be listened on."""
    rule = f"cannot be listened on: {error.strerror} (is another demo running?)"
    return InputRejected("address_taken", f"{address} {rule}", field=address, rule=rule)


def allow_descriptors(sockets: int) -> None:
    """Raise this process' limit of open files far enough. Raises :class:`InputRejected` if the system's is lower."""
    needed = sockets + MAX_LEARNT_PORTS + SPARE_DESCRIPTORS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < needed:
        rule = f"needs {needed} open files, the limit of this process is {hard}"
        raise InputRejected("too_many_sockets", rule, field="data_centers", rule=rule, limit=hard,
                            override="raise the hard limit (ulimit -Hn)")  # fmt: skip
    if soft != resource.RLIM_INFINITY and soft < needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
