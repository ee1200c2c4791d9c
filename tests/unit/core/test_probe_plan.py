"""Probe plans: tiers and weights from routes and sessions, budget and floor, and how seldom they change."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from test_plane import DETOUR, Desk
from worlds import SECOND, inventory

from probes.wire import MAX_WEIGHT, ProbePlan, decode_plan, encode
from router.core.attention import (
    COLD,
    HOT,
    REVISED_US,
    SUSPECTED_US,
    WARM,
    Attention,
    attention,
    differs,
    is_due,
)
from router.core.messages import CountersLoaded, PlansChanged
from router.core.model import Counters, DataCenterId, Flow, NodeId, TrafficClass
from router.core.topology import SLOWEST_INTERVAL_US, probe_plan

A1, A2, B1 = DataCenterId("a-1"), DataCenterId("a-2"), DataCenterId("b-1")
FAR = DETOUR | {("a-1", "b-1"): 200_000, ("b-1", "a-1"): 200_000}
CALLS: dict[Flow, int] = {(A1, B1, TrafficClass.VOICE): 5}


@pytest.fixture
def desk() -> Desk:
    """The direct path from a-1 to b-1 is slow both ways; a-2 relays."""
    made = Desk()
    for _ in range(3):
        made.second(FAR)
    return made


def tiers(plan: ProbePlan) -> dict[str, str]:
    return {peer.data_center: peer.tier for peer in plan.peers}


def told(desk: Desk, flows: dict[Flow, int]) -> Attention:
    routes = desk.plane.view.routes
    assert routes is not None
    return attention(desk.plane.view.inventory, flows, routes, desk.now)


def test_links_that_carry_sessions_are_hot_their_backups_warm(desk: Desk) -> None:
    found = told(desk, CALLS)
    assert found.of(A1, A2, "internet")[0] == "hot"
    assert found.of(A2, B1, "internet")[0] == "hot"
    assert found.of(B1, A1, "internet")[0] == "warm"
    assert found.of(A1, A2, "internet")[1] > found.of(B1, A1, "internet")[1] > 0


def test_without_sessions_what_a_route_takes_is_warm_and_the_rest_cold(desk: Desk) -> None:
    found = told(desk, {})
    assert found.of(A1, A2, "internet")[0] == "warm"
    assert found.of(A1, B1, "internet") == ("cold", 0)
    assert found.of(A1, DataCenterId("nowhere"), "internet") == ("cold", 0)


def test_one_probe_measures_both_directions_so_both_ends_are_told_the_same(desk: Desk) -> None:
    found = told(desk, CALLS)
    assert (found.tier == found.tier.transpose(0, 2, 1)).all()
    assert (found.weight == found.weight.transpose(0, 2, 1)).all()
    assert found.weight.max() <= MAX_WEIGHT


def test_a_world_of_calls_stays_within_the_greatest_weight(desk: Desk) -> None:
    assert told(desk, {(A1, B1, TrafficClass.VIDEO): 10**7}).weight.max() == MAX_WEIGHT


def test_a_plan_has_tiers_weights_budget_and_floor_and_survives_the_wire(desk: Desk) -> None:
    view = desk.plane.view
    plan = probe_plan(view.inventory, NodeId("a-1-0"), 7, desk.now, told(desk, CALLS))
    assert tiers(plan) == {"a-2": "hot", "b-1": "warm"}
    asked = sum(1e6 / peer.interval_us for peer in plan.peers)
    assert plan.budget.packets_per_s * 0.9 * (1 - plan.budget.reserve_ppm / 1e6) >= asked
    assert plan.budget.bytes_per_s > 0
    assert plan.floor_interval_us == SLOWEST_INTERVAL_US
    assert decode_plan(json.loads(json.dumps(encode(plan)))) == plan


def test_siblings_are_hot_because_clocks_rest_on_them() -> None:
    plan = probe_plan(inventory("a-1 b-1", nodes=3), NodeId("a-1-0"), 1, 0)
    assert {peer.tier for peer in plan.peers if peer.data_center == "a-1"} == {"hot"}
    assert {peer.tier for peer in plan.peers if peer.data_center == "b-1"} == {"cold"}


@pytest.mark.slow
def test_plans_are_made_anew_seldom_and_only_when_it_matters(desk: Desk) -> None:
    desk.submit(CountersLoaded(Counters(), CALLS))
    version = desk.plane.plan_version
    desk.log.clear()
    for _ in range(80):
        desk.second(FAR)
    assert sum(isinstance(effect, PlansChanged) for effect in desk.log) == 1
    assert desk.plane.plan_version == version + 1
    assert tiers(desk.plane.plan(NodeId("a-1-0"), desk.now))["a-2"] == "hot"
    for _ in range(1 + REVISED_US // SECOND):
        desk.second(FAR)
    assert desk.plane.plan_version == version + 1
    desk.submit(CountersLoaded(Counters(), {(A2, B1, TrafficClass.VOICE): 1, (A1, B1, TrafficClass.VIDEO): 1}))
    for _ in range(1 + REVISED_US // SECOND):
        desk.second(FAR)
    assert desk.plane.plan_version == version + 2


def test_a_new_suspect_does_not_wait_for_the_next_revision() -> None:
    old, new = (A1, B1), (A2, B1)
    assert not is_due(REVISED_US - 1, (old,), (old,))
    assert is_due(SUSPECTED_US, (old,), (old, new))
    assert not is_due(SUSPECTED_US - 1, (old,), (old, new)), "and yet every revision is a plan that each node fetches"
    assert not is_due(SUSPECTED_US, (old, new), (old,))


def test_what_matters_and_what_does_not() -> None:
    n = 20

    def made(tier: int, weight: int, links: int) -> Attention:
        tiers = np.full((1, n, n), COLD, np.uint8)
        weights = np.zeros((1, n, n), np.int64)
        tiers.ravel()[:links], weights.ravel()[:links] = tier, weight
        names = tuple(DataCenterId(f"d{i}") for i in range(n))
        return Attention(0, names, ("internet",), tiers, weights)

    nothing = made(COLD, 0, 0)
    assert differs(None, nothing)
    assert not differs(nothing, made(WARM, 8, 10))
    assert differs(nothing, made(WARM, 8, 30))
    assert differs(nothing, made(HOT, 8, 1))
    assert not differs(made(HOT, 8, 1), nothing)


@pytest.mark.parametrize(
    ("labels", "packets", "monthly"),
    [
        ({}, None, 0),
        ({"probe-monthly-bytes": "5000000000"}, None, 5_000_000_000),
        ({"probe-packets-per-s": "7"}, 7, 0),
        ({"probe-packets-per-s": "100000000"}, None, 0),  # not more than the plan needs
        ({"probe-packets-per-s": "0", "probe-monthly-bytes": "much"}, None, 0),
        ({"probe-packets-per-s": "-7", "probe-monthly-bytes": "9" * 16}, None, 0),
    ],
)
def test_labels_of_a_node_limit_its_agent(
    desk: Desk, labels: dict[str, str], packets: int | None, monthly: int
) -> None:
    world = desk.plane.view.inventory
    node = next(iter(world.nodes.values()))
    usual = probe_plan(world, node.id, 1, desk.now).budget
    limited = replace(world, nodes={**world.nodes, node.id: replace(node, labels=labels)})
    budget = probe_plan(limited, node.id, 1, desk.now).budget
    assert budget.packets_per_s == (packets or usual.packets_per_s)
    assert budget.monthly_bytes == monthly
    assert budget.bytes_per_s * usual.packets_per_s == usual.bytes_per_s * budget.packets_per_s
