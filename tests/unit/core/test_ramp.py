"""The life of a ramp: every step of its table, what each commits, what it waits for, and what it never does."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from router.core import ramp as ramps
from router.core.errors import InputRejected
from router.core.messages import AdvanceRamp, Climbed, Effect, OpenRamp, Record, Robot, Sample, ShowRamps
from router.core.model import (
    DataCenter,
    DataCenterId,
    Intent,
    Inventory,
    Node,
    NodeId,
    ProviderId,
    Ramp,
    RampId,
    RampKind,
    RampState,
    RegionId,
    Role,
)
from router.core.ramp import RETURN_SHARE_PPM, RUNGS_PPM, TRANSITIONS, RampBook, errands
from router.core.tables import DataCenterHealth, Health, LinkState, LinkTable, NodeStatus, View
from router.core.verdicts import Blame, Component, ComponentKind, Verdict
from router.core.verdicts import Evidence as BlameEvidence

NEW, ID = DataCenterId("new-1"), RampId("r-1")
PLACES = tuple(DataCenterId(name) for name in ("a-1", "b-1", "c-1", "new-1"))
SECOND, MINUTE, HOUR = 1_000_000, 60_000_000, 3_600_000_000


def world(intent: Intent = Intent.CANARY) -> View:
    centers = {
        dc: DataCenter(dc, ProviderId("p"), RegionId("r"), (Role.EDGE,), intent=intent if dc == NEW else Intent.SERVING)
        for dc in PLACES
    }
    nodes = {NodeId(f"{dc}-n"): Node(NodeId(f"{dc}-n"), dc, relay_port=7) for dc in PLACES}
    shape = (1, len(PLACES), len(PLACES))
    zero, up = np.zeros(shape, np.int64), np.full(shape, LinkState.UP, np.uint8)
    links = LinkTable(PLACES, ("internet",), zero, zero, zero, zero, zero, zero, zero, zero, zero, zero, zero, up)
    return View(0, 1, Inventory(data_centers=centers, nodes=nodes), links, None, (DataCenterHealth(Health.UP),) * 4)


class Desk:
    """A book with one ramp, its clock, and the shell's part: what is asked for is committed."""

    def __init__(self, kind: RampKind = RampKind.NEW, intent: Intent = Intent.CANARY) -> None:
        self.book, self.view, self.now = RampBook(), world(intent), 0
        self.speaks, self.committed = True, [""]
        self.intents: dict[DataCenterId, Intent] = {}
        self.book.put(ramps.begin(kind, NEW, ID, "test", "ann", 0), 0)

    @property
    def ramp(self) -> Ramp:
        return self.book.ramps[ID]

    @property
    def waits(self) -> str:
        return "; ".join(self.book.climbs()[ID].waits)

    def tick(self, passed_us: int = SECOND) -> list[Effect]:
        self.now += passed_us
        heard = {NodeId("new-1-n"): NodeStatus(self.now)} if self.speaks else {}
        self.view = replace(self.view, now=self.now, nodes=heard, ramps=dict(self.book.ramps))
        effects = self.book.drive(self.view, self.now)
        for effect in effects:
            if isinstance(effect, AdvanceRamp):
                self.commit(effect.step, effect.reason, effect.exposed)
        return effects

    def commit(self, event: str, reason: str = "", exposed: int | None = None) -> Ramp:
        self.view = replace(self.view, ramps=dict(self.book.ramps))
        after, intents = ramps.step(self.view, ID, event, reason, self.now, exposed)
        self.intents |= intents
        self.committed.append(event)
        self.book.put(replace(after, revision=self.ramp.revision + 1), self.now)
        return after

    def robots(self, count: int, failed: int = 0) -> None:
        wanted = errands(self.view.inventory, NEW)
        self.book.observe(
            Climbed(robots=tuple(Robot(NEW, wanted[i % len(wanted)], i >= failed, "no answer") for i in range(count))),
            self.now,
        )

    def sessions(self, count: int, rtt_us: int = 40_000, failed: int = 0, canary: bool = True) -> None:
        for i in range(count):
            ok = i >= failed
            self.book.observe(
                Climbed((
                    Sample(NEW, canary, "as1/de", begun=True),
                    Sample(NEW, canary, "as1/de", set_up=ok, setup_us=200_000, settled=not ok),
                    *((Sample(NEW, canary, "as1/de", settled=True, rtt_us=rtt_us, loss_ppm=100),) if ok else ()),
                )),
                self.now,
            )  # fmt: skip

    def to_canary(self) -> None:
        self.tick()
        self.tick()
        self.tick(11 * MINUTE)
        self.robots(600)
        self.tick()
        assert self.ramp.state is RampState.CANARY and self.ramp.share_ppm == RUNGS_PPM[0]


def test_a_new_data_center_climbs_to_all_of_its_users_by_itself() -> None:
    desk, seen = Desk(), []
    desk.to_canary()
    while desk.ramp.open:
        desk.sessions(80, canary=False)
        desk.sessions(210)
        seen.append(desk.ramp.share_ppm)
        desk.tick(11 * MINUTE)
        assert len(seen) < 10
    assert seen == list(RUNGS_PPM)
    assert desk.ramp.state is RampState.SERVING and desk.intents == {NEW: Intent.SERVING}
    assert desk.ramp.exposed == 6 * 210 and desk.ramp.finished_at == desk.now
    assert desk.committed[1:5] == ["connected", "clock_known", "measured", "robots_passed"]
    assert not dict(desk.book.claims(desk.view.inventory)).get(NEW) or desk.intents


@pytest.mark.parametrize(("state", "event"), sorted(TRANSITIONS), ids=lambda x: getattr(x, "value", x))
def test_every_step_of_the_table_leads_where_it_says(state: RampState, event: str) -> None:
    kind = RampKind(event.removeprefix("retry_")) if event.startswith("retry_") else RampKind.NEW
    share = RUNGS_PPM[-1] if event == "all_passed" else 10_000 if state is RampState.CANARY else 0
    paused_from = RampState(event.removeprefix("resume_")) if event.startswith("resume_") else None
    ramp = replace(ramps.begin(kind, NEW, ID, "", "ann", 0), state=state, share_ppm=share, paused_from=paused_from)
    asked = "resume" if event.startswith("resume_") else "retry" if event.startswith("retry_") else event
    after, _ = ramps.step(replace(world(), ramps={ID: ramp}), ID, asked, "why", 5 * HOUR)
    assert after.state is TRANSITIONS[state, event] and after.since == 5 * HOUR and after.reason == "why"
    assert (after.paused_from is not None) == (after.state is RampState.PAUSED)
    assert (after.finished_at is not None) == (not after.open)
    assert after.state is not RampState.ROLLED_BACK or after.share_ppm == 0
    assert after.attempt == (2 if asked == "retry" else 1)


def test_what_is_not_in_the_table_is_refused() -> None:
    for state in RampState:
        for event in ("rung_passed", "resume", "retry", "bad", "advance", "nonsense"):
            ramp = replace(ramps.begin(RampKind.NEW, NEW, ID, "", "ann", 0), state=state)
            view = replace(world(), ramps={ID: ramp})
            try:
                after, _ = ramps.step(view, ID, event, "", 0)
            except InputRejected as error:
                assert error.code == "bad_transition"
            else:
                assert (state, after.state) in {(before, found) for (before, _), found in TRANSITIONS.items()}
    with pytest.raises(InputRejected, match="there is no ramp"):
        ramps.step(world(), ID, "pause", "", 0)


def test_the_dial_follows_the_state() -> None:
    desk = Desk()

    def share() -> tuple[int, str] | None:
        dial = dict(desk.book.claims(desk.view.inventory)).get(NEW)
        return None if dial is None else (dial.share_ppm, dial.cause)

    assert share() == (0, "registered; canary share")
    desk.to_canary()
    assert share() == (10_000, "canary share")
    desk.commit("pause")
    assert share() == (10_000, "canary share")
    desk.commit("resume")
    desk.commit("bad")
    assert share() == (0, "rolled back; canary share")
    assert dict(RampBook().claims(desk.view.inventory))[NEW].share_ppm == 0  # a canary whose ramp has not begun


def test_no_more_than_twenty_are_exposed_before_anything_is_known_of_them() -> None:
    desk = Desk()
    desk.to_canary()
    begun = Climbed((Sample(NEW, True, "as1/de", begun=True),))
    desk.book.observe(Climbed((Sample(NEW, False, "as1/de", begun=True),) * 10_000), desk.now)
    for _ in range(19):
        desk.book.observe(begun, desk.now)
    assert dict(desk.book.claims(desk.view.inventory))[NEW].share_ppm == 10_000
    desk.book.observe(begun, desk.now)
    assert dict(desk.book.claims(desk.view.inventory))[NEW].share_ppm == 0
    assert desk.book.climbs()[ID].held and desk.book.climbs()[ID].exposed == 20
    desk.book.observe(Climbed((Sample(NEW, True, "as1/de", settled=True),)), desk.now)
    assert dict(desk.book.claims(desk.view.inventory))[NEW].share_ppm == 10_000


def test_the_first_rung_takes_no_more_than_its_share_of_those_who_came_by_count_not_by_hash() -> None:
    desk = Desk()
    desk.to_canary()
    desk.sessions(5)
    assert "5 sessions of about 0" in dict(desk.book.claims(desk.view.inventory))[NEW].cause
    desk.sessions(200, canary=False)  # of about 800 of the catchment: 6.4
    assert dict(desk.book.claims(desk.view.inventory))[NEW].share_ppm == 10_000
    desk.sessions(2)
    assert dict(desk.book.claims(desk.view.inventory))[NEW].share_ppm == 0


def test_the_first_rung_is_not_left_before_failing_set_ups_are_bounded() -> None:
    desk = Desk()
    desk.to_canary()
    desk.sessions(8_000, canary=False)
    desk.sessions(200, failed=2)
    desk.tick(20 * MINUTE)
    assert desk.ramp.share_ppm == RUNGS_PPM[0]
    assert "2 of 200 set-ups failed: up to 3.7% may, 2.5% is the limit" in desk.waits
    desk.sessions(120)
    desk.tick()
    assert desk.ramp.share_ppm == RUNGS_PPM[1]


def test_a_return_without_users_is_over_within_the_hour() -> None:
    desk = Desk(RampKind.RETURN, Intent.SERVING)
    for _ in range(45):
        desk.tick(MINUTE)
    assert desk.ramp.state is RampState.SERVING


@pytest.mark.parametrize(
    ("what", "told"),
    [({"rtt_us": 50_000}, "round trips are longer"), ({"failed": 25}, "set-ups fail: 25 of 25")],
)
def test_a_bad_one_is_rolled_back_and_says_with_which_numbers(what: dict[str, int], told: str) -> None:
    desk = Desk()
    desk.to_canary()
    desk.sessions(60, canary=False)
    desk.sessions(25, **what)
    desk.tick()
    assert desk.ramp.state is RampState.ROLLED_BACK and desk.ramp.share_ppm == 0
    assert told in desk.ramp.reason and "e-value" in desk.ramp.reason and "limit 333" in desk.ramp.reason
    assert desk.ramp.exposed == 25 and desk.ramp.retry_at == desk.now + HOUR


def test_one_that_is_better_than_the_others_is_not_blamed_for_it() -> None:
    desk = Desk()
    desk.to_canary()
    desk.sessions(60, canary=False)
    desk.sessions(300, rtt_us=10_000)
    desk.tick(11 * MINUTE)
    assert desk.ramp.share_ppm == RUNGS_PPM[1]


def test_the_next_attempt_comes_after_one_two_four_hours_and_then_only_by_a_person() -> None:
    desk, pauses = Desk(RampKind.RETURN, Intent.SERVING), []
    for _ in range(5):
        desk.commit("bad")
        at = desk.ramp.retry_at
        assert at is not None
        pauses.append((at - desk.now) // HOUR)
        desk.tick(at - desk.now - SECOND)
        assert desk.ramp.state is RampState.ROLLED_BACK
        desk.tick(SECOND)
        assert desk.ramp.state is RampState.CANARY and desk.ramp.share_ppm == RETURN_SHARE_PPM
    assert pauses == [1, 2, 4, 8, 16] and desk.ramp.attempt == 6
    desk.commit("bad")
    desk.tick(1000 * HOUR)
    assert desk.ramp.state is RampState.ROLLED_BACK and desk.waits == "a person, after 6 attempts"
    assert desk.commit("retry").state is RampState.CANARY


def test_robots_that_fail_keep_every_user_out() -> None:
    desk = Desk()
    desk.tick()
    desk.tick()
    desk.tick(11 * MINUTE)
    wanted = errands(desk.view.inventory, NEW)
    assert wanted == ("direct", "through", "inward", "outward")
    fails = tuple(Robot(NEW, name, name == "direct", "no answer over c-1") for name in wanted * 3)
    desk.book.observe(Climbed(robots=fails), desk.now)
    desk.tick()
    assert desk.ramp.state is RampState.SYNTHETIC, "it may have been a busy moment, and nobody is exposed"
    desk.tick(MINUTE)
    assert desk.ramp.state is RampState.ROLLED_BACK and desk.ramp.exposed == 0
    assert "inward failed 3 of 3 (no answer over c-1)" in desk.ramp.reason


def test_a_moment_in_which_robots_failed_together_is_outweighed_by_a_minute_in_which_they_did_not() -> None:
    desk = Desk()
    for passed in (SECOND, SECOND, 11 * MINUTE):
        desk.tick(passed)
    desk.robots(8, failed=8)
    for _ in range(60):
        desk.robots(12)
        desk.tick()
    desk.tick(SECOND)
    assert desk.ramp.state is RampState.SYNTHETIC
    desk.robots(1_000)
    desk.tick()
    assert desk.ramp.state is RampState.CANARY


def test_without_robots_nobody_is_let_in_and_the_reason_says_what_was_not_tried() -> None:
    desk = Desk()
    desk.tick()
    desk.tick()
    desk.tick(11 * MINUTE)
    desk.tick()
    assert "50 robots inward, 0 were there" in desk.waits
    desk.tick(HOUR)
    assert desk.ramp.state is RampState.ROLLED_BACK and "50 robots inward, 0 were there" in desk.ramp.reason


def test_what_a_ramp_has_seen_is_shown_when_it_changes_and_once_when_it_ends() -> None:
    desk = Desk()

    def shown() -> int:
        return sum(isinstance(effect, ShowRamps) and effect.ramps == (ID,) for effect in desk.tick())

    desk.to_canary()
    assert shown() == 1
    while shown():
        pass
    desk.sessions(1)
    assert (shown(), shown()) == (1, 0)
    desk.commit("withdraw")
    assert (shown(), shown()) == (1, 0)


def test_a_person_may_vouch_for_robots() -> None:
    desk = Desk()
    desk.tick()
    desk.tick()
    desk.tick(11 * MINUTE)
    assert desk.commit("advance", "tried by hand").share_ppm == RUNGS_PPM[0]
    with pytest.raises(InputRejected, match="cannot advance"):
        Desk().commit("advance")


def test_low_traffic_climbs_by_time_and_says_so() -> None:
    desk, reasons = Desk(), []
    desk.to_canary()
    for _ in range(400):
        effects = desk.tick(HOUR // 2)
        reasons += [e.reason for e in effects if isinstance(e, AdvanceRamp)]
        if not desk.ramp.open:
            break
    assert desk.ramp.state is RampState.SERVING and len(reasons) == 6
    assert all(reason.startswith("by time: only 0 sessions") for reason in reasons)


def test_a_few_users_do_not_let_time_carry_it_up_while_the_next_rung_would_expose_many() -> None:
    desk = Desk()
    desk.to_canary()
    for _ in range(60):
        desk.sessions(1, canary=False)
    desk.sessions(30)
    found = [e for _ in range(50) for e in desk.tick(HOUR)]
    assert desk.ramp.share_ppm == RUNGS_PPM[0] and not any(isinstance(e, AdvanceRamp) for e in found)
    told = [e.event for e in found if isinstance(e, Record)]
    assert [event.kind for event in told] == ["ramp.waits"] and "canary for 120 min" in told[0].reason


def test_evidence_carries_over_when_a_rung_was_passed_by_time() -> None:
    """A low-traffic data center that is bad is found by the sessions of several rungs together."""
    desk = Desk()
    desk.to_canary()
    desk.sessions(40, canary=False)
    desk.sessions(3, rtt_us=70_000)
    while desk.ramp.share_ppm == RUNGS_PPM[0]:
        desk.tick(2 * HOUR)
    for _ in range(20):
        desk.sessions(10, canary=False)
        desk.sessions(1, rtt_us=70_000)
        desk.tick()
    assert desk.ramp.state is RampState.ROLLED_BACK and desk.ramp.exposed <= 23


def test_operators_and_outages_and_blame_have_the_last_word() -> None:
    desk = Desk()
    desk.to_canary()
    centers = dict(desk.view.inventory.data_centers)
    drained = replace(centers[NEW], intent=Intent.DRAINING)
    desk.view = replace(desk.view, inventory=replace(desk.view.inventory, data_centers=centers | {NEW: drained}))
    desk.tick()
    assert desk.ramp.state is RampState.WITHDRAWN and "intent is now draining" in desk.ramp.reason
    desk = Desk()
    desk.to_canary()
    down = DataCenterHealth(Health.DOWN, reason="no packet for 3 s")
    desk.view = replace(desk.view, health=(*desk.view.health[:3], down))
    desk.tick()
    assert desk.ramp.state is RampState.ROLLED_BACK and "no packet for 3 s" in desk.ramp.reason
    desk = Desk()
    desk.to_canary()
    verdict = Verdict(Component(ComponentKind.EDGE_REGION, NEW), 950_000, 0, 3, BlameEvidence())
    desk.view = replace(desk.view, blame=Blame((verdict,)))
    desk.tick()
    assert desk.ramp.state is RampState.ROLLED_BACK and "95 % confidence" in desk.ramp.reason


def test_a_node_that_falls_silent_before_there_are_users_begins_again() -> None:
    desk = Desk()
    desk.tick()
    desk.tick()
    assert desk.ramp.state is RampState.SHADOW
    desk.speaks = False
    desk.tick()
    assert desk.ramp.state is RampState.REGISTERED


def test_a_canary_without_a_ramp_gets_one_and_two_never_run_at_once() -> None:
    book, view = RampBook(), world()
    assert book.drive(view, 0) == [OpenRamp(NEW, RampKind.NEW, "its intent is canary")]
    book.put(ramps.begin(RampKind.NEW, NEW, ID, "", "ann", 0), 0)
    assert not any(isinstance(effect, OpenRamp) for effect in book.drive(view, 1))


def test_a_paused_one_does_not_climb_but_is_still_rolled_back() -> None:
    desk = Desk()
    desk.to_canary()
    desk.commit("pause")
    desk.sessions(80, canary=False)
    desk.sessions(210)
    desk.tick(HOUR)
    assert desk.ramp.state is RampState.PAUSED
    desk.sessions(60, rtt_us=90_000)
    desk.tick()
    assert desk.ramp.state is RampState.ROLLED_BACK


def test_restart_keeps_the_rung_and_what_was_exposed() -> None:
    desk = Desk()
    desk.to_canary()
    desk.sessions(80, canary=False)
    desk.sessions(210)
    desk.tick(11 * MINUTE)
    again = RampBook()
    again.put(desk.ramp, desk.now)
    assert dict(again.claims(desk.view.inventory))[NEW].share_ppm == RUNGS_PPM[1]
    assert again.climbs()[ID].exposed == 210
