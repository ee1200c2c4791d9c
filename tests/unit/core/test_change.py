"""Sequential tests against a scalar CUSUM by brute force; false alarms against their bound; regret as a ski rental."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.core import change
from router.core.change import BETTER, LossWatch, certain_ppm, regret, threshold

ROWS = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 30), st.integers(0, 30)).map(lambda r: (r[0], r[1], min(r[1], r[2]))),
    max_size=120,
)


class Scalar:
    """One link, one number at a time, as the theory of operation says it."""

    def __init__(self, links: int) -> None:
        self.sent = self.lost = self.score = self.run_sent = self.run_lost = 0.0
        self.usual_sent = self.usual_lost = 0.0
        self.lossy = False
        self.limit = threshold(links)

    def take(self, sent: int, lost: int) -> None:
        if not sent:
            return
        p0 = (change.USUAL * change.USUAL_PACKETS + self.usual_lost) / (change.USUAL_PACKETS + self.usual_sent)
        p0 = min(change.USUAL_MOST, max(change.USUAL_LEAST, p0))
        self.sent, self.lost = self.sent + sent, self.lost + lost
        self.run_sent, self.run_lost = self.run_sent + sent, self.run_lost + lost
        if self.lossy:
            p1 = min(change.MOST_LOSS, max(p0 + change.LEAST_LOSS, self.lost / self.sent))
        else:
            p1 = p0 + change.RISE
        evidence = lost * math.log(p1 / p0) + (sent - lost) * math.log((1 - p1) / (1 - p0))
        self.score = max(0.0, self.score + (-evidence if self.lossy else evidence))
        if self.score >= (BETTER if self.lossy else self.limit):
            self.sent, self.lost, self.lossy = self.run_sent, self.run_lost, not self.lossy
            self.score = self.run_sent = self.run_lost = 0.0
        elif self.score == 0:
            if not self.lossy:
                forget = max(0.0, 1 - self.run_sent / change.MEMORY_PACKETS)
                self.usual_sent = self.usual_sent * forget + self.run_sent
                self.usual_lost = self.usual_lost * forget + self.run_lost
            self.run_sent = self.run_lost = 0.0


def put(watch: LossWatch, cell: int, sent: int, lost: int) -> None:
    watch.take(np.array([cell]), np.array([sent]), np.array([lost]))


@settings(max_examples=30, deadline=None)
@given(ROWS)
def test_every_link_is_its_own_scalar_cusum(rows: list[tuple[int, int, int]]) -> None:
    watch, links = LossWatch((2, 2), 4), [Scalar(4) for _ in range(4)]
    for cell, sent, lost in rows:
        links[cell].take(sent, lost)
        put(watch, cell, sent, lost)
    assert watch.lossy.ravel().tolist() == [link.lossy for link in links]
    np.testing.assert_allclose(watch.sent.ravel(), [link.sent for link in links])
    np.testing.assert_allclose(watch.lost.ravel(), [link.lost for link in links])


def test_rows_of_one_report_are_taken_together_and_the_same_link_twice_counts_twice() -> None:
    one, two = LossWatch((4,), 4), LossWatch((4,), 4)
    one.take(np.array([2, 0, 2]), np.array([5, 9, 6]), np.array([1, 0, 2]))
    put(two, 0, 9, 0)
    put(two, 2, 11, 3)
    assert one.sent.tolist() == two.sent.tolist() == [9, 0, 11, 0]
    assert one.lost.tolist() == two.lost.tolist() == [0, 0, 3, 0]


def test_nothing_sent_changes_nothing() -> None:
    watch = LossWatch((2,), 2)
    watch.take(np.array([0, 1]), np.array([0, 0]), np.array([0, 0]))
    watch.take(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.int64))
    assert not watch.sent.any() and not watch.lossy.any()


def test_the_larger_the_fleet_the_more_evidence_each_link_needs() -> None:
    packets = [math.exp(threshold(links)) / (change.USUAL + change.RISE) for links in (1, 100, 10_000)]
    assert packets == pytest.approx([change.PACKETS * links for links in (1, 100, 10_000)])
    assert threshold(0) == threshold(1)


def test_false_alarms_are_rarer_than_the_bound() -> None:
    """Packets of a link that loses what is usual; the bound holds for any number of links, so take one that alarms."""
    rng, watch, links = np.random.default_rng(4), LossWatch((400,), 1), np.arange(400)
    reports, packets = 400, 10
    for _ in range(reports):
        watch.take(links, np.full(400, packets), rng.binomial(packets, change.USUAL, 400))
    assert watch.changes <= 400 * reports * packets / change.PACKETS


def test_a_loss_is_believed_soon_and_counts_only_from_where_it_began() -> None:
    rng, links = np.random.default_rng(7), np.arange(200)
    watch, after = LossWatch((200,), 200), np.zeros(200)
    for _ in range(50):
        watch.take(links, np.full(200, 60), rng.binomial(60, change.USUAL, 200))
    watch.lossy[:] = False
    for packet in range(1, 400):
        watch.take(links, np.ones(200, np.int64), (rng.random(200) < 0.05).astype(np.int64))
        after[watch.lossy & (after == 0)] = packet
    assert (after > 0).all()
    assert after.mean() < 100, "with a threshold of 200 links the optimum takes some 70 packets at 5 % of loss"
    assert np.median(watch.lost / watch.sent) == pytest.approx(0.05, abs=0.01)


@pytest.mark.parametrize("lost", [5, 20, 400])
def test_an_outage_is_forgotten_when_it_is_over_however_long_it_was(lost: int) -> None:
    watch = LossWatch((1,), 100)
    for _ in range(500):
        put(watch, 0, 1, 0)
    for _ in range(lost):
        put(watch, 0, 1, 1)
    assert watch.lossy[0] and certain_ppm(watch.sent, watch.lost, watch.lossy)[0] > 500_000
    for _ in range(12):
        put(watch, 0, 1, 0)
    assert not watch.lossy[0]
    assert watch.lost[0] == 0 and certain_ppm(watch.sent, watch.lost, watch.lossy)[0] == 0


def test_what_a_link_always_loses_is_no_change() -> None:
    rng, watch, links = np.random.default_rng(11), LossWatch((50,), 10_000), np.arange(50)
    for _ in range(1_000):
        watch.take(links, np.full(50, 20), rng.binomial(20, 0.008, 50))
    assert watch.lossy.mean() < 0.1
    assert np.median(watch._usual_lost / watch._usual_sent) == pytest.approx(0.008, rel=0.3)


def test_before_a_change_is_proven_a_single_loss_is_an_anecdote() -> None:
    sent, lost = np.array([30.0, 30.0, 30.0]), np.array([1.0, 3.0, 3.0])
    anecdote, careful, proven = certain_ppm(sent, lost, np.array([False, False, True])).tolist()
    assert anecdote == 0 < careful < proven < 100_000


def test_a_fading_watch_keeps_its_share_and_what_it_believes() -> None:
    watch = LossWatch((1,), 1)
    for _ in range(20):
        put(watch, 0, 1, 1)
    watch.fade(0.5)
    assert watch.lossy[0] and watch.sent[0] == watch.lost[0] == 10


def test_cells_move_to_another_watch() -> None:
    older, newer = LossWatch((1, 2, 2), 2), LossWatch((1, 3, 3), 6)
    for _ in range(20):
        put(older, 1, 1, 1)
    block, source = np.ix_([0, 2], [0, 2]), np.ix_([0, 1], [0, 1])
    newer.adopt(older, (np.array(0), *block), (np.array(0), *source))
    assert newer.lossy.sum() == 1 and newer.lossy[0, 0, 2] and newer.sent[0, 0, 2] == 20
    assert newer.changes == older.changes == 1


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(-60_000, 90_000), st.integers(0, 2_000_000)), max_size=60))
def test_regret_is_the_capped_page_sum(steps: list[tuple[int, int]]) -> None:
    most, held, plain = 25_000, np.zeros(1, np.int64), 0
    for gain, elapsed in steps:
        held = regret(held, np.array([gain]), elapsed, np.array([most]))
        plain = max(0, plain + (min(gain, most) if gain > 0 else -most) * elapsed)
        assert held[0] == plain


def test_however_large_a_spike_it_has_to_last() -> None:
    held = np.zeros(2, np.int64)
    for _ in range(10):
        held = regret(held, np.array([20_000, 10_000_000]), 50_000, np.array([25_000, 25_000]))
    assert held.tolist() == [20_000 * 500_000, 25_000 * 500_000]
