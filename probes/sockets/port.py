"""A socket on the event loop that takes what arrives in batches and reads its error queue.

Departures. The kernel numbers the stamped ones per socket from 0 on and tells them through the error queue, for devices
stamped in software before ``sendmsg`` returns; so they are read right after sending and cost no wake-up. A device that
tells them later wakes the loop, and they are read then.

Lazy ports. A port that nobody attends is read when its owner says so (:meth:`Port.read`): what arrives waits in the
socket with its stamp.

Coalescing. Arrivals are stamped by the kernel, so reading them later changes no measured value, and waking up for each
costs more than handling it. A port that may be *patient* and is woken twice within :data:`FREQUENT_US` therefore looks
away for :data:`PAUSE_S` and then takes all that has come. Sparse traffic never meets this.
"""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import Callable

from probes.sockets.batch import BATCH, Arrival, Departure, departures, receive_batch
from probes.sockets.kernel import Address, monotonic_us
from probes.sockets.loop import Ready, attend, disregard

FREQUENT_US = 1_000
PAUSE_S = 0.002  # far below the time after which an answer counts as overdue
MAX_DRAIN_BATCHES = 4  # per wake-up, then others get a turn


class Port:
    """One socket of a sender or a reflector: ``take`` gets every batch that arrives, ``departed`` of departures."""

    def __init__(
        self,
        sock: socket.socket,
        counters: Counter[str],
        take: Callable[[list[Arrival]], None],
        departed: Callable[[list[Departure]], None],
        *,
        patient: bool = False,
        served: Ready | None = None,
    ) -> None:
        """``served`` is called after all that came was taken, and says whether nothing of the loop's was touched."""
        self.sock = sock
        self.address: Address = sock.getsockname()[:2]
        self._counters = counters
        self._take = take
        self._departed = departed
        self._loop = asyncio.get_running_loop()
        self._served = served
        self._attended = False
        self._patient = patient
        self._drained_us = 0
        self._pause: asyncio.TimerHandle | None = None
        self.awaited = 0  # departures that the kernel has not told yet
        self.attend(True)

    def close(self) -> None:
        """Stop reading and close the socket."""
        self.attend(False)
        self.sock.close()

    def attend(self, wanted: bool) -> None:
        """Read what arrives at once, or only when told to."""
        if wanted == self._attended:
            return
        self._attended = wanted
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None
        if wanted:
            attend(self._loop, self.sock.fileno(), self._drain)
        else:
            disregard(self._loop, self.sock.fileno())

    def read(self) -> None:
        """Read what has arrived."""
        if self.sock.fileno() >= 0:
            self._drain()

    def read_departures(self) -> None:
        """Empty the error queue: ``departed`` hears (number, kernel stamp in ns) of each, -1 for other news."""
        while True:
            try:
                told = departures(self.sock)
            except OSError:
                self._counters["receive_errors"] += 1
                return
            if told:
                self._departed(told)
            if len(told) < BATCH:
                return

    def _drain(self) -> bool:
        if self.awaited:  # its answer may be among those that have arrived
            self.read_departures()
        for turn in range(MAX_DRAIN_BATCHES):
            try:
                arrivals = receive_batch(self.sock)
            except OSError:  # an ICMP error: the socket lives on
                self._counters["receive_errors"] += 1
                continue
            if arrivals:
                self._take(arrivals)
            elif not turn:
                self.read_departures()  # then it is the error queue that woke us
            if len(arrivals) < BATCH:
                break
        if self._patient and self._attended:
            self._look_away()
        return self._served is not None and self._served()

    def _look_away(self) -> None:
        now_us = monotonic_us()
        if now_us - self._drained_us < FREQUENT_US:
            disregard(self._loop, self.sock.fileno())
            self._pause = self._loop.call_later(PAUSE_S, self._look_again)
        self._drained_us = now_us

    def _look_again(self) -> None:
        self._pause = None
        attend(self._loop, self.sock.fileno(), self._drain)
        self._drained_us = 0
        self._drain()
