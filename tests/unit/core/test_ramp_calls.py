"""Robots that call: which sessions they are to set up, and that no user meets who would not have been set up."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from test_ramp import HOUR, ID, MINUTE, NEW, PLACES, SECOND, Desk, world

from router.core.messages import Climbed, Robot
from router.core.model import Counters, DataCenterId, Pool, PoolId, RampState
from router.core.ramp import CALLS, VIA_LABEL, calls, errands, next_call
from router.core.tables import Climb, DataCenterHealth, Health, View

TUTORS = PoolId("tutors")


def peopled() -> View:
    """The world of four with agents everywhere but at the newcomer."""
    view = world()
    inventory = replace(view.inventory, pools={TUTORS: Pool(TUTORS)})
    return replace(view, inventory=inventory, counters=Counters(idle={(TUTORS, dc): 2 for dc in PLACES if dc != NEW}))


def synthetic() -> Desk:
    desk = Desk()
    desk.view = peopled()
    for passed in (SECOND, SECOND, 11 * MINUTE):
        desk.tick(passed)
    assert desk.ramp.state is RampState.SYNTHETIC
    return desk


def called(desk: Desk, count: int, every: int = 0) -> None:
    """Calls on all errands in turn; each so many-th fails."""
    robots = tuple(Robot(NEW, CALLS[i % 3], not every or i % every > 0, "no agent was heard") for i in range(count))
    desk.book.observe(Climbed(robots=robots), desk.now)


def probed(desk: Desk, count: int = 500) -> None:
    names = errands(world().inventory, NEW)
    desk.book.observe(Climbed(robots=tuple(Robot(NEW, names[i % 4], True) for i in range(count))), desk.now)


def test_calls_go_to_the_newcomer_over_relays_both_ways_and_through_it() -> None:
    desk = synthetic()
    view, seen = desk.view, Counter[str]()
    ways = set()
    for i in range(300):
        climb = Climb(robots={name: (seen[name], 0) for name in CALLS})
        found = next_call(replace(view, climbs={ID: climb}), desk.ramp, TUTORS, f"s-{i}")
        assert found is not None
        seen[found.errand] += 1
        ways.add((found.errand, found.edge, found.hub, found.via))
    assert seen == {"media": 100, "media_relayed": 100, "media_through": 100}
    others = [dc for dc in PLACES if dc != NEW]
    assert ways == {
        *(("media", NEW, hub, None) for hub in others),
        *(("media_relayed", NEW, hub, via) for hub in others for via in others if via != hub),
        *(("media_through", edge, hub, NEW) for edge in others for hub in others if edge != hub),
    }
    behind = Climb(robots={"media": (9, 0), "media_through": (9, 0)})
    found = next_call(replace(view, climbs={ID: behind}), desk.ramp, TUTORS, "s")
    assert found is not None and found.via is not None and found.labels(desk.ramp)[VIA_LABEL] == found.via


def test_who_is_not_well_or_has_no_free_agent_is_no_part_of_a_call() -> None:
    desk = synthetic()
    down = replace(desk.view, health=(DataCenterHealth(Health.DOWN), *desk.view.health[1:]))
    found = [next_call(down, desk.ramp, TUTORS, f"s-{i}") for i in range(50)]
    assert all(call is not None and DataCenterId("a-1") not in (call.edge, call.hub, call.via) for call in found)
    assert next_call(replace(desk.view, counters=Counters()), desk.ramp, TUTORS, "s") is None
    assert not calls(world().inventory, NEW), "where nobody has agents nobody can call"


def test_three_in_a_hundred_calls_that_fail_keep_every_user_out() -> None:
    desk = synthetic()
    for _ in range(62):
        called(desk, 20, every=33)  # probes do not set anything up: all of theirs come back
        probed(desk, 80)
        desk.tick(MINUTE)
        if desk.ramp.state is not RampState.SYNTHETIC:
            break
    assert desk.ramp.state is RampState.ROLLED_BACK and desk.ramp.exposed == 0
    assert "of calls fail" in desk.ramp.reason or "media" in desk.ramp.reason


def test_calls_that_are_set_up_let_it_pass_and_only_enough_of_them_do() -> None:
    desk = synthetic()
    probed(desk)
    called(desk, 300, every=300)
    desk.tick()
    assert desk.ramp.state is RampState.SYNTHETIC and "proof that under 2% of calls fail: 1 of 300 did" in desk.waits
    called(desk, 400)
    desk.tick()
    assert desk.ramp.state is RampState.CANARY and "700 calls, 1 failed" in desk.ramp.reason


def test_where_nobody_calls_a_person_is_asked_and_nothing_is_held_against_it() -> None:
    desk = synthetic()
    probed(desk)
    desk.tick(3 * HOUR)
    assert desk.ramp.state is RampState.SYNTHETIC and "somebody who calls" in desk.waits
    assert desk.commit("advance").state is RampState.CANARY


def test_time_passes_no_rung_where_set_ups_failed_that_nothing_explains() -> None:
    desk = Desk()
    desk.to_canary()
    for _ in range(2):
        desk.sessions(1, failed=1)
        desk.sessions(20)
        desk.tick(HOUR)
        desk.sessions(60, canary=False)
    desk.tick(80 * HOUR)
    assert desk.ramp.share_ppm == 10_000 and "an explanation: 2 of 42 set-ups failed" in desk.waits
    desk.sessions(40, failed=20, canary=False)
    desk.tick(HOUR)
    assert desk.ramp.share_ppm == 50_000, "the control arm fails as often"
