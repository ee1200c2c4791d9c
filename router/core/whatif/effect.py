"""What a changed world does to routes: lost, gained, on another path, slower, faster, by how much, and whose."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

import numpy as np

from router.core.kernel import UNREACHABLE, path_cost
from router.core.model import DataCenterId
from router.core.tables import DIRECT, I64, NO_COST, Bool, Context, RouteTable


@dataclass(frozen=True, slots=True)
class Growth:
    """By how much, in microseconds of one-way delay; nearest ranks."""

    p50_us: int
    p95_us: int
    most_us: int


@dataclass(frozen=True, slots=True)
class Change:
    """One ordered pair in both worlds; no path: ``None``. ``predicted``: the new path uses links nobody measured."""

    source: DataCenterId
    target: DataCenterId
    before: tuple[DataCenterId, ...] | None
    after: tuple[DataCenterId, ...] | None
    before_us: int | None
    after_us: int | None
    predicted: bool = False

    @property
    def delta_us(self) -> int | None:
        """How much longer one way takes; ``None`` where it is not there in both worlds."""
        return None if self.before_us is None or self.after_us is None else self.after_us - self.before_us


@dataclass(frozen=True, slots=True)
class RouteEffect:
    """One routing context; ordered pairs of data centers that are there in both worlds."""

    context: Context
    pairs: int  # that have a path in one of the worlds
    lost: int
    gained: int
    rerouted: int  # another path, in both worlds
    slower: int
    faster: int
    faster_at_worst: int  # even if every predicted link is as slow as its interval allows
    broken: int  # routes in force that use what is removed
    growth: Growth | None  # of the slower ones
    saving: Growth | None  # of the faster ones
    worst: tuple[Change, ...]
    best: tuple[Change, ...]
    lost_pairs: tuple[Change, ...]
    gained_pairs: tuple[Change, ...]


@dataclass(frozen=True, eq=False)
class Compared:
    """Both worlds' choices, the same vertices first, and what they take; arrays ``[context, from, to]``."""

    before: RouteTable
    after: RouteTable
    before_us: I64  # one-way delay, NO_COST without a path
    after_us: I64
    worst_us: I64  # with predicted links as slow as may be
    kept: Bool  # [vertex] there in both worlds
    known: int  # vertices that are there now


def delays_us(table: RouteTable) -> I64:
    """One-way delay of every path in force int64 ``[context, from, to]``, on clocks that agree; NO_COST without one."""
    shot = table.snapshot
    found = np.full(table.cost.shape, NO_COST, np.int64)
    n = shot.cost.shape[1]
    apart = shot.potential_us[:, None] - shot.potential_us[None, :]
    for c in range(len(shot.contexts)):
        extra = 0 if shot.extra_us is None else shot.extra_us[c]
        hops = np.where(shot.cost[c] < UNREACHABLE, shot.cost[c] - extra, NO_COST)
        along = path_cost(hops, table.relays[c, :n, :n], 0)
        reach = table.reachable[c, :n, :n] & (along < UNREACHABLE)
        found[c, :n, :n] = np.where(reach, along + apart, NO_COST)
    return found


def route_effects(table: RouteTable, found: Compared, named: int) -> Iterator[RouteEffect]:
    """What happens in each context; ``table`` holds the routes in force."""
    pairs = found.kept[:, None] & found.kept[None, :]
    np.fill_diagonal(pairs, False)
    for c, context in enumerate(found.after.snapshot.contexts):
        yield _effect(table, found, c, context, pairs, named)


def _effect(table: RouteTable, found: Compared, c: int, context: Context, pairs: Bool, named: int) -> RouteEffect:
    was, will = found.before.reachable[c] & pairs, found.after.reachable[c] & pairs
    both, delta = was & will, found.after_us[c] - found.before_us[c]
    moved = both & (found.before.relays[c] != found.after.relays[c]).any(axis=-1)
    slower, faster = both & (delta > 0), both & (delta < 0)
    sure = both & (found.worst_us[c] < found.before_us[c])
    return RouteEffect(
        context=context,
        pairs=int((was | will).sum()),
        lost=int((was & ~will).sum()),
        gained=int((will & ~was).sum()),
        rerouted=int(moved.sum()),
        slower=int(slower.sum()),
        faster=int(faster.sum()),
        faster_at_worst=int(sure.sum()),
        broken=_broken(table, found, c),
        growth=growth_of(delta[slower]),
        saving=growth_of(-delta[faster]),
        worst=tuple(_named(found, c, slower, -delta, named)),
        best=tuple(_named(found, c, faster, delta, named)),
        lost_pairs=tuple(_named(found, c, was & ~will, found.before_us[c], named)),
        gained_pairs=tuple(_named(found, c, will & ~was, found.after_us[c], named)),
    )


def growth_of(values: I64) -> Growth | None:
    """Nearest-rank percentiles of some microseconds; ``None`` of nothing."""
    if not len(values):
        return None
    ranked = np.sort(values)
    p50, p95 = (int(ranked[-(-len(ranked) * share // 100) - 1]) for share in (50, 95))
    return Growth(p50, p95, int(ranked[-1]))


def _broken(table: RouteTable, found: Compared, c: int) -> int:
    """Routes in force between data centers that stay, over something that does not."""
    n = found.known
    cost = found.after.snapshot.cost[c, :n, :n]
    gone = path_cost(cost, table.relays[c], 0) >= UNREACHABLE
    kept = found.kept[:n]
    return int((gone & table.reachable[c] & kept[:, None] & kept[None, :] & ~np.eye(n, dtype=np.bool_)).sum())


def _named(found: Compared, c: int, wanted: Bool, key: I64, named: int) -> Iterator[Change]:
    """Up to so many pairs, least ``key`` first; equals in vertex order."""
    u, v = np.nonzero(wanted)
    for k in np.argsort(key[u, v], kind="stable")[:named]:
        yield change_of(found, c, int(u[k]), int(v[k]))


def change_of(found: Compared, c: int, u: int, v: int) -> Change:
    """One ordered pair of vertices in both worlds."""
    ids = found.after.snapshot.data_centers
    before, after = vertices(found.before, c, u, v), vertices(found.after, c, u, v)
    return Change(
        source=ids[u],
        target=ids[v],
        before=None if before is None else tuple(ids[k] for k in before),
        after=None if after is None else tuple(ids[k] for k in after),
        before_us=None if before is None else int(found.before_us[c, u, v]),
        after_us=None if after is None else int(found.after_us[c, u, v]),
        predicted=after is not None and any(k >= found.known for k in after),
    )


def vertices(table: RouteTable, c: int, u: int, v: int) -> tuple[int, ...] | None:
    """The path with its ends; ``None`` without one."""
    if not table.reachable[c, u, v]:
        return None
    return (u, *(int(k) for k in table.relays[c, u, v] if k != DIRECT), v)


def parts(table: RouteTable, out: Collection[DataCenterId]) -> tuple[tuple[DataCenterId, ...], ...]:
    """Groups of data centers that reach each other both ways over any number of relays, largest first.

    By links that the plain contexts may use; what is taken out belongs to none.
    """
    shot = table.snapshot
    c = next((c for c, context in enumerate(shot.contexts) if context.policy is None), None)
    there = [i for i, dc in enumerate(shot.data_centers) if dc not in out]
    if c is None or not there:
        return ()
    link = shot.cost[c][np.ix_(there, there)] < UNREACHABLE
    relays = shot.may_relay[c][there].astype(np.float32)
    reach = link | np.eye(len(there), dtype=np.bool_)
    while True:  # each round doubles the number of links that a way may have
        wider = reach | ((reach.astype(np.float32) * relays) @ reach.astype(np.float32) > 0)
        if (wider == reach).all():
            break
        reach = wider
    first = (reach & reach.T).argmax(axis=1)
    groups = [tuple(shot.data_centers[there[i]] for i in np.flatnonzero(first == k)) for k in sorted({*first.tolist()})]
    return tuple(sorted(groups, key=lambda group: (-len(group), group)))
