"""One-way delay as a distribution: a fixed minimum plus queueing, composed along a path by adding cumulants.

A hop is modelled as ``delay = least + Q`` where ``Q`` is exponential with the hop's jitter as its mean. RFC 3550 jitter
is the mean absolute difference of successive transit times, and for independent exponential queueing that is exactly
the mean of the queueing and exactly its standard deviation, so one measured number gives both moments. (For normal
queueing it would be 1.13 standard deviations: the model errs by less than the estimate's own noise.)

Hops are taken as independent, so means add and variances add; jitters do not. The sum is matched by a shifted gamma
with the same mean and variance of ``Q``: one hop gives the exponential back (shape 1), ``n`` alike hops give the exact
Erlang distribution, and hops of different jitter a close fit in between.

Quantiles of the gamma are Wilson and Hilferty's (PNAS 17, 1931): the cube root of a gamma variable is nearly normal,
with mean ``1 - v`` and deviation ``sqrt(v)`` in units of the mean, ``v = 1 / (9 shape)``. Against the exact gamma the
quantile of ``Q`` is within 1.5 % at 0.90..0.99, 3 % at 0.999 and 8 % at 0.99999 for shape 1, and under 2.5 % at all of
them for shape 4 and more; it errs towards longer, that is towards caution. It is exact enough to rank paths and needs
no special functions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from router.core.tables import I64

F64 = NDArray[np.float64]

# Levels that a playout buffer may aim at, with their normal deviates. From "late one time in ten", where any codec is
# past use, to 1e-5: so little is late there that a path with next to no jitter is scored like one with none.
PLAYOUT_LEVELS: tuple[tuple[float, float], ...] = (
    (0.90, 1.2815515655446004),
    (0.95, 1.6448536269514722),
    (0.98, 2.0537489106318225),
    (0.99, 2.3263478740408408),
    (0.995, 2.5758293035489004),
    (0.998, 2.8781617390954826),
    (0.999, 3.0902323061678132),
    (0.9995, 3.2905267314919255),
    (0.9999, 3.7190164854556804),
    (0.99999, 4.2648907939228247),
)
NORMAL_DEVIATE = {0.5: 0.0, 0.75: 0.6744897501960817, **dict(PLAYOUT_LEVELS)}
SUCCESSIVE = 1.0  # standard deviations per unit of RFC 3550 jitter, for exponential queueing
MEDIAN_DEVIATION = 2.0781  # the same for a median absolute deviation from the median, which is 0.4812 of a deviation
HELD_US = 20_000.0  # a receiver holds back at least one 20 ms packet, however quiet the path is
HEAVIEST = 0.9  # largest sqrt(v) of a fit: shape 0.137. Wilson-Hilferty says nothing useful about heavier tails


@dataclass(frozen=True, eq=False)
class Delays:
    """One-way delay distributions, arrays of one shape; queueing is a gamma of the given mean and variance."""

    least_us: F64  # the fixed part: propagation, serialisation
    queue_us: F64  # mean of the queueing above it; above 0 wherever the variance is
    variance_us2: F64  # of the queueing

    @property
    def mean_us(self) -> F64:
        """Mean one-way delay."""
        return self.least_us + self.queue_us

    def quantile(self, deviate: float) -> F64:
        """Delay (µs) that is not exceeded at the level of a standard normal ``deviate`` (Wilson-Hilferty)."""
        root = np.sqrt(self.variance_us2) / (3 * np.maximum(self.queue_us, 1e-9))
        factor = np.maximum(0.0, 1 - root * root + deviate * root)
        result: F64 = self.least_us + self.queue_us * factor * factor * factor
        return result


def of_hops(delay_us: I64, jitter_us: I64, deviations_per_jitter: float = SUCCESSIVE) -> Delays:
    """Distributions of single hops from minimum delay and jitter (µs); unknown jitter (-1) counts as none."""
    deviation = np.maximum(0, jitter_us) * deviations_per_jitter
    return Delays(delay_us.astype(np.float64), deviation, deviation * deviation)


def along(hops: Delays, axis: int = -1) -> Delays:
    """The distribution of the sum of independent hops along ``axis``."""
    return Delays(hops.least_us.sum(axis), hops.queue_us.sum(axis), hops.variance_us2.sum(axis))


def of_quantiles(least_us: F64, low: tuple[float, F64], high: tuple[float, F64]) -> Delays:
    """Fit a hop to its minimum and two measured quantiles ``(level, delay in µs)``; levels of ``NORMAL_DEVIATE``.

    Inverts Wilson-Hilferty: cube roots of the excesses give mean and deviation of the normal, their ratio the shape.
    """
    a, b = (np.cbrt(np.maximum(0.0, q - least_us)) for _, q in (low, high))
    za, zb = NORMAL_DEVIATE[low[0]], NORMAL_DEVIATE[high[0]]
    deviation = np.maximum(0.0, b - a) / (zb - za)
    middle = np.maximum(a - za * deviation, deviation * (1 - HEAVIEST**2) / HEAVIEST)
    ratio = np.divide(deviation, middle, out=np.zeros_like(middle), where=middle > 0)
    # ratio = t / (1 - t^2) with t = sqrt(v); the form below has no 0 / 0 at ratio 0.
    t = 2 * ratio / (1 + np.sqrt(1 + 4 * ratio * ratio))
    queue = (middle / (1 - t * t)) ** 3
    return Delays(least_us.astype(np.float64), queue, 9 * (t * queue) ** 2)


def lost_along(loss_ppm: I64, axis: int = -1) -> F64:
    """Share of packets lost along ``axis``: survival probabilities multiply. Unknown (-1) counts as none."""
    result: F64 = 1 - np.prod(1 - np.clip(loss_ppm, 0, 1_000_000) / 1e6, axis=axis)
    return result


@dataclass(frozen=True, eq=False)
class Playout:
    """The best playout point: arrays of the shape of the distribution it was found for."""

    points: F64  # score at that point
    deadline_us: F64  # network delay up to which packets are played
    late: F64  # share of the delivered packets that come after it


def playout(delays: Delays, loss: F64, score: Callable[[F64, F64, F64], F64]) -> Playout:
    """The deadline that maximises ``score(deadline_us, loss, late)``; ties to the earliest.

    Deadlines are the quantiles at ``PLAYOUT_LEVELS``, never less than ``HELD_US`` after the fastest packet. That makes
    small jitter free, which the metric copies with its jitter floor.
    """
    varies, earliest = delays.variance_us2 > 0, delays.least_us + HELD_US
    best: Playout | None = None
    for level, deviate in PLAYOUT_LEVELS:
        deadline, late = np.maximum(earliest, delays.quantile(deviate)), np.where(varies, 1 - level, 0.0)
        points = score(deadline, loss, late)
        if best is None:
            best = Playout(points, deadline, late)
            continue
        better = points > best.points
        best = Playout(
            np.where(better, points, best.points),
            np.where(better, deadline, best.deadline_us),
            np.where(better, late, best.late),
        )
    assert best is not None  # PLAYOUT_LEVELS is not empty
    return best
