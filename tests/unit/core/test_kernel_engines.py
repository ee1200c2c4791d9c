"""All engines, instruction sets and thread counts give the same arrays, also where costs do not fit 32 bits."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.core.kernel import COMPILED, UNREACHABLE, alternatives, fallback, solve_context, unlimited
from router.core.kernel.engine import ENGINE, Engine
from router.core.tables import DIRECT, NO_COST

LIMIT = int(UNREACHABLE)
needs_compiler = pytest.mark.skipif(not COMPILED, reason="the compiled engine was not built")


def forms() -> list[str]:
    """Instruction sets of the compiled engine that this machine can run; none without the engine."""
    if not COMPILED:
        return []
    from router.core import _kernel

    usable = []
    for name in ("portable", "avx2", "avx512"):
        try:
            usable.append(_kernel.use(name))
        except ValueError:
            continue
    _kernel.use("")
    return usable


def each_engine() -> Iterator[tuple[str, Engine]]:
    """Every way to compute, the narrow and the wide form of numpy included."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fallback, "OPERAND_LIMIT", 0)
        yield "numpy, 64 bits", fallback
    yield "numpy", fallback
    for name in forms():
        from router.core import _kernel

        _kernel.use(name)
        try:
            yield name, _kernel
        finally:
            _kernel.use("")


def literal(cost: np.ndarray, allowed: np.ndarray, toll: int) -> tuple[np.ndarray, np.ndarray]:
    """At most one relay, by writing all sums down."""
    n = len(cost)
    links = np.where(cost < LIMIT, cost, 4 * LIMIT)
    np.fill_diagonal(links, 4 * LIMIT)
    sums = links[:, :, None] + links[None, :, :] + np.where(allowed, toll, 4 * LIMIT)[None, :, None]
    via, relay = sums.min(axis=1), sums.argmin(axis=1)
    relayed = (via < links) & (via < LIMIT) & ~np.eye(n, dtype=bool)
    total = np.where(relayed, via, links)
    return np.where(total < LIMIT, total, NO_COST), np.where(relayed, relay, DIRECT)


def assert_same(compute: Callable[[Engine], tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    answers = [(name, *compute(engine)) for name, engine in each_engine()]
    _, total, relay = answers[0]
    for name, other_total, other_relay in answers[1:]:
        assert (other_total == total).all(), name
        assert (other_relay == relay).all(), name
    return total, relay


def edge_costs(n: int) -> list[int]:
    """Costs around every border: what fits into a packed operand, what counts as a link, what int64 holds."""
    clamp = fallback.OPERAND_LIMIT >> n.bit_length()
    near = [clamp // 2, clamp - 701, clamp - 700, clamp - 1, clamp, clamp + 1, 2 * clamp, 3 * clamp]
    return [0, 0, 1, *near, 7_000_000, 1 << 38, LIMIT - 1, LIMIT, int(NO_COST) - 1, int(NO_COST), 1 << 62]


@settings(max_examples=120, deadline=None)
@given(st.integers(1, 9), st.sampled_from([0, 1, 700, 1 << 26, 1 << 38]), st.data())
def test_costs_at_every_border(n: int, toll: int, data: st.DataObject) -> None:
    cost = np.array(
        data.draw(st.lists(st.sampled_from(edge_costs(n)), min_size=n * n, max_size=n * n)), np.int64
    ).reshape(n, n)
    allowed = np.array(data.draw(st.lists(st.booleans(), min_size=n, max_size=n)), bool)
    total, relays = assert_same(lambda engine: solve_context(cost, allowed, 1, toll, engine=engine))
    expected_total, expected_relay = literal(cost, allowed, toll)
    assert (total == expected_total).all() and (relays[:, :, 0] == expected_relay).all()
    for most in (0, 2, 3):
        assert_same(lambda engine, most=most: solve_context(cost, allowed, most, toll, engine=engine))
    group = (np.arange(n) % 3).astype(np.int16)
    assert_same(lambda engine: alternatives(cost, allowed, toll, group, engine=engine))
    assert_same(lambda engine: unlimited(cost, allowed, toll, engine=engine))


def test_a_half_path_that_only_its_relay_cost_makes_too_long_to_pack() -> None:
    n, toll = 4, 700
    cost = np.full((n, n), NO_COST, np.int64)
    half = (fallback.OPERAND_LIMIT >> n.bit_length()) - 300
    cost[0, 1], cost[1, 2], cost[2, 3] = half - toll - 9, 9, 5
    for name, engine in each_engine():
        for most in (2, 3):
            total, relays = solve_context(cost, np.ones(n, bool), most, toll, engine=engine)
            assert (int(total[0, 3]), relays[0, 3].tolist()) == (half + toll + 5, [1, 2, DIRECT]), name


@pytest.mark.slow
@pytest.mark.parametrize("n", [1023, 1024, 1025, 2000])
def test_relay_numbers_that_need_one_more_bit(n: int) -> None:
    """Few relays (so that numpy is quick), the highest index among them; costs on both sides of the clamp."""
    rng = np.random.default_rng(n)
    choices = np.array([0, 3, 50, *edge_costs(n)], np.int64)
    cost = choices[rng.integers(0, len(choices), (n, n))]
    allowed = np.zeros(n, bool)
    allowed[[0, 511, n - 1]] = True
    oracle = solve_context(cost, allowed, 1, 700, engine=fallback)
    assert oracle[0].min() >= 0  # nothing overflowed
    assert (oracle[1] == n - 1).any() and (oracle[1] == 0).any()
    for name, engine in each_engine():
        if engine is not fallback:
            total, relays = solve_context(cost, allowed, 1, 700, engine=engine)
            assert (total == oracle[0]).all() and (relays == oracle[1]).all(), name


@pytest.mark.parametrize("n", [1, 7, 8, 47, 48, 49, 97, 130])
def test_sizes_around_the_tiles(n: int) -> None:
    rng = np.random.default_rng(n)
    cost = rng.integers(0, 40, (n, n)).astype(np.int64)  # many ties
    cost[rng.random((n, n)) < 0.5] = NO_COST
    allowed = rng.random(n) < 0.8
    group = rng.integers(-5, 5, n).astype(np.int16)
    for most in range(4):
        assert_same(lambda engine, most=most: solve_context(cost, allowed, most, 1, engine=engine))
    assert_same(lambda engine: alternatives(cost, allowed, 1, group, engine=engine))
    assert_same(lambda engine: alternatives(cost, allowed, 1, np.arange(n, dtype=np.int16), engine=engine))
    assert_same(lambda engine: unlimited(cost, allowed, 1, engine=engine))


def test_negative_costs_and_one_remote_data_center() -> None:
    """Clocks hours apart, and links of several seconds to one vertex, in one graph."""
    rng = np.random.default_rng(11)
    n = 60
    clocks = rng.integers(-(10**10), 10**10, n)
    cost = rng.integers(1_000, 300_000, (n, n))
    cost[:, 7] += 90_000_000
    cost = cost + clocks[None, :] - clocks[:, None]
    everyone, group = np.ones(n, bool), (np.arange(n) % 4).astype(np.int16)
    total, _ = assert_same(lambda engine: solve_context(cost, everyone, 3, 500, engine=engine))
    real = total + clocks[:, None] - clocks[None, :]
    assert (real[~np.eye(n, dtype=bool)] > 0).all()
    assert_same(lambda engine: alternatives(cost, everyone, 500, group, engine=engine))
    assert_same(lambda engine: unlimited(cost, everyone, 500, engine=engine))


@needs_compiler
def test_threads_do_not_change_the_answer() -> None:
    rng = np.random.default_rng(5)
    n = 300
    cost = rng.integers(0, 5_000_000, (n, n)).astype(np.int64)  # about half too long to pack
    allowed, group = rng.random(n) < 0.9, (np.arange(n) % 8).astype(np.int16)
    for compute in (
        lambda threads: solve_context(cost, allowed, 1, 9, threads),
        lambda threads: solve_context(cost, allowed, 3, 9, threads),
        lambda threads: alternatives(cost, allowed, 9, group, threads),
        lambda threads: unlimited(cost, allowed, 9, threads),
    ):
        one = compute(1)
        for threads in (2, 3, 200):
            assert all((a == b).all() for a, b in zip(one, compute(threads), strict=True))


@needs_compiler
def test_the_compiled_engine_refuses_what_does_not_fit() -> None:
    n = 4
    cost, everyone = np.zeros((n, n), np.int64), np.ones(n, bool)
    best, relay = np.empty((n, n), np.int64), np.empty((n, n), np.int16)

    def call(**changed: object) -> int:
        order = ["head", "left", "right", "may_relay", "toll", "limit", "threads", "best", "relay"]
        given = dict(zip(order, (cost, cost, cost, everyone, 0, LIMIT, 1, best, relay), strict=True)) | changed
        return ENGINE.product(*given.values())  # type: ignore[arg-type]

    assert call() == 0
    locked = best.copy()
    locked.flags.writeable = False
    for wrong in (
        {"left": cost[:3]},
        {"left": cost.astype(np.int32)},
        {"left": cost.astype(float)},
        {"right": np.zeros((n, 2 * n), np.int64)[:, ::2]},
        {"may_relay": everyone.astype(np.uint8)},
        {"may_relay": np.ones(n + 1, bool)},
        {"best": best.T[:, :2]},
        {"best": locked},
        {"relay": np.empty((n, n, 2), np.int16)},
        {"relay": [[0] * n] * n},
        {"toll": -1},
        {"limit": 0},
        {"limit": 1 << 60},
        {"threads": 0},
    ):
        with pytest.raises(ValueError, match=r"array|dimensions|threads"):
            call(**wrong)
    bad = np.full((n, n), n, np.int16)
    with pytest.raises(ValueError, match="hold vertices"):
        ENGINE.compose(bad, bad, 3, 1, np.empty((n, n, 3), np.int16))
    with pytest.raises(ValueError, match="outside"):
        ENGINE.place(best, best, np.array([0]), np.array([n]), np.array([1]), LIMIT, np.empty(1, np.int64))


def test_a_negative_operand_is_reported_not_computed() -> None:
    cost = np.array([[0, -1], [5, 0]], np.int64)
    best, relay = np.empty((2, 2), np.int64), np.empty((2, 2), np.int16)
    for _, engine in each_engine():
        zero, everyone = np.zeros((2, 2), np.int64), np.ones(2, bool)
        for operands in ((cost, zero, zero), (zero, cost, zero), (zero, zero, cost)):
            assert engine.product(*operands, everyone, 0, LIMIT, 1, best, relay) == -1
