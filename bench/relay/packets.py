"""The packets of the benchmark, sealed and open, made before the clock starts."""

from __future__ import annotations

import time

from probes.keys import derive, key_id, own_key
from probes.relay import Keyring, Neighbour, RelayHeader
from probes.sockets import Address

HOST = "127.0.0.1"
SENDER, RECEIVER = "bench-sender", "bench-relay"
SECRET = b"bench"


def own_key_of(node: str) -> str:
    """A node's own key, as hex digits."""
    return own_key(SECRET, node).hex()


def neighbour(sender: str, receiver: str, address: Address) -> Neighbour:
    """What the sender's plan says about the receiver."""
    return Neighbour(*address, key_id(sender), derive(own_key(SECRET, receiver), key_id(sender)).hex())


def packets(kind: str, relay: Address, beyond: Address, size: int, count: int) -> list[bytes]:
    """``count`` packets over the relay to the one beyond it."""
    hops, payload = [relay, beyond], bytes(size)
    if kind != "sealed":
        return [RelayHeader.wrap(hops, 7423, payload)] * count
    ring = Keyring()
    ring.install(SENDER, "", [neighbour(SENDER, RECEIVER, relay)])
    wall_us = time.time_ns() // 1_000
    return [ring.wrap(hops, 7423, payload, wall_us, (1, 1, number)) for number in range(count)]
