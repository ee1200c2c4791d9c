"""Best paths between all ordered pairs: a bounded number of relays, any number, or three that share no group."""

from __future__ import annotations

import numpy as np

from router.core.kernel.engine import ENGINE, Engine
from router.core.kernel.potentials import REDUCED_LIMIT, UNREACHABLE, johnson, reduce, restore
from router.core.model import MAX_RELAYS
from router.core.tables import DIRECT, I16, I64, NO_COST, Bool

ALTERNATIVES = 3
NEARLY_SETTLED = 0.01  # share of pairs that still improve, below which the last product is tried: it often is the last


def solve_context(
    cost: I64, may_relay: Bool, max_relays: int, relay_cost_us: int, threads: int = 1, *, engine: Engine = ENGINE
) -> tuple[I64, I16]:
    """Best paths of one context.

    ``cost`` int64 ``[from, to]`` in microseconds, ``NO_COST`` where there is no link (the diagonal is not looked at);
    ``may_relay`` bool ``[vertex]``. Returns total cost int64 ``[from, to]`` (``NO_COST`` where unreachable) and relays
    int16 ``[from, to, MAX_RELAYS]``, ``DIRECT`` beyond the last relay. Raises NegativeCycle, or ValueError for
    arguments out of range.
    """
    check(cost, may_relay, max_relays, relay_cost_us)
    cost = np.ascontiguousarray(cost)
    answer = solve_reduced(cost, may_relay, max_relays, relay_cost_us, int(UNREACHABLE), threads, engine)
    if answer is not None:
        return answer
    potential = johnson(cost, engine=engine)
    reduced = reduce(cost, potential, threads, engine=engine)
    answer = solve_reduced(reduced, may_relay, max_relays, relay_cost_us, REDUCED_LIMIT, threads, engine)
    assert answer is not None  # johnson leaves nothing negative
    total, relays = answer
    return restore(total, potential, relays, threads, engine=engine), relays


def solve_reduced(
    cost: I64, may_relay: Bool, max_relays: int, relay_cost_us: int, limit: int, threads: int, engine: Engine
) -> tuple[I64, I16] | None:
    """The same for costs that are not negative, missing from ``limit`` up; None if one is negative."""
    n = cost.shape[0]
    relays = np.empty((n, n, MAX_RELAYS), np.int16)
    total = np.empty((n, n), np.int64)
    if max_relays <= 1:
        allowed = may_relay if max_relays else np.zeros(n, np.bool_)
        count = engine.product(cost, cost, cost, allowed, relay_cost_us, limit, threads, total, relays)
        return None if count < 0 else (total, relays)
    once, first, last = np.empty((n, n), np.int64), np.empty((n, n), np.int16), np.empty((n, n), np.int16)
    if engine.product(cost, cost, cost, may_relay, relay_cost_us, limit, threads, once, first) < 0:
        return None
    right = cost if max_relays == 2 else once
    engine.product(once, once, right, may_relay, relay_cost_us, limit, threads, total, last)
    engine.compose(first, last, max_relays, threads, relays)
    return total, relays


def path_cost(cost: I64, relays: I16, relay_cost_us: int) -> I64:
    """Cost int64 ``[from, to]`` of paths given by ``relays`` under ``cost``; ``NO_COST`` if a hop is missing."""
    n = cost.shape[0]
    here, target = np.meshgrid(np.arange(n), np.arange(n), indexing="ij")
    total = np.zeros((n, n), np.int64)
    for slot in range(relays.shape[-1]):
        relay = relays[:, :, slot]
        is_hop = relay != DIRECT
        after = np.where(is_hop, relay, here)
        total += np.where(is_hop, cost[here, after] + relay_cost_us, 0)
        here = after
    total += cost[here, target]
    return np.where(total >= UNREACHABLE, NO_COST, total)


def alternatives(
    cost: I64, may_relay: Bool, relay_cost_us: int, group: I16, threads: int = 1, *, engine: Engine = ENGINE
) -> tuple[I64, I16]:
    """The three best paths of every ordered pair, at most one relay each, no two relays of one group.

    ``group`` int16 ``[vertex]``: the provider's number, or the vertex's own index for paths that share no data center.
    The direct link counts as one alternative, a group of its own. Returns cost int64 and relay int16, both
    ``[from, to, 3]``, best first by (cost, direct before relayed, smallest relay); cost is ``NO_COST`` (and relay
    ``DIRECT``) where there are fewer.
    """
    check(cost, may_relay, 1, relay_cost_us)
    n = cost.shape[0]
    cost, group = np.ascontiguousarray(cost), np.ascontiguousarray(group, np.int16)
    best, relay = np.empty((n, n, ALTERNATIVES), np.int64), np.empty((n, n, ALTERNATIVES), np.int16)
    limit = int(UNREACHABLE)
    if engine.alternatives(cost, may_relay, group, relay_cost_us, limit, threads, best, relay):
        return best, relay
    potential = johnson(cost, engine=engine)
    reduced = reduce(cost, potential, threads, engine=engine)
    engine.alternatives(reduced, may_relay, group, relay_cost_us, REDUCED_LIMIT, threads, best, relay)
    for slot in range(ALTERNATIVES):
        column = relay[:, :, slot]
        best[:, :, slot] = restore(np.ascontiguousarray(best[:, :, slot]), potential, column, threads, engine=engine)
    return best, relay


def unlimited(
    cost: I64, may_relay: Bool, relay_cost_us: int, threads: int = 1, *, engine: Engine = ENGINE
) -> tuple[I64, I16]:
    """Cheapest paths over any number of relays.

    Returns total int64 ``[from, to]`` and ``after`` int16 ``[from, to]``: the next vertex on the way (the target itself
    on a direct link, -1 where unreachable). Following ``after`` always arrives: every step leaves strictly less to go.
    """
    check(cost, may_relay, 1, relay_cost_us)
    n = cost.shape[0]
    cost = np.ascontiguousarray(cost)
    potential = johnson(cost, engine=engine)
    links = reduce(cost, potential, threads, engine=engine)
    toll, limit, ticks = relay_cost_us, REDUCED_LIMIT, 0
    if n and int(links.min()) + toll == 0:
        # Links that cost nothing could send us round in circles. One tick a link, too small to outweigh a microsecond
        # even on the longest path, makes every step cost something and means: the fewest links among equals.
        ticks = n.bit_length()
        links = np.where(links < limit, (links << ticks) + 1, 2 * limit << ticks)
        toll, limit = toll << ticks, limit << ticks
    total, relay = links, np.empty((n, n), np.int16)
    far = np.full_like(links, 2 * limit)
    while True:
        longer = np.empty_like(total)  # squaring doubles the number of links that paths may have
        improved = engine.product(total, total, total, may_relay, toll, limit, threads, longer, relay)
        total = longer
        if improved > n * n * NEARLY_SETTLED:
            continue
        # One link, then the best way from there: if that is never better, nothing is (Bellman), and `relay` is the way.
        first_link = np.empty_like(total)
        engine.product(far, links, total, may_relay, toll, limit, threads, first_link, relay)
        np.minimum(first_link, links, out=first_link)
        settled = np.array_equal(first_link, total)
        total = first_link
        if settled:
            break
    after = np.where((links == total) & (total < limit), np.arange(n, dtype=np.int16), relay)
    return restore(total >> ticks, potential, after, threads, engine=engine), after


def check(cost: I64, may_relay: Bool, max_relays: int, relay_cost_us: int) -> None:
    """Refuse arguments that no solve can take."""
    n = len(may_relay)
    if cost.shape != (n, n):
        raise ValueError(f"cost is {cost.shape}, must be {(n, n)} for {n} vertices")
    if n > np.iinfo(np.int16).max:
        raise ValueError(f"{n} vertices; relays are int16, at most {np.iinfo(np.int16).max}")
    if not 0 <= max_relays <= MAX_RELAYS:
        raise ValueError(f"max_relays is {max_relays}, must lie in 0..{MAX_RELAYS}")
    if not 0 <= relay_cost_us < UNREACHABLE:
        raise ValueError(f"relay_cost_us is {relay_cost_us}, must lie in 0..{UNREACHABLE}")
