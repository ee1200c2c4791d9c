"""Predicted delays: near the truth, honest intervals, and a defined answer for whatever comes in."""

from __future__ import annotations

import numpy as np
import pytest

from router.core.predict import Prediction, Provenance, nothing_known, overlay, predict


def space(n: int, seed: int = 1, detours: float = 0.1) -> np.ndarray:
    """Symmetric delays in microseconds: points in a plane, access lines, log-normal detours per pair."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(0, 80_000, (n, 2))
    access = rng.uniform(500, 8_000, n)
    delay = np.linalg.norm(x[:, None] - x[None], axis=2) + access[:, None] + access[None]
    factor = np.exp(np.triu(rng.normal(0, detours, (n, n)), 1))
    delay *= factor * factor.T
    np.fill_diagonal(delay, np.nan)
    return delay


def hidden(n: int, share: float, seed: int = 2) -> np.ndarray:
    draw = np.triu(np.random.default_rng(seed).random((n, n)), 1)
    return (draw + draw.T < share) & ~np.eye(n, dtype=bool)


def test_pairs_hidden_by_four_fifths_are_found_within_a_tenth_and_covered_nine_times_in_ten() -> None:
    truth = space(80)
    hide = hidden(80, 0.8)
    found = predict(np.where(hide, np.nan, truth))
    error = np.abs(found.mean_us - truth)[hide] / truth[hide]
    covered = ((truth >= found.low_us) & (truth <= found.high_us))[hide]
    assert np.median(error) < 0.10
    assert 0.85 <= covered.mean() <= 0.97
    assert (found.provenance[hide] == Provenance.PREDICTED).all()
    # The interval says something: much narrower than what all delays together span.
    spread = np.log(np.quantile(truth[hide], 0.95) / np.quantile(truth[hide], 0.05))
    assert np.median(np.log(found.high_us / found.low_us)[hide]) < 0.5 * spread


def test_it_beats_the_product_of_two_node_factors() -> None:
    truth = space(80)
    hide = hidden(80, 0.8)
    log = np.log(np.where(hide, np.nan, truth))
    node = np.nanmean(log, axis=1) - np.nanmean(log) / 2
    additive = np.abs(np.exp(node[:, None] + node[None]) - truth)[hide] / truth[hide]
    error = np.abs(predict(np.where(hide, np.nan, truth)).mean_us - truth)[hide] / truth[hide]
    assert np.median(error) < 0.5 * np.median(additive)


def test_a_measurement_without_doubt_stays_what_it_is_and_a_doubtful_one_moves_towards_the_rest() -> None:
    truth = space(30)
    measured = truth.copy()
    measured[3, 4] = measured[4, 3] = 4 * truth[3, 4]
    sure = predict(measured)
    off = ~np.eye(30, dtype=bool)
    np.testing.assert_allclose(sure.mean_us[off], measured[off])
    np.testing.assert_allclose(sure.low_us[off], measured[off], rtol=1e-6)
    assert (sure.provenance[off] == Provenance.MEASURED).all()
    doubt = np.zeros((30, 30))
    doubt[3, 4] = doubt[4, 3] = 1.0
    moved = predict(measured, log_sd=doubt)
    assert truth[3, 4] * 0.5 < moved.mean_us[3, 4] < 0.6 * measured[3, 4]
    assert moved.low_us[3, 4] < moved.mean_us[3, 4] < moved.high_us[3, 4]


def test_the_other_direction_tells_nearly_everything() -> None:
    truth = space(40)
    one_way = np.where(np.triu(np.ones((40, 40), bool), 1), truth, np.nan)
    found = predict(one_way, age_us=np.full((40, 40), 7.0))
    below = np.tril(np.ones((40, 40), bool), -1)
    assert np.median(np.abs(found.mean_us - truth)[below] / truth[below]) < 0.06
    assert (found.provenance[below] == Provenance.PREDICTED).all()
    assert (found.age_us[below] == 7.0).all()


def test_asymmetric_links_are_kept_apart() -> None:
    truth = space(40)
    measured = truth * np.where(np.triu(np.ones((40, 40), bool)), 1.5, 1.0)
    measured[5, 9] = np.nan
    found = predict(measured)
    assert found.log_sd[5, 9] > 0.05  # directions differ by half here: the other one is not taken at its word
    np.testing.assert_allclose(found.mean_us[9, 5], measured[9, 5])


@pytest.mark.parametrize("n", [0, 1, 2, 3, 5])
def test_small_worlds(n: int) -> None:
    nothing = predict(np.full((n, n), np.nan))
    assert np.isnan(nothing.mean_us).all()
    assert (nothing.provenance == Provenance.UNKNOWN).all()
    assert np.isinf(nothing.age_us).all()
    some = predict(np.full((n, n), 5_000))
    off = ~np.eye(n, dtype=bool)
    np.testing.assert_allclose(some.mean_us[off], 5_000)
    assert np.isnan(np.diagonal(some.mean_us)).all()


def test_one_measurement_of_two_nodes_serves_both_directions() -> None:
    found = predict(np.array([[np.nan, 9_000.0], [np.nan, np.nan]]))
    assert found.mean_us[1, 0] == pytest.approx(9_000, rel=1e-3)
    assert found.provenance.tolist() == [[0, Provenance.MEASURED], [Provenance.PREDICTED, 0]]


def test_separate_sets_get_geography_or_nothing() -> None:
    truth = space(24)
    measured = truth.copy()
    measured[:12, 12:] = measured[12:, :12] = np.nan
    floor = np.zeros((24, 24))
    floor[0, 12] = 10_000
    found = predict(measured, floor_us=floor)
    assert found.provenance[0, 12] == Provenance.GEO
    assert found.low_us[0, 12] >= 10_000
    assert 10_000 < found.mean_us[0, 12] < found.high_us[0, 12]
    assert found.provenance[1, 13] == Provenance.UNKNOWN
    assert np.isnan(found.mean_us[1, 13])


def test_how_much_longer_than_light_paths_are_is_learned() -> None:
    truth = space(24, detours=0.0)
    measured = truth.copy()
    measured[:12, 12:] = measured[12:, :12] = np.nan
    found = predict(measured, floor_us=np.nan_to_num(truth) / 3.0)
    np.testing.assert_allclose(found.mean_us[:12, 12:], truth[:12, 12:], rtol=1e-6)


def test_no_prediction_outruns_light() -> None:
    truth = space(40)
    hide = hidden(40, 0.7)
    floor = np.full((40, 40), 90_000.0)
    found = predict(np.where(hide, np.nan, truth), floor_us=floor)
    assert (found.low_us[hide] >= 90_000).all()
    assert (found.mean_us[~hide & ~np.eye(40, dtype=bool)] < 90_000).any()  # what was measured is not argued with


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, -1.0])
def test_values_that_are_no_delays_are_missing(bad: float) -> None:
    truth = space(20)
    measured = truth.copy()
    measured[2, 3] = measured[3, 2] = bad
    found = predict(measured)
    assert found.provenance[2, 3] == Provenance.PREDICTED
    assert 0.2 * truth[2, 3] < found.mean_us[2, 3] < 5 * truth[2, 3]


def test_absurd_values_do_not_break_it() -> None:
    measured = space(20)
    measured[2, 3], measured[4, 5], measured[7, 8] = 1e300, 0.0, 1e-9
    found = predict(measured, log_sd=np.full((20, 20), np.inf))
    off = ~np.eye(20, dtype=bool)
    assert np.isfinite(found.mean_us[off]).all()
    assert (found.low_us[off] <= found.high_us[off]).all()


def test_integers_with_the_unknown_mark_are_taken() -> None:
    truth = space(30)
    hide = hidden(30, 0.5)
    as_float = np.where(hide, np.nan, np.nan_to_num(truth, nan=-1).astype(np.int64))
    as_int = np.where(hide, -1, np.nan_to_num(truth, nan=-1).astype(np.int64))
    np.testing.assert_array_equal(predict(as_int).mean_us, predict(as_float).mean_us)


def test_the_same_measurements_give_the_same_answer() -> None:
    measured = np.where(hidden(40, 0.6), np.nan, space(40))
    first, second = predict(measured), predict(measured.copy())
    for name, array in vars(first).items():
        np.testing.assert_array_equal(array, vars(second)[name])
        assert not array.flags.writeable


def test_intervals_cover_single_readings_when_given_averages() -> None:
    truth = space(80, detours=0.02)
    rng = np.random.default_rng(5)
    hide = hidden(80, 0.7)
    reading = truth * np.exp(rng.normal(0, 0.4, truth.shape))
    narrow = predict(np.where(hide, np.nan, truth))
    wide = predict(np.where(hide, np.nan, truth), reading_us=np.where(hide, np.nan, reading))
    covers = [((reading >= p.low_us) & (reading <= p.high_us))[hide].mean() for p in (narrow, wide)]
    assert covers[0] < 0.6
    assert 0.84 <= covers[1] <= 0.96


def test_detours_are_advised_against_where_they_did_not_pay() -> None:
    metric = space(60, detours=0.0)  # no detour is ever shorter
    hide = hidden(60, 0.6)
    found = predict(np.where(hide, np.nan, metric))
    assert (found.detour_us[hide] < metric[hide]).mean() > 0.9


def test_detours_are_advised_where_direct_links_are_bad() -> None:
    rng = np.random.default_rng(9)
    truth = space(60, detours=0.0)
    bad = np.triu(rng.random((60, 60)) < 0.3, 1)
    truth = np.where(bad | bad.T, 3 * truth, truth)
    hide = hidden(60, 0.6)
    found = predict(np.where(hide, np.nan, truth))
    assert np.median(found.detour_us[hide] / found.mean_us[hide]) > 0.8


def test_newer_measurements_over_an_older_prediction() -> None:
    truth = space(30)
    older = predict(np.where(hidden(30, 0.7), np.nan, truth))
    newer = np.full((30, 30), np.nan)
    newer[1, 2] = 77_000.0
    found = overlay(older, newer, np.full((30, 30), 3.0), np.full((30, 30), 0.1))
    assert found.mean_us[1, 2] == 77_000
    assert found.low_us[1, 2] < 77_000 < found.high_us[1, 2]
    assert found.log_sd[1, 2] == pytest.approx(0.1)
    assert (found.age_us[1, 2], found.provenance[1, 2]) == (3.0, Provenance.MEASURED)
    assert found.mean_us[4, 5] == older.mean_us[4, 5]
    assert isinstance(nothing_known(3), Prediction)
    assert overlay(nothing_known(30), newer, newer, newer * 0).mean_us[1, 2] == 77_000
