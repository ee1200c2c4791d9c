"""The array kernel against brute force and networkx: ties, missing links, negative costs, relay limits."""

from __future__ import annotations

from itertools import pairwise, permutations

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.core.kernel import path_cost, solve_context
from router.core.tables import DIRECT, NO_COST


def brute_force(cost: np.ndarray, may_relay: np.ndarray, max_relays: int, relay_cost: int) -> np.ndarray:
    n = cost.shape[0]
    best = np.full((n, n), NO_COST, np.int64)
    for s, t in permutations(range(n), 2):
        inner = [k for k in range(n) if k not in (s, t) and may_relay[k]]
        for r in range(max_relays + 1):
            for middle in permutations(inner, r):
                path = (s, *middle, t)
                hops = [int(cost[a, b]) for a, b in pairwise(path)]
                if max(hops) < NO_COST:
                    best[s, t] = min(best[s, t], sum(hops) + relay_cost * r)
    return best


@st.composite
def graphs(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, int, int]:
    n = draw(st.integers(1, 6))
    values = draw(st.lists(st.one_of(st.none(), st.integers(0, 30)), min_size=n * n, max_size=n * n))
    cost = np.array([NO_COST if v is None else v * 1000 for v in values], np.int64).reshape(n, n)
    offsets = np.array(draw(st.lists(st.integers(-900_000, 900_000), min_size=n, max_size=n)), np.int64)
    skewed = np.where(cost < NO_COST, cost + offsets[None, :] - offsets[:, None], NO_COST)
    np.fill_diagonal(skewed, NO_COST)
    allowed = np.array(draw(st.lists(st.booleans(), min_size=n, max_size=n)), bool)
    return skewed, allowed, draw(st.integers(0, 2)), draw(st.integers(1, 700))


@settings(max_examples=150, deadline=None)
@given(graphs())
def test_equals_brute_force_and_recovers_the_relays(graph: tuple[np.ndarray, np.ndarray, int, int]) -> None:
    cost, allowed, max_relays, relay_cost = graph
    total, relays = solve_context(cost, allowed, max_relays, relay_cost)
    assert (total == brute_force(cost, allowed, max_relays, relay_cost)).all()
    reachable = total < NO_COST
    assert (path_cost(cost, relays, relay_cost)[reachable] == total[reachable]).all()
    used = relays[reachable]
    assert all(allowed[k] for k in used.ravel() if k != DIRECT)
    assert not ((used[:, 0] == DIRECT) & (used[:, 1] != DIRECT)).any()


def test_networkx_is_never_cheaper_where_two_relays_suffice() -> None:
    rng = np.random.default_rng(7)
    n = 14
    cost = rng.integers(5_000, 200_000, (n, n)).astype(np.int64)
    np.fill_diagonal(cost, NO_COST)
    total, _ = solve_context(cost, np.ones(n, bool), 2, 0)
    graph = nx.DiGraph()
    graph.add_weighted_edges_from((s, t, int(cost[s, t])) for s in range(n) for t in range(n) if s != t)
    compared = 0
    for s, paths in nx.all_pairs_dijkstra(graph):
        lengths, routes = paths
        for t, length in lengths.items():
            if s != t:
                assert length <= total[s, t]
                if len(routes[t]) <= 4:
                    assert length == total[s, t]
                    compared += 1
    assert compared > n * n // 2


def test_ties_prefer_fewer_relays_then_the_smallest_relay() -> None:
    cost = np.full((4, 4), 10, np.int64)
    np.fill_diagonal(cost, NO_COST)
    cost[0, 3] = 20
    _, relays = solve_context(cost, np.ones(4, bool), 2, 0)
    assert relays[0, 3].tolist() == [DIRECT, DIRECT]  # equal to going over 1 or 2: direct wins
    cost[0, 3] = 21
    _, relays = solve_context(cost, np.ones(4, bool), 2, 0)
    assert relays[0, 3].tolist() == [1, DIRECT]


@pytest.mark.parametrize("n", [0, 1, 2])
def test_tiny_graphs(n: int) -> None:
    cost = np.full((n, n), NO_COST, np.int64)
    total, relays = solve_context(cost, np.ones(n, bool), 2, 0)
    assert total.shape == (n, n) and relays.shape == (n, n, 2)
    assert (total == NO_COST).all()
