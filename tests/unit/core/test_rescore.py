"""Exact re-scoring: where the metric and the listener disagree, and that nothing else changes."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.core.model import MAX_RELAYS, TrafficClass
from router.core.quality import PROFILES, Delays, metric_us, of_hops, rating, utility
from router.core.solve.rescore import ABSENT, NEAR_US, Candidates, compose, contested, rescore
from router.core.tables import DIRECT, I64, NO_COST

VOICE, AGENT = TrafficClass.VOICE, TrafficClass.AGENT
Path = tuple[int, int, int]  # delay µs, jitter µs, loss ppm


def single(traffic_class: TrafficClass, paths: list[Path], extra_us: list[int] | None = None) -> Candidates:
    """One pair whose candidates are single hops, in the given order."""
    delay, jitter, loss = (np.array([column], np.int64) for column in zip(*paths, strict=True))
    extra = np.array([extra_us or [0] * len(paths)], np.int64)
    metric = metric_us(traffic_class, delay, jitter, loss) + extra
    return Candidates(metric, of_hops(delay, jitter), loss / 1e6, extra)


def test_below_the_knee_the_clean_path_wins_though_the_metric_prefers_the_fast_one() -> None:
    fast, clean = (20_000, 0, 6_000), (50_000, 0, 0)
    candidates = single(VOICE, [fast, clean])
    assert candidates.metric_us[0, 0] < candidates.metric_us[0, 1]
    assert rating(*clean) - rating(*fast) > 2.5
    result = rescore(VOICE, candidates)
    assert result.order.tolist() == [[1, 0]]
    assert result.differs.tolist() == [True]


def test_beyond_the_knee_the_same_trade_stays_with_the_metric() -> None:
    result = rescore(VOICE, single(VOICE, [(220_000, 0, 6_000), (250_000, 0, 0)]))
    assert result.order.tolist() == [[0, 1]]
    assert result.differs.tolist() == [False]


def test_an_agent_has_no_knee_so_there_the_metric_is_right() -> None:
    assert not rescore(AGENT, single(AGENT, [(20_000, 0, 6_000), (50_000, 0, 0)])).differs.any()


def test_jitter_of_two_hops_is_less_than_the_metric_adds_up() -> None:
    # Via relay 2: two hops of 20 ms jitter, 28 ms together. Direct: one hop of 30 ms, and 20 ms slower.
    delay = np.array([[0, 170_000, 75_000], [0, 0, 0], [0, 75_000, 0]], np.int64)
    jitter = np.array([[0, 30_000, 20_000], [0, 0, 0], [0, 20_000, 0]], np.int64)
    loss = np.zeros((3, 3), np.int64)
    relays = np.full((1, 2, MAX_RELAYS), DIRECT, np.int16)
    relays[0, 1, 0] = 2
    delays, lost = compose(np.array([0]), np.array([1]), relays, delay, jitter, loss)
    hop = metric_us(VOICE, delay, jitter, loss)
    extra = np.array([[0, PROFILES[VOICE].relay_cost_us]])
    metric = np.array([[hop[0, 1], hop[0, 2] + hop[2, 1]]]) + extra
    assert metric[0, 0] < metric[0, 1]
    assert rescore(VOICE, Candidates(metric, delays, lost, extra)).order.tolist() == [[1, 0]]


def test_a_candidate_far_from_the_metrics_choice_is_not_considered() -> None:
    paths = [(5_000, 0, 9_000), (5_000 + 33_000 + NEAR_US, 0, 0)]
    candidates = single(VOICE, paths)
    assert rating(*paths[1]) > rating(*paths[0]) + 2
    assert candidates.metric_us[0, 1] - candidates.metric_us[0, 0] > NEAR_US
    assert rescore(VOICE, candidates).order.tolist() == [[0, 1]]
    assert rescore(VOICE, candidates, near_us=10**6).order.tolist() == [[1, 0]]


def test_a_difference_nobody_hears_moves_nothing() -> None:
    candidates = single(VOICE, [(20_000, 0, 900), (24_000, 0, 0)])
    gain = rating(24_000, 0, 0) - rating(20_000, 0, 900)
    assert 0.3 < gain < 0.5
    assert not rescore(VOICE, candidates).differs[0]
    assert rescore(VOICE, candidates, worth_millipoints=100).differs[0]


def test_price_load_and_relays_are_subtracted_at_the_rate_of_the_class() -> None:
    paths = [(20_000, 0, 6_000), (30_000, 0, 0)]
    free, dear = single(VOICE, paths), single(VOICE, paths, [0, 20_000])
    assert rescore(VOICE, free).order[0, 0] == 1
    result = rescore(VOICE, dear)
    lost = (rescore(VOICE, free).points - result.points)[0].tolist()
    assert lost == [0, pytest.approx(1000 * PROFILES[VOICE].points_per_ms * 20, abs=1)]


def test_equal_points_go_to_the_metric_then_to_the_given_order() -> None:
    # All under 100 ms mouth to ear: R is 93.2 for each.
    paths = [(30_000, 0, 0), (20_000, 0, 0), (30_000, 0, 0), (40_000, 0, 0)]
    result = rescore(VOICE, single(VOICE, paths), worth_millipoints=0)
    assert result.order.tolist() == [[1, 0, 2, 3]]
    assert not result.differs[0]


def test_absent_candidates_come_last_and_a_pair_without_any_keeps_its_order() -> None:
    candidates = single(VOICE, [(20_000, 0, 6_000), (50_000, 0, 0), (1_000, 0, 0)])
    metric = candidates.metric_us.copy()
    metric[0, 2] = NO_COST
    nothing = np.full_like(metric, NO_COST)
    two = Candidates(
        np.concatenate([metric, nothing]),
        Delays(
            *(
                np.concatenate([a, a])
                for a in (candidates.delays.least_us, candidates.delays.queue_us, candidates.delays.variance_us2)
            )
        ),
        np.concatenate([candidates.loss] * 2),
        np.concatenate([candidates.extra_us] * 2),
    )
    result = rescore(VOICE, two)
    assert result.order.tolist() == [[1, 0, 2], [0, 1, 2]]
    assert result.points[0, 2] == ABSENT and (result.points[1] == ABSENT).all()
    assert result.differs.tolist() == [True, False]
    assert contested(two.metric_us).tolist() == [True, False]


def test_no_pairs_at_all() -> None:
    empty = np.zeros((0, 3), np.int64)
    floats = empty.astype(np.float64)
    result = rescore(VOICE, Candidates(empty, Delays(floats, floats, floats), floats, empty))
    assert result.order.shape == (0, 3) and result.differs.shape == (0,)


def _hops(u: int, v: int, relays: list[int]) -> list[tuple[int, int]]:
    return list(pairwise([u, *(k for k in relays if k != DIRECT), v]))


@given(st.data())
def test_composition_follows_the_hops_of_every_path(data: st.DataObject) -> None:
    n = 6

    def matrix(top: int) -> I64:
        values = data.draw(st.lists(st.integers(-1, top), min_size=n * n, max_size=n * n))
        return np.array(values, np.int64).reshape(n, n)

    delay, jitter, loss = matrix(200_000), matrix(20_000), matrix(300_000)
    walk = data.draw(st.permutations(range(n)))
    count = data.draw(st.integers(0, MAX_RELAYS))
    relays = np.full((1, 2, MAX_RELAYS), DIRECT, np.int16)
    relays[0, 1, :count] = walk[2 : 2 + count]
    u, v = walk[:2]
    delays, lost = compose(np.array([u]), np.array([v]), relays, delay, jitter, loss)
    for m in range(2):
        hops = _hops(u, v, relays[0, m].tolist())
        assert delays.least_us[0, m] == sum(max(0, int(delay[h])) for h in hops)
        assert delays.queue_us[0, m] == sum(max(0, int(jitter[h])) for h in hops)
        assert delays.variance_us2[0, m] == sum(max(0, int(jitter[h])) ** 2 for h in hops)
        assert lost[0, m] == pytest.approx(1 - np.prod([1 - max(0, int(loss[h])) / 1e6 for h in hops]), abs=1e-12)


path = st.tuples(st.integers(1_000, 300_000), st.integers(0, 20_000), st.integers(0, 30_000))


@given(st.sampled_from(list(TrafficClass)), st.lists(path, min_size=1, max_size=8))
def test_the_choice_is_never_worse_than_the_metrics_and_never_far_from_it(
    traffic_class: TrafficClass, paths: list[Path]
) -> None:
    candidates = single(traffic_class, paths)
    result = rescore(traffic_class, candidates)
    chosen, metric = result.order[0, 0], candidates.metric_us[0]
    cheapest = int(metric.argmin())
    assert sorted(result.order[0].tolist()) == list(range(len(paths)))
    assert result.points[0, chosen] >= result.points[0, cheapest]
    assert metric[chosen] - metric[cheapest] <= NEAR_US
    assert result.differs[0] == (chosen != cheapest)
    exact = utility(traffic_class, candidates.delays, candidates.loss)[0]
    assert np.abs(result.points[0] - 1000 * exact).max() <= 0.5001
    near = metric - metric[cheapest] <= NEAR_US
    # Nothing near beats the choice by more than what is worth a move.
    assert result.points[0][near].max() - result.points[0, chosen] <= 500
