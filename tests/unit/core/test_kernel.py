"""Best paths against brute force and networkx: ties, missing and free links, negative costs, every relay limit."""

from __future__ import annotations

from itertools import pairwise, permutations, product

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.core.kernel import NegativeCycle, alternatives, johnson, path_cost, solve_context, unlimited
from router.core.tables import DIRECT, NO_COST

Graph = tuple[np.ndarray, np.ndarray, int]


def all_paths(cost: np.ndarray, may_relay: np.ndarray, most: int, toll: int) -> dict[tuple[int, int], list[tuple]]:
    """Every simple path with at most ``most`` relays as (cost, relays), by pair."""
    n = len(cost)
    found: dict[tuple[int, int], list[tuple]] = {(s, t): [] for s, t in permutations(range(n), 2)}
    for (s, t), paths in found.items():
        inner = [k for k in range(n) if k not in (s, t) and may_relay[k]]
        for r in range(most + 1):
            for middle in permutations(inner, r):
                hops = [int(cost[a, b]) for a, b in pairwise((s, *middle, t))]
                if max(hops) < NO_COST:
                    paths.append((sum(hops) + toll * r, middle))
    return found


def chosen_by_order(cost: np.ndarray, may_relay: np.ndarray, most: int, toll: int) -> dict[tuple[int, int], tuple]:
    """The documented total order, product by product, in plain Python."""
    pairs = list(permutations(range(len(cost)), 2))
    links = {(i, j): (int(cost[i, j]), ()) for i, j in pairs if cost[i, j] < NO_COST}

    def multiply(head: dict, left: dict, right: dict) -> dict:
        best = dict(head)
        for (i, j), k in product(pairs, np.flatnonzero(may_relay).tolist()):
            if (i, k) in left and (k, j) in right:
                through = left[i, k][0] + toll + right[k, j][0]
                if (i, j) not in best or through < best[i, j][0]:
                    best[i, j] = (through, (*left[i, k][1], k, *right[k, j][1]))
        return best

    once = multiply(links, links, links) if most else links
    return {0: lambda: links, 1: lambda: once, 2: lambda: multiply(once, once, links)}.get(
        most, lambda: multiply(once, once, once)
    )()


@st.composite
def graphs(draw: st.DrawFn, most_vertices: int = 6, largest: int = 30, negative: bool = True) -> Graph:
    n = draw(st.integers(1, most_vertices))
    values = draw(st.lists(st.one_of(st.none(), st.integers(0, largest)), min_size=n * n, max_size=n * n))
    cost = np.array([NO_COST if v is None else v * 1000 for v in values], np.int64).reshape(n, n)
    if negative and draw(st.booleans()):
        clocks = np.array(draw(st.lists(st.integers(-900_000, 900_000), min_size=n, max_size=n)), np.int64)
        cost = np.where(cost < NO_COST, cost + clocks[None, :] - clocks[:, None], NO_COST)
    np.fill_diagonal(cost, NO_COST)
    allowed = np.array(draw(st.lists(st.booleans(), min_size=n, max_size=n)), bool)
    return cost, allowed, draw(st.sampled_from([0, 0, 1, 700]))


@settings(max_examples=150, deadline=None)
@given(graphs(), st.integers(0, 3))
def test_equals_brute_force_and_recovers_the_relays(graph: Graph, most: int) -> None:
    cost, allowed, toll = graph
    total, relays = solve_context(cost, allowed, most, toll)
    by_order = chosen_by_order(cost, allowed, most, toll) if (cost >= 0).all() else None
    for (s, t), paths in all_paths(cost, allowed, most, toll).items():
        assert total[s, t] == min([c for c, _ in paths], default=NO_COST)
        used = tuple(k for k in relays[s, t].tolist() if k != DIRECT)
        if paths:
            assert (total[s, t], used) in paths  # so it is simple, permitted, and costs what is said
        if by_order is not None:
            assert used == by_order.get((s, t), (0, ()))[1]
    assert (relays[:, :, 1:][relays[:, :, :-1] == DIRECT] == DIRECT).all()
    assert (total.diagonal() == NO_COST).all()
    reachable = total < NO_COST
    assert (path_cost(cost, relays, toll)[reachable] == total[reachable]).all()


@settings(max_examples=80, deadline=None)
@given(graphs(), st.data())
def test_alternatives_are_the_best_of_three_groups(graph: Graph, data: st.DataObject) -> None:
    cost, allowed, toll = graph
    n = len(cost)
    group = np.array(data.draw(st.lists(st.integers(-2, 3), min_size=n, max_size=n)), np.int16)
    best, relay = alternatives(cost, allowed, toll, group)
    for (s, t), paths in all_paths(cost, allowed, 1, toll).items():
        by_group: dict[int, tuple[int, int]] = {}
        for total, middle in paths:
            k = middle[0] if middle else DIRECT
            name = int(group[k]) if middle else 99
            by_group[name] = min(by_group.get(name, (NO_COST, 0)), (total, k))
        expected = [*sorted(by_group.values()), *[(NO_COST, DIRECT)] * 3][:3]
        assert list(zip(best[s, t].tolist(), relay[s, t].tolist(), strict=True)) == expected
    assert (best[np.arange(n), np.arange(n)] == NO_COST).all()


@settings(max_examples=100, deadline=None)
@given(graphs(most_vertices=9, largest=3), st.booleans())
def test_unlimited_equals_networkx_and_following_it_arrives(graph: Graph, everyone: bool) -> None:
    cost, allowed, toll = graph
    allowed = allowed | everyone
    total, after = unlimited(cost, allowed, toll)
    n = len(cost)
    for s in range(n):
        walk = nx.DiGraph()  # only s and those that may relay have ways out
        walk.add_nodes_from(range(n))
        for u, v in permutations(range(n), 2):
            if cost[u, v] < NO_COST and (u == s or allowed[u]):
                walk.add_edge(u, v, weight=int(cost[u, v]) + (0 if u == s else toll))
        lengths = nx.single_source_bellman_ford_path_length(walk, s)
        for t in set(range(n)) - {s}:
            assert total[s, t] == lengths.get(t, NO_COST)
            here, spent = s, 0
            for _ in range(n):
                if here == t or total[s, t] == NO_COST:
                    break
                there = int(after[here, t])
                spent += int(cost[here, there]) + (toll if here != s else 0)
                here = there
            assert (here, spent) == (t, total[s, t]) or (after[s, t] == -1 and total[s, t] == NO_COST)


def test_networkx_is_never_cheaper_where_two_relays_suffice() -> None:
    rng = np.random.default_rng(7)
    n = 14
    cost = rng.integers(5_000, 200_000, (n, n)).astype(np.int64)
    np.fill_diagonal(cost, NO_COST)
    total, _ = solve_context(cost, np.ones(n, bool), 2, 0)
    graph = nx.DiGraph()
    graph.add_weighted_edges_from((s, t, int(cost[s, t])) for s in range(n) for t in range(n) if s != t)
    compared = 0
    for s, (lengths, routes) in nx.all_pairs_dijkstra(graph):
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
    for most in (1, 2, 3):
        _, relays = solve_context(cost, np.ones(4, bool), most, 0)
        assert relays[0, 3].tolist() == [DIRECT] * 3  # equal to going over 1 or 2: direct wins
    cost[0, 3] = 21
    for most in (1, 2, 3):
        _, relays = solve_context(cost, np.ones(4, bool), most, 0)
        assert relays[0, 3].tolist() == [1, DIRECT, DIRECT]


@pytest.mark.parametrize("n", [0, 1, 2])
def test_tiny_graphs(n: int) -> None:
    cost, everyone = np.full((n, n), NO_COST, np.int64), np.ones(n, bool)
    for most in range(4):
        total, relays = solve_context(cost, everyone, most, 0)
        assert total.shape == (n, n) and relays.shape == (n, n, 3)
        assert (total == NO_COST).all() and (relays == DIRECT).all()
    best, relay = alternatives(cost, everyone, 0, np.zeros(n, np.int16))
    assert (best == NO_COST).all() and (relay == DIRECT).all() and best.shape == (n, n, 3)
    total, after = unlimited(cost, everyone, 0)
    assert (total == NO_COST).all() and (after == -1).all()


def test_johnson_leaves_nothing_negative_and_finds_negative_cycles() -> None:
    rng = np.random.default_rng(3)
    n = 40
    clocks = rng.integers(-(10**10), 10**10, n)  # clocks hours apart
    cost = rng.integers(0, 200_000, (n, n)) + clocks[None, :] - clocks[:, None]
    np.fill_diagonal(cost, NO_COST)
    h = johnson(cost)
    off_diagonal = ~np.eye(n, dtype=bool)
    assert (cost + h[:, None] - h[None, :])[off_diagonal].min() >= 0
    cost[3, 5], cost[5, 3] = 1_000, -1_001
    for broken in (lambda: johnson(cost), lambda: solve_context(cost, np.ones(n, bool), 1, 0)):
        with pytest.raises(NegativeCycle):
            broken()


def test_arguments_out_of_range_are_refused_by_name() -> None:
    cost, everyone = np.full((2, 2), NO_COST, np.int64), np.ones(2, bool)
    with pytest.raises(ValueError, match="max_relays is 4"):
        solve_context(cost, everyone, 4, 0)
    with pytest.raises(ValueError, match="relay_cost_us is -1"):
        solve_context(cost, everyone, 1, -1)
    with pytest.raises(ValueError, match=r"cost is \(2, 2\)"):
        unlimited(cost, np.ones(3, bool), 0)
    with pytest.raises(ValueError, match="must lie above"):
        johnson(np.array([[0, -(1 << 40)], [0, 0]], np.int64))
