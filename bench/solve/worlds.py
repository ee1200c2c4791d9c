"""Synthetic matrices: every size from the same recipe, no two links alike."""

from __future__ import annotations

from functools import cache

import numpy as np

from router.core.tables import I16, I64, NO_COST, Bool

EARTH_RADIUS_KM = 6371
FIBRE_US_PER_KM = 5  # light in glass
LEAST_US = 300  # two edges of a data center
PROVIDERS = 8


@cache
def costs_us(n: int) -> I64:
    """Directed link costs int64 ``[from, to]`` in microseconds, ``NO_COST`` on the diagonal; read-only.

    Points on a sphere, the great circle in fibre, a log-normal detour drawn for each directed link: more triangle
    violations than a real overlay has, and no symmetry to profit from.
    """
    rng = np.random.default_rng(n)
    points = rng.normal(size=(n, 3))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    angle = np.arccos(np.clip(points @ points.T, -1, 1))
    detour = rng.lognormal(0.4, 0.35, (n, n))
    cost = np.rint(angle * EARTH_RADIUS_KM * FIBRE_US_PER_KM * detour).astype(np.int64) + LEAST_US
    np.fill_diagonal(cost, NO_COST)
    cost.setflags(write=False)
    return cost


def everyone(n: int) -> Bool:
    """Bool ``[vertex]``: every data center may relay."""
    return np.ones(n, np.bool_)


def providers(n: int, count: int = PROVIDERS) -> I16:
    """Provider number of each data center, int16 ``[vertex]``, dealt out in turn."""
    return (np.arange(n) % count).astype(np.int16)


def some_sources(n: int, count: int) -> list[int]:
    """Up to ``count`` vertices spread evenly: what an answer is checked, or a slow peer timed, from."""
    return sorted({int(v) for v in np.linspace(0, n - 1, min(count, n))})
