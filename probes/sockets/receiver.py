"""A socket on the event loop: hands over what arrives, one datagram at a time, and never raises because of it."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import Callable

from probes.sockets.kernel import ANCILLARY_SIZE, MAX_DATAGRAM, MSG_TRUNC, Address, Ancillary

MAX_DRAIN = 256  # datagrams per wake-up, then others get a turn


class Receiver:
    """A socket whose datagrams are handed to ``handle(packet, ancillary, address)``; counts what it refuses."""

    def __init__(self, sock: socket.socket, handle: Callable[[bytes, Ancillary, Address], None]):
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
                packet, ancillary, flags, address = receive(MAX_DATAGRAM, ANCILLARY_SIZE)
            except BlockingIOError:
                return
            except OSError:  # a queued ICMP error: the socket lives on
                self.counters["receive_errors"] += 1
                continue
            if flags & MSG_TRUNC:
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
