"""E-model against published anchor values, and the additive metric's promises."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.core.model import TrafficClass
from router.core.quality import CODEC_DELAY_US, PROFILES, jitter_term_us, loss_term_us, mos, rating


@pytest.mark.parametrize(
    ("r", "expected"), [(93.2, 4.41), (80, 4.02), (70, 3.60), (60, 3.10), (50, 2.58), (0, 1.0), (101, 4.5)]
)
def test_mos_of_r_as_in_g107_annex_b(r: float, expected: float) -> None:
    assert mos(r) == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize(("one_way_ms", "impairment"), [(50, 0.0), (100, 0.0), (177, 1.2), (300, 14.8)])
def test_delay_impairment_of_g107(one_way_ms: float, impairment: float) -> None:
    r = rating(round(one_way_ms * 1000) - CODEC_DELAY_US, 0, 0)
    assert 93.2 - r == pytest.approx(impairment, abs=0.1)


def test_one_per_cent_of_loss_costs_what_the_e_model_says() -> None:
    assert rating(0, 0, 0) - rating(0, 0, 10_000) == pytest.approx(95 / 21, abs=0.01)


@given(st.integers(0, 400_000), st.integers(0, 400_000))
def test_loss_adds_along_a_path(a: int, b: int) -> None:
    both = round((1 - (1 - a / 1e6) * (1 - b / 1e6)) * 1e6)
    if both > 500_000:
        return
    for traffic_class in TrafficClass:
        one, other, path = (int(loss_term_us(traffic_class, np.array([p]))[0]) for p in (a, b, both))
        assert abs(one + other - path) <= PROFILES[traffic_class].loss_us / 1e6 + 2


def test_unknown_and_tiny_jitter_cost_nothing() -> None:
    terms = jitter_term_us(TrafficClass.VOICE, np.array([-1, 0, 2000, 3000], np.int64))
    assert terms.tolist() == [0, 0, 0, 2000]
    assert loss_term_us(TrafficClass.VOICE, np.array([-1, 0], np.int64)).tolist() == [0, 0]
