"""A numbered stream as its listener hears it: what never came, and for how long nothing new did. PURE.

A packet leaves every ``interval_us``. A *gap* is a run of numbers of which no copy came, as time: so many intervals. A
number is judged once it has had :data:`LATE_US` to arrive; nothing counts before the first arrival, because a path has
to be there first.
"""

from __future__ import annotations

from collections import deque

LATE_US = 2_000_000  # far beyond any path of a world; then a packet is lost
MAX_GAPS = 4_096  # remembered, the newest


class Stream:
    """One direction of a call."""

    def __init__(self, interval_us: int) -> None:
        self.arrived = 0  # numbers
        self.lost = 0
        self.again = 0  # copies beyond the first that reached the listener
        self._interval_us = interval_us
        self._next = 0  # number of the next packet
        self._judged: int | None = None  # numbers below are judged; ``None`` before the first arrival
        self._waiting: set[int] = set()  # arrived, not judged yet
        self._run = 0  # lost in a row, up to the newest judged
        self._gaps_us: deque[int] = deque(maxlen=MAX_GAPS)

    def send(self) -> int:
        """The number of the packet that leaves now."""
        number = self._next
        self._next += 1
        late = number - LATE_US // self._interval_us
        while self._judged is not None and self._judged < late:
            self._judge(self._judged)
            self._judged += 1
        return number

    def hear(self, number: int) -> None:
        """A copy of a packet arrived."""
        if self._judged is None:
            self._judged = number
        if number in self._waiting or number >= self._next:
            self.again += number < self._next
        elif number >= self._judged:
            self.arrived += 1
            self._waiting.add(number)

    def gaps_ms(self) -> list[float]:
        """Every gap, the shortest first; one that lasts counts as far as it is judged."""
        return sorted(gap_us / 1_000 for gap_us in (*self._gaps_us, *self._open()))

    def _open(self) -> tuple[int, ...]:
        return (self._run * self._interval_us,) if self._run else ()

    def _judge(self, number: int) -> None:
        if number not in self._waiting:
            self.lost += 1
            self._run += 1
            return
        self._waiting.discard(number)
        self._gaps_us.extend(self._open())
        self._run = 0


def at_share(values: list[float], share: float) -> float | None:
    """Nearest-rank quantile of sorted values; ``None`` of none."""
    return values[min(len(values) - 1, int(len(values) * share))] if values else None
