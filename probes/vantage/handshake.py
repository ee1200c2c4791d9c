"""TCP: how long the answer to a SYN takes. An acceptance and a refusal (RST) are both answers.

The connection is closed as soon as it stands; nothing is sent over it. For an accepted one the kernel's own measure of
the handshake counts (``TCP_INFO``), for a refused one the time until the loop hears of it. The time-out lies below
the second after which a SYN is sent again, so that no answer is mistaken for the answer to another SYN.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import struct
import time
from dataclasses import dataclass

MAX_TIMEOUT_S = 0.95  # RFC 6298: the first SYN is repeated after one second
_TCP_INFO, _TCP_SYNCNT = 11, 7  # <linux/tcp.h>
_RTT_OFFSET = 68  # of tcpi_rtt, microseconds
_ACCEPTED, _REFUSED = 0, errno.ECONNREFUSED


@dataclass(frozen=True, slots=True)
class Shake:
    """The answer to a SYN."""

    rtt_us: int
    accepted: bool


async def shake(host: str, port: int, timeout_s: float, bind_host: str = "") -> Shake | None:
    """Send a SYN to a numeric address; ``None`` without an answer in time."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as sock:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, _TCP_SYNCNT, 1)
        began_ns = time.monotonic_ns()
        try:
            if bind_host:
                sock.bind((bind_host, 0))
            outcome = sock.connect_ex((host, port))
            if outcome == errno.EINPROGRESS:
                await asyncio.wait_for(_writable(sock), min(timeout_s, MAX_TIMEOUT_S))
                outcome = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        except (TimeoutError, OSError):
            return None
        elapsed_us = (time.monotonic_ns() - began_ns) // 1_000
        if outcome == _REFUSED:
            return Shake(elapsed_us, accepted=False)
        if outcome != _ACCEPTED:
            return None
        return Shake(min(_kernel_rtt_us(sock) or elapsed_us, elapsed_us), accepted=True)


async def _writable(sock: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()

    def wake() -> None:
        if not ready.done():
            ready.set_result(None)

    loop.add_writer(sock, wake)
    try:
        await ready
    finally:
        loop.remove_writer(sock)


def _kernel_rtt_us(sock: socket.socket) -> int:
    """The kernel's smoothed round trip, which after a handshake is that of the handshake; 0 if it has none."""
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, _TCP_INFO, 128)
    except OSError:
        return 0
    return int(struct.unpack_from("=I", info, _RTT_OFFSET)[0]) if len(info) >= _RTT_OFFSET + 4 else 0
