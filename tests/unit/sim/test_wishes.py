"""What the core wants of drains and ramps is carried out in the simulator, and what users see reaches blame."""

from __future__ import annotations

from dataclasses import replace

import pytest

from router.core import drain as drains
from router.core.blame.outcomes import total
from router.core.errors import InputRejected
from router.core.messages import OpenDrain, OpenRamp
from router.core.model import (
    DataCenterId,
    DrainMode,
    DrainOrigin,
    Intent,
    NodeId,
    RampKind,
    RampState,
    Selector,
)
from router.sim.engine import START
from router.sim.faults import Fault, Kind
from router.sim.simulation import Simulation
from router.sim.users import Crowd
from router.sim.wishes import Wishes, begun
from router.sim.worlds import make_world

HERE = DataCenterId("gcp-fra1")


def simulation(**more: object) -> Simulation:
    return Simulation(make_world(4, 1, 3), 3, **more)  # type: ignore[arg-type]


def test_a_canary_gets_a_ramp_and_nobody_is_sent_there() -> None:
    sim = simulation(crowd=Crowd(20, 30, 20))
    dc = sim.rows.inventory.data_centers[HERE]
    sim.commit(sim.rows.put([replace(dc, intent=Intent.CANARY)]))
    sim.run(30)
    ramp = next(iter(sim.plane.view.ramps.values()))
    assert (ramp.kind, ramp.data_center, ramp.open) == (RampKind.NEW, HERE, True)
    assert ramp.state not in (RampState.REGISTERED, RampState.CANARY)  # it is heard, and must be measured for minutes
    assert sim.rows.ramps == dict(sim.plane.view.ramps)
    assert sim.users is not None and sim.users.placed
    assert HERE not in {placed.data_center for placed in sim.users.placed}
    assert sim.violations == []


def test_a_second_ramp_and_an_old_revision_are_refused() -> None:
    sim = simulation()
    Wishes(sim).carry_out(OpenRamp(HERE, RampKind.NEW, "first"))
    Wishes(sim).carry_out(OpenRamp(HERE, RampKind.NEW, "second"))
    assert sim.counts["ramp_ramp_exists"] == 1 and len(sim.rows.ramps) == 1
    with pytest.raises(InputRejected, match="revision 1, not 0"):
        sim.rows.put_ramp(begun(RampKind.NEW, HERE, 0, "again", START), {})


def test_an_automatic_drain_is_opened_and_is_the_only_one() -> None:
    sim = simulation()
    sim.run(10)
    for dc in (HERE, DataCenterId("linode-sin1")):
        selector = Selector(data_center=dc)
        request = drains.DrainRequest(selector, DrainMode.HARD, "blamed", origin=DrainOrigin.AUTOMATIC)
        Wishes(sim).carry_out(OpenDrain(request))
    assert [drain.targets for drain in sim.rows.drains.values()] == [(HERE,)]
    assert sim.counts["automatic_drains"] == 1


def test_who_was_taken_out_in_an_emergency_comes_back_on_a_ramp() -> None:
    sim = simulation(crowd=Crowd(20, 30, 20))
    sim.run(25)
    assert sim.rows.count_on(HERE) > 0
    drain = sim.drain(HERE, DrainMode.EMERGENCY)
    sim.run(5)
    sim.undo(drain)
    ramp = next(iter(sim.plane.view.ramps.values()))
    assert (ramp.kind, ramp.data_center, ramp.state) == (RampKind.RETURN, HERE, RampState.CANARY)


def test_sessions_and_those_of_a_gray_node_are_counted() -> None:
    mute = Fault("mute", Kind.GRAY_NODE, 5_000_000, 60_000_000, {"node": f"{HERE}-0"}, numbers={"share_percent": 100})
    sim = simulation(crowd=Crowd(20, 30, 20), faults=[mute])
    sim.run(30)
    sick, all_of_them = total(sim.plane.view.outcomes, edge=HERE), total(sim.plane.view.outcomes)
    assert NodeId(f"{HERE}-0") in sim.rows.inventory.nodes
    assert sick.setup_failed > 0 and sick.good == 0
    assert all_of_them.good > 0 and all_of_them.setup_failed == pytest.approx(sick.setup_failed)
