"""One non-blocking UDP socket on the event loop, without a task or a future per packet.

``loop.add_reader`` and plain ``recvfrom`` cost less than a datagram transport and are the same on uvloop and asyncio.
Handlers must not raise: what they cannot understand they count, and return.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

Address = tuple[str, int]
Handler = Callable[[bytes, Address], None]
BATCH = 64  # datagrams handled per wake-up, so that one busy socket cannot starve the others
RECEIVE_BYTES = 2_048


class UdpPort:
    """A bound socket; ``handler(data, sender)`` is called for every datagram that arrives."""

    def __init__(self, address: Address, handler: Handler) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        try:
            self._socket.bind(address)
        except OSError:
            self._socket.close()
            raise
        self._handler = handler
        self.address: Address = self._socket.getsockname()
        self.unsent = 0  # the kernel refused: full buffer, or nobody listens there
        asyncio.get_running_loop().add_reader(self._socket.fileno(), self._readable)

    def send(self, data: bytes, to: Address) -> None:
        """Send one datagram now; a refusal by the kernel is counted, as a loss on the wire would be."""
        try:
            self._socket.sendto(data, to)
        except OSError:
            self.unsent += 1

    def close(self) -> None:
        """Stop reading and free the port; once is enough, twice does no harm."""
        if self._socket.fileno() < 0:
            return
        asyncio.get_running_loop().remove_reader(self._socket.fileno())
        self._socket.close()

    def _readable(self) -> None:
        for _ in range(BATCH):
            try:
                data, sender = self._socket.recvfrom(RECEIVE_BYTES)
            except BlockingIOError:
                return
            except OSError:  # an ICMP refusal of something sent earlier
                self.unsent += 1
                continue
            self._handler(data, sender)
