"""Simulated providers: what is missing is bought and proves itself, full ones are said, bad ones are sent back."""

from __future__ import annotations

from collections.abc import Mapping

from router.core.capacity import LaunchState
from router.core.plane import ControlPlane
from router.sim.clouds import Provision
from router.sim.simulation import Simulation
from router.sim.users import Crowd
from router.sim.worlds import Clocks, make_world


def played(seconds: int, machines: Mapping[str, int] | None = None, bad: tuple[str, ...] = ()) -> Simulation:
    """Two data centers with too few agents for those who call; machines come after ten seconds."""
    world = make_world(2, 1, 1, Clocks(0, 0))
    provision = Provision(
        cold_start_us=10_000_000, machines=dict(machines or {}), bad=frozenset(bad), agents=2, most_machines=20
    )
    plane = ControlPlane(buying=provision.buying(world.inventory))
    sim = Simulation(world, 1, plane, crowd=Crowd(6, 20.0, 4), provision=provision)
    sim.run(seconds)
    return sim


def test_what_is_missing_is_bought_and_serves_after_it_was_tried() -> None:
    sim = played(120)
    assert sim.clouds is not None and sim.violations == []
    serving = [one for one in sim.clouds.launches.values() if one.state is LaunchState.SERVING]
    assert serving and sim.counts["launches_canary"] >= len(serving)
    assert any("not worse than" in one.reason for one in serving)
    open_agents = [a for a in sim.rows.agents.values() if a.node in {one.node for one in serving}]
    assert open_agents and not any(agent.cordoned for agent in open_agents)


def test_a_full_provider_is_said_and_left_alone_for_a_while() -> None:
    sim = played(30, {"gcp": 0, "oracle": 0})
    assert sim.clouds is not None and set(sim.counts) & {"launches_canary", "launches_pending"} == set()
    assert {one.state for one in sim.clouds.launches.values()} == {LaunchState.FAILED}
    assert any(event.kind == "capacity.short" for event in sim.events)
    assert len(sim.clouds.launches) <= 20  # asked again only when its back-off is over


def test_bad_machines_are_sent_back_and_never_serve() -> None:
    sim = played(60, bad=("gcp", "oracle"))
    assert sim.clouds is not None and sim.counts["launches_serving"] == 0
    back = [one for one in sim.clouds.launches.values() if one.refusal == "bad_canary"]
    assert back and all(one.state in (LaunchState.RETURNING, LaunchState.TERMINATING, LaunchState.GONE) for one in back)
