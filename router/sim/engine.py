"""Virtual time: a heap of ``(time, sequence, action)``; the sequence number makes simultaneous events a total order."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from hashlib import blake2b
from random import Random

from router.core.model import Micros

START: Micros = 1_700_000_000_000_000  # any fixed moment; runs must not depend on the calendar


class Engine:
    """Runs actions in the order of their times; nothing here ever waits."""

    def __init__(self, start: Micros) -> None:
        self.now = start
        self._heap: list[tuple[Micros, int, Callable[[], None]]] = []
        self._sequence = 0

    def at(self, time: Micros, action: Callable[[], None]) -> None:
        """Run ``action`` at ``time``, or now if that has passed."""
        self._sequence += 1
        heapq.heappush(self._heap, (max(time, self.now), self._sequence, action))

    def every(self, period_us: int, action: Callable[[], None], first: Micros | None = None) -> None:
        """Run ``action`` periodically for ever."""

        def tick() -> None:
            action()
            self.at(self.now + period_us, tick)

        self.at(self.now + period_us if first is None else first, tick)

    def run_until(self, end: Micros) -> None:
        """Run everything that is due up to and including ``end``."""
        while self._heap and self._heap[0][0] <= end:
            self.now, _, action = heapq.heappop(self._heap)
            action()
        self.now = end


def stream(seed: int, name: str) -> Random:
    """A random stream of its own for a named component, so that adding one does not reshuffle the others."""
    return Random(int.from_bytes(blake2b(f"{seed}/{name}".encode(), digest_size=8).digest()))
