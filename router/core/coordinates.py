"""Coordinates of a delay space and what neighbours tell: the ingredients that :mod:`router.core.predict` weighs.

A delay space is nearly a metric one: nodes get coordinates so that distance plus a height per node (its access line)
fits what was measured (stress majorisation, de Leeuw 1977; heights as in Vivaldi, Dabek et al. 2004). What coordinates
miss is shared by neighbours (a provider's detour between two continents), so residuals of nearby pairs are averaged
in. A measured detour ``u-k-v`` says how long the direct link is at most, as a rule: routes do break the triangle
inequality, that is why overlays pay.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from router.core.tables import Bool

F64 = NDArray[np.float64]
DIMENSIONS = (2, 4)  # coordinates of both are fitted and averaged: few generalise from little, many follow detail
ROUNDS = 40
LEAST_US = 300.0  # below this relative errors mean nothing
USUAL_LOG_SD = 0.1  # of the fit; a measurement noisier than this weighs less
NEIGHBOURS = 3
REACHES = (1.0, 3.0)  # of the kernels over neighbours, in distances to the third of them
NO_DETOUR_LOG = 1.0  # how much longer than the fit a detour counts where none was measured


@dataclass(frozen=True, eq=False)
class Fit:
    """What coordinates and neighbours say, all logarithms ``[a, b]``, symmetric."""

    base: F64
    ingredients: F64  # [a, b, ingredient] corrections to ``base``
    difficulty: F64  # [a, b, feature] what the size of the error depends on
    detour: F64  # shortest measured detour over one node, infinite if there is none
    kernel: F64  # how much two nodes are neighbours


def fitted(log: F64, noise: F64, known: Bool) -> Fit:
    """Fit symmetric logarithms of delays ``[a, b]`` where ``known``, each with its relative deviation ``noise``."""
    n = len(log)
    value = np.where(known, np.exp(log), np.inf)
    weight = np.where(known, np.exp(-1.5 * log) * USUAL_LOG_SD**2 / (USUAL_LOG_SD**2 + noise**2), 0.0)
    up = _via(value)
    detour = np.minimum(value, up)
    if not np.isfinite(detour).all():  # two hops more reach nearly everybody; who is left starts far away
        detour = np.minimum(detour, _via(detour))
    placed = [_coordinates(np.where(known, value, 0.0), weight, detour, d) for d in DIMENSIONS if d < n]
    apart = np.mean([distance for distance, _ in placed], axis=0)
    logs = [np.log(np.maximum(full, LEAST_US)) for _, full in placed]
    base: F64 = np.mean(logs, axis=0)
    trusted = np.where(known, USUAL_LOG_SD**2 / (USUAL_LOG_SD**2 + noise**2), 0.0)
    missed = np.where(known, log - base, 0.0)
    reach = float(np.median(np.partition(apart, min(NEIGHBOURS, n - 1), axis=1)[:, min(NEIGHBOURS, n - 1)]))
    shared, sure = [], []
    for widths in REACHES:
        kernel = np.exp(-apart / max(widths * reach, 1e-6))
        amount = smooth(kernel, trusted)
        shared.append(smooth(kernel, trusted * missed) / (amount + 0.3))
        sure.append(np.log(amount + 0.1))
    size = np.log((smooth(kernel, trusted * np.abs(missed)) + 0.01) / (amount + 0.1))
    over = np.where(np.isfinite(up), np.log(np.maximum(up, LEAST_US)), base + NO_DETOUR_LOG) - base
    differ = logs[-1] - logs[0]
    constant = np.ones((n, n))
    ingredients = np.stack(
        [shared[0], shared[1], np.minimum(over, 0.0), np.clip(over, 0.0, 1.0), differ, constant], axis=-1
    )
    difficulty = np.stack([size, *sure, np.clip(over, -1.0, 2.0), base, np.abs(differ)], axis=-1)
    return Fit(base, ingredients, difficulty, np.log(np.maximum(up, LEAST_US)), kernel)


def smooth(kernel: F64, values: F64) -> F64:
    """Sum over pairs ``(a', b')`` of their value times how near ``a'`` is to ``a`` and ``b'`` to ``b``."""
    return kernel @ values @ kernel


def _coordinates(value: F64, weight: F64, detour: F64, dimensions: int) -> tuple[F64, F64]:
    """Distances between coordinates, and with the heights of both ends added, ``[a, b]``.

    Starts from classical scaling of short measured detours; each round majorises the weighted stress, so that
    it never grows; heights take half a step towards what distances leave over.
    """
    n = len(value)
    within = detour[np.isfinite(detour)]
    start = np.where(np.isfinite(detour), detour, within.max(initial=1.0))
    np.fill_diagonal(start, 0.0)
    centring = np.eye(n) - 1.0 / n
    spectrum, vectors = np.linalg.eigh(-0.5 * centring @ start**2 @ centring)
    # A vector's sign is the eigensolver's whim; distances do not depend on it.
    x = vectors[:, -dimensions:] * np.sqrt(np.maximum(spectrum[-dimensions:], 1e-9))
    most = float(weight.max(initial=0.0)) or 1.0
    share = weight / most
    solver = np.linalg.inv(np.diag(share.sum(axis=1)) - share + np.eye(n) * 1e-7)
    sums = np.maximum(share.sum(axis=1), 1e-12)
    height = np.zeros(n)
    diagonal = np.arange(n)
    for _ in range(ROUNDS):
        distance, both = _distances(x), height[:, None] + height[None, :]
        pull = -share * np.maximum(value - both, 0.0) / distance
        pull[diagonal, diagonal] = 0.0
        pull[diagonal, diagonal] = -pull.sum(axis=1)
        x = solver @ (pull @ x)
        left = (share * (value - distance - height[None, :])).sum(axis=1) / sums
        height = 0.5 * height + 0.5 * np.maximum(left, 0.0)
    distance = _distances(x)
    return distance, distance + height[:, None] + height[None, :]


def _distances(x: F64) -> F64:
    square = (x * x).sum(axis=1)
    distance: F64 = np.sqrt(np.maximum(square[:, None] + square[None, :] - 2 * x @ x.T, 1e-6))
    return distance


def _via(value: F64) -> F64:
    """Shortest measured detour over exactly one node ``[a, b]``; infinite where there is none."""
    single = value.astype(np.float32)  # half the memory traffic; a ten-millionth of a delay matters to nobody
    out = np.full_like(single, np.inf)
    for a in range(len(single)):
        over = np.flatnonzero(np.isfinite(single[a]))
        if len(over):
            out[a] = (single[a, over, None] + single[over]).min(axis=0)
    return out.astype(np.float64)


def joined(known: Bool) -> Bool:
    """Whether measured links connect two nodes over any number of others ``[a, b]``."""
    reach = (known | known.T | np.eye(len(known), dtype=np.bool_)).astype(np.float32)
    for _ in range(max(1, len(known).bit_length())):
        reach = np.minimum(reach @ reach, 1.0)
    return reach > 0
