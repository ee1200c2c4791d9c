"""When everything falls silent at once, nobody is blamed; with few data centers, only who can be."""

from __future__ import annotations

import pytest

from router.sim.simulation import Simulation
from router.sim.worlds import make_world


@pytest.mark.parametrize("seed", [3, 8])  # each blamed whoever fell silent a moment before the others
def test_the_simulated_world_cut_as_a_whole_loses_no_data_center(seed: int) -> None:
    sim = Simulation(make_world(6, 2, seed), seed)
    sim.run(20)
    for pair in sim.world.delay_us:
        sim.world.cut[pair] = True
    sim.run(60)
    assert [e for e in sim.events if e.kind == "data_center.down"] == []
    assert len([e for e in sim.events if e.kind == "health.frozen"]) == 1


def test_two_and_three_data_centers_blame_only_where_blame_is_possible() -> None:
    for names, expected in (("a-1 b-1", []), ("a-1 b-1 c-1", ["a-1"])):
        sim = Simulation(make_world(len(names.split()), 1, 1), 1)
        victim = sorted(sim.world.inventory.data_centers)[0]
        sim.run(20)
        sim.world.blackhole(victim, True)
        sim.run(20)
        down = [e.subject for e in sim.events if e.kind == "data_center.down"]
        assert down == ([victim] if expected else [])
        assert sim.violations == []
