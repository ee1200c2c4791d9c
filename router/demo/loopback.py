"""The WAN emulator on loopback: real UDP packets between loopback addresses. Needs no privileges.

Every node and user has a real address, where it listens, and a stand-in address, where the emulator listens in its
place (``world.py``). Who wants to talk to B sends from its own real address to B's stand-in; the emulator knows the
sender by the source address, holds the packet for as long as the leg's delay, and forwards it from the sender's
stand-in, same port, to B's real address, same port. Nobody needs root, and 69 data centers need 69 addresses, not
4,692.

A delay counts from the kernel's stamp of the arrival. What a datagram larger than an Ethernet frame would meet on a
real path varies; here it is dropped and counted.
"""

from __future__ import annotations

import socket
import time
from collections import deque
from collections.abc import Sequence
from struct import Struct

from router.core.errors import InputRejected
from router.demo.legs import TRANSIT_US
from router.demo.network import FAILED, IN, NO_LINK, TOO_BIG, UNKNOWN, Emulator
from router.demo.standins import Standins, allow_descriptors
from router.demo.world import NODE_PORTS, USER_PORT, World, loopback_host

MAX_USERS = 300
MAX_PAYLOAD = 1_472  # Ethernet's 1,500 bytes less the IPv4 and UDP headers
STAMP = Struct("@qq")  # struct timespec
STAMP_SPACE = socket.CMSG_SPACE(STAMP.size)
MAX_WAITED_S = 1.0  # a packet that seems to have waited longer met a step of the system clock


class LoopbackEmulator(Emulator):
    """The network between stand-in sockets, with places for users."""

    send_early_s = 200e-6  # a third fewer wake-ups for 0.1 ms of error

    def __init__(
        self,
        world: World,
        *,
        node_ports: Sequence[int] = NODE_PORTS,
        user_port: int = USER_PORT,
        max_users: int = MAX_USERS,
        seed: int = 1,
    ) -> None:
        allow_descriptors(len(world.nodes) * len(node_ports) + max_users)
        super().__init__(world, user_slots=max_users, seed=seed, transit_us=TRANSIT_US)
        self.user_port = user_port
        self._standins = Standins(self._waiter.poller)
        self._free = deque(range(len(world.nodes), len(world.nodes) + max_users))  # oldest first: late packets die out
        try:
            for i, node in enumerate(world.nodes):
                self._standins.add(i, node.real_host, node.standin_host, node_ports)
        except BaseException:
            self.close()
            raise

    def _close_wires(self) -> None:
        self._standins.close()

    def _receive(self, events: list[tuple[int, int]], now: float) -> None:
        """Take one packet from each readable socket; epoll reports again what is left."""
        receivers, senders = self._standins.receivers, self._standins.senders
        rows, counts = self.legs.rows, self.counts
        real_time = time.time()
        for descriptor, _ in events:
            receiver = receivers.get(descriptor)
            if receiver is None:
                self._answer_calls()
                continue
            receive, target, address = receiver
            try:
                data, stamps, _, peer = receive(MAX_PAYLOAD + 1, STAMP_SPACE)
            except OSError as error:  # nothing there after all (a bad checksum), or the kernel is out of memory
                counts[FAILED] += not isinstance(error, BlockingIOError)
                continue
            counts[IN] += 1
            sender = senders.get(peer) or self._standins.learn(peer)
            if sender is None:
                counts[UNKNOWN] += 1
                continue
            source, send = sender
            leg = rows[source][target]
            if leg is None:
                counts[NO_LINK] += 1
                continue
            arrived = _arrived(stamps, now, real_time)
            due = arrived + leg if type(leg) is float else leg.due(arrived, peer, address)  # type: ignore[union-attr]
            if due >= 0 and len(data) > MAX_PAYLOAD:
                counts[TOO_BIG] += 1
            else:
                self._hold(due, send, data, address)

    def put_user(self, name: str, latitude: float, longitude: float) -> tuple[str, str]:
        """Put a user on the network, or move one; returns its real and its stand-in host."""
        known = self.users.get(name)
        if known is None and not self._free:
            rule = "every user slot is taken"
            raise InputRejected("too_many_users", rule, field="users", rule=rule, limit=len(self.users),
                                override="DELETE /users/{id} frees one")  # fmt: skip
        endpoint = self._free[0] if known is None else known[0]
        real, standin = self.user_hosts(endpoint)
        if known is None:
            self._standins.add(endpoint, real, standin, (self.user_port,))
            self._free.popleft()
        self.legs.add_user(endpoint, name, latitude, longitude)
        self.users[name] = (endpoint, latitude, longitude)
        return real, standin

    def remove_user(self, name: str) -> None:
        """Take a user off the network. Raises :class:`InputRejected` (``unknown_user``)."""
        if name not in self.users:
            raise InputRejected("unknown_user", f"there is no user {name!r}", field="id")
        endpoint, _, _ = self.users.pop(name)
        self._standins.remove(self.user_hosts(endpoint)[0])
        self.legs.remove_user(endpoint)
        self._free.append(endpoint)

    def user_hosts(self, endpoint: int) -> tuple[str, str]:
        """Real and stand-in host of a user's endpoint number."""
        slot, octets = endpoint - len(self.world.nodes), self.world.octets
        return loopback_host(octets[2], slot), loopback_host(octets[3], slot)


def _arrived(stamps: list[tuple[int, int, bytes]], now: float, real_time: float) -> float:
    """When the kernel took a packet in, on the monotonic clock: a busy machine may run us milliseconds later."""
    if not stamps:
        return now
    seconds, nanoseconds = STAMP.unpack(stamps[0][2])
    waited = real_time - (seconds + nanoseconds * 1e-9)
    return now - waited if 0 <= waited < MAX_WAITED_S else now
