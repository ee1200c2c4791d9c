"""Who leaves a loaded path when, and that a price of our own making does not count as a risk."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from worlds import snapshot as plain

from router.core.model import MAX_RELAYS
from router.core.solve.load_guard import held_for_load
from router.core.solve.risk import Paths, burden_us, worse_than_direct
from router.core.tables import DIRECT, FALLEN, I16, I32, I64, Evidence, GraphSnapshot, LoadPrice

N, RELAY, OTHER = 8, 6, 7


def loaded(smooth_us: int, newest_us: int, share: float = 0.25) -> GraphSnapshot:
    """30 ms everywhere; hops into the relay cost this much for load."""
    smooth, newest = np.zeros((1, N, N), np.int64), np.zeros((1, N, N), np.int64)
    smooth[:, :, RELAY], newest[:, :, RELAY] = smooth_us, newest_us
    found = plain(np.full((N, N), 30_000) + smooth[0])
    extra = np.where(np.eye(N, dtype=bool), 0, smooth[0])[None]
    return replace(found, load=LoadPrice(smooth, newest, share), extra_us=extra)


def over(relay: int) -> I16:
    relays = np.full((N, N, MAX_RELAYS), DIRECT, np.int16)
    relays[..., 0] = relay
    return relays


def held(snapshot: GraphSnapshot, gain: I64, needed_us: int = 750) -> np.ndarray:
    moving = np.zeros((N, N), np.bool_)
    moving[:4, 4] = True
    return held_for_load(snapshot, 0, over(RELAY), over(OTHER), gain, np.full((N, N), needed_us), moving)[:4, 4]


def test_of_those_that_leave_a_loaded_relay_the_best_gains_go_first() -> None:
    gain = np.full((N, N), 2_000)
    gain[2, 4] = 2_100
    assert held(loaded(2_000, 2_000), gain).tolist() == [True, True, False, True]
    assert not held(loaded(2_000, 2_000, share=1.0), gain).any()


def test_nobody_leaves_when_the_newest_load_does_not_ask_for_it() -> None:
    gain = np.full((N, N), 2_000)  # all of it is the damped price
    assert held(loaded(2_000, 0), gain).all()
    gain[1, 4] = 2_500  # 0.5 ms of it is not, but that alone is no reason to go
    assert held(loaded(2_000, 0), gain).tolist() == [True, False, True, True]


def test_who_would_go_without_load_and_who_is_not_moving_is_not_asked() -> None:
    assert not held(loaded(2_000, 0), np.full((N, N), 2_800)).any()
    assert not held(replace(loaded(2_000, 0), load=None), np.full((N, N), 2_000)).any()
    assert not held(loaded(0, 5_000), np.full((N, N), 100)).any()  # no price yet, so it is not for load


def evidence() -> Evidence:
    ring: tuple[I32, ...] = (np.full((1, N, N), 30_000, np.int32),) * 6
    ring[-1][0, np.arange(N), np.arange(N)] = FALLEN
    direct = np.zeros((1, N, N), np.int64)
    return Evidence(6, ring, ring[-1].astype(np.int64), np.zeros((1, N, N), np.int32), direct + 100, np.ones(N))


def slow_direct(snapshot: GraphSnapshot) -> GraphSnapshot:
    found = evidence()
    for bucket in found.ring:
        bucket[0, 0, 4] = 61_000
    found.latest[0, 0, 4] = 61_000
    return replace(snapshot, evidence=found)


def one(relay: int) -> Paths:
    relays = np.full((1, MAX_RELAYS), DIRECT, np.int16)
    relays[0, 0] = relay
    return Paths(0, np.array([0]), np.array([4]), relays)


def test_the_price_of_load_is_no_risk() -> None:
    free, dear = slow_direct(loaded(0, 0)), slow_direct(loaded(5_000, 5_000))
    assert burden_us(dear, one(RELAY)).tolist() == [5_000] and burden_us(dear, one(OTHER)).tolist() == [0]
    assert worse_than_direct(dear, one(RELAY)) == worse_than_direct(free, one(RELAY)) < 0.01


def test_leaving_a_loaded_direct_link_for_a_slower_way_is_no_disappointment() -> None:
    found = replace(loaded(0, 0), evidence=evidence())
    assert worse_than_direct(found, one(OTHER))[0] > 0.99  # 60 ms against 30
    assert found.load is not None and found.extra_us is not None
    smooth, extra = found.load.smooth_us.copy(), found.extra_us.copy()
    smooth[0, 0, 4], extra[0, 0, 4] = 40_000, 40_000
    full = replace(found, load=LoadPrice(smooth, smooth, 0.1), extra_us=extra)
    assert burden_us(full, one(OTHER)).tolist() == [-40_000]
    assert worse_than_direct(full, one(OTHER))[0] < 0.01
