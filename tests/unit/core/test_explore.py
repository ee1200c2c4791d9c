"""Where probes go: to what users would take if only it were known, never beyond the budget, the same every time."""

from __future__ import annotations

import numpy as np

from router.core.explore import Choice, choose, link_values
from router.core.predict import Prediction, Provenance, nothing_known


def belief(mean: np.ndarray, log_sd: np.ndarray, age: np.ndarray | None = None, measured: bool = True) -> Prediction:
    kind = Provenance.MEASURED if measured else Provenance.PREDICTED
    known = np.isfinite(mean)
    factor = np.exp(1.645 * log_sd)
    years = np.zeros_like(mean) if age is None else age
    return Prediction(
        mean, mean / factor, mean * factor, mean, years, np.where(known, kind, Provenance.UNKNOWN).astype(np.uint8)
    )


def mesh(n: int, mean: float = 100_000.0) -> np.ndarray:
    delay = np.full((n, n), mean)
    np.fill_diagonal(delay, np.nan)
    return delay


def links(choice: Choice) -> list[tuple[int, int]]:
    return list(zip(choice.source.tolist(), choice.target.tolist(), strict=True))


def test_never_more_than_the_budget_never_twice_never_what_is_forbidden() -> None:
    n = 12
    rng = np.random.default_rng(3)
    mean = rng.uniform(10_000, 90_000, (n, n))
    np.fill_diagonal(mean, np.nan)
    may = rng.random((n, n)) < 0.5
    for budget in (0, 1, 7, 40, 10_000):
        chosen = links(choose(belief(mean, np.full((n, n), 0.2)), may, budget, 0))
        assert len(chosen) == min(budget, int((may & ~np.eye(n, dtype=bool)).sum()))
        assert len(set(chosen)) == len(chosen)
        assert all(may[s, t] and s != t for s, t in chosen)


def test_negative_budget_and_empty_worlds() -> None:
    assert links(choose(nothing_known(5), np.ones((5, 5), bool), -3, 0)) == []
    assert links(choose(nothing_known(0), np.ones((0, 0), bool), 9, 0)) == []
    assert links(choose(nothing_known(1), np.ones((1, 1), bool), 9, 0)) == []


def test_the_doubtful_links_of_a_hub_that_carries_everything_come_first() -> None:
    n = 9
    mean, doubt = mesh(n), np.full((n, n), 0.1)
    mean[0, 1:] = mean[1:, 0] = 10_000  # every best path goes over node 0
    chosen = choose(belief(mean, doubt), np.ones((n, n), bool), 16, 0)
    hub = [(s, t) for s, t in links(chosen) if 0 in (s, t)]
    assert len(hub) >= 14
    assert (np.diff(chosen.value_us) <= 0).all()


def test_what_is_certain_is_not_asked_again() -> None:
    n = 6
    values = link_values(belief(mesh(n), np.zeros((n, n))), 10, caution=1.0)
    assert not values.any()


def test_a_link_no_best_path_would_take_is_worth_nothing() -> None:
    n = 6
    mean, doubt = mesh(n, 10_000.0), np.full((n, n), 0.1)
    mean[2, 3] = 500_000.0  # even if it is as good as may be, any detour is better
    doubt[2, 3] = 0.5
    values = link_values(belief(mean, doubt), 30, caution=1.0)
    assert values[2, 3] == 0
    assert values[3, 2] > 0


def test_never_measured_links_are_given_the_benefit_of_the_doubt() -> None:
    n = 5
    mean, doubt = mesh(n, 100_000.0), np.zeros((n, n))
    mean[0, 2] = mean[2, 1] = 51_000.0  # 102 ms over node 2 against 100 ms: hopeless unless better than its mean
    doubt[0, 2] = doubt[2, 1] = 0.2
    guess = link_values(belief(mean, doubt, measured=False), 10, caution=1.0)
    known = link_values(belief(mean, doubt), 10, caution=1.0)
    assert guess[0, 2] > known[0, 2]


def test_the_reserve_asks_everything_in_the_end_oldest_first() -> None:
    n = 8
    age = np.arange(64.0).reshape(n, n)
    sure = belief(mesh(n), np.zeros((n, n)), age)
    oldest = links(choose(sure, np.ones((n, n), bool), 5, 0))
    assert set(oldest) == {(7, 6), (7, 5), (7, 4), (7, 3), (7, 2)}
    asked = set()
    for turn in range(60):
        asked |= set(links(choose(nothing_known(n), np.ones((n, n), bool), 10, turn)))
    assert len(asked) == n * (n - 1)


def test_never_measured_is_older_than_anything() -> None:
    n = 6
    mean = mesh(n)
    some = belief(mean, np.zeros((n, n)), np.full((n, n), 1e12))
    kind = some.provenance.copy()
    kind[4, 2] = Provenance.PREDICTED
    unread = Prediction(some.mean_us, some.low_us, some.high_us, some.detour_us, np.zeros((n, n)), kind)
    assert links(choose(unread, np.ones((n, n), bool), 1, 0)) == [(4, 2)]


def test_one_direction_is_enough_where_both_are_the_same() -> None:
    n = 9
    rng = np.random.default_rng(1)
    mean = rng.uniform(10_000, 90_000, (n, n))
    mean = (mean + mean.T) / 2
    np.fill_diagonal(mean, np.nan)
    chosen = links(choose(belief(mean, np.full((n, n), 0.2)), np.ones((n, n), bool), 99, 0, both_ways=True))
    assert {tuple(sorted(pair)) for pair in chosen} == {(a, b) for b in range(n) for a in range(b)}
    assert len(chosen) == n * (n - 1) // 2
    only_up = np.triu(np.ones((n, n), bool), 1)
    assert all(s < t for s, t in links(choose(belief(mean, mean * 0), only_up, 99, 0, both_ways=True)))


def test_a_smaller_budget_concentrates_on_fewer_links() -> None:
    n, rng = 14, np.random.default_rng(7)
    mean = mesh(n)
    for hub in (0, 1, 2):  # three hubs alike: without a limit each pair takes the one that happens to be best for it
        mean[hub, 3:], mean[3:, hub] = rng.uniform(9_000, 11_000, (2, n - 3))
    now = belief(mean, np.full((n, n), 0.5))
    worth = [np.sort(link_values(now, count, caution=1.0), axis=None)[::-1] for count in (20, n * n)]
    few, unlimited = (w[:20].sum() / w.sum() for w in worth)
    assert few > 1.02 * unlimited  # equal if links did not compete


def test_the_same_question_gets_the_same_answer() -> None:
    n = 15
    mean = np.random.default_rng(2).uniform(10_000, 90_000, (n, n))
    np.fill_diagonal(mean, np.nan)
    now = belief(mean, np.full((n, n), 0.3))
    first, second = (choose(now, np.ones((n, n), bool), 30, 4) for _ in range(2))
    assert links(first) == links(second)
    assert links(choose(now, np.ones((n, n), bool), 30, 5)) != links(first)  # the reserve moved on
