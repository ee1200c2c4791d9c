"""Leaving a loaded path: only while it is still loaded, and not all at once.

A pair that leaves its path because of the price of load, and would stay if there were none, is held back

- when the newest load does not ask for it any more: the damped price lags, and who left before may have been enough;
- beyond ``LoadPrice.move_share`` of those that leave the same relay (their first) in this solve: the others see what
  the move of the first ones did to the price before they follow. The best gains go first.

Pairs that must move, and pairs that would move without any load, are not asked.
"""

from __future__ import annotations

import math

import numpy as np

from router.core.kernel import UNREACHABLE, path_cost
from router.core.tables import DIRECT, I16, I64, NO_COST, Bool, GraphSnapshot


def held_for_load(snapshot: GraphSnapshot, c: int, base: I16, other: I16, gain: I64, needed: I64, moving: Bool) -> Bool:
    """Bool ``[from, to]``: which of ``moving`` stay for now; ``gain`` (µs) counts the load, ``needed`` is the margin.

    ``base`` and ``other`` are the paths to leave and to take, ``[from, to, MAX_RELAYS]``.
    """
    held = np.zeros(moving.shape, np.bool_)
    load = snapshot.load
    if load is None or not moving.any():
        return held
    saved = _along(snapshot, c, load.smooth_us, base) - _along(snapshot, c, load.smooth_us, other)
    otherwise = gain - saved
    pushed = moving & (saved > 0) & (otherwise < needed)
    newest = _along(snapshot, c, load.newest_us, base) - _along(snapshot, c, load.newest_us, other)
    held |= pushed & (otherwise + newest <= 0)
    leaving = pushed & ~held
    first = np.where(leaving, base[..., 0], DIRECT)
    for relay in np.unique(first[first != DIRECT]).tolist():
        u, v = np.nonzero(first == relay)
        late = np.argsort(-gain[u, v], kind="stable")[math.ceil(load.move_share * len(u)) :]
        held[u[late], v[late]] = True
    return held


def priced_by_load(snapshot: GraphSnapshot, c: int, base: I16, other: I16) -> Bool:
    """Bool ``[from, to]``: where load makes a difference between two paths."""
    if snapshot.load is None:
        return np.zeros(base.shape[:-1], np.bool_)
    price = snapshot.load.smooth_us
    found: Bool = _along(snapshot, c, price, base) != _along(snapshot, c, price, other)
    return found


def _hops(snapshot: GraphSnapshot, c: int, price_us: I64) -> I64:
    n = len(snapshot.data_centers)
    hops: I64 = price_us[(snapshot.transport[c].astype(np.int64), *np.indices((n, n)))]
    return hops


def _along(snapshot: GraphSnapshot, c: int, price_us: I64, relays: I16) -> I64:
    """What load adds to paths, int64 ``[from, to]`` microseconds; nothing where a path is not usable."""
    usable = snapshot.cost[c] < UNREACHABLE
    total = path_cost(np.where(usable, _hops(snapshot, c, price_us), NO_COST), relays, 0)
    return np.where(total < UNREACHABLE, total, 0)
