"""A node's clock as arithmetic on true time. PURE.

Stamps are taken from the machine's wall clock (kernel stamps know no other) and pass through a :class:`Clock` before
they go on the wire. On a real node it is the identity. In the demo and in tests all agents share one machine and
therefore one clock, so each gets an offset and a skew here, and steps while it runs (:meth:`Clock.inject`); what is
learned about real clocks is the business of who reads the reports. Deadlines never pass through a ``Clock``: they use
the monotonic time.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

_MILLION = 1_000_000
_FIELDS = ("offset_us", "skew_ppm", "anchor_us")
_LIMITS = (1 << 52, 100_000, 1 << 52)  # a clock that gains or loses a tenth is no clock


class ClockError(ValueError):
    """Text that does not describe a clock; the message says why."""


@dataclass(slots=True)
class Clock:
    """What a node that is off by ``offset_us`` at ``anchor_us`` and gains ``skew_ppm`` since then reads."""

    offset_us: int = 0
    skew_ppm: int = 0
    anchor_us: int = 0

    def read(self, true_us: int) -> int:
        """The node's reading at a true time, rounded down; never decreasing in it between two injections."""
        if self.skew_ppm:
            return true_us + self.offset_us + (true_us - self.anchor_us) * self.skew_ppm // _MILLION
        return true_us + self.offset_us

    def true(self, node_us: int) -> int:
        """A true time at which the node reads ``node_us``, within a microsecond."""
        since_anchor = node_us - self.offset_us - self.anchor_us
        return self.anchor_us + -(-since_anchor * _MILLION // (_MILLION + self.skew_ppm))

    def inject(self, offset_us: int, skew_ppm: int, anchor_us: int) -> None:
        """Be wrong in another way from now on: a step, another drift, or both."""
        self.offset_us, self.skew_ppm, self.anchor_us = offset_us, skew_ppm, anchor_us


def parse_injection(text: str, now_us: int) -> tuple[int, int, int]:
    """Offset, skew and anchor from JSON such as ``{"offset_us": 200000, "skew_ppm": -20}``. Raises ClockError.

    What is left out is 0; without ``anchor_us`` the skew counts from ``now_us``.
    """
    try:
        record = json.loads(text)
    except ValueError as error:
        raise ClockError(f"must be JSON: {error}") from error
    if not isinstance(record, dict) or set(record) - set(_FIELDS):
        raise ClockError(f"must be an object with fields out of {', '.join(_FIELDS)}")
    values = [record.get(name, now_us if name == "anchor_us" else 0) for name in _FIELDS]
    for name, value, limit in zip(_FIELDS, values, _LIMITS, strict=True):
        if type(value) is not int or abs(value) > limit:
            raise ClockError(f"{name} must be an integer between -{limit} and {limit}")
    offset_us, skew_ppm, anchor_us = values
    return offset_us, skew_ppm, anchor_us
