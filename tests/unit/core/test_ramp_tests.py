"""The sequential tests keep their promise on data that is nothing like a textbook's, and planted defects are caught."""

from __future__ import annotations

import numpy as np
import pytest

from router.core.messages import Sample
from router.core.model import DataCenterId
from router.core.ramp.evidence import Evidence
from router.core.ramp.sequential import Capital, rank_among, upper_share

NEW, SECOND = DataCenterId("new-1"), 1_000_000


def heavy(rng: np.random.Generator, n: int) -> np.ndarray:
    """Round trips in microseconds: a log-normal spread and a tail without a variance to speak of."""
    return ((40 * rng.lognormal(0, 0.25, n) + 6 * np.abs(rng.standard_t(2.1, n))) * 1000).astype(int)


def climb(seed: int, sessions: int, shift_us: int = 0, from_session: int = 0, drift_ms: float = 0.0) -> int | None:
    """The session at which the tests are sure, if ever; ten control sessions for each."""
    rng, evidence = np.random.default_rng(seed), Evidence(0)
    for i in range(sessions):
        later = int(drift_ms * 1000 * (1 + np.sin(i / 60)))
        for rtt in heavy(rng, 10) + later:
            evidence.take(Sample(NEW, False, "as1", rtt_us=int(rtt)), i * SECOND)
        rtt = int(heavy(rng, 1)[0]) + later + (shift_us if i >= from_session else 0)
        evidence.take(Sample(NEW, True, "as1", rtt_us=rtt), i * SECOND)
        if evidence.worth >= 1 / evidence.alpha:
            return i + 1
    return None


def test_a_fair_game_is_won_no_more_often_than_promised() -> None:
    """Exactly at the null, looked at after each of 250 bets, 600 times over: Ville's bound holds with room."""
    rng, won = np.random.default_rng(3), 0
    for _ in range(600):
        capital, most = Capital(), 0.0
        for seen in (rng.random(250) < 0.05).tolist():
            capital.bet(float(seen), 0.05)
            most = max(most, capital.worth)
        won += most >= 20
    assert won / 600 <= 0.05


def test_the_mean_of_the_capital_at_the_null_is_one() -> None:
    rng = np.random.default_rng(4)
    worths = []
    for _ in range(4_000):
        capital = Capital()
        for seen in rng.random(12).tolist():
            capital.bet(seen, 0.5)
        worths.append(capital.worth)
    assert np.mean(worths) == pytest.approx(1.0, abs=0.05)


def test_thirty_milliseconds_more_are_found_within_thirty_sessions() -> None:
    found = [climb(seed, 60, 30_000) for seed in range(25)]
    assert all(at is not None and at <= 30 for at in found), found


def test_thirty_milliseconds_that_begin_late_are_found_as_well() -> None:
    found = [climb(seed, 220, 30_000, from_session=150) for seed in range(8)]
    assert all(at is not None and 150 < at <= 205 for at in found), found


def test_alike_arms_are_never_told_apart_whatever_the_hour() -> None:
    assert [climb(seed, 200, drift_ms=20.0) for seed in range(12)] == [None] * 12


def test_a_planted_bug_is_caught_by_these_tests() -> None:
    """A test that forgets to compare like with like would call a far network's users slow: this one must not."""
    rng, evidence = np.random.default_rng(1), Evidence(0)
    for i in range(300):
        for group, base in (("near", 0), ("far", 120_000)):
            for rtt in heavy(rng, 4):
                evidence.take(Sample(NEW, False, group, rtt_us=int(rtt) + base), i * SECOND)
        evidence.take(Sample(NEW, True, "far", rtt_us=int(heavy(rng, 1)[0]) + 120_000), i * SECOND)
    assert evidence.worth < 1.5
    naive = Capital()
    others = sorted(heavy(rng, 48).tolist())
    for _ in range(40):
        naive.bet(rank_among(int(heavy(rng, 1)[0]) + 120_000, others), 0.5)
    assert naive.worth > 1e6


def test_set_ups_are_judged_against_the_promise_and_against_the_others() -> None:
    def worth(canary: float, control: float, sessions: int = 1_500) -> float:
        rng, evidence = np.random.default_rng(5), Evidence(0)
        for i in range(sessions):
            for failed in (rng.random(5) < control).tolist():
                evidence.take(Sample(NEW, False, "as1", set_up=not failed), i)
            evidence.take(Sample(NEW, True, "as1", set_up=bool(rng.random() >= canary)), i)
        return evidence.worth

    assert worth(0.04, 0.004) > 1_000
    assert worth(0.004, 0.004) < 1.5
    assert worth(0.04, 0.04) < 3  # everybody fails: not its fault


def test_ranks_and_intervals() -> None:
    assert rank_among(5, [1, 5, 5, 9]) == 0.5 and rank_among(0, [1, 2]) == 0 and rank_among(9, [1, 2]) == 1
    assert upper_share(0, 0) == 0 and upper_share(0, 400, 3.0) == pytest.approx(0.022, abs=0.001)
    assert upper_share(4, 400, 2.0) == pytest.approx(0.0254, abs=0.001)
