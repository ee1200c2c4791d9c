"""What time and operators do to a drain: deadlines, expiry, retirement under way, and its share of the trail."""

from __future__ import annotations

from dataclasses import replace

from test_plane import Desk

from router.core import drain as drains
from router.core.messages import (
    AdvanceDrain,
    Committed,
    DrainChanged,
    FinishDrain,
    Moved,
    Record,
    ResourcesChanged,
    SessionsChanged,
    Tick,
)
from router.core.model import DataCenterId, Drain, DrainId, DrainMode, DrainState, Intent, Selector

SECOND = 1_000_000
DC = DataCenterId("a-1")


def opened(desk: Desk, **more: object) -> Drain:
    drain = Drain(
        DrainId("d-1"), Selector(data_center=DC), DrainMode.SOFT, DrainState.BLEEDING, (DC,), {DC: Intent.SERVING},
        "", desk.now, "me",
    )  # fmt: skip
    drain = replace(drain, **more)  # type: ignore[arg-type]
    center = replace(desk.plane.view.inventory.data_centers[DC], intent=Intent.DRAINING)
    desk.submit(Committed((ResourcesChanged((center,)), SessionsChanged({DC: 2}), DrainChanged(drain))))
    return drain


def test_a_soft_drain_whose_deadline_is_over_begins_to_move() -> None:
    desk = Desk()
    drain = opened(desk, deadline_at=desk.now + 5 * SECOND)
    assert not [e for e in desk.submit(Tick("drains")) if isinstance(e, AdvanceDrain)]
    desk.now += 5 * SECOND
    (step,) = [e for e in desk.submit(Tick("drains")) if isinstance(e, AdvanceDrain)]
    assert (step.drain, step.step) == (drain.id, "deadline")
    changed, intents = drains.step(desk.plane.view, drain.id, step.step, desk.now)
    assert changed.state is DrainState.MOVING and not intents and changed.finished_at is None
    desk.submit(Committed((DrainChanged(changed),)))
    assert not [e for e in desk.submit(Tick("drains")) if isinstance(e, AdvanceDrain)]


def test_a_paused_drain_waits_beyond_its_deadline() -> None:
    desk = Desk()
    opened(desk, deadline_at=desk.now + SECOND, state=DrainState.PAUSED)
    desk.now += 5 * SECOND
    assert desk.submit(Tick("drains")) == []


def test_a_drain_that_is_over_its_time_is_told_once() -> None:
    for state in (DrainState.BLEEDING, DrainState.DRAINED, DrainState.PAUSED):
        desk = Desk()
        opened(desk, expires_at=desk.now + SECOND, state=state)
        told = []
        for _ in range(5):
            desk.now += SECOND
            told += [e.event.kind for e in desk.submit(Tick("drains")) if isinstance(e, Record)]
        assert told == ["drain.expired"], state


def test_finishing_a_drain_leaves_alone_what_operators_decided_meanwhile() -> None:
    for meanwhile in (Intent.RETIRED, Intent.SERVING):
        desk = Desk()
        drain = opened(desk)
        center = replace(desk.plane.view.inventory.data_centers[DC], intent=meanwhile)
        desk.submit(Committed((ResourcesChanged((center,)), SessionsChanged({DC: -2}))))
        assert [e for e in desk.submit(Tick("drains")) if isinstance(e, FinishDrain)]
        finished, intents = drains.step(desk.plane.view, drain.id, "empty", desk.now)
        assert finished.state is DrainState.DRAINED and intents == {}


def test_counters_follow_commits_and_not_a_count_that_was_read_meanwhile() -> None:
    desk = Desk()
    opened(desk)
    desk.submit(Moved(DC, 2, 0, 0))
    desk.submit(Committed((SessionsChanged({DC: -2}),)))
    assert desk.plane.view.counters.sessions.get(DC, 0) == 0


def test_sessions_that_cannot_move_are_told_once_and_not_every_second() -> None:
    desk = Desk()
    opened(desk, mode=DrainMode.HARD, state=DrainState.MOVING)
    told = []
    for _ in range(10):
        told += [e for e in desk.submit(Moved(DC, 0, 2, 2)) if isinstance(e, Record)]
    assert len(told) == 1
    assert [e for e in desk.submit(Moved(DC, 1, 1, 1)) if isinstance(e, Record)]
