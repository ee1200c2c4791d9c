"""How many sessions will begin: the season of the day, how today differs from it, and a guard against spikes.

All arrays are ``[place]`` or ``[slot, place]``; a place is a pool in a data center, or whatever the caller counts by.
The season is the mean rate per five minutes of the day, each day counting a quarter. Today's level is what began in
the last half hour against what the season says of it. A spike is more beginnings in ten, thirty or sixty seconds than
the forecast allows, in one place or over all of them together; it raises the forecast at once, and teaches the season
no more than its bound.

Quantiles are those of a count whose variance is ``dispersion`` times its mean, by the expansion of Cornish and Fisher
(1938) with the skewness of a negative binomial; the dispersion is measured on the forecast's own errors.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from router.core.model import Micros
from router.core.tables import F64, I64, Bool

SLOT_S = 300
SLOTS = 86_400 // SLOT_S
STEP_S = 10  # of the fast windows; shorter ones say more about chance than about demand
WINDOWS = (1, 3, 6)  # steps of a fast window
LEVEL_STEPS = 180  # half an hour: shorter follows chance, longer lags behind the day
LEVEL_PRIOR = 20.0  # beginnings that speak for "as the season" before today's have a say
LEVEL_BOUND = 4.0  # times the season: beyond it the season is of another world, and the windows decide
DAY_WEIGHT = 0.25  # of the newest day in the season: a week decides, yesterday does not
RECENT_STEPS = 60  # ten minutes: the level of places that no season speaks of yet
AT_HOME = 0.95  # a session that another place in reach serves is no harm; most should still stay
SPIKE_QUANTILE = 0.9999  # windows are asked thousands of times a day and place
ERROR_WEIGHT = 1 / 64  # of the newest error in the dispersion: about five hours
MAX_DISPERSION = 25.0  # one forgotten holiday must not buy a fleet


@dataclass(frozen=True, eq=False)
class Forecast:
    """Beginnings of sessions over the next ``horizon_s``, all arrays ``[place]``."""

    horizon_s: float
    mean: F64
    dispersion: F64  # variance over mean, at least 1
    season: F64  # what the season alone says
    level: F64  # today over season
    spike: Bool  # the guard has raised it

    def quantile(self, share: float) -> I64:
        """The number that is not exceeded with this probability."""
        return quantile(self.mean, self.dispersion, share)

    def pooled(self, share: float, reach: Bool) -> I64:
        """The same for places that help each other out: ``reach[a, b]`` says that ``a`` may use what ``b`` has.

        A place keeps what it needs by itself but for ``AT_HOME``; whoever is in reach keep together what all of them
        need at once. What that lacks is laid on them by their means.
        """
        own = self.quantile(min(share, AT_HOME))
        together = quantile(reach @ self.mean, reach @ (self.dispersion * self.mean) / _some(reach @ self.mean), share)
        lacking = np.maximum(0, together - reach @ own)
        part = np.where(reach, self.mean / _some(reach @ self.mean)[:, None], 0.0)
        laid = np.ceil((lacking[:, None] * part).max(0, initial=0.0)).astype(np.int64)
        return np.asarray(np.minimum(own + laid, self.quantile(share)), np.int64)

    def interval(self, share: float) -> tuple[I64, I64]:
        """Bounds between which the number lies with this probability."""
        tail = (1 - share) / 2
        return quantile(self.mean, self.dispersion, tail), quantile(self.mean, self.dispersion, 1 - tail)


def _some(mean: F64) -> F64:
    return np.maximum(mean, 1e-9)


def quantile(mean: F64, dispersion: F64 | float, share: float) -> I64:
    """Quantile of an over-dispersed count, rounded outwards; never negative."""
    z = NormalDist().inv_cdf(share)
    found = mean + z * np.sqrt(dispersion * mean) + (z * z - 1) / 6 * (2 * dispersion - 1)
    found = np.where(mean > 0, found, 0.0)
    return np.maximum(0, np.ceil(found) if share >= 0.5 else np.floor(found)).astype(np.int64)


class ArrivalBook:
    """What began when; private state of the core. ``now`` must not go back."""

    def __init__(self, places: int) -> None:
        self.season = np.zeros((SLOTS, places))  # sessions per slot
        self._taught = np.zeros(SLOTS, np.int64)  # days that each slot has seen
        self._slot: int | None = None
        self._seen = np.zeros(places)  # in the slot at hand
        self._seen_s = 0
        self._step: int | None = None
        self._counts: deque[F64] = deque(maxlen=LEVEL_STEPS)  # per closed step, newest last
        self._lately = np.zeros(places)  # sum of ``_counts``
        self._now_count = np.zeros(places)
        self._dispersion = np.ones(places)
        self._level_cached: F64 | None = None  # of the closed steps

    @property
    def places(self) -> int:
        """How many places are counted."""
        return int(self.season.shape[1])

    def moved(self, sources: Sequence[int | None]) -> ArrivalBook:
        """The same book with other columns: each place is what was the numbered one, or new."""
        twin = ArrivalBook(len(sources))
        old = np.array([place for place in sources if place is not None], np.int64)
        new = np.array([i for i, place in enumerate(sources) if place is not None], np.int64)

        def column(of: F64, empty: float = 0.0) -> F64:
            out = np.full((*of.shape[:-1], len(sources)), empty)
            out[..., new] = of[..., old]
            return out

        twin.season, twin._taught = column(self.season), self._taught.copy()
        twin._slot, twin._seen, twin._seen_s, twin._step = self._slot, column(self._seen), self._seen_s, self._step
        twin._counts = deque((column(count) for count in self._counts), LEVEL_STEPS)
        twin._lately, twin._now_count = column(self._lately), column(self._now_count)
        twin._dispersion = column(self._dispersion, 1.0)
        return twin

    def teach(self, day: F64) -> None:
        """Take in one whole day ``[slot, place]`` of a history, oldest day first."""
        weight = np.maximum(DAY_WEIGHT, 1 / (self._taught + 1))[:, None]
        self.season = self.season + weight * (day - self.season)
        self._taught = self._taught + 1

    def observe(self, began: I64, now: Micros) -> None:
        """Take in how many began since the last call."""
        step = now // (STEP_S * 1_000_000)
        if self._step is None:
            self._step, self._slot = step, self._slot_of(step)
        if step - self._step > LEVEL_STEPS:
            self._step = step - LEVEL_STEPS  # nobody looked for longer than anything is kept
        while self._step < step:
            self._close()
        self._now_count = self._now_count + began

    def _close(self) -> None:
        assert self._step is not None
        self._lately = self._lately + self._now_count
        if len(self._counts) == LEVEL_STEPS:
            self._lately = self._lately - self._counts[0]
        self._counts.append(self._now_count)
        self._seen, self._seen_s = self._seen + self._now_count, self._seen_s + STEP_S
        self._now_count = np.zeros(self.places)
        self._level_cached = None
        self._step += 1
        slot = self._slot_of(self._step)
        if slot != self._slot:
            self._learn()
            self._slot, self._seen, self._seen_s = slot, np.zeros(self.places), 0

    def _learn(self) -> None:
        """Take a finished slot into the season and into the dispersion."""
        if self._seen_s < SLOT_S or self._slot is None:
            return
        before = self.season[self._slot]
        level = self._level(self._at_s(), skip=SLOT_S // STEP_S)
        expected = before * level
        told = expected > 1.0
        error = np.where(told, (self._seen - expected) ** 2 / np.maximum(expected, 1.0), 1.0)
        bounded = np.minimum(error, MAX_DISPERSION)
        self._dispersion = np.clip(self._dispersion + ERROR_WEIGHT * (bounded - self._dispersion), 1.0, MAX_DISPERSION)
        taken = np.where(told, np.minimum(self._seen, quantile(expected, self._dispersion, SPIKE_QUANTILE)), self._seen)
        weight = max(DAY_WEIGHT, 1 / (int(self._taught[self._slot]) + 1))
        self.season[self._slot] = before + weight * (taken - before)
        self._taught[self._slot] += 1

    def forecast(self, horizon_s: float, now: Micros) -> Forecast:
        """What begins from now on for a while."""
        at_s = now / 1e6
        season = self._season(at_s, horizon_s)
        level = self._level_now()
        calm = season * level if self._known(at_s, horizon_s) else self._recent_rate() * horizon_s
        mean, spike = self._guarded(calm, horizon_s)
        return Forecast(horizon_s, mean, self._dispersion.copy(), season, level, spike)

    def _guarded(self, calm: F64, horizon_s: float) -> tuple[F64, Bool]:
        """The forecast raised to what the fast windows and their slope say; only where they are beyond chance."""
        mean, spike = calm.copy(), np.zeros(self.places, bool)
        if len(self._counts) < 2 * WINDOWS[-1]:
            return mean, spike
        recent = np.array([self._counts[-k] for k in range(1, 2 * WINDOWS[-1] + 1)])  # newest first
        for steps in WINDOWS:
            window_s = steps * STEP_S
            count, before = recent[:steps].sum(0), recent[steps : 2 * steps].sum(0)
            expected = calm * (window_s / horizon_s)
            alarm = count > quantile(np.maximum(expected, 0.1), self._dispersion, SPIKE_QUANTILE)
            all_expected = np.array([max(0.1, expected.sum())])
            shared = count.sum() > quantile(all_expected, float(self._dispersion.mean()), SPIKE_QUANTILE)[0]
            rate = _ahead(count, before, window_s, horizon_s)
            mean = np.maximum(mean, np.where(alarm, rate * horizon_s, 0.0))
            if shared:  # a rise of everybody shows in the sum long before it shows in a small place
                total = _ahead(count.sum(keepdims=True), before.sum(keepdims=True), window_s, horizon_s)[0]
                mean = np.maximum(mean, calm * (total * window_s / all_expected[0]))
            spike |= alarm | bool(shared)
        return mean, spike

    def _recent_rate(self) -> F64:
        """Sessions per second lately, for places that no season speaks of."""
        if not self._counts:
            return np.zeros(self.places)
        kept = [self._counts[-k] for k in range(1, min(len(self._counts), RECENT_STEPS) + 1)]
        return np.asarray(np.sum(kept, axis=0) / (len(kept) * STEP_S), np.float64)

    def _known(self, at_s: float, horizon_s: float) -> bool:
        """Whether some day has taught all slots between half an hour ago and the horizon."""
        first, last = int((at_s - LEVEL_STEPS * STEP_S) // SLOT_S), int((at_s + horizon_s) // SLOT_S) + 1
        return bool(all(self._taught[slot % SLOTS] for slot in range(first, last + 1)))

    def _level_now(self) -> F64:
        if self._level_cached is None:
            self._level_cached = self._level(self._at_s())
        return self._level_cached

    def _level(self, at_s: float, skip: int = 0) -> F64:
        """Today over season, of the last half hour; drawn towards 1 while little was seen."""
        steps = len(self._counts) - skip
        if steps <= 0:
            return np.ones(self.places)
        length_s = steps * STEP_S
        season = self._season(at_s - skip * STEP_S - length_s, length_s)
        seen = self._lately - np.sum([self._counts[-k] for k in range(1, skip + 1)], axis=0)
        ratio = (seen + LEVEL_PRIOR) / (season + LEVEL_PRIOR)
        return np.asarray(np.clip(ratio, 1 / LEVEL_BOUND, LEVEL_BOUND), np.float64)

    def _season(self, at_s: float, length_s: float) -> F64:
        """What the season says of a stretch of time; straight lines between the middles of slots."""
        pieces = max(1, round(length_s / (SLOT_S / 2)))
        total = np.zeros(self.places)
        for k in range(pieces):
            place = (at_s + (k + 0.5) * length_s / pieces) / SLOT_S - 0.5
            low = int(np.floor(place))
            part = place - low
            rate = (1 - part) * self.season[low % SLOTS] + part * self.season[(low + 1) % SLOTS]
            total += rate / SLOT_S * (length_s / pieces)
        return total

    def _at_s(self) -> float:
        return 0.0 if self._step is None else float(self._step * STEP_S)

    @staticmethod
    def _slot_of(step: int) -> int:
        return step * STEP_S // SLOT_S % SLOTS


def _ahead(count: F64, before: F64, window_s: float, horizon_s: float) -> F64:
    """Sessions per second in the middle of the horizon, if the rise between two windows goes on; only a sure rise."""
    rise = count - before
    sure = np.maximum(0.0, rise - 2 * np.sqrt(count + before))
    gone_s = window_s / 2 + horizon_s / 2  # from the middle of the newest window to the middle of the horizon
    return np.asarray((count + sure * gone_s / window_s) / window_s, np.float64)
