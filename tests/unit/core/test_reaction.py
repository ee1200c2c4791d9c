"""Reaction plans: what a node is told to do by itself, and that the message says it exactly once and decodes."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from test_plane import DETOUR, Desk
from worlds import SECOND

from probes.wire import ReactionPlan, decode_reaction_plan, encode
from router.core.errors import InputRejected
from router.core.messages import Committed, ResourcesChanged
from router.core.model import NodeId, Policy, PolicyId, ProviderId
from router.core.solve import reaction_plan, route
from router.core.solve.answer import STALE_TABLE_US
from router.core.solve.reaction import LEAST_SLACK_US, TRIGGERS
from router.core.tables import View
from router.runtime.saved import dump, load

HERE = NodeId("a-1-0")


@pytest.fixture
def desk() -> Desk:
    made = Desk()
    nodes = made.plane.view.inventory.nodes.values()
    relaying = [replace(n, addresses={"internet": f"h-{n.id}"}, relay_port=7422) for n in nodes]
    extra = replace(relaying[0], id=NodeId("a-1-9"), addresses={"internet": "h-a-1-9"}, relay_port=0)
    made.submit(Committed((ResourcesChanged((*relaying, extra)),)))
    for _ in range(3):
        made.second(DETOUR)
    return made


def spelled(plan: ReactionPlan, context: str, target: str) -> list[list[str]]:
    """The paths of a row, in order, by the names of their data centers."""
    table = plan.tables[plan.contexts.index(context)]
    places = zip(plan.rows.table, plan.rows.target, plan.rows.choices, strict=True)
    wanted = (table, plan.data_centers.index(target))
    choices = next(c for t, v, c in places if (t, v) == wanted)
    return [[plan.data_centers[plan.hops.data_center[h]] for h in plan.paths[p]] for p in choices]


def test_a_row_has_the_path_in_force_its_backups_and_the_direct_path(desk: Desk) -> None:
    plan = reaction_plan(desk.plane.view, HERE, desk.now)
    assert spelled(plan, "voice", "b-1") == [["a-2", "b-1"], ["b-1"]]
    assert spelled(plan, "voice", "a-2") == [["a-2"], ["b-1", "a-2"]]
    assert plan.generation == desk.plane.view.generation and plan.triggers == TRIGGERS
    other = reaction_plan(desk.plane.view, NodeId("b-1-0"), desk.now)
    assert spelled(other, "voice", "a-1")[0] == ["a-1"]


def test_every_row_agrees_with_the_route_that_people_are_told(desk: Desk) -> None:
    view = desk.plane.view
    plan = reaction_plan(view, HERE, desk.now)
    for context in view.routes.snapshot.contexts if view.routes else ():
        for target in ("a-2", "b-1"):
            told = route(view, "a-1", target, context.traffic_class, context.policy, desk.now)
            assert told.forward is not None
            paths = [told.forward.path, *(b.path.path for b in told.backups_forward)]
            assert spelled(plan, context.name, target) == [list(path[1:]) for path in paths]


def test_hops_carry_the_address_of_a_node_that_relays(desk: Desk) -> None:
    hops = reaction_plan(desk.plane.view, NodeId("b-1-0"), desk.now).hops
    assert sorted(hops.host) == ["h-a-1-0", "h-a-2-0"] and set(hops.port) == {7422}
    quiet = [replace(n, relay_port=0) for n in desk.plane.view.inventory.nodes.values() if n.data_center == "a-2"]
    desk.submit(Committed((ResourcesChanged(tuple(quiet)),)))
    hops = reaction_plan(desk.plane.view, NodeId("b-1-0"), desk.now).hops
    assert sorted(zip(hops.host, hops.port, strict=True)) == [("", 0), ("h-a-1-0", 7422)]


def test_an_answer_is_missing_after_the_round_trip_in_force(desk: Desk) -> None:
    view = desk.plane.view
    plan = reaction_plan(view, HERE, desk.now)
    told = route(view, "a-1", "b-1", view.routes.snapshot.contexts[0].traffic_class, None, desk.now)  # type: ignore[union-attr]
    row = list(zip(plan.rows.table, plan.rows.target, strict=True)).index((0, plan.data_centers.index("b-1")))
    assert told.rtt_us is not None
    assert abs(plan.rows.overdue_us[row] - LEAST_SLACK_US - told.rtt_us) < 3_000


def test_contexts_that_agree_share_a_table_and_no_policy_is_broken(desk: Desk) -> None:
    same, hard = Policy(PolicyId("same")), Policy(PolicyId("no-relay"), max_relays=0)
    gone = Policy(PolicyId("no-b"), deny_providers=(ProviderId("b"),))
    desk.now += SECOND
    desk.submit(Committed((ResourcesChanged((same, hard, gone)),)))
    plan = reaction_plan(desk.plane.view, HERE, desk.now)
    number = dict(zip(plan.contexts, plan.tables, strict=True))
    assert number["voice/same"] == number["voice"] != number["voice/no-relay"]
    assert spelled(plan, "voice/no-relay", "b-1") == [["b-1"]]
    b = plan.data_centers.index("b-1")
    assert (number["voice/no-b"], b) not in set(zip(plan.rows.table, plan.rows.target, strict=True))
    assert len(plan.paths) == len(set(plan.paths))


def test_it_decodes_to_itself_and_says_when_it_degrades(desk: Desk) -> None:
    plan = reaction_plan(desk.plane.view, HERE, desk.now + 7)
    assert decode_reaction_plan(json.loads(json.dumps(encode(plan)))) == plan
    routes = desk.plane.view.routes
    assert routes is not None
    assert (plan.issued_at_us, plan.degraded_at_us) == (desk.now + 7, routes.computed_at + STALE_TABLE_US)
    saved: View = replace(desk.plane.view, routes=replace(routes, stale=True))
    assert reaction_plan(saved, HERE, desk.now).degraded_at_us == routes.computed_at


def test_saved_routes_keep_their_backups(desk: Desk) -> None:
    view = desk.plane.view
    assert view.routes is not None
    saved = replace(view, routes=load(dump(view.routes)))
    before, after = (reaction_plan(v, HERE, desk.now) for v in (view, saved))
    assert (before.paths, before.rows.choices, before.rows.protects) == (
        after.paths, after.rows.choices, after.rows.protects,
    )  # fmt: skip


def test_without_routes_the_plan_is_empty_and_strangers_have_none(desk: Desk) -> None:
    bare = replace(desk.plane.view, routes=None)
    plan = reaction_plan(bare, HERE, desk.now)
    assert (plan.generation, plan.contexts, plan.paths) == (0, (), ())
    assert decode_reaction_plan(json.loads(json.dumps(encode(plan)))) == plan
    with pytest.raises(InputRejected, match="no node x"):
        reaction_plan(bare, NodeId("x"), desk.now)
