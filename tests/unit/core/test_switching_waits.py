"""The switching rule over time and over many pairs: waits that double, herds, an inventory that changes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from switching_story import LOST, Story, costs, two_ways
from worlds import SECOND, evidence, snapshot

from router.core.model import DataCenterId
from router.core.solve import Caution, solve
from router.core.solve.switching import DWELL_US, FLAP_HALF_US, HERD_LEAST, MAX_DWELL_US, dwell_us
from router.core.tables import DIRECT, I64, GraphSnapshot, HeldBack

# --- waiting ---------------------------------------------------------------------------------------------------------


def test_the_wait_is_nothing_at_first_doubles_and_is_bounded() -> None:
    waits = dwell_us(np.array([0.0, 1, 2, 50]))
    assert waits.tolist() == [0, DWELL_US, min(3 * DWELL_US, MAX_DWELL_US), MAX_DWELL_US]
    assert dwell_us(np.arange(5.0), 9 * DWELL_US).tolist() == [k * DWELL_US for k in (0, 1, 3, 7, 9)]


def test_every_change_makes_the_next_wait_longer_and_quiet_shortens_it_again() -> None:
    story, waits, now = Story(), list[float](), 0.0
    story.take(snapshot(two_ways(LOST, 60_000, 70_000)), now)
    for _ in range(4):
        ways = (60_000, 50_000) if story.relay == 1 else (50_000, 60_000)
        before, since, flaps = story.relay, now, float(story.flaps)
        while story.relay == before:
            now = round(now + 0.2, 1)
            story.take(snapshot(two_ways(LOST, *ways)), now)
            assert story.relay != before or story.reason is HeldBack.DWELL
        waits.append(now - since)
        # While a pair waits its changes are being forgiven, so it waits a little less than it was told at first.
        told = float(dwell_us(np.array([flaps]))[0]) / SECOND
        assert 0.5 * told <= waits[-1] <= told + 0.21
    assert waits == sorted(waits) and waits[0] < 0.3 and waits[2] > 2 * waits[1]
    flaps, later = float(story.flaps), now + FLAP_HALF_US / SECOND
    story.take(snapshot(two_ways(LOST, *ways)), later)
    assert story.flaps == pytest.approx(flaps / 2)


def test_a_pair_that_waits_says_for_how_long() -> None:
    story = Story()
    story.step(0, 100_000, 120_000)
    assert story.step(1, 100_000, 80_000) == 1
    assert story.step(1.5, 80_000, 80_000) == DIRECT, "giving up does not wait"
    assert story.step(2, 100_000, 80_000) == DIRECT
    assert story.reason is HeldBack.DWELL
    assert story.table is not None and story.table.challenger_since[0, 0, 2] == 2 * SECOND
    wait = float(dwell_us(story.table.flaps[0, 0])[2]) / SECOND - 0.5
    assert 1 < wait < 3 * DWELL_US / SECOND
    assert story.why() == f"better by 20.00 ms; the pair changed lately and waits {wait:.1f} s more"
    assert story.why("in force") == "held for 0 s; the candidate leads by 20.00 ms"


def test_the_longest_wait_is_a_matter_of_caution() -> None:
    story = Story(Caution(max_dwell_us=400_000))
    for at, direct in ((0, 60_000), (1, 100_000), (1.5, 80_000)):
        story.step(at, direct, 80_000)
    assert story.step(1.8, 100_000, 80_000) == DIRECT and story.step(2, 100_000, 80_000) == 1


# --- herds -----------------------------------------------------------------------------------------------------------


def star(n: int, over_hub: bool) -> I64:
    """All pairs 100 ms apart; over vertex 0 in 60 ms and a few more, no two pairs alike."""
    cost = np.full((n, n), 100_000, np.int64)
    leg = 30_000 + 1_000 * np.arange(n)
    cost[:, 0], cost[0, :] = (leg, leg + 17) if over_hub else (90_000, 90_000)
    return cost


def test_of_many_pairs_that_want_the_same_relay_the_best_gains_go_first_and_others_next_time() -> None:
    n, story = 8, Story()
    story.take(snapshot(star(n, False)), 0)
    wanted, moved = n * (n - 1) - 2 * (n - 1), []
    gains = star(n, False) - solve(snapshot(star(n, True))).cost[0]
    for t in range(1, 4):
        table = story.take(snapshot(star(n, True)), t)
        there, crowded = table.relays[0, :, :, 0] == 0, table.held_back[0] == HeldBack.HERD
        moved.append(int(there.sum()))
        assert (there | crowded).sum() == wanted
        if crowded.any():
            assert gains[there].min() >= gains[crowded].max()
            assert (table.challenger_since[0][crowded] == SECOND).all()
    assert moved == [HERD_LEAST, 2 * HERD_LEAST, wanted] and wanted < 3 * HERD_LEAST


def test_neither_the_start_nor_need_is_a_herd() -> None:
    n, story = 8, Story()
    table = story.take(snapshot(star(n, True)), 0)
    assert (table.relays[0, :, :, 0] == 0).sum() == 42, "a first table is no stampede"
    blind = star(n, True)
    blind[1:, 1:] = LOST  # every direct path is gone at once
    forced = Story()
    forced.take(snapshot(star(n, False)), 0)
    table = forced.take(snapshot(blind), 1)
    assert (table.relays[0, :, :, 0] == 0).sum() == 42 and table.flaps.sum() == 0


def test_a_crowded_pair_says_so() -> None:
    story = Story()
    story.step(0, 100_000, 120_000)
    story.step(1, 100_000, 99_900)
    assert story.table is not None
    crowded = story.table.held_back.copy()
    crowded[0, 0, 2] = HeldBack.HERD
    story.table = replace(story.table, held_back=crowded)
    assert story.why().startswith("better by 0.10 ms; too many pairs")


# --- another inventory -----------------------------------------------------------------------------------------------


def renamed(cost: I64, names: str) -> GraphSnapshot:
    return replace(snapshot(cost), data_centers=tuple(DataCenterId(name) for name in names.split()))


def test_routes_and_their_story_survive_renumbering_when_a_data_center_is_added() -> None:
    story = Story()
    story.step(0, 100_000, 120_000)
    assert story.step(1, 100_000, 95_000) == 1
    wide = np.full((4, 4), 400_000, np.int64)
    wide[np.ix_([1, 2, 3], [1, 2, 3])] = costs(95_500, 95_000)
    wide[1, 0] = wide[0, 3] = 47_300  # the new one would be better, by less than the margin
    table = story.take(renamed(wide, "a d000 d001 d002"), 2)
    assert int(table.relays[0, 1, 3, 0]) == 2  # d001, still in force under its new number
    assert table.since[0, 1, 3] == SECOND and table.held_back[0, 1, 3] == HeldBack.ABSOLUTE
    assert table.flaps[0, 1, 3] == pytest.approx(0.5 ** (1 / 60)), "its changes are remembered too"


def test_a_path_over_a_data_center_that_is_gone_is_left() -> None:
    story = Story()
    assert story.step(0, 100_000, 80_000) == 1
    pair = np.array([[LOST, 100_000], [90_000, LOST]], np.int64)
    table = story.take(renamed(pair, "d000 d002"), 1)
    assert table.reachable.sum() == 2 and (table.relays == DIRECT).all() and table.flaps.sum() == 0


def test_a_world_that_disappoints_is_believed_less_whoever_comes_and_goes() -> None:
    good, bad, story = costs(100_000, 80_000), costs(100_000, 120_000), Story(Caution(accepted=0.01))
    risk = []
    for bucket in range(40):  # what looks good on average comes out bad every time
        seen = replace(evidence([*[good] * 30, bad], latest=good), bucket=100 + bucket)
        table = story.take(replace(snapshot(good), evidence=seen), 2 * bucket)
        risk.append(int(table.risk_ppm[0, 0, 2]))
    assert risk[-1] > 1.1 * risk[0] and sorted(risk) == risk
    seen = replace(evidence([*[good] * 30, bad], latest=good), bucket=140)
    table = story.take(replace(renamed(good, "d000 d001x d002"), evidence=seen), 80)
    assert table.risk_ppm[0, 0, 2] >= risk[-1], "it is the same world"


@pytest.mark.parametrize("n", [0, 1])
def test_worlds_without_pairs_have_a_table(n: int) -> None:
    story = Story()
    for t in range(2):
        table = story.take(snapshot(np.full((n, n), LOST, np.int64)), t)
        assert not table.reachable.any() and story.changed == 0
