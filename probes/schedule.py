"""Whom to probe next. PURE: time is an argument, randomness is passed in.

Every peer owns a regular grid of slots, one per interval, with a random phase, so that the probes of a mesh neither
burst nor beat in step. A heap keeps the next slot of each peer. Being woken costs more than a probe does, so with a
slot that has come those are served that come within a :data:`TOGETHER`-th of their own interval, if that is half a
second or more; and whoever is awake for another reason serves them when the next slot comes in half that time. A slot
that could not be served in time (the process stalled, the machine slept) is skipped, not made up for: after a stall of
any length each peer gets at most one probe, and only if its slot is still fresh. Replacing the plan keeps the slots of
peers that stay.

A peer's interval in the plan is the shortest that is of use. Where not everything fits into
:attr:`Schedule.per_s`, every peer keeps the floor rate (all are slowed evenly if not even that fits), and what is left
goes to the tiers in turn: hot, warm, cold. Within the tier that gets only part of what it asks for, rates are
proportional to the value of a probe: its weight in the plan, times how uncertain the peer's round trip is, times how
stale (:func:`allot`). This is reckoned anew every ``BALANCE_US``. A peer that real traffic measures is probed at the
floor rate (:meth:`Schedule.covered`), and so is everybody once the plan has expired, which it does when no controller
has confirmed it for the plan's life.

The caller does, with monotonic microseconds::

    allowance.follow(plan.budget, now); allowance.calendar(month, left_us)       # probes.budget; at least once an hour
    schedule.per_s = allowance.regular_per_s(packet_bytes) - hot_paths_per_s     # each second
    schedule.replace(peers, now, plan.floor_interval_us, expires_at_us=now + plan_life_us)
    schedule.confirmed(now + plan_life_us)                 # at every answer of the control plane, "not modified" too
    for peer in schedule.due(now):                         # at next_at()
        if allowance.take(now, packet_bytes):
            send(peer)
    schedule.note((peer.node, peer.transport), now, variation_us * 1_000_000 // srtt_us)     # an answer came
    schedule.covered((peer.node, peer.transport), until_us)     # media measures that peer until then
    for _ in range(detector.burst_due(now)):               # probes.detect
        if allowance.take(now, packet_bytes, confirm=True):
            send_from_another_port()
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from random import Random

    from probes.wire import PlanPeer

Key = tuple[str, str]
"""Node and transport of a peer."""

MAX_LATENESS_US = 250_000  # a slot missed by more is skipped: long enough for a busy machine, too short for a burst
BALANCE_US = 10_000_000  # weights of a plan change no faster
FLOOR_US = 5_000_000  # the floor where a plan names none
TIERS = ("hot", "warm", "cold")
STALEST = 10.0  # intervals without an answer beyond which a peer is no more worth asking than at this
CERTAIN = 0.05  # a round trip that never varies is still worth as much as one that varies by so much of itself
SELDOM_US = 3_600_000_000  # where nothing may be sent at all; the allowance refuses even that
SELDOM_FROM_US = 500_000
TOGETHER = 16
STEPS_PER_OCTAVE = 4  # of intervals that are not a plan's own: small changes of value change no slots


class Schedule:
    """Heap of the next slot of each peer; all times are monotonic microseconds."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._heap: list[tuple[int, int]] = []  # (slot, place in the plan)
        self._peers: list[PlanPeer] = []
        self._intervals: list[int] = []  # in force, by place
        self._floor_us = 0
        self._expires_us: int | None = None
        self._balance_us = 0  # when to reckon intervals next
        self._noted: dict[Key, tuple[int, float]] = {}  # last answer, uncertainty
        self._covered: dict[Key, int] = {}
        self._served: dict[Key, int] = {}  # last slot served, of covered peers
        self.per_s: float | None = None  # probes that may be sent per second, ``None``: all that the plan asks for
        self.skipped = 0  # slots missed since the start
        self.suppressed = 0  # slots that real traffic made needless

    def __len__(self) -> int:
        return len(self._heap)

    def replace(
        self, peers: Sequence[PlanPeer], now_us: int, floor_interval_us: int = 0, expires_at_us: int | None = None
    ) -> None:
        """Probe these peers from now on; who was probed at the same interval before keeps its slots."""
        old = {_key(self._peers[place]): (slot, self._intervals[place]) for slot, place in self._heap}
        self._peers, self._floor_us, self._expires_us = list(peers), floor_interval_us, expires_at_us
        known = {_key(peer) for peer in peers}
        self._noted = {key: noted for key, noted in self._noted.items() if key in known}
        self._covered = {key: until for key, until in self._covered.items() if key in known}
        self._served = {key: at for key, at in self._served.items() if key in known}
        self._intervals = self._reckoned(now_us)
        self._place([old.get(_key(peer)) for peer in peers], now_us)

    def confirmed(self, expires_at_us: int) -> None:
        """The plan holds until then."""
        self._expires_us = expires_at_us

    def note(self, key: Key, now_us: int, spread_ppm: int) -> None:
        """A peer answered; its round trip varies by this share of itself."""
        self._noted[key] = (now_us, spread_ppm / 1e6)

    def covered(self, key: Key, until_us: int) -> None:
        """Real traffic measures this peer until then: probes beyond the floor rate are needless."""
        self._covered[key] = until_us

    def next_at(self) -> int | None:
        """When the next slot comes, ``None`` without peers."""
        return self._heap[0][0] if self._heap else None

    def interval_us(self, key: Key) -> int | None:
        """The interval in force of a peer, ``None`` if it is not probed."""
        return next((i for peer, i in zip(self._peers, self._intervals, strict=True) if _key(peer) == key), None)

    def due(self, now_us: int, *, awake: bool = False) -> list[PlanPeer]:
        """Peers whose slot has come, or nearly so, each at most once, in slot order; moves them to their next slot.

        ``awake``: the caller did not wake up for a slot.
        """
        if now_us >= self._balance_us:
            self._rebalance(now_us)
        found: list[PlanPeer] = []
        heap = self._heap
        if not heap or heap[0][0] > now_us + (self._early_us(heap[0][1]) // 2 if awake else 0):
            return found
        while heap:
            slot, place = heap[0]
            interval = self._intervals[place]
            if slot > now_us + self._early_us(place):
                break
            passed = max(0, now_us - slot) // interval  # whole slots that went by unserved
            last = slot + passed * interval
            if now_us - last > min(MAX_LATENESS_US, interval >> 1):
                passed += 1
            elif self._needed(self._peers[place], now_us):
                found.append(self._peers[place])
            else:
                self.suppressed += 1
            self.skipped += passed
            heapq.heapreplace(heap, (last + interval, place))
        return found

    def _early_us(self, place: int) -> int:
        """By how much a peer may be served before its slot."""
        interval_us = self._intervals[place]
        return interval_us // TOGETHER if interval_us >= SELDOM_FROM_US else 0

    def _needed(self, peer: PlanPeer, now_us: int) -> bool:
        if not self._covered:
            return True
        key = _key(peer)
        if self._covered.get(key, 0) <= now_us:
            self._covered.pop(key, None)
            self._served.pop(key, None)
            return True
        if now_us - self._served.get(key, -(1 << 62)) < (self._floor_us or FLOOR_US):
            return False
        self._served[key] = now_us
        return True

    def _rebalance(self, now_us: int) -> None:
        """Reckon the intervals anew; slots change only where they do."""
        before = {place: (slot, self._intervals[place]) for slot, place in self._heap}
        intervals = self._reckoned(now_us)
        if intervals != self._intervals:
            self._intervals = intervals
            self._place([before[place] for place in range(len(self._peers))], now_us)

    def _reckoned(self, now_us: int) -> list[int]:
        self._balance_us = now_us + BALANCE_US
        floor_us = self._floor_us
        if self._expires_us is not None and now_us >= self._expires_us:
            floor = floor_us or FLOOR_US
            return allot([max(peer.interval_us, floor) for peer in self._peers], None, None, self.per_s, floor)
        if self._expires_us is not None:
            self._balance_us = min(self._balance_us, self._expires_us)
        intervals = [peer.interval_us for peer in self._peers]
        tiers = [TIERS.index(peer.tier) for peer in self._peers]
        return allot(intervals, tiers, [self._worth(peer, now_us) for peer in self._peers], self.per_s, floor_us)

    def _worth(self, peer: PlanPeer, now_us: int) -> float:
        noted = self._noted.get(_key(peer))
        if noted is None:
            return (peer.weight + 1) * STALEST
        stale = min(STALEST, 1 + (now_us - noted[0]) / peer.interval_us)
        return (peer.weight + 1) * (CERTAIN + noted[1]) * stale

    def _place(self, before: Sequence[tuple[int, int] | None], now_us: int) -> None:
        """Slots of all peers: kept where the interval stays, drawn anew where it is shorter or the peer is new."""
        heap = []
        for place, (interval, known) in enumerate(zip(self._intervals, before, strict=True)):
            if known is not None and known[1] <= interval:
                slot = known[0]
            else:
                slot = self._drawn(interval, now_us)
                slot = slot if known is None else min(slot, known[0])
            heap.append((slot, place))
        heapq.heapify(heap)
        self._heap = heap

    def _drawn(self, interval_us: int, now_us: int) -> int:
        """A slot of random phase, within an interval from now."""
        return now_us + self._rng.randrange(interval_us)


def allot(
    intervals: Sequence[int],
    tiers: Sequence[int] | None,
    worth: Sequence[float] | None,
    per_s: float | None,
    floor_us: int,
) -> list[int]:
    """Interval of each peer, in microseconds, so that all together stay within ``per_s``.

    The floor for everyone first; then tier by tier up to each peer's own interval. A tier that gets only part of it
    divides that part in proportion to ``worth``, no peer beyond its own interval.
    """
    floors = [1e6 / max(interval, floor_us) for interval in intervals]
    wanted = [1e6 / interval - floor for interval, floor in zip(intervals, floors, strict=True)]
    if per_s is None or sum(floors) + sum(wanted) <= per_s:
        return list(intervals)
    if per_s <= 0:
        return [SELDOM_US] * len(intervals)
    if sum(floors) >= per_s or tiers is None or worth is None:
        slower = sum(floors) / per_s
        return [_stepped(1e6 / floor * max(1.0, slower)) for floor in floors]
    rates, left = floors, per_s - sum(floors)
    for tier in range(len(TIERS)):
        places = [place for place, its in enumerate(tiers) if its == tier]
        given = _filled([wanted[p] for p in places], [worth[p] for p in places], left)
        for place, more in zip(places, given, strict=True):
            rates[place] += more
        left = max(0.0, left - sum(given))
    return [
        interval if rate >= 1e6 / interval * (1 - 1e-9) else _stepped(1e6 / rate)
        for interval, rate in zip(intervals, rates, strict=True)
    ]


def _filled(wanted: Sequence[float], worth: Sequence[float], limit: float) -> list[float]:
    """Divide a limit in proportion to worth, nobody getting more than wanted (water-filling)."""
    given, left, weight = [0.0] * len(wanted), limit, sum(worth)
    for place in sorted(range(len(wanted)), key=lambda p: wanted[p] / worth[p]):
        given[place] = min(wanted[place], left * worth[place] / weight if weight > 0 else 0.0)
        left, weight = max(0.0, left - given[place]), weight - worth[place]
    return given


def _stepped(interval_us: float) -> int:
    """The next longer interval on a coarse scale."""
    step, octave = 1.0, 1 << max(0, int(interval_us).bit_length() - 1)
    while octave * step < interval_us:
        step *= 2.0 ** (1 / STEPS_PER_OCTAVE)
    return min(SELDOM_US, int(octave * step) + 1)


def _key(peer: PlanPeer) -> Key:
    return peer.node, peer.transport
