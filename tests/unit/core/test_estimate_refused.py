"""What estimates leave out: rows that cannot be true, strangers, clocks that jump; and worlds that are almost empty."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
from worlds import SECOND, feed, inventory, report

from probes.wire import ProbeReport
from router.core.estimate import CONTRADICTION_US, LIGHT_SHARE, Estimator
from router.core.geography import light_floor_us
from router.core.model import DataCenterId, Inventory
from router.core.survey import UNKNOWN_US
from router.core.tables import FALLEN, NO_COST, UNKNOWN, LinkState

PLACES = {"x-a": (50.1, 8.7), "y-c": (39.0, -77.5), "z-d": (1.3, 103.8)}  # Frankfurt, Ashburn, Singapore
FRANKFURT = "x-a-0"


def earth() -> Inventory:
    made = inventory(" ".join(PLACES))
    centers = {id: replace(dc, latitude=PLACES[id][0], longitude=PLACES[id][1]) for id, dc in made.data_centers.items()}
    return replace(made, data_centers=centers)


def floor(a: str, b: str) -> int:
    centers = earth().data_centers
    return light_floor_us(centers[DataCenterId(a)], centers[DataCenterId(b)])


def met() -> Estimator:
    """An estimator that has heard of every node, and of no link yet."""
    estimator = Estimator(earth())
    for node in earth().nodes:
        estimator.observe(report(node, {}, 0), SECOND)
    return estimator


LEAST = int(2 * LIGHT_SHARE * floor("x-a", "y-c")) + 1  # round trip from Frankfurt to Ashburn
HONEST = (90_000, 45_000, 45_000)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (HONEST, None),
        ((LEAST, LEAST // 2, LEAST - LEAST // 2), None),
        ((LEAST - 2, 20_000, 20_000), "faster_than_light"),
        ((90_000, 45_000, LEAST - 45_002), "faster_than_light"),  # the clock was set forward between two packets
        ((90_000, 7_200_000_000, 45_000 - 7_200_000_000), None),  # clocks two hours apart are no lie
        ((90_000, 45_000, 45_000 + CONTRADICTION_US), None),
        ((90_000, 45_000, 45_001 + CONTRADICTION_US), "contradiction"),
        ((90_000, 45_000, 45_000 + 7_200_000_000), "contradiction"),  # and here it was set back
    ],
)
def test_a_row_that_cannot_be_true_is_left_out_and_counted(row: tuple[int, int, int], reason: str | None) -> None:
    estimator = met()
    told = estimator.observe(report(FRANKFURT, {"y-c-0": row, "z-d-0": (160_000, 80_000, 80_000)}, 1), SECOND)
    assert told is not None and told.target.tolist() == [1, 2]
    assert told.received.tolist() == [1, 1], "that something came back stays true"
    assert estimator.refused == ({} if reason is None else {reason: 1})
    table, _ = estimator.table(SECOND)
    assert bool(table.rtt_us[0, 0, 1] == UNKNOWN) == (reason is not None)
    assert bool(table.expected_us[0, 0, 1] == NO_COST) == (reason is not None)
    assert table.rtt_us[0, 0, 2] == 160_000, "the other rows of the report count"


def test_without_positions_only_time_that_runs_backwards_is_too_fast() -> None:
    estimator = Estimator(inventory(" ".join(PLACES)))
    estimator.observe(report(FRANKFURT, {"y-c-0": (2, 1, 1), "z-d-0": (90_000, 45_000, -45_001)}, 1), SECOND)
    assert estimator.refused == {"faster_than_light": 1}
    assert estimator.table(SECOND)[0].rtt_us[0, 0].tolist() == [UNKNOWN, 2, UNKNOWN]


def test_a_row_in_which_nothing_came_back_claims_nothing() -> None:
    estimator = Estimator(earth())
    estimator.observe(report(FRANKFURT, {"y-c-0": (0, 0, 0)}, 1, lost=1), SECOND)
    assert estimator.refused == {}


def test_lies_do_not_keep_a_link_known() -> None:
    estimator = Estimator(earth())
    estimator.observe(report(FRANKFURT, {"y-c-0": HONEST}, 1), SECOND)
    for s in range(2, 2 + UNKNOWN_US // SECOND + 5):
        estimator.observe(report(FRANKFURT, {"y-c-0": (1, 1, 0)}, s), s * SECOND)
        table, _ = estimator.table(s * SECOND)
    assert table.state[0, 0, 1] == LinkState.UNKNOWN and table.rtt_us[0, 0, 1] == UNKNOWN
    assert table.expected_us[0, 0, 1] == NO_COST


def test_strangers_are_counted() -> None:
    estimator = Estimator(earth())
    told = report(FRANKFURT, {"y-c-0": HONEST, "nobody": HONEST, "z-d-0": HONEST}, 1)
    told = replace(told, rows=replace(told.rows, transport=("internet", "internet", "pigeon")))
    evidence = estimator.observe(told, SECOND)
    assert evidence is not None and evidence.target.tolist() == [1]
    assert estimator.refused == {"unknown_peer": 2}
    assert estimator.observe(report("stranger", {"x-a-0": HONEST}, 1), SECOND) is None
    assert estimator.refused == {"unknown_peer": 2, "unknown_node": 1}


def test_the_count_survives_a_change_of_the_inventory() -> None:
    older = Estimator(earth())
    older.observe(report("stranger", {}, 1), SECOND)
    newer = Estimator(inventory("x-a y-c"))
    newer.adopt(older)
    assert newer.refused == {"unknown_node": 1}
    newer.observe(report("stranger", {}, 2), SECOND)
    assert older.refused == {"unknown_node": 1}, "and is its own from then on"


# --- clocks ----------------------------------------------------------------------------------------------------------

TRUTH = {pair: 60_000 + 7_000 * i for i, pair in enumerate(permutations(sorted(PLACES), 2))}


def off_by(estimator: Estimator) -> int:
    """How far off (microseconds) the choice between the direct path and the one relay is, worst of all known."""
    expected, worst = estimator.history.expected_us()[0], 0
    for (i, a), (k, via), (j, b) in permutations(enumerate(sorted(PLACES)), 3):
        if max(expected[i, j], expected[i, k], expected[k, j]) < NO_COST:
            measured = expected[i, k] + expected[k, j] - expected[i, j]
            worst = max(worst, abs(int(measured) - (TRUTH[a, via] + TRUTH[via, b] - TRUTH[a, b])))
    return worst


@pytest.mark.parametrize("step_us", [2 * 3_600 * SECOND, -5 * 3_600 * SECOND, 40_000])
def test_a_clock_that_steps_bends_no_choice_at_any_moment(step_us: int) -> None:
    world = earth()
    estimator, clocks = Estimator(world), {"x-a-0": 0, "y-c-0": 3_000_000, "z-d-0": -9_000}
    known = []
    for s in range(1, 50):
        if s in (20, 33):
            clocks["y-c-0"] += step_us
        feed(estimator, TRUTH, clocks, s * SECOND, s)
        assert off_by(estimator) <= 5
        table, _ = estimator.table(s * SECOND)
        assert off_by(estimator) <= 5
        there = table.expected_us < NO_COST
        assert (np.abs(table.expected_us[there]) < 200_000).all()
        known.append(int(there.sum()))
    assert min(known[2:]) >= 2 and known[-1] == 6, "links that the clock has nothing to do with stay known"
    assert estimator.clock_steps >= 2 and estimator.refused == {}


def test_a_clock_set_between_two_packets_of_a_report_is_refused_once_and_then_followed() -> None:
    estimator, hours = Estimator(earth()), 3 * 3_600 * SECOND
    clocks = dict.fromkeys(("x-a-0", "y-c-0", "z-d-0"), 0)
    for s in range(1, 10):
        feed(estimator, TRUTH, clocks, s * SECOND, s)
        estimator.table(s * SECOND)
    there, back = TRUTH["x-a", "y-c"], TRUTH["y-c", "x-a"]
    # of several packets the least difference each way is told: one from before, one from after
    both = report(FRANKFURT, {"y-c-0": (there + back, there, back - hours)}, 10)
    estimator.observe(both, 10 * SECOND)
    assert estimator.refused == {"faster_than_light": 1} and off_by(estimator) <= 5
    clocks["y-c-0"] = hours
    for s in range(11, 15):
        feed(estimator, TRUTH, clocks, s * SECOND, s)
        table, _ = estimator.table(s * SECOND)
    assert off_by(estimator) <= 5 and (table.expected_us < NO_COST).sum() == 6


@pytest.mark.parametrize("step_us", [300_000, 2 * 3_600 * SECOND, 50 * 365 * 86_400 * SECOND])
def test_a_clock_that_stepped_while_only_a_newcomer_looked_is_placed_anew(step_us: int) -> None:
    estimator = Estimator(earth())
    feed(estimator, TRUTH, {"x-a-0": 0, "z-d-0": 0}, SECOND)
    feed(estimator, TRUTH, {"x-a-0": 0, "y-c-0": 0}, 2 * SECOND, 2)
    estimator.table(2 * SECOND)
    # Frankfurt falls silent, Ashburn's clock steps, and Singapore meets it for the first time
    for s in range(3, 60):
        feed(estimator, TRUTH, {"z-d-0": 0, "y-c-0": -step_us}, s * SECOND, s)
        table, _ = estimator.table(s * SECOND)
    there, back = TRUTH["y-c", "z-d"], TRUTH["z-d", "y-c"]
    assert table.rtt_us[0, 1, 2] == there + back
    expected = int(table.expected_us[0, 1, 2]), int(table.expected_us[0, 2, 1])
    assert sum(expected) == pytest.approx(there + back, abs=2)
    assert abs(expected[0] - there) <= (there + back) // 2


# --- small worlds ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("names", ["", "a-1", "a-1 b-1"])
def test_worlds_without_measurements_have_a_table_of_unknowns(names: str) -> None:
    estimator, n = Estimator(inventory(names)), len(names.split())
    for s in (0, 1, 60):
        table, potential = estimator.table(s * SECOND)
        assert table.rtt_us.shape == (1, n, n) and potential.tolist() == [0] * n
        assert (table.state == LinkState.UNKNOWN).all() and (table.expected_us == NO_COST).all()
        assert (table.forward_us == UNKNOWN).all() and (table.error_us == UNKNOWN).all()
    evidence = estimator.history.evidence()
    assert evidence.bucket == 5 and (evidence.latest == FALLEN).all(), "a pause is no more than a few buckets"


def test_one_data_center_has_siblings_and_no_links() -> None:
    estimator = Estimator(inventory("a-1", nodes=2))
    for s in range(1, 30):
        told: ProbeReport = report("a-1-0", {"a-1-1": (100, 400_050, -399_950)}, s)
        evidence = estimator.observe(told, s * SECOND)
        assert evidence is not None and evidence.target.size == 0
    assert estimator.known_share(30 * SECOND) == 1.0 and estimator.refused == {}
    assert (estimator.table(30 * SECOND)[0].rtt_us == UNKNOWN).all()


def test_two_data_centers_split_their_round_trip_and_lose_it_again() -> None:
    world = inventory("a-1 b-1")
    estimator, there = Estimator(world), {("a-1", "b-1"): 30_000, ("b-1", "a-1"): 10_000}
    for s in range(1, 20):
        feed(estimator, there, {"a-1-0": 0, "b-1-0": 5_000_000}, s * SECOND, s)
        table, _ = estimator.table(s * SECOND)
    assert table.rtt_us[0, 0, 1] == table.rtt_us[0, 1, 0] == 40_000
    for i, j, delay in ((0, 1, 30_000), (1, 0, 10_000)):
        assert abs(int(table.forward_us[0, i, j]) - delay) <= table.error_us[0, i, j]
    assert int(table.expected_us[0, 0, 1] + table.expected_us[0, 1, 0]) == 40_000
    table, _ = estimator.table(19 * SECOND + UNKNOWN_US + 1)
    assert (table.expected_us == NO_COST).all() and (table.state == LinkState.UNKNOWN).all()
