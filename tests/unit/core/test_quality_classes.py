"""Utilities of the traffic classes, and the additive metric whose rates are their slopes."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.core.model import TrafficClass
from router.core.quality import (
    PROFILES,
    jitter_term_us,
    loss_term_us,
    metric_us,
    of_hops,
    price_term_us,
    terms_us,
    turn,
    utility,
)
from router.core.quality.delays import HELD_US
from router.core.quality.metric import (
    MAX_PRICE_US,
    OPERATING_DELAY_US,
    OPERATING_JITTER_US,
    OPERATING_LOSS_PPM,
)
from router.core.tables import I64, NO_COST

every_class = pytest.mark.parametrize("traffic_class", list(TrafficClass))
DELAY, JITTER, LOSS = st.integers(0, 500_000), st.integers(0, 60_000), st.integers(0, 500_000)


def points(traffic_class: TrafficClass, delay_us: float, jitter_us: float, loss: float) -> float:
    path = of_hops(np.array([delay_us]), np.array([jitter_us]))
    return float(utility(traffic_class, path, np.array([loss]))[0])


def ints(*values: int) -> I64:
    return np.array(values, np.int64)


def slopes(traffic_class: TrafficClass) -> tuple[float, float, float]:
    """Points per µs of delay, per µs of jitter, per unit of -ln(1-p), by central differences."""
    d, j, p = OPERATING_DELAY_US, OPERATING_JITTER_US, OPERATING_LOSS_PPM / 1e6
    delay = (points(traffic_class, d + 2_000, j, p) - points(traffic_class, d - 2_000, j, p)) / 4_000
    jitter = (points(traffic_class, d, j + 500, p) - points(traffic_class, d, j - 500, p)) / 1_000
    loss = (points(traffic_class, d, j, p + 5e-4) - points(traffic_class, d, j, p - 5e-4)) / 1e-3 * (1 - p)
    return delay, jitter, loss


# --- utilities -------------------------------------------------------------------------------------------------------


@every_class
@given(delay=DELAY, jitter=JITTER, loss=LOSS, more=st.integers(1, 50_000))
def test_utility_never_rises_with_delay_jitter_or_loss(
    traffic_class: TrafficClass, delay: int, jitter: int, loss: int, more: int
) -> None:
    here = points(traffic_class, delay, jitter, loss / 1e6)
    assert math.isfinite(here)
    assert points(traffic_class, delay + more, jitter, loss / 1e6) <= here + 1e-9
    assert points(traffic_class, delay, jitter + more, loss / 1e6) <= here + 1e-9
    assert points(traffic_class, delay, jitter, (loss + more) / 1e6) <= here + 1e-9


@every_class
def test_one_signature_for_arrays_of_any_shape(traffic_class: TrafficClass) -> None:
    path = of_hops(np.full((3, 4), 60_000), np.full((3, 4), 4_000))
    result = utility(traffic_class, path, np.full((3, 4), 0.01))
    assert result.shape == (3, 4)
    assert np.ptp(result) == 0
    assert result[0, 0] == pytest.approx(points(traffic_class, 60_000, 4_000, 0.01))


def test_for_an_agent_every_millisecond_counts_alike_and_for_voice_the_first_ones_are_free() -> None:
    near, far = (
        points(TrafficClass.AGENT, d, 0, 0) - points(TrafficClass.AGENT, d + 30_000, 0, 0) for d in (0, 250_000)
    )
    assert near == pytest.approx(3.0) and far == pytest.approx(3.0)
    assert points(TrafficClass.VOICE, 0, 0, 0) == pytest.approx(points(TrafficClass.VOICE, 30_000, 0, 0))


def test_a_second_of_turn_delay_is_worth_nothing() -> None:
    ends_us = 500_000 - HELD_US - 26_500
    direction = np.array([points(TrafficClass.AGENT, ends_us, 0, 0)])
    assert direction[0] == pytest.approx(50.0)
    assert turn(direction, direction)[0] == pytest.approx(0.0)


def test_the_best_turn_is_the_best_of_each_direction() -> None:
    forward, back = np.array([70.0, 80.0]), np.array([90.0, 60.0])
    whole = turn(forward[:, None], back[None, :])
    assert np.unravel_index(whole.argmax(), whole.shape) == (forward.argmax(), back.argmax())


def test_bulk_counts_doublings_of_what_mathis_gives() -> None:
    # 1460 bytes, 100 ms, loss 1e-3: 11,680 / 0.1 * sqrt(1500) = 4.52 Mbit/s; half the delay or a quarter of the loss
    # doubles it. (Loss of its own making included.)
    assert points(TrafficClass.BULK, 50_000, 0, 1e-3 - 5e-5) == pytest.approx(10 * math.log2(4.5237), abs=0.01)
    here = points(TrafficClass.BULK, 50_000, 0, 0.04 - 5e-5)
    assert points(TrafficClass.BULK, 25_000, 0, 0.04 - 5e-5) - here == pytest.approx(10.0)
    assert points(TrafficClass.BULK, 50_000, 0, 0.01 - 5e-5) - here == pytest.approx(10.0)


def test_video_repairs_lost_packets_but_not_late_ones() -> None:
    clean = points(TrafficClass.VIDEO, 20_000, 0, 0.0)
    assert clean == pytest.approx(100.0, abs=0.1)
    assert clean - points(TrafficClass.VIDEO, 20_000, 0, 0.01) == pytest.approx(95 * 0.00499 / 0.10499, abs=0.1)
    lost = {c: points(c, 170_000, 0, 0) - points(c, 170_000, 12_000, 0) for c in TrafficClass}
    assert lost[TrafficClass.VIDEO] > lost[TrafficClass.VOICE]


@every_class
def test_the_ends_of_the_scale_stay_finite(traffic_class: TrafficClass) -> None:
    for delay, jitter, loss in ((0, 0, 0.0), (10**9, 10**8, 1.0), (0, 10**8, 0.0)):
        assert math.isfinite(points(traffic_class, delay, jitter, loss))


# --- the metric's rates are the utilities' slopes --------------------------------------------------------------------


@every_class
def test_rates_are_the_slopes_of_the_utility(traffic_class: TrafficClass) -> None:
    profile, (delay, jitter, loss) = PROFILES[traffic_class], slopes(traffic_class)
    assert profile.points_per_ms == pytest.approx(-1000 * delay, rel=0.02)
    assert profile.jitter_weight == pytest.approx(jitter / delay, rel=0.07)
    assert profile.loss_us == pytest.approx(loss / delay, rel=0.02)
    assert profile.price_us_per_usd == pytest.approx(1000 / profile.usd_per_point / profile.points_per_ms, rel=0.02)


@pytest.mark.parametrize("traffic_class", [c for c in TrafficClass if c is not TrafficClass.BULK])
def test_the_jitter_floor_is_what_the_packet_held_back_absorbs(traffic_class: TrafficClass) -> None:
    profile = PROFILES[traffic_class]
    assert profile.jitter_floor_us == pytest.approx(HELD_US / profile.jitter_weight, rel=0.12)


@every_class
@given(delay=st.integers(-8_000, 8_000), jitter=st.integers(-700, 700), loss=st.integers(-1_000, 1_000))
def test_near_the_operating_point_the_metric_ranks_as_the_utility(
    traffic_class: TrafficClass, delay: int, jitter: int, loss: int
) -> None:
    d, j, p = OPERATING_DELAY_US, OPERATING_JITTER_US, OPERATING_LOSS_PPM
    costs = metric_us(traffic_class, ints(d, d + delay), ints(j, j + jitter), ints(p, p + loss))
    gain = points(traffic_class, d + delay, j + jitter, (p + loss) / 1e6) - points(traffic_class, d, j, p / 1e6)
    predicted = -PROFILES[traffic_class].points_per_ms * int(costs[1] - costs[0]) / 1000
    # The rest is curvature and the coarse grid of playout levels.
    assert predicted == pytest.approx(gain, abs=0.35)


def test_bulk_looks_at_the_price_and_voice_hardly() -> None:
    # 0.09 USD per GB, a common list price of egress.
    us = {c: int(price_term_us(c, ints(90_000))[0]) for c in TrafficClass}
    assert us[TrafficClass.AGENT] < us[TrafficClass.VOICE] < 1_000
    assert 5_000 < us[TrafficClass.VIDEO] < 50_000
    assert us[TrafficClass.BULK] > 200_000


# --- the metric adds -------------------------------------------------------------------------------------------------


@given(st.integers(0, 400_000), st.integers(0, 400_000))
def test_loss_adds_along_a_path(a: int, b: int) -> None:
    both = round((1 - (1 - a / 1e6) * (1 - b / 1e6)) * 1e6)
    if both > 500_000:
        return
    for traffic_class in TrafficClass:
        one, other, path = (int(loss_term_us(traffic_class, ints(p))[0]) for p in (a, b, both))
        assert abs(one + other - path) <= PROFILES[traffic_class].loss_us / 1e6 + 2


@every_class
@given(
    delay=st.integers(-2_000_000, 2_000_000),
    jitter=st.integers(-1, 10**6),
    loss=st.integers(-1, 10**6),
    price=st.integers(-1, 10**12),
    load=st.integers(0, 10**7),
)
def test_terms_add_up_to_the_microsecond(
    traffic_class: TrafficClass, delay: int, jitter: int, loss: int, price: int, load: int
) -> None:
    arrays = (ints(delay), ints(jitter), ints(loss), ints(price), ints(load))
    terms, total = terms_us(traffic_class, *arrays), metric_us(traffic_class, *arrays)
    assert total.dtype == np.int64
    assert sum(int(t[0]) for t in terms.values()) == int(total[0])
    assert list(terms) == ["delay_us", "jitter_us", "loss_us", "price_us", "load_us"]
    assert all(int(t[0]) >= 0 for name, t in terms.items() if name != "delay_us")
    assert int(total[0]) < NO_COST // 1000
    assert int(terms["price_us"][0]) <= MAX_PRICE_US


@every_class
def test_what_is_not_asked_for_is_no_term(traffic_class: TrafficClass) -> None:
    assert list(terms_us(traffic_class, ints(1), ints(0), ints(0))) == ["delay_us", "jitter_us", "loss_us"]
    assert metric_us(traffic_class, ints(1), ints(0), ints(0)).tolist() == [1]


@every_class
def test_unknown_and_small_values_cost_nothing(traffic_class: TrafficClass) -> None:
    profile = PROFILES[traffic_class]
    floor = profile.jitter_floor_us
    terms = jitter_term_us(traffic_class, ints(-1, 0, floor, floor + 1_000))
    assert terms.tolist() == [0, 0, 0, 1_000 * profile.jitter_weight]
    assert loss_term_us(traffic_class, ints(-1, 0)).tolist() == [0, 0]
    assert price_term_us(traffic_class, ints(-1, 0)).tolist() == [0, 0]


def test_arrays_of_different_shape_broadcast() -> None:
    total = metric_us(
        TrafficClass.VOICE, np.full((2, 3, 3), 1_000), np.zeros((2, 3, 3), np.int64), ints(0), ints(0, 0, 0)
    )
    assert total.shape == (2, 3, 3)
