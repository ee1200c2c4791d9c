"""Drains that nobody ordered: by blame and by the calendar, their guards, and the way back."""

from __future__ import annotations

from dataclasses import replace

import pytest
from test_drain_states import A1, A2, B1, C1, Floor
from worlds import SECOND

from router.core import drain as drains
from router.core.drain.automatic import FRESH_US, GAP_US, wishes
from router.core.drain.practice import WEEK_MINUTES, due, ending, minute_of_week
from router.core.messages import AdvanceDrain, OpenDrain, Record
from router.core.model import DrainMode, DrainOrigin, DrainState, Selector
from router.core.tables import Health, View
from router.core.verdicts import Blame, Component, ComponentKind, Evidence, Verdict

MINUTE = 60 * SECOND


SEEN = 1 << 60  # a moment ago, however long a story lasts


def blamed(view: View, *found: tuple[ComponentKind, str], ppm: int = 950_000, windows: int = 3, **more: bool) -> View:
    seen = Evidence(newest_at=SEEN)
    verdicts = tuple(Verdict(Component(kind, id), ppm, view.now, windows, seen) for kind, id in found)
    return replace(view, blame=Blame(verdicts, **more))


def test_a_sure_verdict_drains_one_machine_and_an_unsure_one_nothing() -> None:
    floor = Floor()
    view = floor.plane.view
    (node,) = view.inventory.nodes_by_data_center[A1]
    fault = (ComponentKind.NODE, node.id)
    (wish,) = wishes(blamed(view, fault), floor.now)
    assert not wish.refused and wish.request.selector == Selector(node=node.id)
    assert (wish.request.mode, wish.request.origin) == (DrainMode.HARD, DrainOrigin.AUTOMATIC)
    for unsure in (blamed(view, fault, ppm=890_000), blamed(view, fault, windows=2), blamed(view, fault, frozen=True)):
        assert wishes(unsure, floor.now) == ()
    assert wishes(blamed(view, (ComponentKind.CLIENT_ISP, "as1")), floor.now) == ()


def test_who_was_bad_and_is_not_seen_bad_any_more_is_not_drained() -> None:
    floor = Floor()
    (node,) = floor.plane.view.inventory.nodes_by_data_center[A1]
    view = blamed(floor.plane.view, (ComponentKind.NODE, node.id))
    (verdict,) = view.blame.verdicts
    for age_us, wanted in ((FRESH_US, 1), (FRESH_US + 1, 0)):
        evidence = replace(verdict.evidence, newest_at=floor.now - age_us)
        old = replace(view, blame=Blame((replace(verdict, evidence=evidence),)))
        assert len(wishes(old, floor.now)) == wanted


def test_automation_takes_no_more_than_a_tenth_of_the_machines() -> None:
    floor = Floor()
    provider = floor.plane.view.inventory.data_centers[A1].provider
    (wish,) = wishes(blamed(floor.plane.view, (ComponentKind.PROVIDER, provider)), floor.now)
    assert wish.refused == "2 of 5 machines; automation may take 1"


def test_there_is_one_automatic_drain_at_a_time_and_one_in_ten_minutes() -> None:
    floor = Floor()
    two = ((ComponentKind.EDGE_REGION, A1), (ComponentKind.EDGE_REGION, B1))
    first, second = wishes(blamed(floor.plane.view, *two), floor.now)
    assert not first.refused and second.refused == "one automatic drain at a time"
    floor.live(a_1=2)
    floor.open(Selector(data_center=A1), mode=DrainMode.HARD, origin=DrainOrigin.AUTOMATIC)
    (wish,) = wishes(blamed(floor.plane.view, *two), floor.now)
    assert "still under way" in wish.refused
    floor.live(a_1=-2)
    floor.tick()
    (wish,) = wishes(blamed(floor.plane.view, *two), floor.now)
    assert wish.refused == "the last automatic drain began 1 s ago; the limit is 600 s"
    (wish,) = wishes(blamed(floor.plane.view, *two), floor.now + GAP_US)
    assert not wish.refused


def test_the_tick_asks_for_the_drain_and_says_once_what_it_must_not_have() -> None:
    floor, book = Floor(), drains.DrainBook()
    two = ((ComponentKind.EDGE_REGION, A1), (ComponentKind.EDGE_REGION, B1))
    view = blamed(floor.plane.view, *two)
    effects = [drains.on_tick(book, view, drains.Calendar(), floor.now) for _ in range(3)]
    assert [e.request.selector for e in effects[0] if isinstance(e, OpenDrain)] == [Selector(data_center=A1)]
    told = [e.event for once in effects for e in once if isinstance(e, Record)]
    assert [(event.kind, event.subject) for event in told] == [("drain.withheld", f"edge_region:{B1}")]


def test_a_practice_begins_in_its_minute_and_ends_after_half_an_hour() -> None:
    floor = Floor()
    calendar = drains.Calendar((drains.Practice(minute_of_week(floor.now), Selector(data_center=C1)),))
    practice = due(floor.plane.view, calendar, floor.now)
    assert practice is not None and not practice.outcome
    assert practice.request.expires_at == floor.now + 30 * MINUTE
    assert due(floor.plane.view, calendar, floor.now + 6 * MINUTE) is None, "it is not begun late"
    again = due(floor.plane.view, calendar, floor.now + WEEK_MINUTES * MINUTE)
    assert again is not None
    drain = floor.open(practice.request.selector, mode=DrainMode.HARD, origin=DrainOrigin.PRACTICE,
                       expires_at=practice.request.expires_at)  # fmt: skip
    assert due(floor.plane.view, calendar, floor.now) is None, "once a week"
    floor.tick()
    assert floor.drain(drain.id).state is DrainState.DRAINED and not ending(floor.plane.view, drain, floor.now)
    assert ending(floor.plane.view, floor.drain(drain.id), floor.now + 30 * MINUTE) == "succeeded"
    effects = drains.on_tick(drains.DrainBook(), floor.plane.view, calendar, floor.now + 30 * MINUTE)
    assert [(e.step, e.outcome) for e in effects if isinstance(e, AdvanceDrain)] == [("undo", "succeeded")]


def test_a_practice_gives_way_to_blocked_windows_lack_of_room_and_real_events() -> None:
    floor = Floor(capacity=10)
    minute = minute_of_week(floor.now)
    practices = (drains.Practice(minute, Selector(data_center=C1)),)
    blocked = due(floor.plane.view, drains.Calendar(practices, (drains.Window(minute, minute + 1),)), floor.now)
    assert blocked is not None and blocked.outcome.startswith("blocked")
    fault = blamed(floor.plane.view, (ComponentKind.EDGE_REGION, A2))
    real = due(fault, drains.Calendar(practices), floor.now)
    assert real is not None and real.outcome == "interrupted: somebody is blamed"
    drain = floor.open(practices[0].selector, mode=DrainMode.HARD, origin=DrainOrigin.PRACTICE)
    assert ending(blamed(floor.plane.view, (ComponentKind.EDGE_REGION, A2)), drain, floor.now) == "interrupted"
    floor.step(drain.id, "undo")
    floor.live(a_1=8, a_2=8, b_1=8, b_2=8, c_1=8)
    full = due(floor.plane.view, drains.Calendar(practices), floor.now + WEEK_MINUTES * MINUTE)
    assert full is not None and full.outcome.startswith("capacity_check_failed")


def test_what_was_emptied_comes_back_when_it_has_been_well_and_does_not_flap() -> None:
    floor = Floor()
    floor.live(a_1=1)
    first = floor.open(mode=DrainMode.HARD)
    assert drains.comeback(floor.plane.view, first.id, floor.now) == (), "undoing halfway is no comeback"
    floor.live(a_1=-1)
    floor.tick()
    assert drains.comeback(floor.plane.view, first.id, floor.now) == ()
    sick = replace(floor.plane.view, bad_at={A1: floor.now - 60 * SECOND})
    (broken,) = drains.comeback(sick, first.id, floor.now)
    assert (broken.rule, broken.value, broken.limit, broken.shortfall) == ("good_minutes", 60, 180, 120)
    assert drains.comeback(sick, first.id, floor.now + 120 * SECOND) == ()
    floor.step(first.id, "undo")
    second = floor.open(mode=DrainMode.HARD)
    floor.tick()
    (flaps,) = drains.comeback(floor.plane.view, second.id, floor.now)
    assert (flaps.rule, flaps.limit) == ("cool_down", 300)
    assert drains.comeback(floor.plane.view, second.id, floor.now + 300 * SECOND) == ()


@pytest.mark.parametrize("kind", list(ComponentKind))
def test_what_does_not_exist_is_not_drained_whatever_it_is_blamed_for(kind: ComponentKind) -> None:
    floor = Floor()
    assert list(wishes(blamed(floor.plane.view, (kind, "nobody")), floor.now)) == []


def test_automation_keeps_still_when_much_of_the_world_is_not_well() -> None:
    view = blamed(Floor().plane.view, (ComponentKind.EDGE_REGION, A1))
    for unwell, allowed in ((1, True), (2, False)):
        health = tuple(replace(h, state=Health.DEGRADED) if i < unwell else h for i, h in enumerate(view.health))
        (wish,) = wishes(replace(view, health=health), view.now)
        assert bool(wish.refused) is not allowed, wish.refused
