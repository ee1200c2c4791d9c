"""The history of delays: what a bucket keeps, what is expected next, silences, and an inventory that changes."""

from __future__ import annotations

import numpy as np
import pytest

from router.core.history import (
    HALF_LIFE,
    KEEP,
    LEAST_OF,
    PRIOR_BUCKETS,
    PRIOR_NOISE,
    RECENT,
    RING,
    STREAK_UP,
    History,
)
from router.core.tables import FALLEN, I64, NO_COST

FAST, SLOW = 10_000, 30_000


def at(*values: int) -> I64:
    return np.array(values, np.int64)


def bucket(history: History, *delays_us: int, link: tuple[int, int] = (0, 1)) -> None:
    """One bucket in which these delays come in, one after the other."""
    for delay in delays_us:
        history.put(at(0), at(link[0]), at(link[1]), at(delay))
    history.close()


def expected(history: History, link: tuple[int, int] = (0, 1)) -> int:
    return int(history.expected_us()[0][link])


def newest_weighs(history: History, vertex: int = 0) -> float:
    """All where nothing new will come, ``RECENT`` where something certainly will."""
    return 1 - float(history.evidence().refresh[vertex]) * (1 - RECENT)


def test_the_least_of_a_bucket_counts_and_the_next_bucket_starts_anew() -> None:
    history = History(1, 2, least_of=1)
    bucket(history, 30_000, 20_000, 25_000)
    assert history.latest[0, 0, 1] == 20_000
    history.put(at(0), at(0), at(1), at(28_000))
    assert history.latest[0, 0, 1] == 28_000, "a new bucket is not held down by the old one's minimum"
    history.close()
    assert [int(b[0, 0, 1]) for b in history.evidence().ring] == [20_000, 28_000]


def test_what_was_never_measured_is_no_cost_and_has_no_value() -> None:
    history = History(1, 2, least_of=1)
    bucket(history, FAST)
    assert expected(history, (1, 0)) == NO_COST
    assert history.evidence().ring[0][0, 1, 0] == FALLEN
    assert history.expected_of(at(0, 0), at(0, 1), at(1, 0)).tolist() == [FAST, NO_COST]


def test_what_is_expected_is_the_newest_bucket_blended_with_the_average() -> None:
    history = History(1, 2, least_of=1)
    bucket(history, 10_000)
    bucket(history, 12_000)
    mean, w = (KEEP * 10_000 + 12_000) / (KEEP + 1), newest_weighs(history)
    assert RECENT < w < 1
    assert expected(history) == round(w * 12_000 + (1 - w) * mean)
    history.put(at(0), at(0), at(1), at(11_000))  # an open bucket counts as the newest at once
    assert expected(history) == round(w * 11_000 + (1 - w) * mean)
    assert history.expected_of(at(0), at(0), at(1)).tolist() == [expected(history)]


def test_the_newest_is_all_there_is_where_nothing_new_will_come() -> None:
    history = History(1, 3, least_of=1)
    for k in range(40):  # 0 reports in every bucket, 2 fell silent after the first
        history.put(at(0, 0), at(0, 2), at(1, 1), at(10_000 + 100 * k, 10_000 + (500 if k else 0)))
        history.heard(0)
        if k == 0:
            history.heard(2)
        history.close()
    assert newest_weighs(history, 0) < RECENT + 0.05 and newest_weighs(history, 2) > 0.7
    mean = float(history._mean[0, 0, 1])
    assert abs(expected(history) - mean) < abs(expected(history) - 13_900), "one that is measured anew follows the mean"


def test_delays_on_clocks_that_are_apart_may_be_negative() -> None:
    history = History(1, 2, least_of=1)
    bucket(history, -5_000, -6_000)
    assert expected(history) == -6_000


def test_after_a_half_life_the_average_is_half_way_to_the_new_value() -> None:
    history = History(1, 2, least_of=1)
    for _ in range(300):
        bucket(history, 10_000)
    for _ in range(round(HALF_LIFE)):
        bucket(history, 12_000)  # too small a change to be a step
    assert history.steps == 0
    w = newest_weighs(history)
    assert expected(history) == pytest.approx(w * 12_000 + (1 - w) * 11_000, abs=2)


def test_noise_is_the_links_own_and_the_fleets_while_it_is_young() -> None:
    history = History(1, 3, least_of=1)
    bucket(history, 50_000)
    prior = PRIOR_BUCKETS / (PRIOR_BUCKETS + 1)  # beside one bucket of its own, which shows no spread yet
    assert history.evidence().noise[0, 0, 1] == round(PRIOR_NOISE * 50_000 * prior**0.5)
    for k in range(60):
        history.put(at(0), at(0), at(2), at(50_000 + (1_000 if k % 2 else -1_000)))
        bucket(history, 50_000)
    noise = history.evidence().noise
    assert noise[0, 0, 1] < 500 < 1_000 <= noise[0, 0, 2] <= 1_400
    assert noise[0, 1, 2] == 0, "nothing is known, nothing is claimed"


def test_how_long_silences_last_is_learnt() -> None:
    history = History(1, 1, least_of=1)
    assert history.evidence().refresh.tolist() == [0.5]
    seen: dict[int, float] = {}
    for k in range(60):  # heard of in every third bucket
        if k % 3 == 0:
            history.heard(0)
        history.close()
        seen[k % 3] = float(history.evidence().refresh[0])
    assert seen[0] < 0.1 and seen[1] < 0.1, "one and two buckets after it was heard there is nothing new"
    assert seen[2] == pytest.approx((0.5 + 19) / (1 + 19)), "the third is due"


def test_one_that_reports_all_the_time_is_expected_to_go_on() -> None:
    history = History(1, 2, least_of=1)
    for _ in range(50):
        history.heard(0)
        history.close()
    heard, never = history.evidence().refresh
    assert heard > 0.95 and never <= 0.5


def test_forgetting_a_data_center_drops_its_links_both_ways_and_no_others() -> None:
    history = History(1, 3, least_of=1)
    for _ in range(4):
        for link in ((0, 1), (1, 0), (1, 2)):
            history.put(at(0), at(link[0]), at(link[1]), at(FAST))
        history.close()
    history.put(at(0), at(0), at(1), at(FAST))
    history.forget(0)
    assert expected(history, (0, 1)) == expected(history, (1, 0)) == NO_COST
    assert expected(history, (1, 2)) == FAST
    evidence = history.evidence()
    assert evidence.since[0].tolist() == [[4, 4, 4], [4, 0, 0], [4, 0, 0]], "its old buckets count no more"
    bucket(history, SLOW)
    assert expected(history) == SLOW and history.steps == 0, "what comes next is compared with nothing old"


def test_links_that_are_not_known_any_more_fade() -> None:
    history = History(1, 2, least_of=1)
    bucket(history, FAST)
    bucket(history, FAST, link=(1, 0))
    known = np.array([[[False, True], [False, False]]])
    history.fade(known)
    assert expected(history) == FAST and expected(history, (1, 0)) == NO_COST
    assert history.evidence().since[0].tolist() == [[0, 0], [2, 0]]


def test_a_changed_inventory_takes_the_history_along_under_new_numbers() -> None:
    older = History(2, 2, least_of=1)
    for delay in (*[FAST] * 10, *[SLOW] * STREAK_UP, SLOW - 100):
        older.put(at(1), at(0), at(1), at(delay))
        older.heard(1)
        older.close()
    older.put(at(1), at(0), at(1), at(SLOW - 300))
    assert older.steps == 1
    newer = History(1, 3, least_of=1)
    newer.adopt(older, here=[2, 0], there=[0, 1], transports=[(0, 1)])  # transport 1 is transport 0 now
    before, after = older.evidence(), newer.evidence()
    assert expected(newer, (2, 0)) == int(older.expected_us()[1, 0, 1])
    assert (after.bucket, newer.steps, len(after.ring)) == (before.bucket, 1, len(before.ring))
    assert [int(b[0, 2, 0]) for b in after.ring] == [int(b[1, 0, 1]) for b in before.ring]
    assert after.since[0, 2, 0] == before.since[1, 0, 1] > 0
    assert after.refresh[[2, 0]].tolist() == before.refresh.tolist()
    assert (after.latest != FALLEN).sum() == 1, "and nothing is made up about the new one"
    for history in (older, newer):
        history.close()
    assert newer.evidence().ring[-1][0, 2, 0] == older.evidence().ring[-1][1, 0, 1] == SLOW - 300


def test_the_least_of_the_last_buckets_is_what_a_packet_without_queueing_met() -> None:
    history, seen = History(1, 2, least_of=3), []
    for delay in (20_000, 21_000, 22_000, 22_500, 22_600):
        bucket(history, delay)
        seen.append(int(history.latest[0, 0, 1]))
    assert seen == [20_000, 20_000, 20_000, 21_000, 22_000]
    assert [int(b[0, 0, 1]) for b in history.evidence().ring] == seen
    history.put(at(0), at(0), at(1), at(22_700))
    assert history.latest[0, 0, 1] == 22_500, "an open bucket is the newest of them"


def test_nothing_of_an_old_clock_is_left_in_any_of_the_last_buckets() -> None:
    for forgets in (True, False):
        history = History(1, 2)
        for _ in range(LEAST_OF):
            bucket(history, FAST)
        history.put(at(0), at(0), at(1), at(FAST))
        if forgets:
            history.forget(0)
        else:
            history.fade(np.zeros((1, 2, 2), np.bool_))
        assert expected(history) == NO_COST
        history.put(at(0), at(0), at(1), at(SLOW))
        assert expected(history) == SLOW
        history.close()
        bucket(history, SLOW + 10)
        assert expected(history) == history.latest[0, 0, 1] == SLOW


def test_a_changed_inventory_takes_the_last_buckets_along() -> None:
    older, newer = History(1, 2), History(1, 3)
    for delay in (FAST, FAST + 500, FAST + 600):
        bucket(older, delay)
    newer.adopt(older, here=[2, 0], there=[0, 1], transports=[(0, 0)])
    for history, link in ((older, (0, 1)), (newer, (2, 0))):
        bucket(history, FAST + 700, link=link)
    assert newer.latest[0, 2, 0] == older.latest[0, 0, 1] == FAST
    assert (newer.latest != FALLEN).sum() == 1


def test_the_ring_is_bounded_and_what_was_frozen_does_not_change() -> None:
    history = History(1, 2, least_of=1)
    for k in range(RING + 5):
        bucket(history, FAST + k)
    evidence = history.evidence()
    assert len(evidence.ring) == RING and evidence.bucket == RING + 5
    assert int(evidence.ring[0][0, 0, 1]) == FAST + 5
    kept = [b.copy() for b in evidence.ring], evidence.latest.copy(), evidence.noise.copy()
    for array in (evidence.ring[0], evidence.latest, evidence.since, evidence.noise, evidence.refresh):
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0
    bucket(history, SLOW)
    history.forget(0)
    assert all((a == b).all() for a, b in zip(evidence.ring, kept[0], strict=True))
    assert (evidence.latest == kept[1]).all() and (evidence.noise == kept[2]).all()


@pytest.mark.parametrize("n", [0, 1])
def test_worlds_too_small_for_links_have_a_history_too(n: int) -> None:
    history = History(1, n, least_of=1)
    history.close()
    evidence = history.evidence()
    assert evidence.bucket == 1 and evidence.latest.shape == (1, n, n) and evidence.refresh.shape == (n,)
    assert (history.expected_us() == NO_COST).all()
