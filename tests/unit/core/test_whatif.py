"""What-if questions: removal against brute force, additions against physics, sessions, room, and empty worlds."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise, permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from worlds import inventory

from router.core import topology, whatif
from router.core.errors import InputRejected
from router.core.geography import light_floor_us
from router.core.kernel import UNREACHABLE
from router.core.model import (
    Counters,
    DataCenter,
    DataCenterId,
    Inventory,
    Node,
    NodeId,
    Policy,
    PolicyId,
    PoolId,
    ProviderId,
    RegionId,
    Role,
    Selector,
    TrafficClass,
)
from router.core.solve import solve
from router.core.tables import NO_COST, DataCenterHealth, Health, LinkState, LinkTable, RouteTable, View
from router.core.whatif import Added, LinkName, WhatIf, simulate, summary
from router.core.whatif.effect import delays_us

NOW = 50_000_000
NAMES = "a-1 a-2 b-1 b-2 c-1 c-2"
IDS = tuple(map(DataCenterId, NAMES.split()))
PLACES = {"a-1": (50.1, 8.7), "a-2": (52.4, 4.9), "b-1": (39.0, -77.5), "b-2": (1.3, 103.8), "c-1": (35.7, 139.7),
          "c-2": (-33.9, 18.4)}  # fmt: skip


def placed(capacity: int = 100) -> Inventory:
    world = inventory(NAMES)
    centers = {
        id: replace(dc, latitude=PLACES[id][0], longitude=PLACES[id][1], capacity_sessions=capacity,
                    region=RegionId(f"r-{id[0]}"))
        for id, dc in world.data_centers.items()
    }  # fmt: skip
    return replace(world, data_centers=centers)


def links_of(ids: tuple[DataCenterId, ...], one_way: np.ndarray) -> LinkTable:
    """All links measured over the one transport; no cost where ``one_way`` has none."""
    there = one_way < NO_COST
    rtt = np.where(there & there.T, one_way + one_way.T, -1)
    known, zero = np.where(there, one_way, -1), np.zeros_like(one_way)
    state = np.where(there, LinkState.UP, LinkState.UNKNOWN).astype(np.uint8)
    arrays = [
        each[None] for each in (rtt, known, known, one_way, zero, known, zero, zero, zero, zero + 9, zero + NOW, state)
    ]
    return LinkTable(ids, ("internet",), *arrays)  # type: ignore[arg-type]


def view_of(world: Inventory, one_way: np.ndarray, **more: object) -> View:
    """A View whose routes are what the solver chooses under these delays."""
    ids, n = tuple(world.data_centers), len(world.data_centers)
    links, health = links_of(ids, one_way), tuple(DataCenterHealth(Health.UP) for _ in ids)
    shot = topology.snapshot(world, links, np.zeros(n, np.int64), health, 5, 1, NOW)
    found = solve(shot)
    zero = np.zeros(found.cost.shape, np.int64)
    table = RouteTable(
        5, NOW, shot, found, found.relays, found.cost < UNREACHABLE, found.cost, zero, zero,
        zero.astype(np.uint8), zero.astype(np.float64), zero.astype(np.int32) - 1,
    )  # fmt: skip
    return View(NOW, 1, world, links, table, health, **more)  # type: ignore[arg-type]


def far(world: Inventory) -> np.ndarray:
    """One-way delays of half as much again as light takes, and a millisecond."""
    floor = [[light_floor_us(a, b) for b in world.data_centers.values()] for a in world.data_centers.values()]
    return np.array(floor, np.int64) * 3 // 2 + 1_000


def brute_force(cost: np.ndarray, may: np.ndarray, u: int, v: int, relay_us: int, most: int) -> int:
    """The least cost over all paths with up to ``most`` different relays."""
    others = [k for k in range(len(cost)) if k not in (u, v) and may[k]]
    paths = [(u, *way, v) for count in range(most + 1) for way in permutations(others, count)]
    sums = [sum(int(cost[a, b]) for a, b in pairwise(path)) + relay_us * (len(path) - 2) for path in paths]
    return min(sums)


delays = st.integers(1_000, 90_000)
worlds = st.lists(st.one_of(delays, st.just(int(NO_COST))), min_size=36, max_size=36)


@settings(max_examples=25, deadline=None)
@given(
    worlds, st.sets(st.sampled_from(IDS), max_size=6), st.sets(st.tuples(st.sampled_from(IDS), st.sampled_from(IDS)))
)
def test_what_is_removed_is_as_if_it_had_never_been_there(
    delay: list[int], gone: set[DataCenterId], cut: set[tuple[DataCenterId, DataCenterId]]
) -> None:
    """Against all paths one by one, and against a table solved from scratch on the world without it."""
    world = placed()
    one_way = np.array(delay, np.int64).reshape(6, 6)
    cuts = sorted((a, b) for a, b in cut if a != b)
    asked = WhatIf((*(Selector(data_center=dc) for dc in sorted(gone)), *(LinkName(a, b) for a, b in cuts)), named=100)
    view = view_of(world, one_way)
    outcome = simulate(view, asked)
    kept = [k for k, dc in enumerate(IDS) if dc not in gone]
    less = one_way.copy()
    for a, b in cuts:
        less[IDS.index(a), IDS.index(b)] = NO_COST
    smaller = replace(world, data_centers={IDS[k]: world.data_centers[IDS[k]] for k in kept}, nodes={})
    scratch = view_of(smaller, less[np.ix_(kept, kept)]).routes
    assert scratch is not None and view.routes is not None
    longer = {TrafficClass.VOICE: 0}
    for c, effect in enumerate(outcome.routes):
        shot = scratch.snapshot
        want = {
            (IDS[kept[u]], IDS[kept[v]]): brute_force(
                shot.cost[c], shot.may_relay[c], u, v, int(shot.relay_cost_us[c]), int(shot.max_relays[c])
            )
            for u in range(len(kept)) for v in range(len(kept)) if u != v
        }  # fmt: skip
        n_after = sum(cost < UNREACHABLE for cost in want.values())
        before = {pair: int(view.routes.cost[c, IDS.index(pair[0]), IDS.index(pair[1])]) for pair in want}
        lost = {pair for pair, cost in want.items() if cost >= UNREACHABLE and before[pair] < UNREACHABLE}
        assert {(change.source, change.target) for change in effect.lost_pairs} == lost and effect.lost == len(lost)
        assert effect.pairs == n_after + len(lost) and effect.gained == 0 and not effect.gained_pairs
        after_us, now_us = delays_us(scratch), delays_us(view.routes)
        moved = {(x.source, x.target): x for x in (*effect.worst, *effect.best)}
        slower = 0
        for (a, b), cost in want.items():
            if cost >= UNREACHABLE:
                continue
            u, v = kept.index(IDS.index(a)), kept.index(IDS.index(b))
            assert int(scratch.cost[c, u, v]) == cost
            after, was = int(after_us[c, u, v]), int(now_us[c, IDS.index(a), IDS.index(b)])
            slower += after > was
            change = moved.get((a, b))
            assert (change is not None) == (after != was), "who gets slower or faster is named"
            if change is not None:
                assert (change.before_us, change.after_us) == (was, after)
                assert change.after is not None and not set(change.after) & gone
        assert effect.slower == slower
        longer[effect.context.traffic_class] = slower
    assert len(longer) == len(TrafficClass) and outcome.scope.data_centers == tuple(sorted(gone))
    assert summary(outcome)


def test_parts_are_groups_that_reach_each_other() -> None:
    """Two halves joined by b-1 alone fall apart without it."""
    one_way = np.full((6, 6), NO_COST)
    for group in (("a-1", "a-2", "b-1"), ("b-1", "b-2", "c-1", "c-2")):
        for a, b in permutations(group, 2):
            one_way[IDS.index(DataCenterId(a)), IDS.index(DataCenterId(b))] = 10_000
    outcome = simulate(view_of(placed(), one_way), WhatIf((Selector(data_center=DataCenterId("b-1")),)))
    assert outcome.parts_before == (IDS,)
    assert outcome.parts_after == (("b-2", "c-1", "c-2"), ("a-1", "a-2"))
    voice = outcome.routes[0]
    assert (voice.lost, voice.broken, len(voice.lost_pairs)) == (12, 12, 10)
    assert "fall into 2 parts" in summary(outcome)


def test_sessions_of_what_is_removed_go_where_placement_sends_them() -> None:
    world, agent = placed(), TrafficClass.AGENT
    a1, a2, b1 = IDS[:3]
    view = view_of(
        world, far(world), counters=Counters({a1: 40, a2: 10}, {}, {(PoolId("p"), b1): 30}),
        flows={(a1, b1, agent): 30, (a2, b1, agent): 5},
    )  # fmt: skip
    outcome = simulate(view, WhatIf((Selector(data_center=a1),)))
    people = outcome.sessions
    assert (people.live, people.at_removed, people.moved.homeless, people.lose_agent, people.cut) == (50, 40, 0, 0, 0)
    assert [(s.source, s.target, s.sessions) for s in people.moved.shifts] == [(a1, a2, 40)]
    rooms = {room.data_center.id: room for room in outcome.rooms.data_centers}
    assert (rooms[a1].change, rooms[a1].before, rooms[a1].after) == ("removed", 40, 0)
    assert (rooms[a2].change, rooms[a2].before, rooms[a2].after) == ("kept", 10, 50)
    assert outcome.rooms.whole.now_pct == 91.7 and outcome.rooms.whole.after_pct == 90.0
    region = next(r for r in outcome.rooms.regions if r.region == "r-a")
    assert (region.edges_before, region.edges_after, region.sessions_after, region.next_loss) == (2, 1, 50, a2)
    assert region.missing == 50, "its last edge holds everybody"
    assert [r.rule for r in outcome.refusals] == []


def test_an_agent_that_is_removed_takes_its_sessions_away_and_a_cut_link_their_path() -> None:
    world, agent = placed(), TrafficClass.AGENT
    a1, a2, b1 = IDS[:3]
    one_way = np.full((6, 6), NO_COST)
    one_way[:3, :3] = 10_000
    view = view_of(
        world, one_way, counters=Counters({a1: 9}, {}, {(PoolId("p"), b1): 9}), flows={(a1, b1, agent): 9}
    )  # fmt: skip
    hub = simulate(view, WhatIf((Selector(data_center=b1),)))
    assert (hub.sessions.lose_agent, hub.sessions.at_removed) == (9, 0)
    assert [(r.rule, r.shortfall) for r in hub.refusals] == [("warm_agents", 1)]
    relayed = simulate(view, WhatIf((LinkName(a1, b1),)))
    (flow,) = relayed.sessions.flows
    assert (relayed.sessions.rerouted, flow.before_us, flow.after_us) == (9, 20_000, 30_000)
    assert relayed.sessions.growth is not None and relayed.sessions.growth.p95_us == 5_000
    gone = simulate(view, WhatIf((LinkName(a1, b1), LinkName(a2, b1))))
    assert (gone.sessions.cut, gone.sessions.rerouted) == (9, 0) and gone.sessions.flows[0].after_us is None


def new(id: str, place: tuple[float, float] | None, capacity_sessions: int = 0) -> Added:
    center = DataCenter(
        DataCenterId(id), ProviderId("d"), RegionId("r-d"), (Role.EDGE, Role.HUB),
        None if place is None else place[0], None if place is None else place[1], capacity_sessions=capacity_sessions,
    )  # fmt: skip
    return Added(center, "test")


def test_a_new_data_center_is_reached_no_faster_than_light_and_with_room() -> None:
    world = placed()
    view = view_of(world, far(world), counters=Counters({IDS[0]: 90, IDS[1]: 60}, {}, {}))
    lagos = new("d-lag", (6.5, 3.4), capacity_sessions=50)
    outcome = simulate(view, WhatIf(add=(lagos, new("d-nowhere", None))))
    newcomer, nowhere = outcome.newcomers
    assert (newcomer.links, nowhere.links) == (6, 0)
    for link in newcomer.nearest:
        least = light_floor_us(lagos.data_center, world.data_centers[link.target])
        assert least <= link.low_us < link.delay_us < link.high_us
    assert outcome.rooms.whole.now_pct == 75.0
    whole = simulate(view, WhatIf(add=(lagos,))).rooms.whole
    assert whole.after_pct == round(100 * 500 / 650, 1)
    assert {str(room.data_center.id): room.change for room in outcome.rooms.data_centers}["d-lag"] == "added"
    assert outcome.sessions.at_removed == 0 and outcome.parts_after[0] == (*IDS, "d-lag")
    assert any("d-nowhere has no limit" in note for note in outcome.notes)


def test_a_relay_in_the_middle_is_found_and_its_gain_is_called_predicted() -> None:
    """Frankfurt reaches the rest of the world over Ashburn alone; a place on the straight line is worth a lot."""
    world = placed()
    one_way = far(world)
    a1, b1, c2 = (IDS.index(DataCenterId(id)) for id in ("a-1", "b-1", "c-2"))
    one_way[a1, [k for k in range(6) if k != b1]] = one_way[[k for k in range(6) if k != b1], a1] = NO_COST
    view = view_of(world, one_way)
    outcome = simulate(view, WhatIf(add=(new("d-mid", (25.0, 13.0)),), named=100))
    voice = outcome.routes[0]
    change = next(x for x in voice.best if (x.source, x.target) == (IDS[a1], IDS[c2]))
    assert change.predicted and change.after == ("a-1", "d-mid", "c-2") and change.delta_us is not None
    assert change.delta_us < -40_000 and voice.saving is not None and voice.growth is None
    assert 0 < voice.faster_at_worst <= voice.faster and (voice.lost, voice.slower) == (0, 0)


def test_policies_keep_their_traffic_out_of_what_is_added() -> None:
    world = replace(
        placed(), policies={PolicyId("a-only"): Policy(PolicyId("a-only"), allow_providers=(ProviderId("a"),))}
    )
    one_way = far(world)
    one_way[0, :] = one_way[:, 0] = 200_000
    outcome = simulate(view_of(world, one_way), WhatIf(add=(new("d-mid", (52.0, 7.0)),)))
    plain = next(e for e in outcome.routes if e.context.policy is None)
    bound = next(e for e in outcome.routes if e.context.policy == "a-only")
    assert plain.faster > 0 and bound.faster == bound.rerouted == 0 and bound.pairs == 2


def test_what_is_removed_may_be_replaced_in_the_same_question() -> None:
    world = placed()
    view = view_of(world, far(world), counters=Counters({IDS[0]: 80, IDS[1]: 80}, {}, {}))
    alone = simulate(view, WhatIf((Selector(provider=ProviderId("a")),)))
    both = simulate(
        view, WhatIf((Selector(provider=ProviderId("a")),), (new("d-fra", (50.1, 8.7), capacity_sessions=400),))
    )
    assert {s.target for s in both.sessions.moved.shifts} == {"d-fra"}
    assert "d-fra" not in {s.target for s in alone.sessions.moved.shifts}


def test_the_last_machine_takes_its_data_center_along_and_another_one_does_not() -> None:
    world = placed()
    spare = Node(NodeId("a-1-1"), IDS[0], {"internet": "127.0.0.2"})
    world = replace(world, nodes=dict(sorted({**world.nodes, spare.id: spare}.items())))
    view = view_of(world, far(world))
    one = simulate(view, WhatIf((Selector(node=NodeId("a-1-0")),)))
    assert one.scope.data_centers == () and one.scope.nodes == ("a-1-0",)
    assert one.notes == ("a-1 keeps 1 of its 2 nodes: its routes and its room stay as they are",)
    two = simulate(view, WhatIf((Selector(node=NodeId("a-1-0")), Selector(node=NodeId("a-1-1")))))
    assert two.scope.data_centers == ("a-1",)


@pytest.mark.parametrize("world", [Inventory(), placed()], ids=["empty", "unmeasured"])
def test_a_world_without_routes_or_without_anything_has_an_answer(world: Inventory) -> None:
    n = len(world.data_centers)
    links = links_of(tuple(world.data_centers), np.full((n, n), NO_COST))
    health = tuple(DataCenterHealth() for _ in world.data_centers)
    view = View(NOW, 1, world, links, None, health)
    outcome = simulate(view, WhatIf(add=(new("d-1", (1.0, 2.0)),)))
    assert outcome.routes == () and outcome.computed_at is None and outcome.stale
    assert "no route table" in outcome.notes[0] and summary(outcome).startswith("0 of 0 sessions")
    solved = view_of(world, np.full((n, n), NO_COST))
    again = simulate(solved, WhatIf(add=(new("d-1", (1.0, 2.0)),)))
    assert [(e.pairs, e.gained) for e in again.routes] == [(n * (n - 1), n * (n - 1) if n else 0)] * len(TrafficClass)
    assert all(change.predicted for e in again.routes for change in e.gained_pairs)


def test_everything_may_go() -> None:
    world = placed()
    view = view_of(
        world, far(world), counters=Counters({IDS[0]: 7}, {(PoolId("p"), IDS[1]): 3}, {(PoolId("p"), IDS[1]): 7})
    )
    everything = tuple(Selector(provider=ProviderId(p)) for p in "abc")
    outcome = simulate(view, WhatIf(everything))
    assert outcome.parts_after == () and outcome.sessions.moved.homeless == 7 and outcome.sessions.lose_agent == 7
    assert {r.rule for r in outcome.refusals} == {"last_edge", "no_place", "warm_agents"}
    assert all(room.after == 0 for room in outcome.rooms.data_centers)
    assert all(r.edges_after == 0 and r.next_loss is None for r in outcome.rooms.regions)


@pytest.mark.parametrize(
    ("asked", "code", "field"),
    [
        (
            WhatIf((Selector(provider=ProviderId("a")), Selector(provider=ProviderId("zz")))),
            "selector_matches_nothing",
            "remove.1",
        ),
        (WhatIf((Selector(),)), "selector_empty", "remove.0"),
        (WhatIf((LinkName(IDS[0], DataCenterId("zz")),)), "unknown_data_center", "remove.0"),
        (WhatIf((LinkName(IDS[0], IDS[0]),)), "same_data_center", "remove.0"),
        (WhatIf(add=(new("a-1", (0.0, 0.0)),)), "data_center_exists", "add.0.id"),
        (WhatIf(add=(new("d-1", (0.0, 0.0)), new("d-1", (0.0, 0.0)))), "data_center_exists", "add.1.id"),
    ],
)  # fmt: skip
def test_what_cannot_be_asked_is_refused_with_its_place(asked: WhatIf, code: str, field: str) -> None:
    with pytest.raises(InputRejected) as refused:
        simulate(view_of(placed(), far(placed())), asked)
    assert (refused.value.code, refused.value.field) == (code, field)


def test_the_same_question_has_the_same_answer_and_changes_nothing() -> None:
    world = placed()
    view = view_of(world, far(world), counters=Counters(dict.fromkeys(IDS, 30), {}, {}))
    asked = WhatIf((Selector(provider=ProviderId("b")),), (new("d-1", (10.0, 10.0)),))
    frozen = view.routes.cost.copy() if view.routes else None
    first, second = simulate(view, asked), simulate(view, asked)
    assert first == second
    assert frozen is not None and view.routes is not None and (view.routes.cost == frozen).all()
    assert whatif.scope_of(view.inventory, asked).data_centers == ("b-1", "b-2")
