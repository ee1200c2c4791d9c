"""Brute force in plain int64 numpy: slow, obviously right, and sharing no code with the kernel."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from router.core.tables import DIRECT, I16, I64, NO_COST, Bool

BACKUPS = 3


class WrongAnswer(AssertionError):
    """A timed answer is not the right one: no figure of this run is worth anything."""


def best_costs(cost: I64, may_relay: Bool, max_relays: int, relay_cost_us: int, sources: Sequence[int]) -> I64:
    """Cost int64 ``[source, to]`` of the best path of at most ``max_relays`` relays; costs must not be negative.

    Bellman-Ford by number of links. Walks that visit a vertex twice are tried too; they are never cheaper.
    """
    relays = np.flatnonzero(may_relay)
    onward = cost[relays] + relay_cost_us
    best = cost[list(sources)].copy()
    for _ in range(max_relays):
        through = np.stack([(row[relays, None] + onward).min(axis=0, initial=NO_COST) for row in best])
        best = np.minimum(best, through)
    best[np.arange(len(sources)), list(sources)] = NO_COST
    return np.where(best >= NO_COST, NO_COST, best)


def check_solution(
    cost: I64,
    may_relay: Bool,
    max_relays: int,
    relay_cost_us: int,
    answer: tuple[I64, I16],
    sources: Sequence[int],
) -> None:
    """All pairs: the relays are a path within the rules that costs the total. From ``sources``: no path is cheaper."""
    total, relays = answer
    n = len(cost)
    here, target = np.indices((n, n))
    walked = np.zeros((n, n), np.int64)
    seen = np.zeros((n, n), np.int64)
    for slot in range(relays.shape[2]):
        relay = relays[:, :, slot].astype(np.int64)
        used = relay != DIRECT
        if slot and (used & (relays[:, :, slot - 1] == DIRECT)).any():
            raise WrongAnswer(f"N={n}: a relay after the last one")
        if (used & ~may_relay[relay]).any() or (used & ((relay == target) | (relay == np.arange(n)[:, None]))).any():
            raise WrongAnswer(f"N={n}: a relay that may not be there")
        if any((used & (relay == relays[:, :, other])).any() for other in range(slot)):
            raise WrongAnswer(f"N={n}: a relay twice on one path")
        walked += np.where(used, cost[here, np.where(used, relay, 0)] + relay_cost_us, 0)
        here = np.where(used, relay, here)
        seen += used
    walked += cost[here, target]
    walked = np.where(walked >= NO_COST, NO_COST, walked)
    np.fill_diagonal(walked, NO_COST)
    if (seen > max_relays).any():
        raise WrongAnswer(f"N={n}: more than {max_relays} relays")
    if not np.array_equal(walked, total):
        raise WrongAnswer(
            f"N={n}, <= {max_relays} relays: {int((walked != total).sum())} paths do not cost their total"
        )
    wanted = best_costs(cost, may_relay, max_relays, relay_cost_us, sources)
    worse = int((wanted != total[list(sources)]).sum())
    if worse:
        raise WrongAnswer(f"N={n}, <= {max_relays} relays: {worse} of {wanted.size} pairs are not the best")


def check_backups(
    cost: I64,
    may_relay: Bool,
    relay_cost_us: int,
    group: I16,
    answer: tuple[I64, I16],
    sources: Sequence[int],
) -> None:
    """From ``sources``: the three cheapest of the best path of each relay group and the direct one, groups distinct."""
    costs, relays = answer
    allowed = np.flatnonzero(may_relay)
    for source in sources:
        through = cost[source, allowed, None] + cost[allowed] + relay_cost_us
        best = [cost[source]] + [through[group[allowed] == number].min(axis=0) for number in np.unique(group[allowed])]
        wanted = np.sort(np.stack(best), axis=0)[:BACKUPS].T
        wanted[source] = NO_COST
        wanted = np.where(wanted >= NO_COST, NO_COST, wanted)
        if not np.array_equal(wanted, costs[source]):
            raise WrongAnswer(f"N={len(cost)}: the backups of source {source} are not the three best")
        _check_relays(cost, relay_cost_us, group, source, costs[source], relays[source].astype(np.int64))


def _check_relays(cost: I64, relay_cost_us: int, group: I16, source: int, costs: I64, relays: I64) -> None:
    target = np.arange(len(cost))[:, None]
    through = cost[source, relays] + cost[relays, target] + relay_cost_us
    walked = np.where(relays == DIRECT, cost[source][:, None], through)
    there = costs < NO_COST
    if not np.array_equal(walked[there], costs[there]):
        raise WrongAnswer(f"N={len(cost)}: a backup of source {source} does not cost what it says")
    groups = np.where(relays == DIRECT, -1, group[relays])
    for a, b in ((0, 1), (0, 2), (1, 2)):
        if (there[:, a] & there[:, b] & (groups[:, a] == groups[:, b])).any():
            raise WrongAnswer(f"N={len(cost)}: two backups of source {source} share a provider")
