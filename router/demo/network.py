"""The WAN emulator: real UDP packets between loopback addresses, delayed, lost and swallowed as the world file says.

Every node and user has a real address, where it listens, and a stand-in address, where the emulator listens in its
place (``world.py``). Who wants to talk to B sends from its own real address to B's stand-in; the emulator knows the
sender by the source address, holds the packet for as long as the leg's delay, and forwards it from the sender's
stand-in, same port, to B's real address, same port. Nobody needs root, and 69 data centers need 69 addresses, not
4,692.

One thread moves packets: it sends what is due, waits for the next packet or deadline, reads one packet per readable
socket, looks up the leg and puts the packet on a heap. A delay counts from the kernel's stamp of the arrival.
Everything else (faults, users, the API's questions) reaches that thread as a call through :meth:`Emulator.call` and
runs between two packets, so that no lock is on the packets' way.

What a datagram larger than an Ethernet frame would meet on a real path varies; here it is dropped and counted.
"""

from __future__ import annotations

import os
import select
import socket
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from heapq import heappop, heappush
from random import Random
from struct import Struct
from typing import TypeVar

from router.core.errors import InputRejected, Unavailable
from router.demo.faults import FaultRequest
from router.demo.legs import SWALLOWED, LegTable
from router.demo.standins import Address, Send, Standins, allow_descriptors
from router.demo.timer import Waiter, sharpen
from router.demo.world import NODE_PORTS, USER_PORT, World, loopback_host

MAX_USERS = 200
MAX_FAULTS = 200
MAX_PAYLOAD = 1_472  # Ethernet's 1,500 bytes less the IPv4 and UDP headers
MAX_IN_FLIGHT = 100_000  # packets on the heap, about 200 MB of them at worst
WAKE_EARLY_S = 30e-6  # about what waking up costs
SEND_EARLY_S = 200e-6  # once awake, what is due this soon is sent as well: a third fewer wake-ups for 0.1 ms of error
IDLE_S = 60.0
CALL_TIMEOUT_S = 10.0
STAMP = Struct("@qq")  # struct timespec
STAMP_SPACE = socket.CMSG_SPACE(STAMP.size)
MAX_WAITED_S = 1.0  # a packet that seems to have waited longer met a step of the system clock
LATENESS_SAMPLES = 4_096  # the last packets whose lateness is kept; a power of two

COUNTERS = ("packets_in", "forwarded", "lost", "no_link", "blackholed", "unknown_source", "too_big", "overflow",
            "failed")  # fmt: skip
(IN, FORWARDED, LOSSES, NO_LINK, BLACKHOLED, UNKNOWN, TOO_BIG, OVERFLOW, FAILED) = range(len(COUNTERS))

Result = TypeVar("Result")
Packet = tuple[float, int, Send, bytes, Address]  # due, serial number against ties, how, what, where to


class Emulator:
    """The running network; :meth:`run` is its thread, :meth:`call` the way in from others."""

    def __init__(
        self,
        world: World,
        *,
        node_ports: Sequence[int] = NODE_PORTS,
        user_port: int = USER_PORT,
        max_users: int = MAX_USERS,
        seed: int = 1,
    ) -> None:
        self.world = world
        self.user_port = user_port
        allow_descriptors(len(world.nodes) * len(node_ports) + max_users)
        self._waiter = Waiter()  # first: its descriptor must be low
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._waiter.poller.register(self._wake, select.EPOLLIN)
        self._standins = Standins(self._waiter.poller)
        self.legs = LegTable(world, max_users, Random(seed))
        self._free = deque(range(len(world.nodes), len(world.nodes) + max_users))  # oldest first: late packets die out
        self.users: dict[str, tuple[int, float, float]] = {}  # endpoint number, latitude, longitude
        self.heals_at: dict[str, float] = {}  # monotonic seconds, by fault id
        self._serial_of_faults = 0
        self.counts = [0] * len(COUNTERS)
        self._lateness = [0.0] * LATENESS_SAMPLES
        self._heap: list[Packet] = []
        self._calls: deque[tuple[Callable[[], object], Future[object]]] = deque()
        self._next_deadline = float("inf")
        self._running = True
        self.started_at = time.monotonic()
        try:
            for i, node in enumerate(world.nodes):
                self._standins.add(i, node.real_host, node.standin_host, node_ports)
        except BaseException:
            self.close()
            raise

    # --- the loop ----------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Move packets until :meth:`stop`; closes everything at the end."""
        sharpen()
        ready, heap, clock = self._waiter.ready, self._heap, time.monotonic
        try:
            while self._running:
                now = clock()
                if heap and heap[0][0] <= now + SEND_EARLY_S:
                    self._send_due(now)
                if self._next_deadline <= now:
                    self._heal_due(now)
                wake_at = min(heap[0][0] - WAKE_EARLY_S if heap else now + IDLE_S, self._next_deadline)
                events = ready(wake_at - clock())
                if events:
                    self._receive(events, clock())
        finally:
            self._running = False
            self.close()

    def stop(self) -> None:
        """End :meth:`run`; safe from any thread and from a signal handler."""
        self._running = False
        with suppress(OSError):  # it has ended already
            os.eventfd_write(self._wake, 1)

    def close(self) -> None:
        """Close the sockets and refuse the calls that nobody will answer any more."""
        if self._wake < 0:
            return
        self._standins.close()
        self._waiter.close()
        os.close(self._wake)
        self._wake = -1
        self._refuse_calls()

    def _receive(self, events: list[tuple[int, int]], now: float) -> None:
        """Take one packet from each readable socket; epoll reports again what is left."""
        receivers, senders = self._standins.receivers, self._standins.senders
        rows, counts, heap = self.legs.rows, self.counts, self._heap
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
            due = arrived + leg if type(leg) is float else leg.due(arrived)  # type: ignore[union-attr]
            if due < 0:
                counts[BLACKHOLED if due == SWALLOWED else LOSSES] += 1
            elif len(data) > MAX_PAYLOAD:
                counts[TOO_BIG] += 1
            elif len(heap) >= MAX_IN_FLIGHT:
                counts[OVERFLOW] += 1
            else:
                heappush(heap, (due, counts[IN], send, data, address))

    def _send_due(self, now: float) -> None:
        heap, counts, lateness, clock = self._heap, self.counts, self._lateness, time.monotonic
        while heap and heap[0][0] <= now + SEND_EARLY_S:
            due, _, send, data, address = heappop(heap)
            try:
                send(data, address)
            except OSError:  # its own buffer is full, or its stand-in is gone: lost, as on a real path
                counts[FAILED] += 1
                continue
            now = clock()
            lateness[counts[FORWARDED] & (LATENESS_SAMPLES - 1)] = now - due
            counts[FORWARDED] += 1

    # --- calls from other threads ------------------------------------------------------------------------------------

    def call(self, work: Callable[[], Result]) -> Result:
        """Run ``work`` in the loop's thread and return what it returns or raise what it raises."""
        answer: Future[Result] = Future()
        self._calls.append((work, answer))  # type: ignore[arg-type]
        try:
            os.eventfd_write(self._wake, 1)
        except OSError:  # the loop has ended and closed it
            self._refuse_calls()
        try:
            return answer.result(CALL_TIMEOUT_S)
        except TimeoutError:
            raise Unavailable("emulator_busy", f"the emulator did not answer within {CALL_TIMEOUT_S:g} s") from None

    def _answer_calls(self) -> None:
        with suppress(BlockingIOError):  # another socket of the batch was closed, nobody called
            os.eventfd_read(self._wake)
        while self._calls:
            work, answer = self._calls.popleft()
            try:
                answer.set_result(work())
            except Exception as error:  # noqa: BLE001 - it is the caller's, and is raised over there
                answer.set_exception(error)

    def _refuse_calls(self) -> None:
        while self._calls:
            self._calls.popleft()[1].set_exception(Unavailable("emulator_stopped", "the emulator has stopped"))

    # --- what calls do -----------------------------------------------------------------------------------------------

    def add_fault(self, request: FaultRequest) -> tuple[str, int]:
        """Put a fault in force; returns its id and how many legs it hits."""
        if len(self.legs.faults) >= MAX_FAULTS:
            rule = f"at most {MAX_FAULTS} faults at a time"
            raise InputRejected("too_many_faults", rule, field="faults", rule=rule, limit=MAX_FAULTS,
                                override="DELETE /faults heals all")  # fmt: skip
        name = f"fault-{self._serial_of_faults + 1}"
        hit = self.legs.add_fault(name, request)
        self._serial_of_faults += 1
        if request.for_s is not None:
            self.heals_at[name] = time.monotonic() + request.for_s
            self._next_deadline = min(self.heals_at.values())
        return name, hit

    def remove_fault(self, name: str) -> None:
        """Heal one fault. Raises :class:`InputRejected` (``unknown_fault``)."""
        if name not in self.legs.faults:
            raise InputRejected(
                "unknown_fault", f"there is no fault {name!r} (it may have healed by itself)", field="id"
            )
        self.legs.remove_fault(name)
        self.heals_at.pop(name, None)
        self._next_deadline = min(self.heals_at.values(), default=float("inf"))

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

    @property
    def in_flight(self) -> int:
        """Packets on their way."""
        return len(self._heap)

    def lateness_us(self) -> list[float]:
        """Lateness of the last packets when they left, in microseconds, rising."""
        return sorted(late * 1e6 for late in self._lateness[: self.counts[FORWARDED]])

    def _heal_due(self, now: float) -> None:
        for name in [name for name, heals_at in self.heals_at.items() if heals_at <= now]:
            self.remove_fault(name)


def _arrived(stamps: list[tuple[int, int, bytes]], now: float, real_time: float) -> float:
    """When the kernel took a packet in, on the monotonic clock: a busy machine may run us milliseconds later."""
    if not stamps:
        return now
    seconds, nanoseconds = STAMP.unpack(stamps[0][2])
    waited = real_time - (seconds + nanoseconds * 1e-9)
    return now - waited if 0 <= waited < MAX_WAITED_S else now
