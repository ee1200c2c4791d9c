"""A node's clock as arithmetic on true time. PURE.

Stamps are taken from the machine's wall clock (kernel stamps know no other) and pass through a :class:`Clock` before
they go on the wire. On a real node it is the identity. In the demo and in tests all agents share one machine and
therefore one clock, so each gets an offset and a skew here; what is learned about the real clocks (offset and skew with
an error band) will live in this module too. Deadlines never pass through a ``Clock``: they use the monotonic time.
"""

from __future__ import annotations

from dataclasses import dataclass

_MILLION = 1_000_000


@dataclass(frozen=True, slots=True)
class Clock:
    """What a node that is off by ``offset_us`` at ``anchor_us`` and gains ``skew_ppm`` since then reads."""

    offset_us: int = 0
    skew_ppm: int = 0
    anchor_us: int = 0

    def read(self, true_us: int) -> int:
        """The node's reading at a true time, rounded down to whole microseconds; never decreasing in it."""
        if self.skew_ppm:
            return true_us + self.offset_us + (true_us - self.anchor_us) * self.skew_ppm // _MILLION
        return true_us + self.offset_us

    def true(self, node_us: int) -> int:
        """A true time at which the node reads ``node_us``, within a microsecond."""
        since_anchor = node_us - self.offset_us - self.anchor_us
        return self.anchor_us + -(-since_anchor * _MILLION // (_MILLION + self.skew_ppm))
