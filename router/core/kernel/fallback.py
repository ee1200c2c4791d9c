"""The numpy engine: what `_kernel.c` does, without a compiler; also its oracle. See `engine` for the contract.

A product packs cost and relay into one integer, ``cost << bits | relay + 1``, so that one minimum finds both and ties
go to the smallest relay. Packed operands stay below 2**30, "missing" is 2**31 - 1, all unsigned 32 bits: two real
operands add up to less than "missing", two missing ones do not overflow. Where costs are too large for that the same
minimum is taken in 64 bits without packing.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from router.core.model import MAX_RELAYS
from router.core.tables import DIRECT, I16, I64, U8, Bool

OPERAND_LIMIT = 1 << 30
MISSING = np.uint32((1 << 31) - 1)
BLOCK_ELEMENTS = 1 << 16  # 256 KB of sums at a time stay in the second-level cache
ALTERNATIVES = 3
SLOT_BITS = 16  # of (cost, relay) pairs compared as one int64: relays are int16, costs below 2**43


def product(
    head: I64,
    left: I64,
    right: I64,
    may_relay: Bool,
    relay_cost_us: int,
    limit: int,
    threads: int,
    best: I64,
    relay: I16,
) -> int:
    """See `engine.Engine.product`; ``threads`` is not used."""
    if min(table.min(initial=0) for table in (head, left, right)) < 0:
        return -1
    allowed = np.flatnonzero(may_relay)
    head, left, right = (_without_diagonal(table, limit) for table in (head, left, right))
    via, k = _cheapest(left[:, allowed], right[allowed], allowed, relay_cost_us, limit)
    relayed = via < head
    best[...] = np.where(relayed, via, head)
    slot = relay if relay.ndim == 2 else relay[:, :, 0]
    relay[...] = DIRECT
    slot[...] = np.where(relayed, k, DIRECT)
    return int(relayed.sum())


def _without_diagonal(table: I64, limit: int) -> I64:
    clean = np.where(table < limit, table, 2 * limit)
    np.fill_diagonal(clean, 2 * limit)
    return clean


def _cheapest(left: I64, right: I64, allowed: NDArray[np.intp], relay_cost_us: int, limit: int) -> tuple[I64, I64]:
    """Cost and smallest relay of ``min over k of left[:, k] + relay cost + right[k, :]``; ``2 * limit`` if none."""
    n = left.shape[0]
    via, k = np.full((n, n), 2 * limit, np.int64), np.full((n, n), DIRECT, np.int64)
    if not allowed.size or not n:
        return via, k
    bits = n.bit_length()
    left = left + np.where(left < limit, relay_cost_us, 0)
    real_left, real_right = left < 2 * limit, right < limit
    largest = max(int(left[real_left].max(initial=0)), int(right[real_right].max(initial=0)))
    if largest >= OPERAND_LIMIT >> bits:
        _wide(left, right, allowed, via, k)
    else:
        a = np.where(real_left, left << bits | (allowed + 1), MISSING).astype(np.uint32)
        b = np.where(real_right, right << bits, MISSING).astype(np.uint32)
        packed = _packed(a, b).astype(np.int64)
        found = packed < MISSING
        via[found] = packed[found] >> bits
        k[found] = (packed[found] & ((1 << bits) - 1)) - 1
    too_far = (via >= limit) | np.eye(n, dtype=np.bool_)  # nor is there a way from a vertex to itself
    via[too_far], k[too_far] = 2 * limit, DIRECT
    return via, k


def _packed(a: NDArray[np.uint32], b: NDArray[np.uint32]) -> NDArray[np.uint32]:
    inner, width = b.shape
    step = max(1, BLOCK_ELEMENTS // width)
    sums = np.empty((step, width), np.uint32)
    result = np.full((a.shape[0], width), MISSING, np.uint32)
    lowest = np.empty(width, np.uint32)
    for start in range(0, inner, step):
        rows = b[start : start + step]
        part = sums[: rows.shape[0]]
        columns = a[:, start : start + step, None]
        for i in range(a.shape[0]):
            np.add(columns[i], rows, out=part)
            np.minimum.reduce(part, axis=0, out=lowest)
            np.minimum(result[i], lowest, out=result[i])
    return result


def _wide(left: I64, right: I64, allowed: NDArray[np.intp], via: I64, relay: I64) -> None:
    through = np.empty_like(via)
    for column, k in enumerate(allowed):
        np.add(left[:, column, None], right[None, column, :], out=through)
        better = through < via
        np.copyto(via, through, where=better)
        relay[better] = k


def compose(first: I16, last: I16, max_relays: int, threads: int, relays: I16) -> None:
    """See `engine.Engine.compose`; ``threads`` is not used."""
    source, target = np.indices(first.shape)
    compose_some(first, last, max_relays, relays, source.ravel(), target.ravel())


def compose_some(first: I16, last: I16, max_relays: int, relays: I16, source: I64, target: I64) -> None:
    """`compose` for some pairs only."""
    k = last[source, target]
    chosen = np.full((len(k), MAX_RELAYS), DIRECT, np.int16)
    chosen[:, 0] = np.where(k == DIRECT, first[source, target], first[source, k])
    chosen[:, 1] = k
    if max_relays == MAX_RELAYS:
        chosen[:, 2] = np.where(k == DIRECT, DIRECT, first[k, target])
    order = np.argsort(chosen == DIRECT, axis=1, kind="stable")  # close the gaps, keep the order
    relays[source, target] = np.take_along_axis(chosen, order, axis=1)


def transpose(table: NDArray[Any], result: NDArray[Any]) -> None:
    """See `engine.Engine.transpose`."""
    result[...] = table.T


def relax(cost: I64, limit: int, potential: I64, before: I64) -> bool:
    """See `engine.Engine.relax`."""
    through = np.where(cost < limit, cost, 2 * limit) + potential[:, None]
    np.fill_diagonal(through, 2 * limit)
    least = through.min(axis=0, initial=2 * limit)
    better = np.flatnonzero(least < potential)
    before[better] = through[:, better].argmin(axis=0) if better.size else 0
    potential[better] = least[better]
    return bool(better.size)


def shift(table: I64, limit: int, potential: I64, new_limit: int, threads: int, result: I64) -> int:
    """See `engine.Engine.shift`; ``threads`` is not used."""
    shifted = table + (potential[:, None] - potential[None, :])
    lost = (table < limit) & (shifted >= new_limit)
    np.fill_diagonal(lost, False)
    result[...] = np.where((table < limit) & ~lost, shifted, 2 * new_limit)
    np.fill_diagonal(result, 2 * new_limit)
    return int(lost.sum())


def alternatives(
    cost: I64,
    may_relay: Bool,
    group: I16,
    relay_cost_us: int,
    limit: int,
    threads: int,
    best: I64,
    relay: I16,
) -> bool:
    """See `engine.Engine.alternatives`; ``threads`` is not used."""
    if cost.min(initial=0) < 0:
        return False
    clean = _without_diagonal(cost, limit)
    top = [np.full(cost.shape, 2 * limit << SLOT_BITS, np.int64) for _ in range(ALTERNATIVES)]
    _insert(top, clean << SLOT_BITS)
    for name in np.unique(group[may_relay]):
        allowed = np.flatnonzero(may_relay & (group == name))
        via, k = _cheapest(clean[:, allowed], clean[allowed], allowed, relay_cost_us, limit)
        _insert(top, via << SLOT_BITS | (k + 1))
    for slot, value in enumerate(top):
        best[:, :, slot] = value >> SLOT_BITS
        relay[:, :, slot] = (value & ((1 << SLOT_BITS) - 1)) - 1
    return True


def _insert(top: list[I64], value: I64) -> None:
    for slot, held in enumerate(top):
        top[slot] = np.minimum(held, value)
        value = np.maximum(held, value)


def place(links: I64, links_t: I64, source: I64, target: I64, cost: I64, limit: int, changed: I64) -> int:
    """See `engine.Engine.place`."""
    n = len(links)
    if not ((source >= 0) & (source < n) & (target >= 0) & (target < n)).all():
        raise ValueError(f"a changed link joins vertices outside 0..{n - 1}")
    real = source != target
    source, target, cost = source[real], target[real], cost[real]
    if cost.min(initial=0) < 0:
        return -1
    links[source, target] = links_t[target, source] = np.where(cost < limit, cost, 2 * limit)
    changed[: len(source)] = source * n + target
    return len(source)


def _anew(through: I64, straight: int, limit: int) -> tuple[int, int]:
    """Cost and relay of one entry from scratch: over the cheapest relay, or straight on where that is no dearer."""
    k = int(through.argmin())
    via = int(through[k])
    if via < straight and via < limit:
        return via, k
    return (straight if straight < limit else 2 * limit), DIRECT


def update(
    head: I64,
    left: I64,
    left_t: I64,
    right: I64,
    right_t: I64,
    best: I64,
    best_t: I64,
    relay: I16,
    relay_t: I16,
    may_relay: Bool,
    relay_cost_us: int,
    limit: int,
    changed_head: I64,
    changed_left: I64,
    changed_right: I64,
    mark: U8,
    touched: I64,
) -> int:
    """See `engine.Engine.update`."""
    n = head.shape[0]
    toll = np.where(may_relay, relay_cost_us, 2 * limit)
    seen: list[I64] = []
    stale: list[I64] = []

    def offer(i: I64, j: I64, cost: I64, k: int) -> None:
        """Path over ``k`` costs ``cost`` now: better than what (i, j) has, or the new truth about what it has?"""
        cost = np.where(cost < limit, cost, 2 * limit)
        had, uses = best[i, j], (relay[i, j] == k) & (i != j)
        worse = uses & (cost > had)
        better = (cost < had) | ((cost == had) & (cost < limit) & (k < relay[i, j]))
        take = (i != j) & (better | uses) & ~worse
        seen.append((i * n + j)[take | uses])
        stale.append((i * n + j)[worse])
        _store(i[take], j[take], cost[take], k)

    def _store(i: I64, j: I64, cost: I64, k: int | I64) -> None:
        best[i, j] = best_t[j, i] = cost
        relay[i, j] = relay_t[j, i] = k

    everyone = np.arange(n)
    i, j = np.divmod(changed_head, n)
    offer(i, j, head[i, j], DIRECT)
    for a, b in zip(*np.divmod(changed_left, n), strict=True):
        if may_relay[b] and a != b:
            offer(np.full(n, a), everyone, left[a, b] + relay_cost_us + right[b], int(b))
    for a, b in zip(*np.divmod(changed_right, n), strict=True):
        if may_relay[a] and a != b:
            offer(everyone, np.full(n, b), left_t[a] + relay_cost_us + right[a, b], int(a))
    for entry in np.unique(np.concatenate([*stale, np.empty(0, np.int64)])):
        u, v = divmod(int(entry), n)
        cost, k = _anew(left[u] + right_t[v] + toll, int(head[u, v]), limit)
        _store(np.array([u]), np.array([v]), np.array([cost]), k)
    entries = np.unique(np.concatenate([*seen, np.empty(0, np.int64)]))
    if len(entries) > len(touched):
        return -1
    touched[: len(entries)] = entries
    return len(entries)
