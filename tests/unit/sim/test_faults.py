"""Every kind of fault has its effect on the world, and leaves no trace when it ends."""

from __future__ import annotations

import copy
from random import Random

import pytest

from router.core.model import DataCenterId, NodeId
from router.sim.engine import START
from router.sim.faults import REPORT_FAULTS, Direction, Fault, Kind
from router.sim.simulation import Simulation
from router.sim.world import World
from router.sim.worlds import Clocks, make_world

A, B, C = DataCenterId("gcp-fra1"), DataCenterId("oracle-iad1"), DataCenterId("linode-sin1")
SECOND = 1_000_000


def simulation(*faults: Fault, seed: int = 1) -> Simulation:
    return Simulation(make_world(3, 1, seed, Clocks(0, 0)), seed, faults=faults)


def fault(kind: Kind, **more: object) -> Fault:
    base = {"id": "f", "kind": kind, "at_us": 2 * SECOND, "for_us": 2 * SECOND, "target": {"data_center": A}}
    return Fault(**(base | more))  # type: ignore[arg-type]


def effects(world: World) -> dict[str, object]:
    names = ("extra_us", "extra_jitter_us", "cut", "lossy", "gray")
    return {name: copy.deepcopy(getattr(world, name)) for name in names if getattr(world, name)}


def during(*faults: Fault, at_s: float = 3) -> Simulation:
    """A simulation while its faults are going on, after making sure that they end without a trace."""
    ends = simulation(*faults)
    ends.run(5)
    assert effects(ends.world) == {}
    sim = simulation(*faults)
    sim.run(at_s)
    return sim


def test_an_outage_cuts_what_leaves_or_enters_or_both() -> None:
    expected = {
        Direction.OUT: {(A, B), (A, C)},
        Direction.IN: {(B, A), (C, A)},
        Direction.BOTH: {(A, B), (A, C), (B, A), (C, A)},
    }
    for direction, pairs in expected.items():
        assert set(during(fault(Kind.OUTAGE, direction=direction)).world.cut) == pairs


def test_a_link_is_hit_in_its_direction_only() -> None:
    one = fault(Kind.OUTAGE, target=None, link=(A, B), direction=Direction.OUT)
    assert set(during(one).world.cut) == {(A, B)}
    other = fault(Kind.OUTAGE, target=None, link=(A, B), direction=Direction.IN)
    assert set(during(other).world.cut) == {(B, A)}


def test_a_partition_leaves_the_inside_alone() -> None:
    sim = Simulation(make_world(6, 1, 1), 1, faults=[fault(Kind.PARTITION, target={"provider": "gcp"})])
    sim.run(3)
    inside = {dc for dc in sim.world.inventory.data_centers if dc.startswith("gcp")}
    assert len(inside) == 2
    assert set(sim.world.cut) == {(a, b) for a, b in sim.world.delay_us if (a in inside) != (b in inside)}


def test_a_step_and_a_shift_between_directions() -> None:
    sim = during(fault(Kind.STEP, numbers={"delay_ms": 40}))
    assert sim.world.extra_us == dict.fromkeys([(A, B), (A, C), (B, A), (C, A)], 40_000)
    sim = during(fault(Kind.ASYMMETRY, numbers={"shift_ms": 7}))
    assert {pair: us for pair, us in sim.world.extra_us.items() if pair[0] == A} == {(A, B): 7_000, (A, C): 7_000}
    assert {pair: us for pair, us in sim.world.extra_us.items() if pair[1] == A} == {(B, A): -7_000, (C, A): -7_000}
    sim = during(fault(Kind.ASYMMETRY, numbers={"shift_ms": 7}, target=None, link=(A, B)))
    assert sim.world.extra_us == {(A, B): 7_000, (B, A): -7_000}


def test_a_brownout_grows_over_its_ramp() -> None:
    numbers = {"delay_ms": 100, "jitter_ms": 10, "loss_percent": 20, "ramp_s": 1}
    one = fault(Kind.BROWNOUT, numbers=numbers, target=None, link=(A, B), direction=Direction.OUT)
    half = during(one, at_s=2.5).world
    assert half.extra_us == {(A, B): 50_000} and half.extra_jitter_us == {(A, B): 5_000}
    assert half.lossy[A, B] == pytest.approx(1 - (1 - half.loss) * 0.9)
    full = during(one, at_s=3.5).world
    assert full.extra_us == {(A, B): 100_000}
    assert full.lossy[A, B] == pytest.approx(1 - (1 - full.loss) * 0.8)


def test_several_faults_on_one_link_compose() -> None:
    step = fault(Kind.STEP, numbers={"delay_ms": 5})
    loss = fault(Kind.GRAY, id="g", what="packets", numbers={"share_percent": 50}, for_us=SECOND)
    sim = simulation(step, fault(Kind.STEP, id="s", numbers={"delay_ms": 2}), loss)
    sim.run(2.5)
    assert sim.world.extra_us[A, B] == 7_000
    assert sim.world.lossy[A, B] == pytest.approx(1 - (1 - sim.world.loss) / 2)
    sim.run(1)
    assert sim.world.lossy == {} and sim.world.extra_us[A, B] == 7_000


def test_gray_flows_lose_everything_or_nothing() -> None:
    world = Simulation(
        make_world(6, 8, 1), 1, faults=[fault(Kind.GRAY, what="flows", numbers={"share_percent": 30})]
    ).world
    sim = Simulation(world, 1, faults=[fault(Kind.GRAY, what="flows", numbers={"share_percent": 30}, at_us=0)])
    sim.run(0.1)
    world.loss = 0.0
    nodes = list(world.inventory.nodes.values())
    rng, fates = Random(1), []
    for a in nodes:
        for b in nodes:
            if A in (a.data_center, b.data_center) and a.data_center != b.data_center:
                got = [world.transit(a, b, rng) is not None for _ in range(3)]
                assert all(got) or not any(got)
                fates.append(got[0])
    assert 0.2 < 1 - sum(fates) / len(fates) < 0.4


def test_clocks_jump_and_jump_back_and_change_speed() -> None:
    node = NodeId("gcp-fra1-0")
    step = fault(Kind.CLOCK_STEP, target={"node": node}, numbers={"step_ms": 10_800_000})
    sim = simulation(step)
    sim.run(3)
    assert sim.world.clocks[node].read(sim.engine.now) - sim.engine.now == 10_800_000_000
    assert sim.world.clocks[NodeId("oracle-iad1-0")].read(sim.engine.now) == sim.engine.now
    sim.run(2)
    assert sim.world.clocks[node].read(sim.engine.now) == sim.engine.now
    sim = simulation(fault(Kind.CLOCK_DRIFT, target={"provider": "gcp"}, numbers={"drift_ppm": 100}))
    sim.run(6)
    assert sim.world.clocks[node].read(sim.engine.now) - sim.engine.now == 200  # for two seconds


def test_solves_come_late_after_they_were_given_up_and_twice() -> None:
    slow = fault(Kind.SLOW_SOLVER, target=None, numbers={"delay_s": 1.5, "give_up_s": 0.5, "answers": 2}, for_us=None)
    sim = simulation(slow)
    sim.run(3)
    generation, published = sim.plane.view.generation, sim.published
    sim.run(8)
    assert (sim.plane.view.generation, sim.published) == (generation, published)
    assert sim.counts["late_answers"] >= 4
    assert [e.reason for e in sim.events if e.kind == "solve.failed"] == ["no answer within 0.5 s"]
    assert sim.violations == []


def test_a_drain_is_opened_and_undone() -> None:
    sim = simulation(fault(Kind.DRAIN, what="hard", at_us=5 * SECOND, for_us=5 * SECOND))
    sim.run(7)
    assert not sim.plane.view.inventory.data_centers[A].intent.relays
    sim.run(10)
    assert sim.plane.view.inventory.data_centers[A].intent.relays


def test_the_busiest_relay_is_found_when_the_fault_starts() -> None:
    sim = Simulation(make_world(6, 1, 2), 2, faults=[fault(Kind.OUTAGE, target="busiest-relay", at_us=10 * SECOND)])
    sim.run(9.9)
    busiest = sim.busiest_relay()
    sim.run(0.2)
    assert busiest is not None and sim.faults.targets["f"] == (busiest,)
    assert set(sim.world.cut) == {pair for pair in sim.world.delay_us if busiest in pair}


@pytest.mark.parametrize("what", REPORT_FAULTS)
def test_reports_are_spoiled_and_the_core_survives(what: str) -> None:
    spoilt = fault(Kind.REPORTS, what=what, at_us=0, for_us=8 * SECOND, numbers={"delay_s": 2})
    sim = simulation(spoilt)
    sim.run(12)
    assert sim.counts[f"reports_{what}"] == 8
    if what == "malformed":
        assert sim.counts["refused_reports"] >= 7  # an empty report may have nothing to spoil
    assert [v for v in sim.violations if "could not be solved" not in v] == []
    assert sim.plane.view.nodes[NodeId("gcp-fra1-0")].reported_at > START + 8 * SECOND


def test_repeated_and_replayed_reports_change_nothing() -> None:
    honest, twice = simulation(), simulation(fault(Kind.REPORTS, what="duplicate", at_us=0, for_us=None))
    for sim in (honest, twice):
        sim.run(12)
    assert twice.inputs > honest.inputs
    assert twice.digest == honest.digest
