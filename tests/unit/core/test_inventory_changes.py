"""Indexes after the inventory changed: transports, nodes that move, clocks of siblings, plans, too many contexts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from test_plane import DETOUR, Desk
from worlds import SECOND, feed, inventory, report

from router.core.errors import InputRejected
from router.core.estimate import Estimator
from router.core.messages import (
    Booted,
    Committed,
    Effect,
    MakeSurvey,
    Reported,
    ResourcesChanged,
    Solve,
    Surveyed,
    Tick,
)
from router.core.model import (
    MAX_CONTEXTS,
    Counters,
    DataCenterId,
    Inventory,
    Link,
    LinkId,
    Node,
    NodeId,
    Policy,
    PolicyId,
    TrafficClass,
)
from router.core.offsets import offsets_us
from router.core.plane import ControlPlane
from router.core.policy import check_limit, contexts
from router.core.solve import explain, route
from router.core.topology import probe_plan

A, B = DataCenterId("a-1"), DataCenterId("b-1")
VOICE = TrafficClass.VOICE


def fibre_desk() -> Desk:
    """A desk whose route a-1 -> b-1 goes over ``fibre``."""
    desk = Desk()
    links = [Link(LinkId(f"l{i}"), x, y, "fibre") for i, (x, y) in enumerate(((A, B), (B, A)))]
    desk.submit(Committed((ResourcesChanged(tuple(links)),)))
    for _ in range(3):
        desk.second(DETOUR)
        for x, y in (("a-1-0", "b-1-0"), ("b-1-0", "a-1-0")):
            told = report(x, {y: (10_000, 5_000, 5_000)}, desk.sequence + 1000)
            told = replace(told, rows=replace(told.rows, transport=("fibre",)), boot=f"f{desk.sequence}")
            desk.submit(Reported(told))
        desk.now += SECOND
        desk.submit(Tick("routes"))
    answer = route(desk.plane.view, A, B, VOICE, None, desk.now)
    assert answer.forward is not None and answer.forward.transports == ("fibre",)
    return desk


def test_a_route_is_answered_although_its_transport_has_just_been_deleted() -> None:
    desk = fibre_desk()
    desk.plane.handle(Committed((ResourcesChanged(deletes=(("links", "l0"), ("links", "l1"))),)), desk.now)
    answer = route(desk.plane.view, A, B, VOICE, None, desk.now)
    assert answer.forward is not None and answer.forward.transports == ("fibre",)
    assert explain(desk.plane.view, A, B, VOICE, None, desk.now).forward[0].transports == ("fibre",)


def test_a_route_keeps_its_transport_when_another_one_takes_its_number() -> None:
    desk = fibre_desk()
    desk.plane.handle(Committed((ResourcesChanged((Link(LinkId("b0"), A, B, "backbone"),)),)), desk.now)
    answer = route(desk.plane.view, A, B, VOICE, None, desk.now)
    assert answer.forward is not None
    assert answer.forward.transports == ("fibre",) and answer.forward.delay_us == pytest.approx(5_000, abs=200)


def surveyed(plane: ControlPlane, now: int) -> list[Effect]:
    """What a core wants once it has the link table it asked for."""
    (asked,) = plane.handle(Tick("routes"), now)
    assert isinstance(asked, MakeSurvey)
    return plane.handle(Surveyed(asked.window.survey()), now)


def many_policies() -> dict[PolicyId, Policy]:
    return {PolicyId(f"p{i:02d}"): Policy(PolicyId(f"p{i:02d}")) for i in range(12)}


def test_a_database_with_too_many_contexts_is_served_with_the_first_ones() -> None:
    crowded = replace(inventory("a-1 b-1"), policies=many_policies())
    assert len(contexts(crowded)) == MAX_CONTEXTS
    with pytest.raises(InputRejected):
        check_limit(crowded)
    plane = ControlPlane()
    plane.handle(Booted(1, crowded, Counters()), SECOND)
    (asked,) = [e for e in surveyed(plane, 2 * SECOND) if isinstance(e, Solve)]
    assert len(asked.question.answer().table.snapshot.contexts) == MAX_CONTEXTS
    assert route(plane.view, A, B, VOICE, None, 3 * SECOND).forward is None


def test_five_transports_from_the_database_are_survived() -> None:
    links = {LinkId(f"l{i}"): Link(LinkId(f"l{i}"), A, B, f"t{i}") for i in range(6)}
    plane = ControlPlane()
    plane.handle(Booted(1, replace(inventory("a-1 b-1"), links=links), Counters()), SECOND)
    assert any(isinstance(e, Solve) for e in surveyed(plane, 2 * SECOND))


def test_a_plan_names_a_node_that_has_an_address_for_the_transport() -> None:
    world = inventory("a-1 b-1", nodes=3)
    bare = {id: replace(n, addresses={}) for id, n in world.nodes.items() if id in ("b-1-0", "b-1-1", "a-1-0")}
    world = replace(world, nodes={**world.nodes, **bare})
    for seeker in ("a-1-0", "a-1-1", "a-1-2"):
        peers = probe_plan(world, NodeId(seeker), 1, 0).peers
        assert [p.node for p in peers if p.data_center == "b-1"] == ["b-1-2"]
        assert all(p.host for p in peers)
    assert [p.node for p in probe_plan(world, NodeId("a-1-2"), 1, 0).peers if p.data_center == "a-1"] == ["a-1-1"]


def star(estimator: Estimator, clocks: dict[str, int], now: int, sequence: int) -> None:
    """Siblings probe as planned: everybody the first, the first everybody."""
    first = min(clocks)
    for a in sorted(clocks, reverse=True):  # the first node reports last
        peers = [b for b in clocks if b != a] if a == first else [first]
        rows = {b: (100, 50 + clocks[b] - clocks[a], 50 + clocks[a] - clocks[b]) for b in peers}
        estimator.observe(report(a, rows, sequence), now)


def test_all_siblings_get_a_clock_although_the_first_to_report_is_not_the_one_all_probe() -> None:
    estimator = Estimator(inventory("a-1 b-1", nodes=3))
    clocks = {"a-1-0": 0, "a-1-1": 400_000, "a-1-2": -300_000}
    for s in range(1, 4):
        star(estimator, clocks, s * SECOND, s)
    at = estimator._offset
    assert set(at) == set(clocks)
    assert at[NodeId("a-1-1")] - at[NodeId("a-1-2")] == pytest.approx(700_000, abs=1)
    assert at[NodeId("a-1-1")] - at[NodeId("a-1-0")] == pytest.approx(400_000, abs=1)


def test_a_new_reference_without_a_known_clock_forgets_its_siblings_clocks() -> None:
    estimator = Estimator(inventory("a-1 b-1", nodes=3))
    both = {"a-1-0": 0, "a-1-1": 400_000}
    for s in range(1, 4):
        star(estimator, both, s * SECOND, s)
    estimator.observe(report("a-1-2", {}, 1), 60 * SECOND)  # the others have been silent for long
    assert set(estimator._offset) == {"a-1-2"}


def test_a_clock_that_nobody_measures_any_more_is_not_relied_on() -> None:
    estimator = Estimator(inventory("a-1 b-1", nodes=3))
    clocks = {"a-1-0": 0, "a-1-1": 400_000, "a-1-2": -300_000}
    star(estimator, clocks, SECOND, 1)
    star(estimator, clocks, 2 * SECOND, 2)
    assert len(estimator._offset) == 3
    for s in range(3, 80):  # a-1-0, which all probe, is gone
        for node in ("a-1-1", "a-1-2"):
            estimator.observe(report(node, {}, s), s * SECOND)
    assert [n for n in ("a-1-1", "a-1-2") if n in estimator._offset] == [estimator._reference[A]]


def test_a_slow_probe_between_siblings_is_no_clock_step() -> None:
    estimator = Estimator(inventory("a-1 b-1", nodes=2))
    clocks = {"a-1-0": 0, "a-1-1": 400_000}
    star(estimator, clocks, SECOND, 1)
    held = dict(estimator._offset)
    waited = {"a-1-0": (20_100, 20_050 - 400_000, 50 + 400_000)}  # 20 ms in a queue, one way only
    estimator.observe(report("a-1-1", waited, 2), 2 * SECOND)
    assert estimator._offset == held and estimator.clock_steps == 0


@pytest.mark.parametrize("every_s", [1, 3])
def test_siblings_whose_clocks_drift_apart_are_not_run_after(every_s: int) -> None:
    """The first to report is not the one all probe: two measurements lie between the last one and the reference."""
    estimator = Estimator(inventory("a-1 b-1", nodes=3))
    ppm = {"a-1-0": 50, "a-1-1": -50, "a-1-2": 40}
    for s in range(every_s, 120, every_s):
        clocks = {node: 400_000 + rate * s for node, rate in ppm.items()}
        star(estimator, clocks, s * SECOND, s)
    at, true = estimator._offset, clocks["a-1-0"]
    base = at[NodeId("a-1-0")]
    assert estimator._reference[A] != "a-1-0"
    for node, clock in clocks.items():
        assert at[NodeId(node)] - base == pytest.approx(clock - true, abs=25)


def test_a_node_that_moves_to_another_data_center_is_not_the_old_ones_reference() -> None:
    world = inventory("a-1 b-1", nodes=2)
    older = Estimator(world)
    star(older, {"a-1-0": 0}, SECOND, 1)
    moved = replace(world.nodes[NodeId("a-1-0")], data_center=B)
    newer = Estimator(replace(world, nodes={**world.nodes, moved.id: moved}))
    newer.adopt(older)
    assert A not in newer._reference and moved.id not in newer._offset


def test_drift_survives_a_change_of_the_inventory() -> None:
    world = inventory("x-a x-b y-c")
    older = Estimator(world)
    ppm = {"x-a-0": 100, "x-b-0": -50, "y-c-0": 0}
    there = {(a, b): 20_000 for a in world.data_centers for b in world.data_centers if a != b}
    for second in range(4, 80, 2):
        feed(older, there, {n: ppm[n] * second for n in ppm}, second * SECOND, second)
    older.table(78 * SECOND)
    wider = inventory("a-0 x-a x-b y-c")
    newer = Estimator(wider)
    newer.adopt(older)
    assert newer._drift.tolist() == [0.0, *older._drift.tolist()] and np.abs(older._drift).max() > 5e-5
    assert len(newer._offsets) == len(older._offsets)
    feed(newer, there, {n: ppm[n] * 84 for n in ppm}, 84 * SECOND, 84)
    newer.table(92 * SECOND)
    assert newer._drift[1] - newer._drift[2] == pytest.approx(150e-6, rel=0.1)


@pytest.mark.parametrize("offset", [1_700_000_000_000_000, -(1 << 52) + 200_000])
def test_a_clock_that_is_decades_off_does_not_bend_one_way_delays(offset: int) -> None:
    rng = np.random.default_rng(1)
    n = 8
    delay = rng.integers(1_000, 150_000, (1, n, n))
    delay = np.minimum(delay, delay.transpose(0, 2, 1))
    clock = np.zeros(n, np.int64)
    clock[3] = offset
    raw = delay + clock[None, None, :] - clock[None, :, None]
    usable = ~np.eye(n, dtype=bool)[None]
    got = np.rint(offsets_us(raw, 2 * delay, usable)).astype(np.int64)
    assert np.abs(got - got[0] - clock).max() <= 1


def test_huge_raw_values_reach_the_table_and_nothing_breaks() -> None:
    world = inventory("x-a x-b y-c")
    estimator = Estimator(world)
    there = {(a, b): 20_000 for a in world.data_centers for b in world.data_centers if a != b}
    for s in range(1, 60):
        feed(estimator, there, {"x-a-0": 0, "x-b-0": (1 << 52) - 30_000, "y-c-0": -40_000}, s * SECOND, s)
    table, _ = estimator.table(59 * SECOND)
    seen = table.forward_us[table.rtt_us >= 0]
    assert seen.size == 6 and np.abs(seen - 20_000).max() <= 500


def test_nodes_without_data_centers_positions_do_not_matter() -> None:
    world = Inventory(data_centers=inventory("a-1 b-1").data_centers, nodes={NodeId("a-1-0"): Node(NodeId("a-1-0"), A)})
    estimator = Estimator(world)
    assert estimator.observe(report("a-1-0", {"b-1-0": (1, 1, 0)}, 1), SECOND) is not None
    assert (estimator.table(SECOND)[0].error_us == -1).all()
