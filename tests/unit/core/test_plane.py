"""The control plane as a story of inputs and effects, without any shell."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from worlds import SECOND, feed, inventory, report

from probes.wire import bucket_of
from router.core.errors import InputRejected
from router.core.messages import (
    AppendHistory,
    AppendRouteChanges,
    Booted,
    Committed,
    CountersLoaded,
    DrainChanged,
    FinishDrain,
    Input,
    KeepHistory,
    MakeSurvey,
    MoveSessions,
    PlansChanged,
    Record,
    Reported,
    ResourcesChanged,
    RoutesPublished,
    SessionsChanged,
    Solve,
    Solved,
    SolveFailed,
    Surveyed,
    SurveyFailed,
    Tick,
)
from router.core.model import (
    Counters,
    DataCenterId,
    Drain,
    DrainId,
    DrainMode,
    DrainState,
    Intent,
    NodeId,
    PoolId,
    Selector,
    TrafficClass,
)
from router.core.plane import GENERATION_BITS, ControlPlane
from router.core.rollup import unpack_sketch
from router.core.solve import Answer, Switcher, changes
from router.core.solve.changes import Noted
from router.core.tables import DIRECT

NAMES = "a-1 a-2 b-1"


class Desk:
    """A core with an obedient shell: solves at once, keeps every effect."""

    def __init__(self, epoch: int = 1, last_table: object = None) -> None:
        self.plane = ControlPlane()
        self.now = 100 * SECOND
        self.log: list[object] = []
        self.sequence = 0
        self.submit(Booted(epoch, inventory(NAMES), Counters(), (), last_table))  # type: ignore[arg-type]

    def submit(self, event: Input) -> list[object]:
        effects: list[object] = list(self.plane.handle(event, self.now))
        self.log += effects
        for effect in effects:
            if isinstance(effect, MakeSurvey):
                effects += self.submit(Surveyed(effect.window.survey()))
            elif isinstance(effect, Solve):
                effects += self.submit(Solved(effect.question.answer()))
        return effects

    def second(self, there: dict[tuple[str, str], int]) -> None:
        self.now += SECOND
        self.sequence += 1
        clocks = dict.fromkeys(self.plane.view.inventory.nodes, 0)

        class Sink:
            def observe(sink, event, now):  # type: ignore[no-untyped-def]
                self.submit(Reported(event))

        feed(Sink(), there, clocks, self.now, self.sequence)  # type: ignore[arg-type]
        self.submit(Tick("health"))
        self.submit(Tick("routes"))

    def path(self, source: str, target: str) -> list[str]:
        table = self.plane.view.routes
        assert table is not None
        index = self.plane.view.inventory.index
        ids = list(index)
        u, v = index[DataCenterId(source)], index[DataCenterId(target)]
        assert table.reachable[0, u, v]
        return [source, *(ids[k] for k in table.relays[0, u, v] if k != DIRECT), target]


def rolled_up(desk: Desk) -> list[AppendHistory]:
    (kept,) = [e for e in desk.submit(Tick("rollup")) if isinstance(e, KeepHistory)]
    return list(kept.bucket.rows())


DETOUR = {
    ("a-1", "b-1"): 100_000, ("b-1", "a-1"): 40_000, ("a-1", "a-2"): 20_000, ("a-2", "a-1"): 20_000,
    ("a-2", "b-1"): 30_000, ("b-1", "a-2"): 60_000,
}  # fmt: skip


def test_from_reports_to_a_path_that_differs_there_and_back() -> None:
    desk = Desk()
    desk.second(DETOUR)
    desk.second(DETOUR)
    assert desk.path("a-1", "b-1") == ["a-1", "a-2", "b-1"]
    assert desk.path("b-1", "a-1") == ["b-1", "a-1"]


def test_generations_rise_and_carry_the_epoch() -> None:
    desk = Desk(epoch=3)
    seen = []
    for _ in range(5):
        desk.second(DETOUR)
        seen.append(desk.plane.view.generation)
    assert seen == sorted(set(seen))
    assert seen[0] >> GENERATION_BITS == 3
    later = Desk(epoch=4)
    later.second(DETOUR)
    assert later.plane.view.generation > seen[-1]
    assert later.plane.view.generation < 1 << 53


def test_a_drained_relay_leaves_the_routes_with_the_commit() -> None:
    desk = Desk()
    desk.second(DETOUR)
    center = desk.plane.view.inventory.data_centers[DataCenterId("a-2")]
    desk.now += 200_000
    effects = desk.submit(Committed((ResourcesChanged((replace(center, intent=Intent.DRAINED, revision=2),)),)))
    assert any(isinstance(e, RoutesPublished) for e in effects)
    assert desk.path("a-1", "b-1") == ["a-1", "b-1"]
    assert desk.path("a-1", "a-2") == ["a-1", "a-2"]  # still reachable as an end


def test_solves_close_together_are_one_solve_with_a_wakeup() -> None:
    desk = Desk()
    desk.second(DETOUR)
    before = sum(isinstance(e, Solve) for e in desk.log)
    desk.submit(Tick("routes"))
    desk.submit(Tick("routes"))
    at = desk.plane.next_wakeup()
    assert sum(isinstance(e, Solve) for e in desk.log) == before
    assert at is not None and desk.now < at <= desk.now + 50_000
    desk.now = at
    desk.submit(Tick("wake"))
    assert sum(isinstance(e, Solve) for e in desk.log) == before + 1
    assert desk.plane.next_wakeup() is None


def test_a_late_or_foreign_solve_is_dropped_and_a_failed_one_keeps_the_table() -> None:
    desk = Desk()
    desk.second(DETOUR)
    table = desk.plane.view.routes
    assert table is not None
    foreign = Answer(table.generation, table, 0, Switcher(), Noted((), {}, 0))
    assert desk.plane.handle(Solved(foreign), desk.now) == []
    assert desk.plane.handle(SolveFailed(table.generation, "late"), desk.now) == []
    desk.now += SECOND
    (survey,) = [e for e in desk.plane.handle(Tick("routes"), desk.now) if isinstance(e, MakeSurvey)]
    asked = desk.plane.handle(Surveyed(survey.window.survey()), desk.now)
    (wanted,) = [e for e in asked if isinstance(e, Solve)]
    effects = desk.plane.handle(SolveFailed(wanted.question.generation, "out of memory"), desk.now)
    assert [e.event.kind for e in effects if isinstance(e, Record)] == ["solve.failed"]
    assert desk.plane.view.routes is table
    assert desk.plane.next_wakeup() is not None


def test_a_survey_of_an_inventory_that_changed_meanwhile_is_made_again() -> None:
    desk = Desk()
    desk.second(DETOUR)
    desk.now += SECOND
    (asked,) = desk.plane.handle(Tick("routes"), desk.now)
    assert isinstance(asked, MakeSurvey)
    assert desk.plane.handle(Tick("routes"), desk.now) == [], "one survey at a time"
    gone = (("nodes", "a-2-0"), ("data-centers", "a-2"))
    desk.plane.handle(Committed((ResourcesChanged((), gone),)), desk.now)
    (again,) = desk.plane.handle(Surveyed(asked.window.survey()), desk.now)
    assert isinstance(again, MakeSurvey) and again.window.data_centers == ("a-1", "b-1")
    assert desk.plane.view.links.data_centers == ("a-1", "b-1")
    desk.plane.handle(Surveyed(again.window.survey()), desk.now)
    assert desk.plane.handle(Surveyed(again.window.survey()), desk.now) == []


def test_a_survey_that_fails_is_told_and_the_next_one_is_asked_for() -> None:
    desk = Desk()
    desk.second(DETOUR)
    links, told = desk.plane.view.links, list[str]()
    for _ in range(3):
        desk.now += SECOND
        (asked,) = desk.plane.handle(Tick("routes"), desk.now)
        assert isinstance(asked, MakeSurvey)
        assert desk.plane.handle(SurveyFailed(asked.window.number - 1, "of yore"), desk.now) == []
        failed = SurveyFailed(asked.window.number, "out of memory")
        told += [e.event.kind for e in desk.plane.handle(failed, desk.now) if isinstance(e, Record)]
    assert told == ["survey.failed"]
    assert desk.plane.view.links is links


def test_what_is_reported_while_a_survey_is_made_stays_fresh() -> None:
    desk = Desk()
    desk.second(DETOUR)
    desk.now += SECOND
    desk.submit(Reported(report("a-1-0", {"b-1-0": (140_000, 100_000, 40_000)}, 50)))
    (asked,) = desk.plane.handle(Tick("routes"), desk.now)
    assert isinstance(asked, MakeSurvey)
    desk.now += 1
    desk.submit(Reported(report("b-1-0", {"a-1-0": (140_000, 40_000, 100_000)}, 50)))
    desk.submit(Surveyed(asked.window.survey()))
    index = desk.plane.view.inventory.index
    assert list(desk.plane.view.fresh) == [index[DataCenterId("b-1")]]


def test_duplicate_and_late_reports_count_once() -> None:
    desk = Desk()
    rows = {"b-1-0": (40_000, 20_000, 20_000)}
    desk.submit(Reported(report("a-1-0", rows, 5)))
    desk.submit(Tick("routes"))
    before = desk.plane.view.links.samples.sum()
    desk.submit(Reported(report("a-1-0", rows, 5)))
    desk.submit(Reported(report("a-1-0", rows, 4)))
    desk.submit(Tick("routes"))
    assert desk.plane.view.links.samples.sum() == before == 1
    assert desk.plane.view.nodes[NodeId("a-1-0")].sequence == 5


def test_a_saved_table_stays_in_force_until_measurements_are_back() -> None:
    desk = Desk()
    desk.second(DETOUR)
    desk.second(DETOUR)
    old = desk.plane.view.routes
    assert old is not None
    again = Desk(epoch=2, last_table=replace(old, stale=True))
    again.submit(Tick("routes"))
    assert again.plane.view.routes is not None and again.plane.view.routes.stale
    # saved some generations ago, yet numbered after everything that was ever served
    assert desk.plane.view.generation < again.plane.view.generation
    assert again.path("a-1", "b-1") == ["a-1", "a-2", "b-1"]
    again.second(DETOUR)
    assert not again.plane.view.routes.stale
    assert again.plane.view.generation > old.generation


def test_when_most_agents_fall_silent_the_last_routes_stay() -> None:
    desk = Desk()
    desk.second(DETOUR)
    generation = desk.plane.view.generation
    desk.now += 20 * SECOND
    effects = desk.submit(Tick("routes"))
    assert [e.event.kind for e in effects if isinstance(e, Record)] == ["routes.frozen"]
    assert desk.plane.view.generation == generation
    assert [type(e) for e in desk.submit(Tick("routes"))] == [MakeSurvey]


def test_counters_follow_commits_and_are_healed_by_absolute_ones() -> None:
    desk = Desk()
    dc, pool = DataCenterId("a-1"), PoolId("p")
    desk.submit(Committed((SessionsChanged({dc: 1}, {(pool, dc): -1}, {(pool, dc): 1}),)))
    desk.submit(Committed((SessionsChanged({dc: 2}),)))
    assert desk.plane.view.counters.sessions == {dc: 3}
    desk.submit(Committed((SessionsChanged({dc: -3}),)))
    assert desk.plane.view.counters.sessions == {}
    desk.submit(CountersLoaded(Counters({dc: 9})))
    assert desk.plane.view.counters.sessions == {dc: 9}


@pytest.mark.parametrize(("mode", "moves"), [(DrainMode.HARD, True), (DrainMode.SOFT, False)])
def test_a_drain_moves_or_bleeds_and_finishes_when_nothing_is_left(mode: DrainMode, moves: bool) -> None:
    desk = Desk()
    dc = DataCenterId("a-1")
    state = DrainState.MOVING if mode is DrainMode.HARD else DrainState.BLEEDING
    drain = Drain(DrainId("d-1"), Selector(data_center=dc), mode, state, (dc,), {dc: Intent.SERVING}, "", 0, "me")
    desk.submit(Committed((SessionsChanged({dc: 2}), DrainChanged(drain))))
    effects = desk.submit(Tick("drains"))
    assert [e.data_center for e in effects if isinstance(e, MoveSessions)] == ([dc] if moves else [])
    assert not [e for e in effects if isinstance(e, FinishDrain)]
    desk.submit(Committed((SessionsChanged({dc: -2}),)))
    effects = desk.submit(Tick("drains"))
    assert [e.drain for e in effects if isinstance(e, FinishDrain)] == [drain.id]
    desk.submit(Committed((DrainChanged(replace(drain, state=DrainState.PAUSED)),)))
    assert desk.submit(Tick("drains")) == []


def test_plans_change_with_the_inventory_and_never_repeat_a_version() -> None:
    desk = Desk()
    plan = desk.plane.plan(NodeId("a-1-0"), desk.now)
    assert {p.data_center for p in plan.peers} == {"a-2", "b-1"}
    node = desk.plane.view.inventory.nodes[NodeId("b-1-0")]
    effects = desk.submit(Committed((ResourcesChanged(deletes=(("nodes", node.id),)),)))
    assert any(isinstance(e, PlansChanged) for e in effects)
    after = desk.plane.plan(NodeId("a-1-0"), desk.now)
    assert after.plan_version > plan.plan_version
    assert {p.data_center for p in after.peers} == {"a-2"}
    with pytest.raises(InputRejected) as refused:
        desk.plane.plan(node.id, desk.now)
    assert refused.value.code == "unknown_node"


def test_history_is_one_row_per_source() -> None:
    desk = Desk()
    desk.second(DETOUR)
    rows = rolled_up(desk)
    assert [r.data_center for r in rows] == NAMES.split()
    assert all(len(r.columns["forward_us"]) == 8 * 3 for r in rows)


def test_history_counts_every_report_of_its_bucket_once() -> None:
    desk = Desk()
    for _ in range(3):
        desk.second(DETOUR)
    desk.submit(Reported(report("a-1-0", {"b-1-0": (900_000, 0, 0)}, 4, sent=2, lost=1)))
    desk.submit(Reported(report("a-1-0", {"b-1-0": (900_000, 0, 0)}, 4, sent=2, lost=1)))  # sent again
    rows = {r.data_center: r.columns for r in rolled_up(desk)}
    columns = {name: np.frombuffer(body, "<i8") for name, body in rows[DataCenterId("a-1")].items()}
    assert columns["sent"].tolist() == [0, 3, 5] and columns["lost"].tolist() == [0, 0, 1]
    assert columns["rtt_min_us"].tolist() == [-1, 40_000, 140_000]
    merged = unpack_sketch(rows[DataCenterId("a-1")]["rtt_sketch"], 3, 2)
    assert merged == (bucket_of(140_000), 3, bucket_of(900_000), 1)
    rows = {r.data_center: r.columns for r in rolled_up(desk)}
    assert not np.frombuffer(rows[DataCenterId("a-1")]["sent"], "<i8").any(), "the next bucket starts empty"


def test_a_generation_that_changes_routes_says_which() -> None:
    desk = Desk()
    desk.second(DETOUR)
    desk.second(DETOUR)
    assert not [e for e in desk.log if isinstance(e, AppendRouteChanges)], "first paths are no changes"
    center = desk.plane.view.inventory.data_centers[DataCenterId("a-2")]
    desk.now += 200_000
    effects = desk.submit(Committed((ResourcesChanged((replace(center, intent=Intent.DRAINED, revision=2),)),)))
    (append,) = [e for e in effects if isinstance(e, AppendRouteChanges)]
    (change,) = append.changes
    assert (change.source, change.target, change.traffic_class) == ("a-1", "b-1", TrafficClass.VOICE)
    assert (change.from_path, change.to_path) == (("a-1", "a-2", "b-1"), ("a-1", "b-1"))
    assert (change.at, change.generation) == (desk.now, desk.plane.view.generation)


def test_a_storm_of_changes_is_told_when_its_bucket_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changes, "MAX_LISTED", 0)
    desk = Desk()
    desk.second(DETOUR)
    center = desk.plane.view.inventory.data_centers[DataCenterId("a-2")]
    desk.now += 200_000
    effects = desk.submit(Committed((ResourcesChanged((replace(center, intent=Intent.DRAINED, revision=2),)),)))
    assert not [e for e in effects if isinstance(e, AppendRouteChanges)]
    told = [e.event for e in desk.submit(Tick("rollup")) if isinstance(e, Record)]
    assert [(e.kind, e.reason.split()[0]) for e in told] == [("routes.storm", "1")]
    assert not [e for e in desk.submit(Tick("rollup")) if isinstance(e, Record)]


def test_an_unknown_job_is_our_own_mistake() -> None:
    with pytest.raises(ValueError, match="no job"):
        Desk().submit(Tick("nonsense"))
