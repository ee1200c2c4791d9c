"""Which data centers of a world carry the GPU machines: a few that together are near to everybody.

Greedy k-median on the true round trips: take the data center with the smallest total distance to all, then again and
again the one that shortens the total of everybody's distance to the nearest hub most. Greedy reaches at least 63 % of
the best possible saving (Nemhauser, Wolsey and Fisher, 1978), needs no positions, and ends up with about one hub per
part of the world. Ties go to the earlier place.
"""

from __future__ import annotations

from collections.abc import Sequence

HUBS = 8
UNREACHABLE_US = 1_000_000  # what a missing link counts as: worse than any real path, not infinitely so


def hub_count(data_centers: int) -> int:
    """How many hubs a world gets: at most a third of it, so that even a small one has edges that are no hubs."""
    return max(1, min(HUBS, data_centers // 3))


def choose_hubs(delay_us: Sequence[Sequence[int | None]], count: int = HUBS) -> tuple[int, ...]:
    """Places of at most ``count`` hubs, rising; every data center if there are no more than that."""
    size = len(delay_us)
    if size <= count:
        return tuple(range(size))
    distance = [[_round_trip(delay_us, a, b) for b in range(size)] for a in range(size)]
    nearest = [2 * UNREACHABLE_US] * size
    chosen: list[int] = []
    for _ in range(count):
        rest = [a for a in range(size) if a not in chosen]
        best = min(rest, key=lambda a: (sum(map(min, nearest, distance[a])), a))
        nearest = list(map(min, nearest, distance[best]))
        chosen.append(best)
    return tuple(sorted(chosen))


def _round_trip(delay_us: Sequence[Sequence[int | None]], a: int, b: int) -> int:
    if a == b:
        return 0
    there, back = delay_us[a][b], delay_us[b][a]
    return (UNREACHABLE_US if there is None else there) + (UNREACHABLE_US if back is None else back)
