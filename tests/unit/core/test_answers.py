"""Answers, explanation, placement and drains on one View built from a small measured world."""

from __future__ import annotations

from dataclasses import replace

import pytest
from test_plane import DETOUR, Desk
from worlds import SECOND

from router.core import drain as drains
from router.core.errors import InputRejected, Unsafe
from router.core.messages import Committed, ResourcesChanged, SessionsChanged
from router.core.model import (
    Client,
    Constraints,
    DataCenterId,
    DrainId,
    DrainMode,
    Intent,
    Policy,
    PolicyId,
    Pool,
    PoolId,
    ProviderId,
    Selector,
    TrafficClass,
)
from router.core.solve import explain, route
from router.core.steering import NEAR_EQUAL_US, Placement, PlaceRequest, Refused, place
from router.core.tables import DataCenterHealth, Health

VOICE, AGENT = TrafficClass.VOICE, TrafficClass.AGENT


@pytest.fixture
def desk() -> Desk:
    made = Desk()
    centers = made.plane.view.inventory.data_centers
    where = {"a-1": (50.0, 8.0), "a-2": (52.0, 4.0), "b-1": (39.0, -77.0)}
    placed = tuple(
        replace(dc, latitude=where[dc.id][0], longitude=where[dc.id][1], capacity_sessions=10)
        for dc in centers.values()
    )
    made.submit(Committed((ResourcesChanged((*placed, Pool(PoolId("p")))),)))
    for _ in range(3):
        made.second(DETOUR)
    return made


def commit(desk: Desk, *changes: object) -> None:
    desk.now += SECOND // 4
    desk.submit(Committed(tuple(changes)))  # type: ignore[arg-type]


def test_a_route_says_both_directions_the_saving_and_why(desk: Desk) -> None:
    answer = route(desk.plane.view, "a-1", "b-1", VOICE, None, desk.now)
    assert answer.forward is not None and answer.back is not None
    assert answer.forward.path == ("a-1", "a-2", "b-1") and answer.back.path == ("b-1", "a-1")
    assert answer.rtt_us == 90_000 and answer.direct_rtt_us == 140_000
    assert any("relay a-2 saves" in r for r in answer.reasons)
    assert any("direct is best" in r for r in answer.reasons)
    assert answer.age_us == desk.now - answer.computed_at and not answer.stale
    assert [b.path.path for b in answer.backups_forward] == [("a-1", "b-1")]
    assert [b.path.path for b in answer.backups_return] == [("b-1", "a-2", "a-1")]


def test_explain_recomputes_to_the_same_decision(desk: Desk) -> None:
    view = desk.plane.view
    answer = route(view, "a-1", "b-1", VOICE, None, desk.now)
    story = explain(view, "a-1", "b-1", VOICE, None, desk.now)
    best = story.forward[0]
    assert answer.forward is not None
    assert best.verdict == "in force" and best.path == answer.forward.path
    assert best.metric_us == answer.forward.metric_us == sum(best.terms.values())
    assert [c.verdict for c in story.forward] == ["in force", "lost"]
    assert "worse than the path in force" in story.forward[1].why


def test_no_path_is_an_answer_with_a_reason(desk: Desk) -> None:
    commit(desk, ResourcesChanged((Policy(PolicyId("eu"), deny_providers=(ProviderId("b"),)),)))
    answer = route(desk.plane.view, "a-1", "b-1", VOICE, PolicyId("eu"), desk.now)
    assert answer.forward is None and answer.back is None and answer.rtt_us is None
    assert "policy eu denies provider b" in answer.reasons[0]
    commit(desk, ResourcesChanged((Policy(PolicyId("eu"), max_relays=0),)))
    direct = route(desk.plane.view, "a-1", "b-1", VOICE, PolicyId("eu"), desk.now)
    assert direct.forward is not None and direct.forward.path == ("a-1", "b-1")


@pytest.mark.parametrize(
    ("source", "target", "policy", "code"),
    [
        ("nowhere", "b-1", None, "unknown_data_center"),
        ("a-1", "nowhere", None, "unknown_data_center"),
        ("a-1", "a-1", None, "same_data_center"),
        ("a-1", "b-1", "none", "unknown_policy"),
    ],
)
def test_bad_names_are_the_callers_fault(desk: Desk, source: str, target: str, policy: str | None, code: str) -> None:
    with pytest.raises(InputRejected) as refused:
        route(desk.plane.view, source, target, VOICE, PolicyId(policy) if policy else None, desk.now)
    assert refused.value.code == code


# --- placement -------------------------------------------------------------------------------------------------------


def agents(at: str, count: int = 1) -> SessionsChanged:
    return SessionsChanged(idle={(PoolId("p"), DataCenterId(at)): count})


def ask(desk: Desk, latitude: float = 43.2, longitude: float = 76.9, **more: object) -> Placement | Refused:
    client = Client(latitude=latitude, longitude=longitude, country="KZ")
    return place(desk.plane.view, PlaceRequest(client, AGENT, seed="s-1", **more), desk.now)  # type: ignore[arg-type]


def test_a_user_in_kazakhstan_gets_the_edge_with_the_best_whole_way(desk: Desk) -> None:
    commit(desk, agents("b-1"))
    placed = ask(desk, pool=PoolId("p"))
    assert isinstance(placed, Placement)
    assert placed.edges[0].hub == "b-1" and placed.hubs == ("b-1",)
    totals = [e.total_us for e in placed.edges]
    assert totals[0] <= min(totals) + NEAR_EQUAL_US  # among near-equals load and hashing decide
    best = placed.edges[0]
    assert best.total_us == 2 * best.access_us + (best.forward_us or 0) + (best.return_us or 0)
    assert placed.reasons[0].startswith(f"chose {best.data_center}")


def test_no_agent_no_edge_no_path_are_values(desk: Desk) -> None:
    refused = ask(desk, pool=PoolId("p"))
    assert isinstance(refused, Refused) and refused.code == "no_idle_agent"
    commit(desk, agents("b-1"))
    strict = ask(desk, pool=PoolId("p"), constraints=Constraints(max_rtt_us=1_000))
    assert isinstance(strict, Refused) and strict.code == "max_rtt"
    nobody = ask(desk, constraints=Constraints(allow_providers=(ProviderId("z"),)))
    assert isinstance(nobody, Refused) and nobody.code == "no_edge"
    assert {r.rule for r in nobody.rejected} == {"policy"}


@pytest.mark.parametrize("intent", [Intent.CORDONED, Intent.DRAINING, Intent.DRAINED, Intent.RETIRED])
def test_what_an_operator_took_out_is_never_chosen(desk: Desk, intent: Intent) -> None:
    centers = desk.plane.view.inventory.data_centers
    out = tuple(replace(centers[DataCenterId(n)], intent=intent) for n in ("a-1", "a-2"))
    commit(desk, ResourcesChanged(out), agents("b-1"))
    placed = ask(desk, pool=PoolId("p"))
    assert isinstance(placed, Placement)
    assert [e.data_center for e in placed.edges] == ["b-1"]
    assert {(r.data_center, r.rule) for r in placed.rejected} == {("a-1", "intent"), ("a-2", "intent")}


def test_a_pools_own_limit_binds_new_sessions_and_no_session_that_has_its_agent(desk: Desk) -> None:
    commit(desk, ResourcesChanged((Pool(PoolId("p"), max_rtt_us=1_000, revision=2),)), agents("b-1"))
    refused = ask(desk, pool=PoolId("p"))
    assert isinstance(refused, Refused) and refused.code == "max_rtt" and "1.0 ms" in refused.reason
    assert isinstance(ask(desk, pool=PoolId("p"), agent_data_center=DataCenterId("b-1")), Placement)


def test_a_policy_that_matches_labels_governs_sessions_that_carry_them(desk: Desk) -> None:
    policy = Policy(PolicyId("eu"), match_labels={"tenant": "bank"}, allow_providers=(ProviderId("a"),))
    commit(desk, ResourcesChanged((policy,)), agents("b-1"), agents("a-2"))
    free, bound = ask(desk, pool=PoolId("p")), ask(desk, pool=PoolId("p"), labels={"tenant": "bank"})
    assert isinstance(free, Placement) and set(free.hubs) == {"a-2", "b-1"}
    assert isinstance(bound, Placement) and bound.hubs == ("a-2",)
    assert {e.data_center for e in bound.edges} == {"a-1", "a-2"}


def test_a_full_edge_is_skipped_and_a_move_keeps_the_agent(desk: Desk) -> None:
    first = ask(desk, to=DataCenterId("b-1"))
    assert isinstance(first, Placement)
    commit(desk, SessionsChanged({first.edges[0].data_center: 10}))
    second = ask(desk, to=DataCenterId("b-1"))
    assert isinstance(second, Placement)
    assert second.edges[0].data_center != first.edges[0].data_center
    assert [r.rule for r in second.rejected] == ["capacity"]
    moved = ask(desk, agent_data_center=DataCenterId("b-1"), exclude=(second.edges[0].data_center,))
    assert isinstance(moved, Placement)
    assert moved.edges[0].hub == "b-1" and moved.edges[0].data_center != second.edges[0].data_center


# --- drains ----------------------------------------------------------------------------------------------------------


def wish(**parts: str) -> drains.DrainRequest:
    return drains.DrainRequest(Selector(**parts), DrainMode.HARD, "test")  # type: ignore[arg-type]


def test_a_drain_plan_has_numbers_and_opening_it_commits_intents(desk: Desk) -> None:
    commit(desk, SessionsChanged({DataCenterId("a-2"): 3}))
    request = wish(data_center="a-2")
    plan = drains.preflight(desk.plane.view, request, desk.now)
    assert plan.targets == ("a-2",) and plan.sessions == {"a-2": 3} and plan.routes_through == 1
    assert sum(s.sessions for s in plan.shifts) == 3
    assert plan.headroom_after_pct == 85.0 and not plan.refusals
    drain, intents = drains.open_drain(desk.plane.view, request, plan, DrainId("d-1"), "me", desk.now)
    assert intents == {"a-2": Intent.DRAINING} and drain.previous == {"a-2": Intent.SERVING}


def test_a_refusal_for_too_few_edges_says_which_of_them_are_down(desk: Desk) -> None:
    view = desk.plane.view
    health = list(view.health)
    health[view.inventory.index[DataCenterId("a-1")]] = DataCenterHealth(Health.DOWN)
    (refused,) = drains.preflight(replace(view, health=tuple(health)), wish(data_center="a-2"), desk.now).refusals
    text = "67% of all edges would be out of rotation (1 down and 0 taken out already); drain them one after the other"
    assert (refused.rule, refused.message) == ("max_drained_share", text)
    assert refused.cure == "bring 1 edge back first, or drain fewer at a time"


def test_an_unsafe_drain_is_refused_with_rule_number_and_limit(desk: Desk) -> None:
    request = wish(provider="a")
    plan = drains.preflight(desk.plane.view, request, desk.now)
    assert [(r.rule, r.limit) for r in plan.refusals] == [("max_drained_share", 0.5)]
    with pytest.raises(Unsafe) as refused:
        drains.open_drain(desk.plane.view, request, plan, DrainId("d-1"), "me", desk.now)
    assert refused.value.override == "force" and refused.value.limit == 0.5
    forced = replace(request, force=True)
    assert drains.open_drain(desk.plane.view, forced, plan, DrainId("d-1"), "me", desk.now)[1]


@pytest.mark.parametrize(
    ("parts", "code"), [({}, "selector_empty"), ({"provider": "nobody"}, "selector_matches_nothing")]
)
def test_selectors_that_name_nothing(desk: Desk, parts: dict[str, str], code: str) -> None:
    with pytest.raises(InputRejected) as refused:
        drains.preflight(desk.plane.view, wish(**parts), desk.now)
    assert refused.value.code == code


def test_every_transition_of_a_drain(desk: Desk) -> None:
    from router.core.messages import DrainChanged

    request = wish(data_center="a-2")
    plan = drains.preflight(desk.plane.view, request, desk.now)
    drain, intents = drains.open_drain(desk.plane.view, request, plan, DrainId("d-1"), "me", desk.now)
    centers = desk.plane.view.inventory.data_centers
    changed = tuple(replace(centers[dc], intent=i) for dc, i in intents.items())
    commit(desk, ResourcesChanged(changed), DrainChanged(drain))
    with pytest.raises(InputRejected, match="already has a-2"):
        drains.open_drain(desk.plane.view, request, plan, DrainId("d-2"), "me", desk.now)
    for event, state in [("pause", "paused"), ("resume", "moving"), ("empty", "drained"), ("undo", "undone")]:
        drain, intents = drains.step(desk.plane.view, drain.id, event, desk.now)
        assert drain.state.value == state
        commit(desk, DrainChanged(drain))
    assert intents == {"a-2": Intent.SERVING}
    with pytest.raises(InputRejected) as refused:
        drains.undo(desk.plane.view, drain.id, desk.now)
    assert refused.value.code == "bad_transition"
    with pytest.raises(InputRejected, match="no drain"):
        drains.undo(desk.plane.view, DrainId("d-9"), desk.now)
