"""Nodes with keys on loopback addresses, as a control plane would have set them up: shared by the relay's tests."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager

from probes.keys import derive, key_id, own_key
from probes.relay import Keyring, Neighbour, Relay
from probes.sockets import Address, open_udp

SECRET = b"a control plane's secret of tests"
NODES = ("s", "a", "b", "t")
HOSTS = ("127.0.0.31", "127.0.0.32", "127.0.0.33", "127.0.0.34")


def neighbour(sender: str, receiver: str, address: Address) -> Neighbour:
    """What a plan of ``sender`` says about ``receiver``."""
    key = derive(own_key(SECRET, receiver), key_id(sender)).hex()
    return Neighbour(*address, key_id(sender), key)


def keyring(node: str, others: dict[str, Address]) -> Keyring:
    """The keyring of a node that may hand packets to others."""
    made = Keyring()
    made.install(node, own_key(SECRET, node).hex(), [neighbour(node, name, at) for name, at in others.items()])
    return made


def wall_us() -> int:
    """The wall clock."""
    return time.time_ns() // 1_000


async def until(condition: Callable[[], object], within_s: float = 20.0) -> None:
    """Wait for something to become true."""
    deadline = asyncio.get_running_loop().time() + within_s
    while not condition():
        assert asyncio.get_running_loop().time() < deadline, "waited in vain"
        await asyncio.sleep(0.005)


@contextmanager
def socket_on(host: str) -> Iterator[socket.socket]:
    """A plain UDP socket."""
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind((host, 0))
    sock.setblocking(False)
    try:
        yield sock
    finally:
        sock.close()


async def receive(sock: socket.socket) -> tuple[bytes, Address]:
    """The next datagram."""
    return await asyncio.wait_for(asyncio.get_running_loop().sock_recvfrom(sock, 4_096), 20)


@asynccontextmanager
async def world(
    *, deliver: Sequence[int] = (), hosts: Sequence[str] = HOSTS, packets_per_s: int = 10_000
) -> AsyncIterator[dict[str, Relay]]:
    """A relay on every node; each may hand packets to all others."""
    made = {
        node: Relay(open_udp(host, 0), deliver, packets_per_s=packets_per_s, media_ports=deliver)
        for node, host in zip(NODES, hosts, strict=True)
    }
    for node, relay in made.items():
        others = [neighbour(node, name, other.address) for name, other in made.items() if name != node]
        relay.follow(node, own_key(SECRET, node).hex(), others)
    try:
        yield made
    finally:
        for relay in made.values():
            relay.close()
