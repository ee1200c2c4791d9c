"""The WAN emulator between network namespaces: whole IP packets, as the kernels of the nodes send them. Needs root.

The process holds the other end of every node's TUN device (``namespaces.py``). What a node sends to another's address
is read there, waits for as long as the leg says, and is written to the other node's device with its TTL one lower, as
a router would have it. UDP, TCP and ICMP all pass; nodes have ordinary addresses, and nothing is rewritten but TTL and
header checksum. All nodes are apart, those of one data center too.

A TUN device gives no stamp of arrival, so a delay counts from the moment of reading: what this process slept in before
that is not in its own account of lateness. No packet is sent early, because who measures looks for the shortest time,
and a line has one. Hence it asks for real-time priority over the agents it carries; and what
packets really met is told by whoever stamps them at both ends.
"""

from __future__ import annotations

import fcntl
import os
import select
import struct
from collections.abc import Callable

from router.core.errors import InputRejected, Unavailable
from router.demo.namespaces import TUN, WAN, Lab
from router.demo.network import FAILED, IN, NO_LINK, UNKNOWN, Emulator
from router.demo.world import World

TRANSIT_US = 60  # from one node's kernel to the other's without any delay asked for, at least
_TUNSETIFF = 0x400454CA  # linux/if_tun.h
_IFF_TUN, _IFF_NO_PI = 0x0001, 0x1000
_MAX_PACKET = 2_048
_HEADER = 20
_PORTS = (6, 17)  # protocols whose first four bytes are ports: TCP, UDP


class TunEmulator(Emulator):
    """The network between a lab's namespaces. It has no users: people's programs talk on loopback."""

    def __init__(self, world: World, lab: Lab, *, seed: int = 1, transit_us: int = TRANSIT_US) -> None:
        super().__init__(world, user_slots=0, seed=seed, transit_us=transit_us)
        self._sources: dict[int, tuple[int, bytes]] = {}  # descriptor -> node number, its address
        self._targets: dict[bytes, tuple[int, int]] = {}  # address -> node number, descriptor
        try:
            for node in world.nodes:
                self._attach(lab, node.index, bytes(map(int, node.real_host.split("."))))
        except OSError as error:
            self.close()
            raise Unavailable("no_namespaces", f"a node's TUN device cannot be opened: {error}") from error

    def _attach(self, lab: Lab, index: int, address: bytes) -> None:
        with lab.entered(index):
            descriptor = os.open(TUN, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        self._sources[descriptor] = (index, address)
        self._targets[address] = (index, descriptor)
        fcntl.ioctl(descriptor, _TUNSETIFF, struct.pack("16sH14x", WAN.encode(), _IFF_TUN | _IFF_NO_PI))
        self._waiter.poller.register(descriptor, select.EPOLLIN)

    def _close_wires(self) -> None:
        for descriptor in self._sources:
            os.close(descriptor)
        self._sources.clear()
        self._targets.clear()

    def _receive(self, events: list[tuple[int, int]], now: float) -> None:
        sources, targets, rows, counts = self._sources, self._targets, self.legs.rows, self.counts
        for descriptor, _ in events:
            origin = sources.get(descriptor)
            if origin is None:
                self._answer_calls()
                continue
            try:
                packet = os.read(descriptor, _MAX_PACKET)
            except OSError as error:
                counts[FAILED] += not isinstance(error, BlockingIOError)
                continue
            counts[IN] += 1
            source, address = origin
            target = targets.get(packet[16:20])
            if packet[0] >> 4 != 4 or packet[12:16] != address:  # IPv6, or a forged sender
                counts[UNKNOWN] += 1
                continue
            leg = None if target is None else rows[source][target[0]]
            routed = hop(packet)
            if leg is None or target is None or routed is None:
                counts[NO_LINK] += 1
                continue
            due = now + leg if type(leg) is float else leg.due(now, *flow_ends(packet))  # type: ignore[union-attr]
            self._hold(due, _write, target[1], routed)

    def put_user(self, name: str, latitude: float, longitude: float) -> tuple[str, str]:
        """Refuse: see the class."""
        rule = "a world in namespaces has no places for users"
        raise InputRejected("too_many_users", rule, field="users", rule=rule, limit=0,
                            override="run the world without --namespaces")  # fmt: skip

    def remove_user(self, name: str) -> None:
        """Raise :class:`InputRejected`: there is none."""
        raise InputRejected("unknown_user", f"there is no user {name!r}", field="id")

    def user_hosts(self, endpoint: int) -> tuple[str, str]:
        """Raise, because there is no user."""
        raise LookupError(endpoint)


_write: Callable[[int, bytes], int] = os.write


def hop(packet: bytes) -> bytes | None:
    """The packet as the next router sees it: TTL one less, the checksum brought along (RFC 1624); ``None`` at TTL 1."""
    if len(packet) < _HEADER or packet[8] <= 1:
        return None
    total = (packet[10] << 8 | packet[11]) + 0x0100  # the TTL is the high byte of its word
    total = (total & 0xFFFF) + (total >> 16)
    return b"%b%c%b%b%b" % (packet[:8], packet[8] - 1, packet[9:10], total.to_bytes(2, "big"), packet[12:])


def flow_ends(packet: bytes) -> tuple[bytes, bytes]:
    """What tells a packet's flow from others: protocol, addresses and, where there are any, ports of both ends."""
    start = (packet[0] & 0x0F) * 4
    ports = packet[start : start + 4] if packet[9] in _PORTS else b""
    return packet[9:10] + packet[12:16] + ports[:2], packet[16:20] + ports[2:]
