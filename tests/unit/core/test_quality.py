"""The E-model against published values, the delay model against exact distributions, best playout."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.core.quality import CODEC_DELAY_US, Codec, DelayForm, best_playout, mos, mos_of, of_hops, rating
from router.core.quality.delays import (
    HELD_US,
    MEDIAN_DEVIATION,
    PLAYOUT_LEVELS,
    Delays,
    along,
    lost_along,
    of_quantiles,
    playout,
)
from router.core.quality.emodel import G711, G711_PLC, G729A, delay_impairment, equipment_impairment

END_US = CODEC_DELAY_US + round(HELD_US)  # what codec and receiver add to the network, mouth to ear


def one(*values: float) -> np.ndarray:
    return np.array(values, np.float64)


def hop(delay_us: int, jitter_us: int) -> Delays:
    return of_hops(np.array([delay_us]), np.array([jitter_us]))


# --- the E-model -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("r", "expected"),
    [(93.2, 4.41), (90, 4.34), (80, 4.02), (70, 3.60), (60, 3.10), (50, 2.58), (0, 1.0), (-5, 1.0), (101, 4.5)],
)
def test_mos_of_r_as_in_g107_annex_b(r: float, expected: float) -> None:
    assert mos(r) == pytest.approx(expected, abs=0.006)
    assert mos_of(one(r))[0] == pytest.approx(mos(r), abs=1e-12)


@pytest.mark.parametrize(("mouth_to_ear_ms", "expected"), [(0, 0), (100, 0), (177, 1.2), (200, 3.0), (300, 14.8)])
def test_delay_impairment_of_g107(mouth_to_ear_ms: float, expected: float) -> None:
    assert delay_impairment(one(mouth_to_ear_ms))[0] == pytest.approx(expected, abs=0.06)
    if mouth_to_ear_ms:
        r = rating(round(mouth_to_ear_ms * 1000) - END_US, 0, 0)
        assert 93.2 - r == pytest.approx(expected, abs=0.06)


@pytest.mark.parametrize(("mouth_to_ear_ms", "expected"), [(0, 0), (100, 2.4), (177, 4.25), (300, 20.7), (400, 34.1)])
def test_quick_form_of_cole_and_rosenbluth(mouth_to_ear_ms: float, expected: float) -> None:
    assert delay_impairment(one(mouth_to_ear_ms), DelayForm.QUICK)[0] == pytest.approx(expected, abs=0.05)


def test_a_perfect_path_has_the_default_rating() -> None:
    assert rating(0, 0, 0) == pytest.approx(93.2, abs=1e-9)
    assert best_playout(hop(0, 0), one(0)).points[0] == pytest.approx(93.2, abs=1e-9)
    assert mos(rating(0, 0, 0)) == pytest.approx(4.41, abs=0.005)


@pytest.mark.parametrize(
    ("codec", "percent", "burst_ratio", "expected"),
    [
        (G711_PLC, 1, 1, 95 / 26.1),
        (G711, 1, 1, 95 / 5.3),
        (G729A, 0, 1, 11.0),
        (G729A, 4, 1, 11 + 84 * 4 / 23),
        (G711_PLC, 4, 2, 95 * 4 / 27.1),
        (G711, 100, 1, 95 * 100 / 104.3),
    ],
)
def test_equipment_impairment_of_g107(codec: Codec, percent: float, burst_ratio: float, expected: float) -> None:
    assert equipment_impairment(one(percent / 100), codec, burst_ratio)[0] == pytest.approx(expected)


def test_one_per_cent_of_loss_costs_what_the_e_model_says() -> None:
    assert rating(0, 0, 0) - rating(0, 0, 10_000) == pytest.approx(95 / 21, abs=0.01)


@given(st.integers(0, 600_000), st.integers(0, 100_000), st.integers(0, 1_000_000), st.integers(1, 50_000))
def test_r_never_rises_with_delay_jitter_or_loss(delay: int, jitter: int, loss: int, more: int) -> None:
    r = rating(delay, jitter, loss)
    assert rating(delay + more, jitter, loss) <= r + 1e-9
    assert rating(delay, jitter + more, loss) <= r + 1e-9
    assert rating(delay, jitter, loss + more) <= r + 1e-9


@given(st.floats(-50, 150), st.floats(0, 10))
def test_mos_rises_with_r_where_ratings_lie(r: float, more: float) -> None:
    # G.107's cubic dips below 1 and turns at R = 6.5, as published.
    low = max(r, 6.6) if r > 0 else r
    assert mos(low + more) >= mos(low) - 1e-9 or low <= 0


@given(st.integers(0, 400_000), st.lists(st.integers(0, 60_000), min_size=1, max_size=4), st.integers(0, 200_000))
def test_single_answers_and_arrays_agree(delay: int, jitters: list[int], loss: int) -> None:
    hops = of_hops(np.array([[delay] + [0] * (len(jitters) - 1)]), np.array([jitters]))
    root = math.isqrt(sum(j * j for j in jitters))
    array = best_playout(along(hops), one(loss / 1e6)).points[0]
    assert rating(delay, root, loss, sum(jitters)) == pytest.approx(array, abs=0.01)


# --- delay along a path ----------------------------------------------------------------------------------------------


def _gamma_cdf(x: float, shape: float) -> float:
    """Exact regularised lower incomplete gamma by its series (Abramowitz and Stegun 6.5.29)."""
    term = total = 1 / shape
    n = 0
    while term > total * 1e-16:
        n += 1
        term *= x / (shape + n)
        total += term
    return total * math.exp(-x + shape * math.log(x) - math.lgamma(shape))


def _gamma_quantile(level: float, shape: float) -> float:
    low, high = 0.0, 200.0 + 10 * shape
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if _gamma_cdf(middle, shape) < level else (low, middle)
    return high


@pytest.mark.parametrize(
    ("shape", "worst", "worst_at_999", "worst_of_all"),
    [(1, 0.015, 0.03, 0.08), (2, 0.012, 0.02, 0.045), (4, 0.008, 0.012, 0.025), (9, 0.005, 0.006, 0.012)],
)
def test_wilson_hilferty_is_as_good_as_the_docstring_says(
    shape: float, worst: float, worst_at_999: float, worst_of_all: float
) -> None:
    path = Delays(one(0), one(shape), one(shape))
    for level, deviate in PLAYOUT_LEVELS:
        exact = _gamma_quantile(level, shape)
        limit = worst if level <= 0.99 else worst_at_999 if level <= 0.999 else worst_of_all
        assert path.quantile(deviate)[0] == pytest.approx(exact, rel=limit)


@pytest.mark.parametrize("level", [0.90, 0.99, 0.999])
def test_levels_carry_their_normal_deviates(level: float) -> None:
    assert 0.5 * (1 + math.erf(dict(PLAYOUT_LEVELS)[level] / math.sqrt(2))) == pytest.approx(level, abs=1e-12)


def test_means_and_variances_add_but_jitters_do_not() -> None:
    path = along(of_hops(np.array([[10_000, 20_000, 5_000]]), np.array([[3_000, 4_000, -1]])))
    assert path.least_us.tolist() == [35_000]
    assert path.mean_us.tolist() == [42_000]
    assert math.sqrt(path.variance_us2[0]) == 5_000
    alone = sum(of_hops(np.array([0]), np.array([j])).quantile(3.09)[0] for j in (3_000, 4_000))
    assert path.quantile(3.09)[0] - 35_000 < 0.85 * alone


def test_the_composed_path_matches_the_convolution_of_its_hops() -> None:
    step, jitters = 50.0, (2_000, 5_000, 3_000)
    grid = np.arange(4_000) * step
    density = np.array([1.0])
    for jitter in jitters:
        density = np.convolve(density, np.exp(-grid / jitter) * (1 - math.exp(-step / jitter)))[: len(grid)]
    cumulated = np.cumsum(density)
    path = along(of_hops(np.array([[0, 0, 0]]), np.array([jitters])))
    for level, deviate in PLAYOUT_LEVELS[:7]:
        exact = step * float(np.searchsorted(cumulated, level))
        assert path.quantile(deviate)[0] == pytest.approx(exact, rel=0.04)


def test_a_median_deviation_is_turned_into_the_same_distribution() -> None:
    # Exponential with mean 1: the share within d of the median ln 2 is sinh(d); asinh(1/2) holds half of it.
    assert 1 / math.asinh(0.5) == pytest.approx(MEDIAN_DEVIATION, abs=1e-3)
    hops = of_hops(np.array([0]), np.array([481]), MEDIAN_DEVIATION)
    assert hops.queue_us[0] == pytest.approx(1_000, abs=1)


@given(st.floats(0.3, 50), st.floats(10, 50_000))
def test_a_fit_to_quantiles_gives_the_quantiles_back(shape: float, scale: float) -> None:
    queue, deviates = shape * scale, {0.5: 0.0, **dict(PLAYOUT_LEVELS)}
    true = Delays(one(7_000), one(queue), one(queue * scale))
    low, high = (true.quantile(deviates[level]) for level in (0.5, 0.99))
    fitted = of_quantiles(one(7_000), (0.5, low), (0.99, high))
    for level in (0.5, 0.9, 0.99):
        assert fitted.quantile(deviates[level])[0] == pytest.approx(true.quantile(deviates[level])[0], rel=1e-6)
    assert fitted.queue_us[0] == pytest.approx(queue, rel=1e-6)
    assert fitted.variance_us2[0] == pytest.approx(queue * scale, rel=1e-6)


def test_a_fit_survives_equal_zero_and_crossed_quantiles() -> None:
    low, high = one(10, 10, 30, 5, 10), one(10, 30, 10, 5, 1e7)
    fitted = of_quantiles(one(10, 10, 10, 10, 10), (0.5, low), (0.99, high))
    for values in (fitted.queue_us, fitted.variance_us2, fitted.quantile(4.0)):
        assert np.isfinite(values).all() and (values >= 0).all()
    assert fitted.mean_us[0] == 10 and fitted.mean_us[3] == 10


@given(st.lists(st.integers(0, 900_000), min_size=1, max_size=5))
def test_survival_multiplies_along_a_path(losses: list[int]) -> None:
    survival = math.prod(1 - p / 1e6 for p in losses)
    assert lost_along(np.array([[*losses, -1]]))[0] == pytest.approx(1 - survival, abs=1e-12)


# --- playout ---------------------------------------------------------------------------------------------------------


@given(st.integers(0, 300_000), st.integers(0, 80_000), st.integers(0, 100_000))
def test_no_fixed_playout_point_beats_the_best_one(delay: int, jitter: int, loss: int) -> None:
    path, network = hop(delay, jitter), one(loss / 1e6)
    best = best_playout(path, network)
    for level, deviate in PLAYOUT_LEVELS:
        deadline = max(delay + HELD_US, path.quantile(deviate)[0])
        lost = network + (1 - network) * (1 - level if jitter else 0)
        fixed = 93.2 - delay_impairment((deadline + one(CODEC_DELAY_US)) / 1000) - equipment_impairment(lost)
        assert best.points[0] >= fixed[0] - 1e-9


def test_beyond_the_knee_the_buffer_waits_less_long() -> None:
    short, long = (best_playout(hop(delay, 15_000), one(0.0)) for delay in (5_000, 300_000))
    assert short.late[0] < long.late[0]
    assert short.deadline_us[0] - 5_000 > long.deadline_us[0] - 300_000


def test_small_jitter_is_free_and_vanishing_jitter_is_none() -> None:
    assert rating(200_000, 0, 0) - rating(200_000, 1_000, 0) < 0.05
    assert rating(200_000, 0, 0) - rating(200_000, 1, 0) < 0.01


def test_ties_go_to_the_earliest_deadline() -> None:
    found = playout(hop(0, 9_000), one(0.0), lambda deadline, loss, late: np.zeros_like(deadline))
    assert found.late[0] == pytest.approx(0.1)


def test_published_mos_tools_are_reproduced_with_the_quick_form() -> None:
    # G.711 with concealment at 150 ms mouth to ear and 1 % loss: 93.2 - 3.6 - 3.64 = 85.96 -> 4.23.
    path = hop(150_000 - 20_000 - round(HELD_US), 0)
    r = best_playout(path, one(0.01), G711_PLC, form=DelayForm.QUICK).points[0]
    assert r == pytest.approx(85.96, abs=0.01)
    assert mos(r) == pytest.approx(4.23, abs=0.01)
