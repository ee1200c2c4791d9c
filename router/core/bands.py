"""Between which bounds an absolute one-way delay must lie, with clocks that nobody synchronised.

Every raw difference bounds the offset between two clocks: the packet cannot have been faster than light in fibre, so
``theta(v) - theta(u) <= raw(u, v) - floor(u, v)``. These are difference constraints, and they chain: the tightest bound
is the shortest path over all of them (Bellman 1958). A neighbour a millisecond away
pins a clock to that millisecond, however far the others are. The delay then lies between ``raw(u, v) - bound(u, v)``
and ``raw(u, v) + bound(v, u)``.

What is reported of a
pair is the middle of that interval and half its width: never wider than what the pair alone says, ``(rtt - 2 * floor) /
2``, because the pair's own constraint is one of the paths. The middles of different pairs belong to different offsets,
so they do not add up along a path; whoever adds up hops must use one set of offsets (``LinkTable.along_us``).
"""

from __future__ import annotations

import numpy as np

from router.core.kernel import UNREACHABLE, NegativeCycle, unlimited
from router.core.tables import I64, NO_COST, Bool

MAX_DELAY_US = 60_000_000  # beyond a minute either way it is a broken clock, and says nothing about the others


def one_way_band(delay: I64, rtt: I64, floor: I64, usable: Bool) -> tuple[I64, I64]:
    """Each delay as reported and its error, int64 ``[transport, from, to]``, in microseconds.

    ``delay`` and ``rtt`` ``[transport, from, to]``, ``floor`` ``[from, to]`` (light in fibre, one way). ``delay`` is
    the raw difference freed of *any* one set of clock offsets: which one does not matter here, and small numbers keep
    the sums exact. Where not ``usable``, half of the round trip is all there is, give or take what is above the floor.
    """
    light = np.minimum(floor, rtt // 2)
    middle, half = rtt // 2, np.maximum(0, (rtt + 1) // 2 - light)
    n, usable = delay.shape[1], usable & (np.abs(delay) <= MAX_DELAY_US)
    if n == 0 or not usable.any():
        return middle, half
    for share in (1.0, 0.0):  # positions are of cities and may be wrong; a delay below zero nobody can claim
        least = np.rint(light * share).astype(np.int64)
        bound = _bounds(delay - least, usable)
        if bound is None:
            continue
        low, high = delay - bound, delay + bound.transpose(1, 0)
        known = usable & (bound < UNREACHABLE) & (bound.transpose(1, 0) < UNREACHABLE) & (high >= low)
        return np.where(known, (low + high) // 2, middle), np.where(known, (high - low + 1) // 2, half)
    return middle, half


def _bounds(slack: I64, usable: Bool) -> I64 | None:
    """Upper bounds of ``theta(to) - theta(from)``; ``None`` if the constraints contradict each other."""
    cost = np.where(usable, slack, NO_COST).min(axis=0)
    np.fill_diagonal(cost, NO_COST)
    try:
        bound, _ = unlimited(cost, np.ones(len(cost), np.bool_), 0)
    except NegativeCycle:
        return None
    return bound
