"""After any sequence of changed links, the repaired answer equals a full solve bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.core.kernel import Incremental, NegativeCycle, fallback, solve_context
from router.core.kernel.engine import ENGINE, Engine
from router.core.tables import NO_COST

ENGINES = [fallback] if ENGINE is fallback else [ENGINE, fallback]


def equal_to_full(incremental: Incremental, cost: np.ndarray, may_relay: np.ndarray, most: int, toll: int) -> bool:
    total, relays = solve_context(cost, may_relay, most, toll)
    return bool((incremental.total == total).all() and (incremental.relays == relays).all())


def change(cost: np.ndarray, links: list[tuple[int, int, int]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    for s, t, new in links:
        if s != t:
            cost[s, t] = new
    columns = np.array(links, np.int64).reshape(-1, 3)
    return columns[:, 0], columns[:, 1], columns[:, 2]


@settings(max_examples=150, deadline=None)
@given(st.data(), st.integers(1, 7), st.integers(0, 3), st.sampled_from([0, 1, 4]), st.booleans())
def test_any_sequence_of_changes(data: st.DataObject, n: int, most: int, toll: int, skewed: bool) -> None:
    """Few distinct costs make many ties; skewed clocks make costs negative; links vanish and come back."""
    costs = st.one_of(
        st.just(None), st.sampled_from([0, 1, 2, 3, 5, 9, (1 << 27) - 1, 1 << 27, 1 << 38, (1 << 39) - 1])
    )
    clocks = data.draw(st.lists(st.integers(-30, 30), min_size=n, max_size=n)) if skewed else [0] * n

    def seen(s: int, t: int, cost: int | None) -> int:
        return int(NO_COST) if cost is None else cost + clocks[t] - clocks[s]

    values = data.draw(st.lists(costs, min_size=n * n, max_size=n * n))
    cost = np.array([seen(x // n, x % n, v) for x, v in enumerate(values)], np.int64).reshape(n, n)
    np.fill_diagonal(cost, NO_COST)
    allowed = np.array(data.draw(st.lists(st.booleans(), min_size=n, max_size=n)), bool)
    repaired = [Incremental(cost, allowed, most, toll, engine=engine) for engine in ENGINES]
    vertex = st.integers(0, n - 1)
    for links in data.draw(st.lists(st.lists(st.tuples(vertex, vertex, costs), max_size=4), max_size=4)):
        changed = change(cost, [(s, t, seen(s, t, c)) for s, t, c in links])
        for incremental in repaired:
            incremental.update(*changed)
            assert equal_to_full(incremental, cost, allowed, most, toll)


@pytest.mark.parametrize("most", [1, 2, 3])
@pytest.mark.parametrize("engine", ENGINES, ids=lambda engine: engine.__name__.rsplit(".", 1)[-1])
def test_a_larger_world_link_by_link_and_in_batches(most: int, engine: Engine) -> None:
    rng = np.random.default_rng(most)
    n, toll = 90, 500
    cost = rng.integers(20, 300, (n, n)) * 1000  # coarse: ties are common
    np.fill_diagonal(cost, NO_COST)
    allowed = rng.random(n) < 0.9
    incremental = Incremental(cost, allowed, most, toll, engine=engine)
    for count in (1, 1, 1, 1, 10, 60):
        source, target = rng.integers(0, n, (2, count))
        factor = rng.choice([0.3, 0.9, 1.0, 1.7, 1e9], count)
        links = [
            (int(s), int(t), int(min(cost[s, t], 10**6) * f)) for s, t, f in zip(source, target, factor, strict=True)
        ]
        assert incremental.update(*change(cost, links))
        assert equal_to_full(incremental, cost, allowed, most, toll)


def test_the_busiest_relay_becomes_dear_and_cheap_again() -> None:
    rng = np.random.default_rng(4)
    n = 70
    cost = rng.integers(100_000, 200_000, (n, n))
    cost[:, 5] = cost[5, :] = 20_000
    np.fill_diagonal(cost, NO_COST)
    everyone = np.ones(n, bool)
    incremental = Incremental(cost, everyone, 3, 0)
    assert (incremental.relays == 5).sum() > n * n // 2
    others = [t for t in range(n) if t != 5]
    for new in (900_000, 20_000):
        incremental.update(*change(cost, [(5, t, new) for t in others]))
        assert equal_to_full(incremental, cost, everyone, 3, 0)
        assert ((incremental.relays == 5).sum() > n * n // 2) == (new == 20_000)


def test_many_changes_are_solved_anew() -> None:
    rng = np.random.default_rng(8)
    n = 20
    cost = rng.integers(1, 99, (n, n))
    np.fill_diagonal(cost, NO_COST)
    everyone = np.ones(n, bool)
    incremental = Incremental(cost, everyone, 1, 0)
    source, target = np.nonzero(cost < NO_COST)
    few = [(int(s), int(t), 50) for s, t in zip(source[:n], target[:n], strict=True)]
    assert incremental.update(*change(cost, few))
    assert equal_to_full(incremental, cost, everyone, 1, 0)
    many = [(int(s), int(t), 7) for s, t in zip(source, target, strict=True)]
    assert not incremental.update(*change(cost, many))
    assert equal_to_full(incremental, cost, everyone, 1, 0)


def test_costs_that_become_negative_are_solved_anew_and_a_negative_cycle_can_be_undone() -> None:
    cost = np.array([[NO_COST, 5, 9], [5, NO_COST, 9], [9, 9, NO_COST]], np.int64)
    everyone = np.ones(3, bool)
    incremental = Incremental(cost, everyone, 2, 0)
    assert not incremental.update(*change(cost, [(0, 1, -4)]))
    assert equal_to_full(incremental, cost, everyone, 2, 0)
    assert incremental.total[0, 1] == -4
    assert incremental.update(*change(cost, [(0, 2, 100)]))
    assert incremental.total[0, 2] == 5  # over 1
    with pytest.raises(NegativeCycle):
        incremental.update(*change(cost, [(1, 0, 3)]))
    assert not incremental.update(*change(cost, [(1, 0, 5)]))
    assert equal_to_full(incremental, cost, everyone, 2, 0)


@pytest.mark.parametrize("engine", ENGINES, ids=lambda engine: engine.__name__.rsplit(".", 1)[-1])
def test_changes_that_make_no_sense_are_refused_and_change_nothing(engine: Engine) -> None:
    cost = np.array([[NO_COST, 5], [6, NO_COST]], np.int64)
    everyone = np.ones(2, bool)
    incremental = Incremental(cost, everyone, 1, 0, engine=engine)
    for source, target in (([0], [2]), ([-1], [0]), ([0, 1], [1])):
        with pytest.raises(ValueError, match=r"outside|shapes"):
            incremental.update(np.array(source), np.array(target), np.full(len(source), 3))
    assert incremental.update(np.array([0]), np.array([0]), np.array([3]))  # a link to oneself is no link
    assert incremental.update(*(np.empty(0, np.int64),) * 3)
    assert equal_to_full(incremental, cost, everyone, 1, 0)
