"""The loop of load, price and routes settles; without damping the same crowd runs to and fro."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from crowds import CAPACITY_MBPS, FAR_US, crowd, moves, play, turns

from router.core.load import UNDAMPED, Damping

SETTLED = 65  # the demand sets in at second 5 and is given a minute


@pytest.mark.parametrize(
    ("demand_mbps", "spread_us", "far_us"),
    [
        (140, 0, FAR_US),  # all pairs alike: nobody has a reason to go first
        (180, 10_000, FAR_US),  # nine tenths of both relays, where the price is steep
        (180, 3_000, 70_000),  # the direct path is a third way out
        (260, 3_000, 70_000),  # more than both can carry
    ],
)
def test_sessions_spread_over_two_relays_and_stay(demand_mbps: int, spread_us: int, far_us: int) -> None:
    found = crowd(5, 5, demand_mbps, spread_us, far_us)
    seen, tables = play(found, 125)
    late = seen[SETTLED:]
    assert late.max() <= CAPACITY_MBPS and late.min() > CAPACITY_MBPS / 2
    assert np.ptp(late, axis=0).max() <= found.step_mbps
    assert all(turns(seen[5:, k], found.step_mbps) <= 8 for k in range(2))
    assert moves(tables[SETTLED:]) <= 2
    assert moves(tables[5:]) <= 6 * len(found.flows)


@pytest.mark.parametrize(("demand_mbps", "spread_us"), [(140, 0), (180, 10_000)])
def test_undamped_the_same_crowd_swings_between_the_relays(demand_mbps: int, spread_us: int) -> None:
    found = crowd(5, 5, demand_mbps, spread_us)
    seen, tables = play(found, 125, UNDAMPED)
    late = seen[SETTLED:]
    assert np.ptp(late, axis=0).min() > 6 * found.step_mbps
    assert all(turns(late[:, k], found.step_mbps) >= 6 for k in range(2))
    assert moves(tables[SETTLED:]) > 3 * len(found.flows)


def test_undamped_the_whole_load_leaves_for_the_direct_paths_and_comes_back() -> None:
    found = crowd(5, 5, 260, 3_000, 70_000)
    seen, tables = play(found, 125, UNDAMPED)
    late = seen[SETTLED:]
    assert late.min() == 0 and late.max() > CAPACITY_MBPS
    assert moves(tables[SETTLED:]) > 3 * len(found.flows)


def test_the_band_is_what_keeps_them_from_coming_back() -> None:
    found = crowd(5, 5, 180, 10_000)
    banded, free = play(found, 185)[1], play(found, 185, replace(Damping(), band=0.0))[1]
    assert moves(banded[SETTLED:]) == 0 < moves(free[SETTLED:])


def test_without_a_price_everybody_takes_the_better_relay() -> None:
    found = crowd(5, 5, 180, 0)
    seen, _ = play(found, 5)
    assert seen[-1].max() > 1.7 * CAPACITY_MBPS and seen[-1].min() == 0
