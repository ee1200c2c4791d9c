"""What a node may send, kept by the node itself. PURE: time is an argument, and so is the calendar.

Three limits at once: packets per second, bytes per second and bytes per calendar month (clouds bill egress by the
month). The first two are token buckets that are ``DEPTH_S`` deep and refill so much more slowly that in *any*
``WINDOW_S`` seconds no more leaves than the limit times those seconds. A share of each, the reserve, is left to confirm
probes: doubt must not wait behind routine. The month's bytes are a counter that survives restarts (:meth:`state`,
:meth:`restore`); it stops everything when it is used up, and :meth:`regular_per_s` paces routine so that it is not.

Confirm probes have a narrow bucket of their own besides. One outage is cheap to confirm, but where everything is
suspect again and again the node or its uplink is overloaded, and asking more would keep it so.

The agent's own caps hold whatever a plan says. Bytes are those on the wire, headers included. Answers to the probes of
others are not counted here: a reflector never sends more than it received, and limits itself per source.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from probes.wire import Budget

MAX_PACKETS_PER_S = 2_000  # a plan that asks for more is a mistake: one core sends that at a fifth of its time
MAX_BYTES_PER_S = 1_000_000
WINDOW_S = 10
DEPTH_S = 1
LARGEST_BYTES = 1_500  # of one packet: a bucket holds at least one, if ten seconds' worth do
CONFIRM_PER_S, CONFIRM_DEPTH = 60, 200  # an outage is confirmed by some 25 probes per path and peer that it meets
PPM = 1_000_000
UNIT = WINDOW_S * PPM  # of a token: limits per second and times in microseconds stay integers


@dataclass(frozen=True, slots=True)
class MonthState:
    """What to keep over a restart."""

    month: int  # any number that rises by one from month to month
    sent_bytes: int


class Bucket:
    """Tokens that refill with time; counted in integers, so that nothing is gained or lost in rounding."""

    __slots__ = ("_at_us", "_refill", "_tokens", "depth")

    def __init__(self, limit_per_s: int, least_depth: int, now_us: int) -> None:
        self.depth = min(max(limit_per_s * DEPTH_S, least_depth), limit_per_s * WINDOW_S // 2)
        self._refill = limit_per_s * WINDOW_S - self.depth  # per microsecond: a window may start with a full bucket
        self._tokens = self.depth * UNIT
        self._at_us = now_us

    @property
    def per_s(self) -> float:
        """What may be taken in the long run."""
        return self._refill / WINDOW_S

    def holds(self, amount: int, reserved: int, now_us: int) -> bool:
        """Whether so much may be taken and ``reserved`` stays."""
        if now_us > self._at_us:
            self._tokens = min(self.depth * UNIT, self._tokens + (now_us - self._at_us) * self._refill)
            self._at_us = now_us
        return self._tokens >= (amount + reserved) * UNIT

    def take(self, amount: int) -> None:
        """Take what :meth:`holds` allowed."""
        self._tokens -= amount * UNIT

    def resized(self, limit_per_s: int, least_depth: int, now_us: int) -> Bucket:
        """A bucket with another limit, no fuller than this one."""
        self.holds(0, 0, now_us)
        new = Bucket(limit_per_s, least_depth, now_us)
        new._tokens = min(new._tokens, self._tokens)
        return new


class Allowance:
    """Everything that a node sends of its own accord asks here first."""

    def __init__(self, now_us: int) -> None:
        self._packets = Bucket(MAX_PACKETS_PER_S, 1, now_us)
        self._bytes = Bucket(MAX_BYTES_PER_S, LARGEST_BYTES, now_us)
        self._confirm = Bucket(CONFIRM_PER_S, CONFIRM_DEPTH, now_us)
        self._monthly_bytes = 0
        self._reserve_ppm = 0
        self._month = MonthState(0, 0)
        self._left_us = 0  # of the month; 0: nobody said
        self.refused = 0  # packets that had to stay

    def follow(self, budget: Budget, now_us: int) -> None:
        """Keep to this budget from now on."""
        packets = min(budget.packets_per_s or MAX_PACKETS_PER_S, MAX_PACKETS_PER_S)
        size = min(budget.bytes_per_s or MAX_BYTES_PER_S, MAX_BYTES_PER_S)
        self._packets = self._packets.resized(packets, 1, now_us)
        self._bytes = self._bytes.resized(size, LARGEST_BYTES, now_us)
        self._monthly_bytes = budget.monthly_bytes
        self._reserve_ppm = min(budget.reserve_ppm, PPM)

    def calendar(self, month: int, left_us: int) -> None:
        """It is this month, with so much of it left. A clock that goes back to an earlier month frees nothing."""
        if month > self._month.month:
            self._month = MonthState(month, 0)
        self._left_us = max(0, left_us)

    def take(self, now_us: int, size_bytes: int, confirm: bool = False) -> bool:
        """Whether a packet of this size may leave now; it is paid for if so. Confirm probes may use the reserve."""
        kept = 0 if confirm else self._reserve_ppm
        sent = self._month.sent_bytes + size_bytes
        may = (
            (not self._monthly_bytes or sent <= self._monthly_bytes * (PPM - kept) // PPM)
            and self._packets.holds(1, _share(self._packets.depth, kept), now_us)
            and self._bytes.holds(size_bytes, _share(self._bytes.depth, kept), now_us)
            and (not confirm or self._confirm.holds(1, 0, now_us))
        )
        if not may:
            self.refused += 1
            return False
        self._packets.take(1)
        self._bytes.take(size_bytes)
        if confirm:
            self._confirm.take(1)
        self._month = MonthState(self._month.month, sent)
        return True

    def regular_per_s(self, size_bytes: int) -> float:
        """Routine probes of this size per second that the limits bear in the long run: for the schedule."""
        share = 1 - self._reserve_ppm / PPM
        per_s = min(self._packets.per_s, self._bytes.per_s / size_bytes) * share
        if self._monthly_bytes and self._left_us:
            left = self._monthly_bytes * share - self._month.sent_bytes
            per_s = min(per_s, max(0.0, left) / size_bytes / (self._left_us / PPM))
        return per_s

    def state(self) -> MonthState:
        """What to write down, now and then and at the end."""
        return self._month

    def restore(self, state: MonthState) -> None:
        """Go on counting where an earlier run ended; what was sent meanwhile in the same month adds up."""
        if state.month == self._month.month:
            self._month = MonthState(state.month, state.sent_bytes + self._month.sent_bytes)
        elif state.month > self._month.month:
            self._month = state


def _share(depth: int, ppm: int) -> int:
    """The reserve of a bucket, never so much that not one packet of routine is left."""
    return min(depth * ppm // PPM, max(0, depth - 1))
