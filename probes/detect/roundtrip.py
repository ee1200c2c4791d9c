"""When an answer is overdue: smoothed round trip and variation, as TCP's retransmission timer. PURE.

RFC 6298, section 2, in integers, but for what follows from this: an overdue probe does not cost a congestion window, it
costs a few confirm probes and a moment of duplicated media.

- The slack is at least what a path's noise asks for, not a second, and at most what a listener bears.
- A sample counts as no further away than the present slack, and what was under way together makes the slack grow only
  once. Otherwise one hiccup, of the path or of this machine, makes the next answers overdue half a second later, and an
  outage in that time is noticed as much later. If later answers go on being late the slack grows by three quarters with
  each round trip.
- An answer far too early halves the distance: noise makes answers late, so the ones before were.
- The first variation is an eighth of the round trip, not a half: it wears off at the pace of the probes, which on a
  backup is slow.
"""

from __future__ import annotations

LEAST_SLACK_US = 15_000  # queues of that length come and go on a healthy path
MOST_SLACK_US = 100_000  # media so much later than usual is of no use: then a second copy is what is needed
FIRST_US = 1_000_000  # before any answer (RFC 6298, 2.1)
VARIATIONS = 4
FIRST_VARIATION = 8  # the part of the first round trip


class RoundTrip:
    """Smoothed round trip of one path."""

    __slots__ = ("_grown_us", "_limit_us", "srtt_us", "variation_us")

    def __init__(self, limit_us: int = FIRST_US) -> None:
        """``limit_us``: overdue at the latest, the plan's own timeout."""
        self._limit_us = limit_us
        self._grown_us = -1  # when an answer last made the slack grow
        self.srtt_us = 0  # 0: no answer yet
        self.variation_us = 0

    def sample(self, rtt_us: int, now_us: int) -> None:
        """An answer came, in time or late."""
        if not self.srtt_us:
            self.srtt_us, self.variation_us = max(1, rtt_us), rtt_us // FIRST_VARIATION
            return
        most_us, off_us = self._slack_us, rtt_us - self.srtt_us
        if -off_us > max(LEAST_SLACK_US, self.variation_us):
            self.variation_us -= self.variation_us // 4
            self.srtt_us = max(1, self.srtt_us + off_us // 2)
            return
        off_us = min(most_us, off_us)
        if abs(off_us) > self.variation_us:
            if now_us - rtt_us < self._grown_us:
                return
            self._grown_us = now_us
        self.variation_us += (abs(off_us) - self.variation_us) // 4
        self.srtt_us = max(1, self.srtt_us + off_us // 8)

    @property
    def _slack_us(self) -> int:
        return min(MOST_SLACK_US, max(LEAST_SLACK_US, VARIATIONS * self.variation_us))

    @property
    def overdue_us(self) -> int:
        """After how long an answer counts as missing."""
        if not self.srtt_us:
            return min(FIRST_US, self._limit_us)
        return min(self._limit_us, self.srtt_us + self._slack_us)
