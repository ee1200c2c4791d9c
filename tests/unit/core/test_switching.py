"""The switching rule as tables of steps: margins, dwell, must-move, restart, renumbering."""

from __future__ import annotations

import numpy as np
from worlds import SECOND, snapshot

from router.core.model import DataCenterId
from router.core.solve import adopt, solve
from router.core.tables import DIRECT, NO_COST, RouteTable


def costs(direct: int, relayed: int) -> np.ndarray:
    """Three data centers; 0 -> 2 costs ``direct``, or ``relayed`` over 1; everything else is expensive."""
    cost = np.full((3, 3), 400_000, np.int64)
    cost[0, 2] = direct
    cost[0, 1] = cost[1, 2] = relayed // 2
    return cost


def step(table: RouteTable | None, direct: int, relayed: int, at_s: float) -> RouteTable:
    shot = snapshot(costs(direct, relayed), at=int(at_s * SECOND), generation=int(at_s * 10) + 1)
    return adopt(table, shot, solve(shot), int(at_s * SECOND))[0]


def relay(table: RouteTable) -> int:
    return int(table.relays[0, 0, 2, 0])


def test_the_first_table_takes_the_candidate() -> None:
    assert relay(step(None, 100_000, 60_000, 0)) == 1


def test_a_small_gain_never_moves() -> None:
    table = step(None, 100_000, 120_000, 0)
    for t in range(1, 30):
        table = step(table, 100_000, 98_500, t)  # 1.5 %: below the relative margin of 2 %
    assert relay(table) == DIRECT
    table = step(None, 10_000, 12_000, 40)
    for t in range(41, 70):
        table = step(table, 10_000, 9_300, t)  # 7 % but only 0.7 ms
    assert relay(table) == DIRECT


def test_a_real_gain_moves_after_its_dwell_and_not_before() -> None:
    table = step(None, 100_000, 120_000, 0)
    seen = []
    for t in range(1, 8):
        table = step(table, 100_000, 90_000, t)
        seen.append(relay(table))
    assert seen == [DIRECT] * 4 + [1] * 3
    assert table.since[0, 0, 2] == 5 * SECOND


def test_an_interrupted_lead_starts_its_dwell_again() -> None:
    table = step(None, 100_000, 120_000, 0)
    for t, relayed in enumerate([90_000, 90_000, 90_000, 99_500, 90_000, 90_000, 90_000, 90_000], 1):
        table = step(table, 100_000, relayed, t)
    assert relay(table) == DIRECT


def test_a_lost_hop_is_left_at_once_and_silence_is_no_path() -> None:
    table = step(None, 100_000, 60_000, 0)
    assert relay(table) == 1
    table = step(table, 100_000, 2 * int(NO_COST), 0.1)
    assert relay(table) == DIRECT and table.reachable[0, 0, 2]
    cost = np.full((3, 3), NO_COST, np.int64)
    shot = snapshot(cost, generation=9, at=SECOND)
    table, changed = adopt(table, shot, solve(shot), SECOND)
    assert not table.reachable.any() and changed > 0


def test_a_relay_that_may_not_relay_is_left_at_once() -> None:
    table = step(None, 100_000, 60_000, 0)
    shot = snapshot(costs(100_000, 60_000), generation=5, at=SECOND)
    shot.may_relay.setflags(write=True)
    shot.may_relay[0, 1] = False
    table, _ = adopt(table, shot, solve(shot), SECOND)
    assert relay(table) == DIRECT


def test_routes_survive_renumbering_when_a_data_center_is_added() -> None:
    table = step(None, 100_000, 95_000, 0)
    assert relay(table) == 1
    wide = np.full((4, 4), 400_000, np.int64)
    wide[np.ix_([1, 2, 3], [1, 2, 3])] = costs(96_000, 97_000)  # now direct leads, but by less than the margin
    shot = snapshot(wide, generation=7, at=SECOND)
    object.__setattr__(shot, "data_centers", tuple(DataCenterId(d) for d in ("a", "d000", "d001", "d002")))
    table, _ = adopt(table, shot, solve(shot), SECOND)
    assert int(table.relays[0, 1, 3, 0]) == 2  # d001, still in force under its new number
    assert table.since[0, 1, 3] == 0
