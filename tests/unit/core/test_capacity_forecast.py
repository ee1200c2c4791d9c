"""Forecasts: the season is learned, intervals hold what they promise, a spike is seen and not learned."""

from __future__ import annotations

import numpy as np
import pytest

from router.core.capacity import ArrivalBook
from router.core.capacity.forecast import SLOT_S, SLOTS, Forecast, quantile

DAY_US = 86_400_000_000
STEP_US = 10_000_000


def season(rates: list[float]) -> np.ndarray:
    """Sessions per slot: a day wave of each place, around its rate per second."""
    wave = 1 + 0.5 * np.sin(2 * np.pi * np.arange(SLOTS) / SLOTS)
    return wave[:, None] * np.array(rates) * SLOT_S


def taught(rates: list[float], days: int = 3) -> ArrivalBook:
    book = ArrivalBook(len(rates))
    for _ in range(days):
        book.teach(season(rates))
    return book


def feed(book: ArrivalBook, rng: np.random.Generator, rate: np.ndarray, begin_us: int, steps: int) -> int:
    now = begin_us
    for _ in range(steps):
        now += STEP_US
        book.observe(rng.poisson(rate * STEP_US / 1e6), now - 1)
    book.observe(np.zeros(book.places, np.int64), now)
    return now


@pytest.mark.parametrize("mean", [0.2, 1.0, 4.5, 40.0, 900.0])
@pytest.mark.parametrize("share", [0.9, 0.99, 0.999])
def test_a_quantile_is_exceeded_no_more_often_than_it_says(mean: float, share: float) -> None:
    drawn = np.random.default_rng(1).poisson(mean, 200_000)
    bound = quantile(np.array([mean]), 1.0, share)[0]
    assert (drawn > bound).mean() <= (1 - share) * 1.15 + 1e-5
    assert bound <= mean + 3.6 * np.sqrt(mean) + 4


def test_with_no_mean_nothing_is_expected() -> None:
    assert quantile(np.zeros(3), 1.0, 0.999).tolist() == [0, 0, 0]


def test_the_season_is_what_a_calm_day_is_forecast_by() -> None:
    book = taught([2.0])
    rates = season([2.0]) / SLOT_S
    now = feed(book, np.random.default_rng(2), rates[0], DAY_US, 60)
    assert book.forecast(90, now).mean[0] == pytest.approx(180, rel=0.15)


def test_intervals_cover_what_comes() -> None:
    rng, book = np.random.default_rng(3), taught([1.5, 0.2])
    rates, inside, asked = season([1.5, 0.2]) / SLOT_S, 0, 0
    now = DAY_US
    for slot in range(SLOTS):
        now = feed(book, rng, rates[slot], now, SLOT_S // 10 - 9)
        low, high = book.forecast(90, now).interval(0.9)
        came = rng.poisson(rates[slot] * 90)
        inside += int(((low <= came) & (came <= high)).sum())
        asked += 2
        now = feed(book, rng, rates[slot], now, 9)
    assert 0.87 <= inside / asked <= 0.98


def test_a_day_above_its_season_is_noticed() -> None:
    book = taught([1.0])
    now = feed(book, np.random.default_rng(4), np.array([1.4]), DAY_US, 180)
    assert book.forecast(90, now).level[0] == pytest.approx(1.4, rel=0.12)


def test_a_spike_raises_the_forecast_within_half_a_minute() -> None:
    rng, book = np.random.default_rng(5), taught([1.0] * 5)
    now = feed(book, rng, np.ones(5), DAY_US, 180)
    assert not book.forecast(90, now).spike.any()
    now = feed(book, rng, np.full(5, 3.0), now, 3)
    after = book.forecast(90, now)
    assert after.spike.all()
    assert after.mean.sum() > 1.7 * 5 * 90


def test_a_spike_teaches_the_season_no_more_than_its_bound() -> None:
    rng, book = np.random.default_rng(6), taught([1.0])
    now = feed(book, rng, np.ones(1), DAY_US - 1_800_000_000, 180)
    before = book.season.copy()
    feed(book, rng, np.full(1, 30.0), now, 31)
    slot = now // 1_000_000 // SLOT_S % SLOTS
    assert book.season[slot, 0] < before[slot, 0] * 1.25


def test_without_a_season_the_last_minutes_are_what_is_known() -> None:
    book = ArrivalBook(1)
    now = feed(book, np.random.default_rng(7), np.array([2.0]), DAY_US, 60)
    assert book.forecast(90, now).mean[0] == pytest.approx(180, rel=0.15)


def test_a_long_silence_of_the_caller_is_survived() -> None:
    book = taught([1.0])
    book.observe(np.array([5]), DAY_US)
    book.observe(np.array([5]), 3 * DAY_US)
    assert np.isfinite(book.forecast(90, 3 * DAY_US).mean).all()


def test_places_in_reach_need_less_than_each_alone_and_together_no_less_than_their_sum() -> None:
    book = taught([0.3] * 8)
    now = feed(book, np.random.default_rng(8), np.full(8, 0.3), DAY_US, 180)
    found = book.forecast(90, now)
    everybody = np.ones((8, 8), bool)
    alone, pooled = found.quantile(0.999), found.pooled(0.999, everybody)
    assert (pooled <= alone).all()
    together = quantile(np.array([found.mean.sum()]), float(found.dispersion.mean()), 0.999)[0]
    assert pooled.sum() >= together - 1
    assert (found.pooled(0.999, np.eye(8, dtype=bool)) == alone).all()


def test_a_world_without_places_has_a_forecast_of_none() -> None:
    nothing = np.zeros(0)
    forecast = Forecast(90.0, nothing, nothing, nothing, nothing, np.zeros(0, np.bool_))
    assert forecast.pooled(0.999, np.zeros((0, 0), np.bool_)).shape == (0,)
