"""Clock offsets between data centers from raw one-way differences: least squares, and their drift.

For two clocks with offsets ``θ`` the minima of both raw differences give ``(raw(u,v) - raw(v,u)) / 2 = θ(v) - θ(u)``
up to half the path's asymmetry. Over all pairs that is an overdetermined system; short round trips have less room for
asymmetry and weigh more. The solution is fixed up to a common constant, which never matters.

No path can be more asymmetric than its round trip: a pair whose difference is off by more than half of it has a clock
that stepped in between, or lies. Such pairs are weighed down in proportion, round by round (iteratively reweighted
least squares; Huber 1964), until the clocks that agree with each other decide.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from router.core.tables import I64, Bool

F64 = NDArray[np.float64]
MAX_DRIFT = 200e-6  # no oscillator in a server is worse; a larger fit is noise
FEWEST_POINTS = 8
TURNS = 20  # of fitting lines and constants; each takes most of what is left of the error
REFINEMENTS = 3
OUTCASTS = 20  # rounds of reweighting; each takes a liar's pull down by the ratio of its lie to what is possible
SLACK_US = 1_000
SHORTEST_US = 1_000  # below this a round trip says nothing more about asymmetry


def offsets_us(raw: I64, rtt: I64, usable: Bool) -> F64:
    """Clock offsets float64 ``[vertex]`` in microseconds from arrays ``[transport, from, to]``; 0 without evidence."""
    n = raw.shape[1]
    if n == 0 or not usable.any():
        return np.zeros(n)
    best = np.where(usable, rtt, np.iinfo(np.int64).max).argmin(axis=0)
    pick = (best, *np.indices((n, n)))
    mask = usable[pick]
    difference = np.where(mask, (raw[pick] - raw.transpose(0, 2, 1)[pick]) / 2, 0.0)
    weight = np.where(mask, 1.0 / np.maximum(rtt[pick], SHORTEST_US).astype(float) ** 2, 0.0)
    solution = _solved(difference, weight, mask)
    possible = np.where(mask, rtt[pick] / 2 + SLACK_US, 0.0)
    for _ in range(OUTCASTS):
        left = np.abs(difference - (solution[None, :] - solution[:, None]))
        if not (mask & (left > possible)).any():
            break
        solution = _solved(difference, weight * np.minimum(1.0, possible / np.maximum(left, 1.0)), mask)
    return solution


def _solved(difference: F64, weight: F64, mask: Bool) -> F64:
    n, scale = len(weight), weight.max()
    system = (np.diag(weight.sum(axis=0)) - weight) / scale + np.eye(n) * 1e-12
    solution: F64 = np.zeros(n)
    for _ in range(REFINEMENTS):  # a clock that starts at 1970 is 10^15 us off: one solve leaves minutes of error
        left = difference - np.where(mask, solution[None, :] - solution[:, None], 0.0)
        solution = solution + np.linalg.solve(system, (weight * left).sum(axis=0) / scale)
        solution = solution - solution[0]  # the common constant never matters; large, it would cost digits
    return solution


def drift(times_us: Sequence[int], offsets: Sequence[F64], n: int) -> F64:
    """Relative frequency errors float64 ``[vertex]`` (1e-6 = 1 ppm) by a straight line through successive offsets.

    NaN marks a vertex that was not measured then. Too few points give no drift at all: extrapolating noise is worse
    than ignoring a few ppm.

    Only differences between vertices mean something, so each point has a constant of its own that is taken out: the
    median over what was measured then. After a clock has stepped these are not the same vertices in all points, and the
    medians of two crowds drift apart; lines and constants are then fitted in turn until they agree.
    """
    if len(times_us) < FEWEST_POINTS:
        return np.zeros(n)
    points = np.stack(offsets)
    seen = ~np.isnan(points)
    for point, both in zip(points, seen & seen[-1], strict=True):  # take out the common constant of each point
        point -= np.median((point - points[-1])[both]) if both.any() else 0.0
    count = seen.sum(axis=0)
    t = np.where(seen, (np.array(times_us, float) - times_us[-1])[:, None], 0.0)
    t = np.where(seen, t - t.sum(axis=0) / np.maximum(count, 1), 0.0)
    spread = (t**2).sum(axis=0)
    fitted = (spread > 0) & (count >= FEWEST_POINTS)
    slope = _slope(t, points, seen, spread, fitted)
    for _ in range(0 if seen.all() else TURNS):
        level = np.where(seen, points, 0.0).sum(axis=0) / np.maximum(count, 1)
        left = np.where(seen & fitted, points - level - t * slope, np.nan)
        some = ~np.isnan(left).all(axis=1)
        points[some] -= np.nanmedian(left[some], axis=1)[:, None]
        slope = _slope(t, points, seen, spread, fitted)
    return np.clip(slope, -MAX_DRIFT, MAX_DRIFT)


def _slope(t: F64, points: F64, seen: Bool, spread: F64, fitted: Bool) -> F64:
    rise = (t * np.where(seen, points, 0.0)).sum(axis=0)
    slope: F64 = np.divide(rise, spread, out=np.zeros(len(spread)), where=fitted)
    return slope


def wilson_low_ppm(lost: F64, sent: F64, z: float) -> I64:
    """Lower end of the Wilson score interval of a loss share, in ppm; 0 where nothing was sent (Wilson, JASA 1927)."""
    n = np.maximum(sent, 1e-9)
    share = np.clip(lost / n, 0.0, 1.0)
    middle = share + z * z / (2 * n)
    half = z * np.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    low = np.maximum(0.0, (middle - half) / (1 + z * z / n))
    return np.where(sent > 0, np.rint(low * 1e6), 0).astype(np.int64)
