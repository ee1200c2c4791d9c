"""Robots of Tendril's own: what plans let nodes try of a newcomer, what counts against it, and a climb by itself."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from test_ramp import ID, MINUTE, NEW, PLACES, Desk, world
from worlds import SECOND, report

from probes.wire import CheckResult, ProbeReport
from router.core import ramp as ramps
from router.core.messages import Booted, Committed, PlansChanged, RampChanged
from router.core.model import Counters, NodeId, RampKind, RampState
from router.core.plane import ControlPlane
from router.core.ramp import RUNGS_PPM, World, errands, plan_checks
from router.core.ramp.checks import OUTWARD, robots_of
from router.core.tables import DataCenterHealth, Health, LinkState, View

OTHERS = tuple(dc for dc in PLACES if dc != NEW)


def addressed() -> View:
    view = world()
    nodes = {id: replace(node, addresses={"internet": f"host-{id}"}) for id, node in view.inventory.nodes.items()}
    return replace(view, inventory=replace(view.inventory, nodes=nodes))


def seen(view: View) -> World:
    return World(view.inventory, view.health, view.links)


def answers(view: View, node: NodeId, *, lost_over: frozenset[str] = frozenset(), rtt_us: int = 5_000) -> ProbeReport:
    """What a node tells of everything that its plan lets it try, and of its probes straight to the others."""
    here = view.inventory.nodes[node].data_center
    peers = [id for id, other in view.inventory.nodes.items() if (NEW in (here, other.data_center)) and id != node]
    told = report(node, dict.fromkeys(peers, (5000, 0, 0)), 1, sent=2)
    results = []
    for check in plan_checks(view.inventory, view.health, (NEW,), node):
        lost = check.name.partition("/")[0] in lost_over
        results.append(CheckResult(check.name, 2, 0 if lost else 2, -1 if lost else rtt_us))
    return replace(told, checks=tuple(results))


def test_everybody_tries_the_newcomer_as_a_relay_and_over_one_and_it_tries_itself() -> None:
    view = addressed()
    names = {
        node: [c.name for c in plan_checks(view.inventory, view.health, (NEW,), node)] for node in view.inventory.nodes
    }
    for dc in OTHERS:
        through, inward = (name.split("/") for name in names[NodeId(f"{dc}-n")])
        assert through[:3] == ["through", NEW, NEW] and through[3] in OTHERS and through[3] != dc
        assert inward[:2] == ["inward", NEW] and inward[3] == NEW and inward[2] in OTHERS and inward[2] != dc
    own = [name.split("/") for name in names[NodeId("new-1-n")]]
    assert len(own) == 3 and all(one[:2] == [OUTWARD, NEW] and one[2] != one[3] and NEW not in one[2:] for one in own)
    first = plan_checks(view.inventory, view.health, (NEW,), NodeId("a-1-n"))[0]
    assert first.hosts[0] == "host-new-1-n" and first.ports == (7, 7)
    assert not plan_checks(view.inventory, view.health, (), NodeId("a-1-n")), "nobody is to be tried"


def test_who_is_not_well_or_relays_nothing_is_no_part_of_a_check() -> None:
    view = addressed()
    sick = (DataCenterHealth(Health.UP), DataCenterHealth(Health.DOWN), *view.health[2:])
    checks = plan_checks(view.inventory, sick, (NEW,), NodeId("a-1-n"))
    assert checks and not any("b-1" in check.name.split("/") for check in checks)
    mute = replace(view.inventory, nodes={id: replace(n, relay_port=0) for id, n in view.inventory.nodes.items()})
    assert not plan_checks(mute, view.health, (NEW,), NodeId("a-1-n")) and errands(mute, NEW) == ("direct",)


def test_a_good_newcomer_climbs_from_its_robots_to_all_of_its_users_by_itself() -> None:
    desk, view = Desk(), addressed()
    desk.view = view
    desk.tick()
    desk.tick()
    desk.tick(11 * MINUTE)
    assert desk.ramp.state is RampState.SYNTHETIC and desk.book.tried == (NEW,)
    for _ in range(60):
        for node in view.inventory.nodes:
            desk.book.reported(answers(view, node), seen(view), desk.now)
        desk.tick()
        if desk.ramp.state is not RampState.SYNTHETIC:
            break
    assert desk.ramp.state is RampState.CANARY and desk.ramp.share_ppm == RUNGS_PPM[0], desk.waits
    assert not desk.book.tried
    while desk.ramp.open:
        desk.sessions(80, canary=False)
        desk.sessions(210)
        desk.tick(11 * MINUTE)
    assert desk.ramp.state is RampState.SERVING


@pytest.mark.parametrize("broken", ["through", "inward", "outward"])
def test_a_newcomer_whose_relay_swallows_packets_is_rolled_back_before_its_first_user(broken: str) -> None:
    desk, view = Desk(), addressed()
    desk.view = view
    desk.tick()
    desk.tick()
    desk.tick(11 * MINUTE)
    for _ in range(60):
        for node in view.inventory.nodes:
            desk.book.reported(answers(view, node, lost_over=frozenset({broken})), seen(view), desk.now)
        desk.tick()
        if desk.ramp.state is not RampState.SYNTHETIC:
            break
    assert desk.ramp.state is RampState.ROLLED_BACK and broken in desk.ramp.reason and desk.ramp.exposed == 0


def test_a_relay_that_takes_much_longer_than_its_links_fails_and_what_others_broke_does_not_count() -> None:
    view = addressed()
    links = replace(view.links, rtt_us=np.full_like(view.links.rtt_us, 10_000))
    view = replace(view, links=links)
    node = NodeId("a-1-n")
    fine, slow = (answers(view, node, rtt_us=rtt) for rtt in (49_000, 51_000))
    assert all(robot.passed for robot in robots_of(seen(view), (NEW,), fine))
    late = [robot for robot in robots_of(seen(view), (NEW,), slow) if not robot.passed]
    assert {robot.errand for robot in late} == {"through", "inward"} and "51 ms, its links promise 20" in late[0].detail
    down = tuple(DataCenterHealth(Health.DOWN if dc == "a-1" else Health.UP) for dc in PLACES)
    assert not robots_of(seen(replace(view, health=down)), (NEW,), slow)
    state = view.links.state.copy()
    state[0, :, PLACES.index(NEW)] = LinkState.DOWN
    assert not robots_of(seen(replace(view, links=replace(links, state=state))), (NEW,), slow)


@pytest.mark.parametrize(
    "name", ["", "through", "through/new-1", "through/new-1/nowhere", "x/new-1/a-1/b-1", "///", "media/new-1/b-1"]
)
def test_what_a_node_makes_up_counts_for_nothing(name: str) -> None:
    view = addressed()
    told = replace(report("a-1-n", {}, 1), checks=(CheckResult(name, 5, 0, -1),))
    assert not robots_of(seen(view), (NEW,), told)
    assert not robots_of(seen(view), (NEW,), replace(told, node="nobody"))


def test_a_report_of_a_million_probes_is_counted_in_proportion() -> None:
    view = addressed()
    name = "through/new-1/new-1/b-1"
    told = replace(report("a-1-n", {}, 1), checks=(CheckResult(name, 1_000_000, 750_000, 9),))
    found = robots_of(seen(view), (NEW,), told)
    assert (len(found), sum(not robot.passed for robot in found)) == (64, 16)


def test_plans_are_made_anew_when_a_ramp_comes_to_its_robots_and_leaves_them() -> None:
    plane, view = ControlPlane(), addressed()
    plane.handle(Booted(1, view.inventory, Counters()), SECOND)

    def stands(state: RampState, revision: int) -> list[object]:
        ramp = replace(ramps.begin(RampKind.NEW, NEW, ID, "", "me", SECOND), state=state, revision=revision)
        return [e for e in plane.handle(Committed((RampChanged(ramp),)), SECOND) if isinstance(e, PlansChanged)]

    assert not stands(RampState.SHADOW, 1)
    before = plane.plan_version
    assert stands(RampState.SYNTHETIC, 2) and plane.plan_version == before + 1
    assert stands(RampState.CANARY, 3) and not stands(RampState.CANARY, 4)
    assert not plane.plan(NodeId("a-1-n"), SECOND).checks
