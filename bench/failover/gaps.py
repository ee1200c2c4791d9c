"""Gaps in a numbered stream: what arrived, what did not, and how long nobody heard anything. PURE.

A packet is sent every ``interval_us``. A *gap* is the longest run of numbers of which no copy arrived, as time: so many
intervals. *Silence* is the longest time between two arrivals less one interval: the gap, plus what the new path takes
longer than the old one.
"""

from __future__ import annotations

import itertools
from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field


@dataclass
class Stream:
    """One direction of a call: when each number was sent, and when the first copy of it arrived, in microseconds."""

    interval_us: int
    sent_us: list[int] = field(default_factory=list)  # by number, rising
    arrived_us: dict[int, int] = field(default_factory=dict)  # by number

    def arrived(self, number: int, at_us: int) -> None:
        """Note an arrival; later copies of the same packet do not count."""
        self.arrived_us.setdefault(number, at_us)

    def between(self, from_us: int, to_us: int) -> range:
        """Numbers of the packets sent in a span of time."""
        return range(bisect_left(self.sent_us, from_us), bisect_right(self.sent_us, to_us))

    def gap_us(self, numbers: range) -> int:
        """The longest run of packets that never arrived."""
        longest = run = 0
        for number in numbers:
            run = 0 if number in self.arrived_us else run + 1
            longest = max(longest, run)
        return longest * self.interval_us

    def silence_us(self, numbers: range) -> int:
        """The longest time without an arrival, less one interval; 0 if packets came without a pause."""
        times = sorted(self.arrived_us[number] for number in numbers if number in self.arrived_us)
        pauses = [later - earlier for earlier, later in itertools.pairwise(times)]
        return max(0, max(pauses, default=0) - self.interval_us)

    def healthy(self, numbers: range) -> bool:
        """Whether every one of them arrived."""
        return all(number in self.arrived_us for number in numbers)

    def sender_late_us(self, numbers: range) -> int:
        """By how much the sender itself paused for longer than an interval."""
        times = self.sent_us[numbers.start : numbers.stop]
        return max((later - earlier for earlier, later in itertools.pairwise(times)), default=0) - (
            self.interval_us if len(times) > 1 else 0
        )
