"""What must hold when evidence fails: outages that are our own, restarts without agents, clocks, failing solves."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from test_health import SECOND, N, book, run
from test_plane import DETOUR, Desk
from worlds import inventory, report

from router.core.health import HealthBook
from router.core.messages import Booted, MakeSurvey, Record, Reported, Solve, SolveFailed, Surveyed, Tick
from router.core.model import Counters
from router.core.plane import ControlPlane
from router.core.tables import Health, PeerEvidence

__all__ = ["book"]


def kinds(effects: list[object]) -> list[str]:
    return [e.event.kind for e in effects if isinstance(e, Record)]


def test_a_dark_world_is_not_declared_down_when_it_stays_dark(book: HealthBook) -> None:
    changes = run(book, 11, 90, {0, 1, 2, 3, 4})
    assert not [c for c in changes if c[2] is Health.DOWN]


def test_a_world_whose_reports_of_darkness_come_in_one_after_the_other_is_not_declared_down(book: HealthBook) -> None:
    downs = []
    for tick in range(44, 44 + 60):
        now = tick * SECOND // 4
        for u in range(N):
            if tick % 4 == u % 4:
                v = np.array([k for k in range(N) if k != u], np.int64)
                lost = np.full(v.size, 2 if u < 2 else 1, np.int64)
                book.observe(PeerEvidence(u, v, np.zeros_like(v), lost), now)
        downs += [dc for dc, _, after in book.evaluate(now) if after.state is Health.DOWN]
    assert downs == [] and book.frozen


def test_a_restart_that_hears_nobody_keeps_the_saved_routes() -> None:
    desk = Desk()
    desk.second(DETOUR)
    old = desk.plane.view.routes
    assert old is not None
    again = Desk(epoch=2, last_table=replace(old, stale=True))
    for _ in range(60):
        again.now += SECOND
        again.submit(Tick("health"))
        again.submit(Tick("routes"))
    assert again.path("a-1", "b-1") == desk.path("a-1", "b-1")
    assert not [e for e in again.log if isinstance(e, Solve)]


@pytest.mark.slow
def test_agents_that_are_silent_for_long_do_not_freeze_the_others_for_ever() -> None:
    desk = Desk()
    desk.second(DETOUR)
    rows = {"b-1-0": (40_000, 20_000, 20_000)}
    solved = []
    for s in range(700):
        desk.now += SECOND
        desk.submit(Reported(report("a-1-0", rows, 100 + s)))
        solved.append(any(isinstance(e, Solve) for e in desk.submit(Tick("routes"))))
    assert not any(solved[30:500]) and all(solved[-20:])


@pytest.mark.slow
def test_freezing_does_not_flap_with_every_report() -> None:
    desk = Desk()
    desk.second(DETOUR)
    events = []
    for s in range(200):
        desk.now += SECOND
        desk.submit(Reported(report("a-1-0", {"b-1-0": (40_000, 20_000, 20_000)}, 100 + s)))
        if s % 11 == 0:
            desk.submit(Reported(report("b-1-0", {"a-1-0": (40_000, 20_000, 20_000)}, 100 + s)))
        events += kinds(desk.submit(Tick("routes")))
    assert events.count("routes.frozen") <= 2


def test_a_solve_that_keeps_failing_is_told_once() -> None:
    desk = Desk()
    desk.second(DETOUR)
    told = []
    for _ in range(10):
        desk.now += SECOND
        effects = desk.plane.handle(Tick("routes"), desk.now)
        for effect in effects:  # carrying one out may append more
            if isinstance(effect, MakeSurvey):
                effects += desk.plane.handle(Surveyed(effect.window.survey()), desk.now)
            elif isinstance(effect, Solve):
                failed = SolveFailed(effect.question.generation, "no memory")
                told += kinds(list(desk.plane.handle(failed, desk.now)))
    assert told == ["solve.failed"]


def test_a_clock_that_is_back_after_a_restart_does_not_hold_routes_for_ever() -> None:
    desk = Desk()
    desk.second(DETOUR)
    table = desk.plane.view.routes
    assert table is not None
    future = np.full_like(table.since, desk.now + 10**15)
    saved = replace(table, stale=True, since=future, challenger_since=future, computed_at=desk.now + 10**15)
    again = Desk(epoch=2, last_table=saved)
    for _ in range(4):
        again.second(DETOUR)
    now_table = again.plane.view.routes
    assert now_table is not None and not now_table.stale
    assert now_table.since.max() <= again.now and now_table.challenger_since.max() <= again.now


def test_worlds_of_nothing_and_of_one_data_center_are_solved() -> None:
    for names in ("", "a-1", "a-1 b-1"):
        plane = ControlPlane()
        plane.handle(Booted(1, inventory(names), Counters()), SECOND)
        for s in range(2, 30):
            for job in ("health", "routes", "drains", "rollup"):
                for effect in plane.handle(Tick(job), s * SECOND):
                    if isinstance(effect, MakeSurvey):
                        plane.handle(Surveyed(effect.window.survey()), s * SECOND)
        assert plane.pending_question is not None
