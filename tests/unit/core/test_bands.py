"""The band of a one-way delay: the truth is always inside, and the pair's own two differences bound how wide it is."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.core.bands import one_way_band
from router.core.tables import I64, Bool


@st.composite
def worlds(draw: st.DrawFn, complete: bool = False) -> tuple[I64, I64, I64, Bool]:
    """True delays ``[transport, from, to]``, floors ``[from, to]``, clocks ``[vertex]``, usable ``[transport, …]``."""
    n, transports, seed = draw(st.integers(2, 5)), draw(st.integers(1, 2)), draw(st.integers(0, 1 << 32))
    asymmetry, clocks, share = draw(st.sampled_from((0, 1, 300, 150_000))), draw(st.sampled_from((0, 1, 10**7))), 0.7
    rng = np.random.default_rng(seed)
    floor = np.triu(rng.integers(0, 80_000, (n, n)), 1)
    floor += floor.T
    true = floor + rng.integers(0, asymmetry + 1, (transports, n, n)) * rng.integers(0, 2, (transports, n, n))
    true[:, np.arange(n), np.arange(n)] = 0
    usable = np.triu(rng.random((transports, n, n)) < (1.0 if complete else share), 1)
    return true, floor, rng.integers(-clocks, clocks + 1, n), usable | usable.transpose(0, 2, 1)


def raw_of(true: I64, clock: I64) -> I64:
    return true + clock[None, :] - clock[:, None]


def band(true: I64, floor: I64, clock: I64, usable: Bool) -> tuple[I64, I64]:
    return one_way_band(raw_of(true, clock), true + true.transpose(0, 2, 1), floor, usable)


@settings(max_examples=80, deadline=None, derandomize=True)
@given(worlds())
def test_the_truth_is_in_the_band_whatever_the_clocks(world: tuple[I64, I64, I64, Bool]) -> None:
    true, floor, clock, usable = world
    rtt = true + true.transpose(0, 2, 1)
    middle, error = band(true, floor, clock, usable)
    links = np.broadcast_to(~np.eye(true.shape[1], dtype=bool), true.shape)
    assert (np.abs(middle - true) <= error)[links].all()
    # The pair alone leaves an interval of rtt - 2 * floor; all the others can only make it shorter.
    assert (error <= rtt - 2 * floor)[links & usable].all()
    assert (middle >= floor)[links & usable].all() and (middle <= rtt - floor)[links & usable].all()
    assert (middle == rtt // 2)[links & ~usable].all()
    assert (error <= (rtt + 1) // 2 - floor)[links & ~usable].all()


@settings(max_examples=60, deadline=None, derandomize=True)
@given(worlds(complete=True), st.integers(-(10**6), 10**6))
def test_told_delays_do_not_depend_on_the_clocks_and_keep_the_promised_width(
    world: tuple[I64, I64, I64, Bool], more: int
) -> None:
    true, floor, clock, usable = world
    told, error = band(true, floor, clock, usable)
    own = (true + true.transpose(0, 2, 1) + 1) // 2 - np.minimum(floor, (true + true.transpose(0, 2, 1)) // 2)
    assert (error <= own + 1)[usable].all()
    clock = clock.copy()
    clock[-1] += more
    assert np.abs(band(true, floor, clock, usable)[0] - told)[usable].max() <= 2


@pytest.mark.parametrize("far", [0, 6 * 3_600 * 1_000_000])
def test_islands_that_have_never_met_are_judged_by_their_own_links(far: int) -> None:
    true = np.array([[0, 9_000, 0, 0, 0], [3_000, 0, 0, 0, 0], *[[0, 0, 7_000, 7_000, 7_000]] * 3], np.int64)[None]
    usable = np.zeros((1, 5, 5), np.bool_)
    usable[0, :2, :2] = usable[0, 2:, 2:] = True
    usable[0, np.arange(5), np.arange(5)] = False
    middle, error = band(true, np.zeros((5, 5), np.int64), np.array([0, far, 0, 50, -50], np.int64), usable)
    assert (np.abs(middle - true) <= error)[usable].all()
    assert (error <= 14_000)[usable].all()


def triangle(*, neighbour: bool) -> tuple[int, int]:
    """Vertices 0 and 1 are 149 ms one way and 51 ms back; 2 is a neighbour of 0 with a clean way to 1."""
    true = np.array([[0, 149_000, 500], [51_000, 0, 51_000], [500, 51_000, 0]], np.int64)[None]
    floor = np.array([[0, 50_000, 0], [50_000, 0, 50_000], [0, 50_000, 0]], np.int64)
    usable = ~np.eye(3, dtype=bool)[None]
    if not neighbour:
        usable[:, 2, :] = usable[:, :, 2] = False
    middle, error = band(true, floor, np.array([0, 7_000_000, -3_000], np.int64), usable)
    return int(middle[0, 0, 1]), int(error[0, 0, 1])


def test_a_neighbour_pins_the_clock_and_shows_the_asymmetry() -> None:
    assert triangle(neighbour=False) == (100_000, 50_000), "the pair alone: half the round trip, and all is possible"
    middle, error = triangle(neighbour=True)
    assert error <= 2_500 and abs(middle - 149_000) <= error


def test_floors_that_contradict_the_measurements_fall_back_to_no_floor() -> None:
    # 10 ms around one way, 40 ms around the other; positions claim that nothing is faster than 20 ms
    true = np.array([[0, 10_000, 40_000], [40_000, 0, 10_000], [10_000, 40_000, 0]], np.int64)[None]
    usable, clock = ~np.eye(3, dtype=bool)[None], np.zeros(3, np.int64)
    wrong = np.full((3, 3), 20_000, np.int64)
    middle, error = band(true, wrong, clock, usable)
    without = band(true, np.zeros_like(wrong), clock, usable)
    assert (middle == without[0])[usable].all() and (error == without[1])[usable].all()
    assert (np.abs(middle - true) <= error)[usable].all()


def test_measurements_that_contradict_themselves_leave_half_the_round_trip() -> None:
    raw = np.array([[0, -5_000, 30_000], [30_000, 0, -5_000], [-5_000, 30_000, 0]], np.int64)[None]
    rtt, usable = raw + raw.transpose(0, 2, 1), ~np.eye(3, dtype=bool)[None]  # around the circle in negative time
    middle, error = one_way_band(raw, rtt, np.full((3, 3), 2_000, np.int64), usable)
    assert (middle[usable] == 12_500).all() and (error[usable] == 10_500).all()


def test_a_floor_above_half_of_the_round_trip_leaves_no_room_but_no_negative_width() -> None:
    true = np.array([[0, 5_000], [5_000, 0]], np.int64)[None]
    usable = ~np.eye(2, dtype=bool)[None]
    middle, error = one_way_band(true, 2 * true, np.full((2, 2), 9_000, np.int64), usable)
    assert (middle[usable] == 5_000).all() and (error[usable] == 0).all()


@pytest.mark.parametrize("n", [0, 1, 3])
def test_nothing_measured_is_half_the_round_trip_give_or_take_what_is_above_the_floor(n: int) -> None:
    rtt = np.full((1, n, n), 41, np.int64)
    middle, error = one_way_band(np.zeros_like(rtt), rtt, np.full((n, n), 5, np.int64), np.zeros(rtt.shape, np.bool_))
    assert (middle == 20).all() and (error == 16).all() and middle.shape == (1, n, n)
