"""The process under test: one forwarder, until its input ends. Says its port, then its CPU seconds when asked.

``python -m bench.relay.forwarder KIND PORT``: KIND is ``sealed`` or ``open`` (our relay, towards a relay on PORT), or
``bare`` (the same two system calls and nothing between: what Python and the kernel leave).
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
import time

from bench.relay.packets import HOST, RECEIVER, neighbour, own_key_of
from probes.relay import Keyring, Relay
from probes.sockets import open_udp

UNLIMITED = 1_000_000_000  # packets per second: the limits stay in the way, but never bite


def _bare(sock: socket.socket, target: tuple[str, int]) -> None:
    buffer = bytearray(2_049)
    view = memoryview(buffer)

    def drain() -> None:
        for _ in range(256):
            try:
                size, _ = sock.recvfrom_into(buffer)
            except BlockingIOError:
                return
            sock.sendto(view[:size], target)

    asyncio.get_running_loop().add_reader(sock, drain)


async def run(kind: str, port: int) -> None:
    """Forward to ``port`` until standard input ends."""
    sock, target = open_udp(HOST, 0), (HOST, port)
    counters: dict[str, int] = {}
    if kind == "bare":
        _bare(sock, target)
    else:
        relay = Relay(sock, (), packets_per_s=UNLIMITED, open=kind == "open", keyring=Keyring(packets_per_s=UNLIMITED))
        relay.follow(RECEIVER, own_key_of(RECEIVER), [neighbour(RECEIVER, "next", target)])
        counters = relay.counters
    loop = asyncio.get_running_loop()
    print(json.dumps({"port": sock.getsockname()[1]}), flush=True)
    while await loop.run_in_executor(None, sys.stdin.readline):
        print(json.dumps({"cpu_s": time.process_time(), "counters": counters}), flush=True)


if __name__ == "__main__":
    asyncio.run(run(sys.argv[1], int(sys.argv[2])))
