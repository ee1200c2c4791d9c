"""Backups: what to fall back on when the path in force fails, with how much of it they do without.

The solver cannot know which path will be in force, because the switching rule decides that after it. So it finds, for
every ordered pair, ``SPARES`` paths with at most one relay of which enough remain whatever path is in force, and
``choose`` picks three of them relative to that path when somebody asks.

1. The direct path and the best relay of each provider, the cheapest first. A path in force has at most ``MAX_RELAYS``
   relays and so takes at most as many providers out of this list; hence ``SPARES``, three more than that.
2. Where there are fewer, the cheapest of the remaining relays.

A context whose paths have fewer relays needs, and gets, fewer spares.

``choose`` takes first what shares no provider with the path in force, one per provider; the direct path has no relay
and so shares none. If these are fewer than three, the cheapest relays that are not in the path, then those that are in
it but share no link with it. Exact for paths in force with at most one relay; with more, the first part still is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import IntEnum
from itertools import pairwise

import numpy as np

from router.core.kernel import UNREACHABLE, alternatives, johnson
from router.core.model import MAX_RELAYS
from router.core.tables import DIRECT, I16, I64, NO_COST, Bool, GraphSnapshot

BACKUPS = 3
SPARES = BACKUPS + MAX_RELAYS
NONE = -2  # in a list of spares: there are no more
_RELAY_BITS = 16  # a cost and a relay in one integer that sorts by cost, direct before relayed, smallest relay
_NOTHING = NO_COST << _RELAY_BITS
_RELAY_MASK = (1 << _RELAY_BITS) - 1
_AT_ONCE = 1 << 13  # entries of a block


class Protects(IntEnum):
    """What a backup does without: the grade of its protection, the strongest first."""

    PROVIDER = 0  # every provider that relays the path in force
    DATA_CENTER = 1  # every data center that relays it
    LINK = 2  # every link of it


def providers_of(snapshot: GraphSnapshot) -> I16:
    """Number of each vertex's provider int16 ``[vertex]``; where none is known, there are no spares to ask it for."""
    return np.arange(len(snapshot.data_centers), dtype=np.int16) if snapshot.provider is None else snapshot.provider


def no_spares(n: int) -> I16:
    """Spares of a context for which nobody asks for backups."""
    return np.full((n, n, SPARES), NONE, np.int16)


def find_spares(cost: I64, may_relay: Bool, max_relays: int, relay_cost_us: int, provider: I16) -> I16:
    """Spares int16 ``[from, to, SPARES]`` of one context: relays and ``DIRECT``; ``NONE`` where there are no more.

    ``cost`` int64 ``[from, to]`` in microseconds, ``NO_COST`` where there is no link; ``may_relay`` bool and
    ``provider`` int16 ``[vertex]``. Raises NegativeCycle.
    """
    n, count = len(may_relay), BACKUPS + max(1, max_relays)
    cost = _raised(cost)
    relaying = may_relay if max_relays else np.zeros(n, np.bool_)
    groups = np.unique(provider[relaying])
    top = np.full((SPARES, n, n), _NOTHING, np.int64)
    top[0] = np.where(cost < UNREACHABLE, cost << _RELAY_BITS, _NOTHING)
    np.fill_diagonal(top[0], _NOTHING)
    for start in range(0, len(groups), 2):  # two providers and the direct path: all three alternatives are known
        two = relaying & np.isin(provider, groups[start : start + 2])
        found, relay = alternatives(cost, two, relay_cost_us, provider)
        for rows in _blocks(n):
            _insert(top[: min(count, start + 3), rows], found[rows], relay[rows])
    _fill(top[:count], cost, np.flatnonzero(relaying), relay_cost_us)
    spares = np.empty((n, n, SPARES), np.int16)
    for rows in _blocks(n):
        for slot, packed in enumerate(top[:, rows]):
            spares[rows, :, slot] = np.where(packed == _NOTHING, NONE, (packed & _RELAY_MASK) - 1)
    return spares


def _raised(cost: I64) -> I64:
    """Equally good costs of which none is negative, so that not every call to the kernel has to find them anew."""
    if cost.min(initial=0) >= 0:
        return cost
    potential, there = johnson(cost), cost < UNREACHABLE
    raised = cost + potential[:, None] - potential[None, :]
    small = raised[there].max(initial=0) < UNREACHABLE // 4
    return np.where(there, raised, NO_COST) if small else cost


def _blocks(n: int) -> list[slice]:
    """Rows of a table ``[from, to]`` in parts that stay in the second-level cache."""
    step = max(1, _AT_ONCE // max(1, n))
    return [slice(start, start + step) for start in range(0, n, step)]


def _insert(top: I64, found: I64, relay: I16) -> None:
    """Sort the relayed ones of three alternatives, of which two at most, into ``top`` ``[slot, from, to]``."""
    packed = found << _RELAY_BITS
    packed += relay
    packed += 1
    np.copyto(packed, _NOTHING, where=relay == DIRECT)
    a, b, c = packed[:, :, 0], packed[:, :, 1], packed[:, :, 2]
    falls, larger = np.minimum(a, b), np.empty_like(a)
    second = np.minimum(np.maximum(a, b), c)
    for value in (falls, second):
        for slot in top:
            np.maximum(slot, value, out=larger)
            np.minimum(slot, value, out=slot)
            value, larger = larger, value


def _fill(top: I64, cost: I64, relays: I64, relay_cost_us: int) -> None:
    """Put the cheapest relays that are not listed into the free slots of ``top``, in place."""
    n = len(cost)
    ways = np.eye(n, dtype=np.bool_)
    free = (top[-1] == _NOTHING) & ~ways
    if not len(relays) or not free.any():
        return
    number, everyone = np.full(n + 1, len(relays)), np.arange(n)  # the row of ``through`` of each relay; none: a spare
    number[relays] = np.arange(len(relays))
    on = np.where(ways, NO_COST, cost)[relays] << _RELAY_BITS
    there = (np.where(ways, NO_COST, cost)[:, relays] + relay_cost_us) << _RELAY_BITS | (relays + 1)
    through = np.empty((len(relays) + 1, n), np.int64)
    for u in np.flatnonzero(free.any(axis=1)):
        np.add(there[u][:, None], on, out=through[:-1])
        through[-1] = _NOTHING
        for slot in top[:, u]:
            taken = np.where(slot == _NOTHING, n, (slot & _RELAY_MASK) - 1)  # DIRECT is the last row too
            through[number[taken], everyone] = _NOTHING
        for slot in top[1:, u]:
            put = (slot == _NOTHING) & (everyone != u)
            if not put.any():
                continue
            least = through.min(axis=0)
            least[least >= UNREACHABLE << _RELAY_BITS] = _NOTHING
            slot[put] = least[put]
            taken = np.where(put & (least != _NOTHING), (least & _RELAY_MASK) - 1, n)
            through[number[taken], everyone] = _NOTHING


def choose(
    spares: Sequence[int], path: Sequence[int], provider: Sequence[int], metric: Callable[[int], int]
) -> list[tuple[int, Protects]]:
    """Up to three backups (relay or ``DIRECT``, grade) of the path in force, in the order in which to try them.

    ``path``: its vertices, ends included; ``provider`` of every vertex; ``metric``: what the path over a relay costs.
    """
    used = path[1:-1]
    lost = [provider[k] for k in used]
    links = list(pairwise(path))
    first: list[tuple[int, Protects]] = []
    rest: list[tuple[Protects, int, int]] = []
    seen: list[int] = []
    for relay in spares:
        if relay == NONE:
            break
        if relay == DIRECT:
            if used:
                first.append((DIRECT, Protects.PROVIDER))
        elif relay in used:
            if (path[0], relay) not in links and (relay, path[-1]) not in links:
                rest.append((Protects.LINK, metric(relay), relay))
        elif provider[relay] in lost:
            rest.append((Protects.DATA_CENTER, metric(relay), relay))
        elif provider[relay] in seen:
            rest.append((Protects.PROVIDER, metric(relay), relay))
        else:
            seen.append(provider[relay])
            first.append((relay, Protects.PROVIDER))
        if len(first) == BACKUPS:
            return first
    rest.sort(key=lambda spare: (spare[0] is Protects.LINK, spare[1:]))
    more = sorted(rest[: BACKUPS - len(first)])
    return first + [(relay, grade) for grade, _, relay in more]
