"""Whom to probe next. PURE: time is an argument, randomness is passed in.

Every peer owns a regular grid of slots, one per interval, with a random phase, so that the probes of a mesh neither
burst nor beat in step. A heap keeps the next slot of each peer. A slot that could not be served in time (the process
stalled, the machine slept) is skipped, not made up for: after a stall of any length each peer gets at most one probe,
and only if its slot is still fresh. Replacing the plan keeps the slots of peers that stay.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from random import Random

    from probes.wire import PlanPeer

MAX_LATENESS_US = 250_000  # a slot missed by more is skipped: long enough for a busy machine, too short for a burst


class Schedule:
    """Heap of the next slot of each peer; all times are monotonic microseconds."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._heap: list[tuple[int, int, PlanPeer]] = []  # (slot, place in the plan, peer)
        self.skipped = 0  # slots missed since the start

    def __len__(self) -> int:
        return len(self._heap)

    def replace(self, peers: Sequence[PlanPeer], now_us: int) -> None:
        """Probe these peers from now on; who was probed at the same interval before keeps its slots."""
        slots = {(peer.node, peer.transport, peer.interval_us): slot for slot, _, peer in self._heap}
        heap = []
        for place, peer in enumerate(peers):
            slot = slots.get((peer.node, peer.transport, peer.interval_us))
            if slot is None:
                slot = now_us + self._rng.randrange(peer.interval_us)
            heap.append((slot, place, peer))
        heapq.heapify(heap)
        self._heap = heap

    def next_at(self) -> int | None:
        """When the next slot comes, ``None`` without peers."""
        return self._heap[0][0] if self._heap else None

    def due(self, now_us: int) -> list[PlanPeer]:
        """Peers whose slot has come, each at most once, in slot order; moves them on to their next slot."""
        found: list[PlanPeer] = []
        heap = self._heap
        while heap and heap[0][0] <= now_us:
            slot, place, peer = heap[0]
            interval = peer.interval_us
            passed = (now_us - slot) // interval  # whole slots that went by unserved
            last = slot + passed * interval
            if now_us - last <= min(MAX_LATENESS_US, interval >> 1):
                found.append(peer)
            else:
                passed += 1
            self.skipped += passed
            heapq.heapreplace(heap, (last + interval, place, peer))
        return found
