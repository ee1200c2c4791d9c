"""Merging of reported round trips into roll-up buckets: exact, bounded, and the same in any order of arrival."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from worlds import inventory, report

from probes.wire import MAX_DELAY_US, ProbeReport, bucket_of, merge_sketches
from router.core.model import DataCenterId
from router.core.rollup import RollUp, unpack_sketch

WORLD = inventory("a-1 a-2 b-1", nodes=2)
IDS = tuple(WORLD.data_centers)
TRANSPORTS = WORLD.transports


def columns(rolled: RollUp, source: str) -> dict[str, list[int]]:
    packed = rolled.columns(DataCenterId(source), IDS, TRANSPORTS)
    return {name: np.frombuffer(body, "<i8").tolist() for name, body in packed.items() if name != "rtt_sketch"}


def sketch(rolled: RollUp, source: str, target: str) -> tuple[int, ...]:
    body = rolled.columns(DataCenterId(source), IDS, TRANSPORTS)["rtt_sketch"]
    return unpack_sketch(body, len(TRANSPORTS) * len(IDS), IDS.index(DataCenterId(target)))


def sketched(node: str, peer: str, sketch: tuple[int, ...], sequence: int = 1) -> ProbeReport:
    plain = report(node, {peer: (40_000, 20_000, 20_000)}, sequence)
    return replace(plain, rows=replace(plain.rows, rtt_sketch=(sketch,)))


def test_reports_of_all_nodes_of_a_data_center_merge_exactly() -> None:
    rolled = RollUp()
    rolled.observe(report("a-1-0", {"b-1-0": (40_000, 0, 0), "a-2-1": (9_000, 0, 0)}, 1, sent=3, lost=1), WORLD)
    rolled.observe(report("a-1-1", {"b-1-1": (50_000, 0, 0)}, 1, sent=2), WORLD)
    rolled.observe(report("a-1-0", {"b-1-1": (40_000, 0, 0)}, 2), WORLD)
    assert columns(rolled, "a-1") == {
        "rtt_min_us": [-1, 9_000, 40_000], "sent": [0, 3, 6], "lost": [0, 1, 1],
    }  # fmt: skip
    assert sketch(rolled, "a-1", "b-1") == (bucket_of(40_000), 3, bucket_of(50_000), 2)
    assert sketch(rolled, "a-1", "a-2") == (bucket_of(9_000), 2)
    assert sketch(rolled, "a-1", "a-1") == ()
    assert columns(rolled, "b-1")["sent"] == [0, 0, 0], "each end tells its own"


def test_only_losses_are_a_bucket_without_round_trips() -> None:
    rolled = RollUp()
    rolled.observe(report("a-1-0", {"b-1-0": (0, 0, 0)}, 1, sent=4, lost=4), WORLD)
    assert columns(rolled, "a-1") == {"rtt_min_us": [-1, -1, -1], "sent": [0, 0, 4], "lost": [0, 0, 4]}
    assert sketch(rolled, "a-1", "b-1") == ()


def test_siblings_strangers_and_unknown_transports_take_no_memory() -> None:
    rolled = RollUp()
    rolled.observe(report("a-1-0", {"a-1-1": (50, 0, 0), "ghost": (50, 0, 0)}, 1), WORLD)
    rolled.observe(report("ghost", {"b-1-0": (50, 0, 0)}, 1), WORLD)
    strange = report("a-1-0", {"b-1-0": (50, 0, 0)}, 1)
    rolled.observe(replace(strange, rows=replace(strange.rows, transport=("pigeon",))), WORLD)
    assert len(rolled) == 0


@pytest.mark.parametrize("bad", [(-3, 1), (0, 1, bucket_of(MAX_DELAY_US) + 1, 1)])
def test_round_trips_that_cannot_be_are_not_merged(bad: tuple[int, ...]) -> None:
    rolled = RollUp()
    rolled.observe(sketched("a-1-0", "b-1-0", bad), WORLD)
    assert sketch(rolled, "a-1", "b-1") == ()
    assert columns(rolled, "a-1")["sent"] == [0, 0, 1]


def test_columns_follow_the_order_they_are_asked_in() -> None:
    rolled = RollUp()
    rolled.observe(report("a-1-0", {"b-1-0": (40_000, 0, 0)}, 1), WORLD)
    ids = (DataCenterId("b-1"), DataCenterId("new"))
    packed = rolled.columns(DataCenterId("a-1"), ids, ("carrier", "internet"))
    assert np.frombuffer(packed["sent"], "<i8").reshape(2, 2).tolist() == [[0, 0], [1, 0]]
    assert unpack_sketch(packed["rtt_sketch"], 4, 2) == (bucket_of(40_000), 1)
    assert unpack_sketch(packed["rtt_sketch"], 4, 3) == ()


SKETCHES = st.dictionaries(st.integers(0, 900), st.integers(1, 1_000), max_size=8).map(
    lambda counts: tuple(part for item in sorted(counts.items()) for part in item)
)


@given(st.lists(SKETCHES, max_size=6), st.randoms())
def test_any_order_of_reports_gives_the_same_bytes(sketches: list[tuple[int, ...]], random: object) -> None:
    first, second = RollUp(), RollUp()
    expected: tuple[int, ...] = ()
    for s in sketches:
        first.observe(sketched("a-1-0", "b-1-0", s), WORLD)
        expected = merge_sketches(expected, s)
    shuffled = list(sketches)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    for s in shuffled:
        second.observe(sketched("a-1-0", "b-1-0", s), WORLD)
    assert sketch(first, "a-1", "b-1") == expected
    of = DataCenterId("a-1")
    assert first.columns(of, IDS, TRANSPORTS) == second.columns(of, IDS, TRANSPORTS)
