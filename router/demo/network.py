"""The WAN emulator's engine: a heap of packets under way, and the one thread that moves them.

How packets come in and leave is a subclass's business: ``loopback.py`` (stand-in sockets on loopback addresses, no
privileges) or ``tun.py`` (whole IP packets of network namespaces, root). Both look up the packet's leg (``legs.py``)
and put it on the heap with the time when it is due.

The thread sends what is due, waits for the next packet or deadline, and reads one packet per readable descriptor.
Everything else (faults, users, the API's questions) reaches that thread as a call through :meth:`Emulator.call` and
runs between two packets, so that no lock is on the packets' way.
"""

from __future__ import annotations

import os
import select
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from heapq import heappop, heappush
from random import Random
from typing import Any, TypeVar

from router.core.errors import InputRejected, Unavailable
from router.demo.faults import FaultRequest
from router.demo.legs import SWALLOWED, LegTable
from router.demo.timer import Waiter, sharpen
from router.demo.world import World

MAX_FAULTS = 200
MAX_IN_FLIGHT = 100_000  # packets on the heap, about 200 MB of them at worst
WAKE_EARLY_S = 30e-6  # about what waking up costs
IDLE_S = 60.0
CALL_TIMEOUT_S = 10.0
LATENESS_SAMPLES = 4_096  # the last packets whose lateness is kept; a power of two

COUNTERS = ("packets_in", "forwarded", "lost", "no_link", "blackholed", "unknown_source", "too_big", "overflow",
            "failed")  # fmt: skip
(IN, FORWARDED, LOSSES, NO_LINK, BLACKHOLED, UNKNOWN, TOO_BIG, OVERFLOW, FAILED) = range(len(COUNTERS))

Result = TypeVar("Result")
Packet = tuple[float, int, Callable[[Any, Any], int], Any, Any]  # due, serial number against ties, send, its arguments


class Emulator(ABC):
    """The running network; :meth:`run` is its thread, :meth:`call` the way in from others."""

    user_port = 0
    send_early_s = 0.0  # once awake, what is due this soon is sent as well

    def __init__(self, world: World, *, user_slots: int, seed: int, transit_us: int) -> None:
        self.world = world
        self._waiter = Waiter()  # first: its descriptor must be low
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._waiter.poller.register(self._wake, select.EPOLLIN)
        self.legs = LegTable(world, user_slots, Random(seed), transit_us)
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

    @abstractmethod
    def _receive(self, events: list[tuple[int, int]], now: float) -> None:
        """Take one packet from each readable descriptor; one that is not a packet's means that somebody calls."""

    @abstractmethod
    def _close_wires(self) -> None:
        """Close the descriptors of packets."""

    @abstractmethod
    def put_user(self, name: str, latitude: float, longitude: float) -> tuple[str, str]:
        """Put a user on the network, or move one; returns its real and its stand-in host."""

    @abstractmethod
    def remove_user(self, name: str) -> None:
        """Take a user off the network. Raises :class:`InputRejected` (``unknown_user``)."""

    @abstractmethod
    def user_hosts(self, endpoint: int) -> tuple[str, str]:
        """Real and stand-in host of a user's endpoint number."""

    # --- the loop ----------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Move packets until :meth:`stop`; closes everything at the end."""
        sharpen()
        ready, heap, clock, early_s = self._waiter.ready, self._heap, time.monotonic, self.send_early_s
        try:
            while self._running:
                now = clock()
                if heap and heap[0][0] <= now + early_s:
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
        self._close_wires()
        self._waiter.close()
        os.close(self._wake)
        self._wake = -1
        self._refuse_calls()

    def _hold(self, due: float, send: Callable[[Any, Any], int], first: object, second: object) -> None:
        """Keep a packet until it is due, or count why it never will be."""
        if due < 0:
            self.counts[BLACKHOLED if due == SWALLOWED else LOSSES] += 1
        elif len(self._heap) >= MAX_IN_FLIGHT:
            self.counts[OVERFLOW] += 1
        else:
            heappush(self._heap, (due, self.counts[IN], send, first, second))

    def _send_due(self, now: float) -> None:
        heap, counts, lateness, clock = self._heap, self.counts, self._lateness, time.monotonic
        early_s = self.send_early_s
        while heap and heap[0][0] <= now + early_s:
            due, _, send, first, second = heappop(heap)
            try:
                send(first, second)
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
