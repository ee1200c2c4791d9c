"""Drains that contradict, match too much, or ask for what cannot be: defined, explained, and repeatable."""

from __future__ import annotations

import pytest

from router.core import drain as drains
from router.core.errors import InputRejected, Unsafe
from router.core.messages import Tick
from router.core.model import (
    Client,
    DataCenterId,
    DrainId,
    DrainMode,
    DrainOrigin,
    DrainState,
    Intent,
    NodeId,
    ProviderId,
    RegionId,
    Selector,
    TrafficClass,
)
from router.core.steering import PlaceRequest, Refused, place
from tests.unit.core.test_answers import SECOND
from tests.unit.core.test_drain_states import A1, A2, B1, B2, C1, Floor

ALL = (A1, A2, B1, B2, C1)


def request(selector: Selector, force: bool = False) -> drains.DrainRequest:
    return drains.DrainRequest(selector, mode=DrainMode.HARD, force=force)


@pytest.mark.parametrize(
    ("selector", "code"),
    [
        (Selector(), "selector_empty"),
        (Selector(provider=ProviderId("nobody")), "selector_matches_nothing"),
        (Selector(region=RegionId("nowhere")), "selector_matches_nothing"),
        (Selector(node=NodeId("none")), "selector_matches_nothing"),
        (Selector(provider=ProviderId("a"), data_center=B1), "selector_matches_nothing"),
    ],
)
def test_a_selector_that_says_nothing_or_matches_nothing_is_refused(selector: Selector, code: str) -> None:
    with pytest.raises(InputRejected) as caught:
        drains.preflight(Floor().plane.view, request(selector), 0)
    assert (caught.value.code, caught.value.field) == (code, "selector")


def test_a_selector_that_matches_everything_is_refused_with_what_would_be_left() -> None:
    floor = Floor()
    (region,) = {dc.region for dc in floor.plane.view.inventory.data_centers.values()}
    plan = drains.preflight(floor.plane.view, request(Selector(region=region)), floor.now)
    broken = {refusal.rule: refusal for refusal in plan.refusals}
    assert plan.targets == ALL and "last_edge" in broken
    assert (broken["last_edge"].value, broken["last_edge"].limit, broken["last_edge"].override) == (0, 1, "force")
    assert all(refusal.message and refusal.override == "force" for refusal in plan.refusals)
    with pytest.raises(Unsafe) as caught:
        drains.open_drain(floor.plane.view, request(Selector(region=region)), plan, drains_id(), "me", floor.now)
    assert caught.value.code == "drain_unsafe" and broken["last_edge"].message in caught.value.message


def drains_id() -> DrainId:
    return DrainId("d-9")


def test_when_everything_is_drained_by_force_nobody_is_placed_at_any_of_it_and_the_reason_says_so() -> None:
    floor = Floor()
    floor.live(a_1=3)
    for dc in ALL:
        floor.open(Selector(data_center=dc), mode=DrainMode.HARD)
    found = place(floor.plane.view, PlaceRequest(Client(), TrafficClass.AGENT), floor.now)
    assert isinstance(found, Refused), "panic gives up health, never what an operator took out"
    assert [(r.data_center, r.rule) for r in found.rejected] == [(dc, "intent") for dc in ALL]
    floor.plane.handle(Tick("drains"), floor.now + SECOND)
    assert floor.plane.view.counters.sessions == {A1: 3}, "who lives there lives on: there is nowhere to go"
    last = next(d for d in floor.plane.view.drains.values() if d.targets == (A1,))
    assert last.state is DrainState.MOVING and floor.plane.view.progress[last.id].sessions_left == 3
    floor.step(last.id, "undo")
    again = place(floor.plane.view, PlaceRequest(Client(), TrafficClass.AGENT), floor.now)
    assert not isinstance(again, Refused) and again.edges[0].data_center == A1


@pytest.mark.parametrize("first", [Selector(provider=ProviderId("a")), Selector(data_center=A1)])
def test_the_same_again_wider_or_narrower_names_the_drain_that_has_it(first: Selector) -> None:
    floor = Floor()
    held = floor.open(first)
    for other in (first, Selector(data_center=A1), Selector(provider=ProviderId("a"))):
        plan = drains.preflight(floor.plane.view, request(other, force=True), floor.now)
        with pytest.raises(InputRejected) as caught:
            drains.open_drain(floor.plane.view, request(other, force=True), plan, drains_id(), "me", floor.now)
        assert caught.value.code == "drain_overlaps" and f"drain {held.id} already has a-1" in caught.value.message
    assert set(floor.plane.view.drains) == {held.id}, "nothing was half applied"


def test_a_drain_of_a_machine_inside_a_drained_data_center_keeps_it_out_when_that_one_is_undone() -> None:
    floor = Floor()
    (node,) = floor.plane.view.inventory.nodes_by_data_center[A1]
    outer = floor.open(Selector(data_center=A1), mode=DrainMode.HARD)
    inner = floor.open(Selector(node=node.id), mode=DrainMode.HARD)
    floor.step(outer.id, "undo")
    world = floor.plane.view.inventory
    assert world.data_centers[A1].intent is Intent.SERVING and not world.nodes[node.id].intent.takes_new_sessions
    floor.step(inner.id, "undo")
    assert floor.plane.view.inventory.nodes[node.id].intent is Intent.SERVING


def test_undoing_halfway_and_again_and_what_is_over_is_defined() -> None:
    floor = Floor()
    floor.live(a_1=100)
    drain = floor.open(stage_s=15)
    floor.tick(16)
    assert floor.drain(drain.id).state is DrainState.SHIFTING and floor.drain(drain.id).share_ppm < 750_000
    undone = floor.step(drain.id, "undo")
    assert undone.state is DrainState.UNDONE and floor.intent(A1) is Intent.SERVING
    for event in ("undo", "pause", "resume", "empty"):
        with pytest.raises(InputRejected, match="cannot"):
            floor.step(drain.id, event)
    assert floor.open().id != drain.id, "its targets are free for the next one"


def test_what_automation_wants_never_overlaps_what_people_have() -> None:
    floor = Floor()
    floor.open(Selector(data_center=A1))
    wish = drains.DrainRequest(Selector(provider=ProviderId("a")), origin=DrainOrigin.AUTOMATIC, force=True)
    plan = drains.preflight(floor.plane.view, wish, floor.now)
    with pytest.raises(InputRejected, match="already has a-1"):
        drains.open_drain(floor.plane.view, wish, plan, drains_id(), "tendril", floor.now)
    assert floor.intent(DataCenterId("a-2")) is Intent.SERVING
