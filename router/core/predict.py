"""Delay of links that were not measured: mean, interval, age and provenance for every ordered pair.

Nodes get coordinates, what these miss is learned from neighbouring pairs, and measured detours bound the rest
(:mod:`router.core.coordinates`). Low-rank factorisation of the matrix (as in DMFSGD, Liao et al. 2012; here
by alternating least squares), the usual choice, was tried beside it with 80 % of the pairs hidden: 5 to 19 % median
error on PlanetLab, three clouds and Azure with rank and ridge picked on the hidden pairs themselves, against 4 to 8 %.

Nothing is trusted that was not seen to work: pairs are held out in folds, how to weigh the ingredients is fitted on
them, and so is the width of the intervals (split conformal: quantiles of the residuals over a fitted difficulty). Folds
come from a hash of the indices, so that the same measurements always give the same answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from router.core.coordinates import F64, LEAST_US, USUAL_LOG_SD, Fit, fitted, joined, smooth
from router.core.tables import I64, U8, Bool

FOLDS = (4, 10)  # at least and at most: more are nearer to what all of the measurements give, and cost more
NO_IDEA_LOG = 30.0  # half-width that any measurement overrides
QUANTILES = (0.05, 0.95)
Z = 1.645  # of the same quantiles of the normal distribution
FEWEST_PAIRS = 20  # held-out residuals below which no interval can be fitted
GUESS_LOG_SD = 0.6  # then: a factor of 2.7 either way
MOST_US = 1e9  # longer ones count as this long
FLOOR_RATIO = 2.0  # measured over light in fibre, in the median of public paths


class Provenance(IntEnum):
    """Where a value comes from, from nothing to the best."""

    UNKNOWN = 0
    GEO = 1
    PREDICTED = 2
    MEASURED = 3


@dataclass(frozen=True, eq=False)
class Prediction:
    """Beliefs about all links, arrays ``[from, to]`` in microseconds; NaN where the provenance is ``UNKNOWN``."""

    mean_us: F64  # centre: as often too low as too high
    low_us: F64  # 5 % quantile
    high_us: F64  # 95 % quantile
    detour_us: F64  # a measured detour shorter than this saves on average, against the direct link
    age_us: F64  # of the evidence behind it, infinite if none
    provenance: U8  # Provenance

    @property
    def sd_us(self) -> F64:
        """Deviation of a normal distribution with the same 90 % interval."""
        return (self.high_us - self.low_us) / (2 * Z)

    @property
    def log_sd(self) -> F64:
        """Relative deviation: that of the logarithm."""
        sd: F64 = np.log(np.maximum(self.high_us, 1.0) / np.maximum(self.low_us, 1.0)) / (2 * Z)
        return sd


def predict(
    measured_us: F64 | I64,
    age_us: F64 | I64 | None = None,
    log_sd: F64 | None = None,
    floor_us: F64 | I64 | None = None,
    reading_us: F64 | I64 | None = None,
) -> Prediction:
    """Believe something about every link.

    ``measured_us`` ``[from, to]``: one-way delays or round trips, the result is in the same; negative or not finite
    means missing. ``age_us``: of each measurement (0 if not given). ``log_sd``: relative deviation of each measurement
    as a statement about now. ``floor_us``: physical minimum of the same quantity where positions are known, else 0.
    ``reading_us``: where the measurements are averages, single readings that belong to them, and predictions are of
    readings then: centre and interval are those of what a probe would see.
    """
    value = np.array(measured_us, np.float64)
    n = len(value)
    known = np.isfinite(value) & (value >= 0) & ~np.eye(n, dtype=np.bool_)
    age = np.zeros((n, n)) if age_us is None else np.nan_to_num(np.array(age_us, np.float64), posinf=0.0)
    noise = np.zeros((n, n)) if log_sd is None else np.nan_to_num(np.array(log_sd, np.float64), posinf=9.0)
    floor = np.zeros((n, n)) if floor_us is None else np.nan_to_num(np.array(floor_us, np.float64))
    exact = np.log(np.clip(np.where(known, value, LEAST_US), 1.0, MOST_US))
    log = np.maximum(exact, np.log(LEAST_US))
    centre, low, high, provenance = _from_floor(log, known, floor)
    used_age, detour = np.full((n, n), np.inf), low
    if n > 2 and known.any():
        log_pair, noise_pair, pair = _both_ways(log, noise, known)
        connected = joined(pair)
        outcome = log_pair if reading_us is None else _outcomes(np.array(reading_us, np.float64), log, known)
        fit, guess, below, above, pays = _calibrated(log_pair, noise_pair, pair, outcome)
        detour = np.where(connected, pays, low)
        shown = connected & ~known
        centre, low, high = (
            np.where(connected, a, b) for a, b in ((guess, centre), (guess - below, low), (guess + above, high))
        )
        provenance = np.where(shown, Provenance.PREDICTED, provenance)
        near = smooth(fit.kernel, np.where(known, 1.0, 0.0)) + 1e-300
        used_age = np.where(connected, smooth(fit.kernel, np.where(known, age, 0.0)) / near, np.inf)
    centre, low, high = _with_reverse(centre, low, high, exact, noise, known)
    used_age = np.where(known.T & ~known, age.T, used_age)
    provenance = np.where(known.T & ~known, Provenance.PREDICTED, provenance)
    centre, low, high = _combined(centre, low, high, exact, noise, known)
    detour = np.where(known | known.T, centre, detour)
    return _published(
        (centre, low, high, detour),
        np.where(known, age, used_age),
        np.where(known, Provenance.MEASURED, provenance),
        floor,
        known,
    )


def overlay(older: Prediction, measured_us: F64, age_us: F64, log_sd: F64) -> Prediction:
    """Put newer measurements over a prediction that was made with older ones; cheap, for between two fits.

    Arrays as for :func:`predict`; where nothing is measured the older prediction stays.
    """
    known = np.isfinite(measured_us) & (measured_us >= 0) & ~np.eye(len(measured_us), dtype=np.bool_)
    centre = np.where(known, measured_us, older.mean_us)
    factor = np.exp(Z * np.where(known, log_sd, 0.0))
    return _frozen(
        Prediction(
            centre,
            np.where(known, centre / factor, older.low_us),
            np.where(known, centre * factor, older.high_us),
            np.where(known, centre, older.detour_us),
            np.where(known, age_us, older.age_us),
            np.where(known, Provenance.MEASURED, older.provenance).astype(np.uint8),
        )
    )


def by_geography(measured_us: F64, floor_us: F64) -> Prediction:
    """What is believed of links to places where nothing was measured yet; cheap, for questions.

    Arrays as for :func:`predict`. Measured links only say how much longer than light paths are as a rule, and how far
    they differ in that; they are passed on as they are.
    """
    known = np.isfinite(measured_us) & (measured_us >= 0) & ~np.eye(len(measured_us), dtype=np.bool_)
    log = np.log(np.clip(np.where(known, measured_us, LEAST_US), LEAST_US, MOST_US))
    centre, low, high, provenance = _from_floor(log, known, floor_us)
    kinds = np.where(known, Provenance.MEASURED, provenance).astype(np.uint8)
    centre, low, high = (np.where(known, log, belief) for belief in (centre, low, high))
    return _published((centre, low, high, low), np.where(known, 0.0, np.inf), kinds, floor_us, known)


def nothing_known(n: int) -> Prediction:
    """The prediction from no measurements and no positions."""
    nan = np.full((n, n), np.nan)
    return _frozen(Prediction(nan, nan, nan, nan, np.full((n, n), np.inf), np.zeros((n, n), np.uint8)))


def _frozen(prediction: Prediction) -> Prediction:
    for array in vars(prediction).values():
        array.setflags(write=False)
    return prediction


def _published(logs: tuple[F64, F64, F64, F64], age: F64, provenance: U8, floor: F64, known: Bool) -> Prediction:
    """Back from logarithms; nothing but a measurement may say that light was outrun; no link to oneself."""
    least = np.where(known, 0.0, floor)
    here = np.eye(len(known), dtype=np.bool_)
    nothing = (provenance == Provenance.UNKNOWN) | here
    centre, low, high, detour = (np.where(nothing, np.nan, np.maximum(np.exp(a), least)) for a in logs)
    kind = np.where(here, Provenance.UNKNOWN, provenance).astype(np.uint8)
    return _frozen(Prediction(centre, low, high, detour, np.where(nothing, np.inf, age), kind))


def _from_floor(log: F64, known: Bool, floor: F64) -> tuple[F64, F64, F64, U8]:
    """Geography alone: light's delay times how much longer measured paths are; logarithms ``[from, to]``."""
    placed = floor > 0
    ratio = (log - np.log(np.maximum(floor, LEAST_US)))[known & placed]
    middle, spread = float(np.log(FLOOR_RATIO)), np.array([-Z, Z]) * GUESS_LOG_SD
    if len(ratio) >= FEWEST_PAIRS:
        middle = float(np.median(ratio))
        spread = np.quantile(ratio, QUANTILES) - middle
    centre = np.log(np.maximum(floor, LEAST_US)) + middle
    provenance = np.where(placed, Provenance.GEO, Provenance.UNKNOWN).astype(np.uint8)
    low, high = (centre + np.where(placed, spread[side], (-NO_IDEA_LOG, NO_IDEA_LOG)[side]) for side in (0, 1))
    return centre, low, high, provenance


def _both_ways(log: F64, noise: F64, known: Bool) -> tuple[F64, F64, Bool]:
    """One value per pair: the mean of what was measured of the two directions; its noise; where there is any."""
    count = known.astype(np.float64) + known.T
    total = np.where(known, log, 0.0)
    noises = np.where(known, noise, 0.0)
    some = np.maximum(count, 1.0)
    return (total + total.T) / some, (noises + noises.T) / some, count > 0


def _outcomes(reading: F64, log: F64, known: Bool) -> F64:
    """One reading per pair, a logarithm: that of the direction with the smaller index first, if there is one."""
    usable = np.isfinite(reading) & (reading >= 0)
    own = np.where(usable, np.log(np.clip(np.where(usable, reading, LEAST_US), LEAST_US, MOST_US)), log)
    first = np.triu(known, 1) | np.tril(known & ~known.T, -1)
    one = np.where(first, own, 0.0)
    return one + one.T


def _with_reverse(centre: F64, low: F64, high: F64, log: F64, noise: F64, known: Bool) -> tuple[F64, F64, F64]:
    """A link whose other direction was measured: that value, as far as the two directions are usually alike."""
    both = np.triu(known & known.T)
    apart = np.abs(log - log.T)[both]
    unlike = USUAL_LOG_SD if len(apart) < FEWEST_PAIRS else float(np.quantile(apart, 1 - 2 * QUANTILES[0])) / Z
    borrowed = np.hypot(np.where(known.T, noise.T, 0.0), unlike)
    return _combined(centre, low, high, log.T, borrowed, known.T & ~known)


def _combined(centre: F64, low: F64, high: F64, log: F64, noise: F64, where: Bool) -> tuple[F64, F64, F64]:
    """Where there is a measurement of relative deviation ``noise``, weigh it with the prediction by precision."""
    own = np.maximum((high - low) / (2 * Z), 1e-6) ** 2
    trust = own / (own + noise**2)
    mixed = centre + np.where(where & np.isfinite(centre), trust * (log - centre), 0.0)
    half = Z * np.sqrt(own * (1 - trust))
    return (
        np.where(where, mixed, centre),
        np.where(where, mixed - half, low),
        np.where(where, mixed + half, high),
    )


# --- calibration on held-out pairs ---------------------------------------------------------------------------------


def _calibrated(log: F64, noise: F64, known: Bool, outcome: F64) -> tuple[Fit, F64, F64, F64, F64]:
    """The fit over all pairs, its centre, how far below and above the truth may be, and up to where detours pay.

    All logarithms ``[a, b]``.

    Of measured pairs the centre is the one predicted without them, so that it may be weighed with the measurement.
    """
    a, b = np.indices(log.shape)
    folds = min(FOLDS[1], max(FOLDS[0], 800 // len(log)))
    fold = _fold(np.minimum(a, b), np.maximum(a, b), folds)
    fit = fitted(log, noise, known)
    base, ingredients, difficulty = fit.base.copy(), fit.ingredients.copy(), fit.difficulty.copy()
    detour = fit.detour.copy()
    for k in range(folds):
        out = known & (fold == k)
        if out.any():
            held = fitted(log, noise, known & ~out)
            for mine, theirs in (
                (base, held.base),
                (ingredients, held.ingredients),
                (difficulty, held.difficulty),
                (detour, held.detour),
            ):
                mine[out] = theirs[out]
    test = known & (a < b)
    missed = (outcome - base)[test]
    weight = _least_absolute(ingredients[test], missed)
    rest = missed - ingredients[test] @ weight
    scale, quantiles = _scale(difficulty, test, rest)
    centre = base + ingredients @ weight
    pays = centre + scale * _pays_below((detour - centre)[test] / scale[test], detour[test], outcome[test])
    return fit, centre, -quantiles[0] * scale, quantiles[1] * scale, pays


def _pays_below(excess: F64, detour: F64, outcome: F64) -> float:
    """Up to which excess over the prediction taking a detour would have paid most on the held-out pairs.

    ``excess`` in units of the usual error; ``detour`` and ``outcome`` logarithms of delays. Judging by the mean alone
    is an auction that the worst guess wins: detours look best where the direct link is overestimated.
    """
    there = np.isfinite(detour)
    if there.sum() < FEWEST_PAIRS:
        return -Z
    order = np.argsort(excess[there], kind="stable")
    saved = np.cumsum((np.exp(outcome[there]) - np.exp(detour[there]))[order])
    best = int(np.argmax(saved))
    return float(excess[there][order][best]) if saved[best] > 0 else float(min(-Z, excess[there].min()))


def _fold(a: I64, b: I64, folds: int) -> I64:
    """Fold of a pair: a multiplicative hash of its indices (Knuth)."""
    mixed = (a.astype(np.uint64) * np.uint64(2654435761) + b.astype(np.uint64) * np.uint64(40503 * 7919)) >> np.uint64(
        7
    )
    return (mixed % np.uint64(folds)).astype(np.int64)


def _least_absolute(ingredients: F64, missed: F64) -> F64:
    """Weights of the corrections by least absolute deviations, drawn to "the neighbours' residual and nothing else"."""
    usual = np.zeros(ingredients.shape[1])
    usual[0] = 1.0
    if len(missed) < FEWEST_PAIRS:
        return usual
    typical = float(np.median(np.abs(missed))) + 1e-9
    pull = np.diag(10.0 * (np.mean(ingredients**2, axis=0) + 1e-4))
    weight = usual
    for _ in range(8):  # iteratively reweighted least squares
        each = 1.0 / np.maximum(np.abs(missed - ingredients @ weight) / typical, 0.1)
        left = (ingredients * each[:, None]).T
        weight = usual + np.linalg.solve(left @ ingredients + pull, left @ (missed - ingredients @ usual))
    return weight


def _scale(difficulty: F64, test: Bool, rest: F64) -> tuple[F64, F64]:
    """How large errors are as a rule at each pair, and the quantiles of the held-out errors in that unit."""
    if len(rest) < FEWEST_PAIRS:
        return np.full(test.shape, GUESS_LOG_SD), np.array([-Z, Z])
    size = np.log(np.abs(rest) + 0.01)
    seen = difficulty[test]
    middle, width = seen.mean(axis=0), seen.std(axis=0) + 1e-9
    x = np.column_stack([np.ones(len(rest)), (seen - middle) / width])
    pull = np.diag([1e-6] + [5.0] * (x.shape[1] - 1))
    weight = np.linalg.solve(x.T @ x + pull, x.T @ size)
    bounds = np.quantile(size, (0.02, 0.98))
    scale: F64 = np.exp(np.clip(weight[0] + ((difficulty - middle) / width) @ weight[1:], bounds[0], bounds[1]))
    ranked = np.sort(rest / scale[test])
    # Split conformal: the k-th of m residuals, counted from outside, bounds a new one with probability k / (m + 1).
    k = max(1, int(QUANTILES[0] * (len(ranked) + 1)))
    return scale, np.array([min(ranked[k - 1], 0.0), max(ranked[-k], 0.0)])
