"""Backups against brute force: which alternatives a pair keeps, whatever path is in force."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise, permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from worlds import snapshot

from router.core.solve import solve
from router.core.solve.backups import NONE, SPARES, Protects, choose, find_spares
from router.core.tables import DIRECT, I16, I64, NO_COST, Bool

FAR = int(NO_COST)


@st.composite
def worlds(draw: st.DrawFn) -> tuple[I64, Bool, I16, int]:
    """Costs with ties, zeros, missing links and clocks that are off; relays; providers; the cost of a relay."""
    n = draw(st.integers(2, 9))
    links = draw(st.lists(st.one_of(st.integers(0, 6), st.just(FAR)), min_size=n * n, max_size=n * n))
    clocks = np.array(draw(st.lists(st.integers(-20, 20), min_size=n, max_size=n)), np.int64)
    cost = np.array(links, np.int64).reshape(n, n)
    cost = np.where(cost < NO_COST, cost + clocks[None, :] - clocks[:, None], NO_COST)
    np.fill_diagonal(cost, NO_COST)
    may_relay = np.array(draw(st.lists(st.booleans(), min_size=n, max_size=n)), np.bool_)
    provider = np.array(draw(st.lists(st.integers(0, 7), min_size=n, max_size=n)), np.int16)
    return cost, may_relay, provider, draw(st.integers(0, 2))


def options(cost: I64, may_relay: Bool, toll: int, u: int, v: int) -> list[tuple[int, int]]:
    """All paths with at most one relay as (metric, relay), best first."""
    found = [(int(cost[u, v]), DIRECT)] if cost[u, v] < NO_COST else []
    for k in np.flatnonzero(may_relay).tolist():
        if k not in (u, v) and cost[u, k] < NO_COST and cost[k, v] < NO_COST:
            found.append((int(cost[u, k] + cost[k, v]) + toll, k))
    return sorted(found)


def expected(found: list[tuple[int, int]], path: tuple[int, ...], provider: I16) -> list[tuple[int, Protects]]:
    """The definition, word by word."""
    used, links = path[1:-1], list(pairwise(path))
    lost = {int(provider[k]) for k in used}
    best: dict[int, tuple[int, int]] = {}
    for metric, k in found:
        if k == DIRECT and used:
            best[-1] = (metric, k)
        elif k != DIRECT and int(provider[k]) not in lost:
            best.setdefault(int(provider[k]), (metric, k))
    first = sorted(best.values())[:3]
    others = []
    for metric, k in found:
        if k == DIRECT or (metric, k) in best.values():
            continue
        if k in used:
            if (path[0], k) not in links and (k, path[-1]) not in links:
                others.append((Protects.LINK, metric, k))
        else:
            others.append((Protects.DATA_CENTER if int(provider[k]) in lost else Protects.PROVIDER, metric, k))
    others.sort(key=lambda o: (o[0] is Protects.LINK, o[1:]))
    fill = sorted(others[: 3 - len(first)])
    return [(k, Protects.PROVIDER) for _, k in first] + [(k, grade) for grade, _, k in fill]


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(worlds())
def test_backups_of_every_path_with_at_most_one_relay_are_those_of_brute_force(
    world: tuple[I64, Bool, I16, int],
) -> None:
    cost, may_relay, provider, toll = world
    spares = find_spares(cost, may_relay, 2, toll, provider)
    for u, v in permutations(range(len(cost)), 2):
        found = options(cost, may_relay, toll, u, v)
        metric = {k: value for value, k in found}
        for _, relay in found:
            path = (u, v) if relay == DIRECT else (u, relay, v)
            got = choose(spares[u, v].tolist(), path, provider, lambda k, metric=metric: metric[k])
            assert got == expected(found, path, provider)
            assert relay not in [k for k, _ in got]


@settings(max_examples=100, deadline=None)
@given(worlds(), st.integers(2, 3))
def test_provider_disjoint_backups_of_longer_paths_are_exact_too(
    world: tuple[I64, Bool, I16, int], length: int
) -> None:
    cost, may_relay, provider, toll = world
    spares = find_spares(cost, may_relay, length, toll, provider)
    for u, v in permutations(range(min(len(cost), 4)), 2):
        found = options(cost, may_relay, toll, u, v)
        metric = {k: value for value, k in found}
        between = [k for k in range(len(cost)) if k not in (u, v)]
        for used in list(permutations(between, length))[:20]:
            path = (u, *used, v)
            got = choose(spares[u, v].tolist(), path, provider, lambda k, metric=metric: metric[k])
            wanted = expected(found, path, provider)
            lost = {int(provider[k]) for k in used}
            disjoint = 1 * (cost[u, v] < NO_COST) + len({int(provider[k]) for _, k in found if k != DIRECT} - lost)
            assert got[: min(3, disjoint)] == wanted[: min(3, disjoint)]
            assert len(got) == len(wanted) and [grade for _, grade in got] == sorted(grade for _, grade in got)


def full_mesh(n: int) -> I64:
    cost = np.random.default_rng(5).integers(1_000, 90_000, (n, n))
    np.fill_diagonal(cost, FAR)
    return cost


@pytest.mark.parametrize("providers", [1, 2, 3, 8])
def test_everybody_has_three_backups_and_a_spare_for_every_relay_of_a_path(providers: int) -> None:
    n = 40
    cost, provider = full_mesh(n), (np.arange(n) % providers).astype(np.int16)
    spares = find_spares(cost, np.ones(n, np.bool_), 2, 500, provider)
    assert spares.shape == (n, n, SPARES) and spares.dtype == np.int16
    off = ~np.eye(n, dtype=np.bool_)
    assert (spares[off][:, :5] != NONE).all() and (spares[off][:, 5:] == NONE).all()
    assert (spares[~off] == NONE).all()


def test_without_relays_the_direct_path_is_all_there_is() -> None:
    spares = find_spares(full_mesh(5), np.ones(5, np.bool_), 0, 0, np.zeros(5, np.int16))
    assert spares[1, 2].tolist() == [DIRECT, *[NONE] * 5]
    assert choose(spares[1, 2].tolist(), (1, 2), np.zeros(5), lambda k: 0) == []


def test_a_relay_of_the_path_protects_a_link_only_where_it_shares_none() -> None:
    provider = np.zeros(6, np.int16)
    over = [1, 2, 3, NONE]
    assert choose(over, (0, 1, 2, 3, 5), provider, lambda k: k) == [(2, Protects.LINK)]
    assert choose(over, (0, 1, 2, 5), provider, lambda k: k) == [(3, Protects.DATA_CENTER)]


def test_the_solver_finds_them_for_every_context_even_while_clocks_contradict_each_other() -> None:
    cost = full_mesh(6)
    cost[0, 1], cost[1, 0] = -50_000, 20_000  # there and back in less than no time
    plain = snapshot(cost, relay_cost_us=500)
    assert (solve(plain).spares == NONE).all()  # no providers, no backups
    provider = np.array([0, 0, 1, 1, 2, 2], np.int16)
    answer = solve(replace(plain, provider=provider))
    assert answer.spares.shape == (1, 6, 6, SPARES)
    assert (
        answer.spares[0, 0, 1] == find_spares(np.maximum(cost, 0), np.ones(6, np.bool_), 2, 500, provider)[0, 1]
    ).all()
