"""When an answer is overdue: smoothed round trip and variation, as TCP's retransmission timer. PURE.

RFC 6298, section 2, in integers. The least slack is not the RFC's second but what a path's noise asks for: an overdue
probe costs a few confirm probes and a moment of duplicated media, not a congestion window.
"""

from __future__ import annotations

LEAST_SLACK_US = 15_000  # queues of that length come and go on a healthy path
FIRST_US = 1_000_000  # before any answer (RFC 6298, 2.1)
VARIATIONS = 4


class RoundTrip:
    """Smoothed round trip of one path."""

    __slots__ = ("_limit_us", "srtt_us", "variation_us")

    def __init__(self, limit_us: int = FIRST_US) -> None:
        """``limit_us``: overdue at the latest, the plan's own timeout."""
        self._limit_us = limit_us
        self.srtt_us = 0  # 0: no answer yet
        self.variation_us = 0

    def sample(self, rtt_us: int) -> None:
        """An answer came, in time or late."""
        if not self.srtt_us:
            self.srtt_us, self.variation_us = max(1, rtt_us), rtt_us // 2
            return
        self.variation_us += (abs(self.srtt_us - rtt_us) - self.variation_us) // 4
        self.srtt_us = max(1, self.srtt_us + (rtt_us - self.srtt_us) // 8)

    @property
    def overdue_us(self) -> int:
        """After how long an answer counts as missing."""
        if not self.srtt_us:
            return min(FIRST_US, self._limit_us)
        return min(self._limit_us, self.srtt_us + max(LEAST_SLACK_US, VARIATIONS * self.variation_us))
