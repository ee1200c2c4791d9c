"""A drain that moves slower than drains use to is told to be stuck, once; and what an expired one must do to return."""

from __future__ import annotations

from test_drain_states import A1, Floor

from router.core.drain.usual import LEAST_S
from router.core.messages import Record, SessionsChanged
from router.core.model import Drain, DrainId, DrainMode, DrainState


def told(floor: Floor, seconds: int, moves: int = 0) -> list[str]:
    """Let it run and move some each second; the events of drains."""
    found = []
    for _ in range(seconds):
        left = floor.plane.view.counters.sessions.get(A1, 0)
        if moves and left:
            floor.commit(SessionsChanged({A1: -min(moves, left)}))
        found += [e.event.kind for e in floor.tick() if isinstance(e, Record) and e.event.kind.startswith("drain.")]
    return found


def hard(floor: Floor, sessions: int) -> DrainId:
    floor.live(a_1=sessions)
    return floor.open(mode=DrainMode.HARD).id


def test_a_drain_that_moves_nobody_is_told_to_be_stuck_once_and_goes_on() -> None:
    floor = Floor()
    id = hard(floor, 40)
    assert told(floor, LEAST_S) == []
    assert told(floor, 30) == ["drain.stuck"]
    (says,) = (text for text in floor.plane.view.progress[id].blocked_by if text.startswith("stuck"))
    assert f"{LEAST_S} s is the limit" in says and "no past drains" in says
    assert floor.drain(id).state is DrainState.MOVING


def finished(floor: Floor, sessions: int, moves: int) -> Drain:
    id = hard(floor, sessions)
    assert told(floor, sessions // moves + 3, moves) == []
    assert floor.drain(id).state is DrainState.DRAINED
    return floor.step(id, "undo")


def test_what_is_usual_is_learnt_from_past_drains() -> None:
    """Users who follow slowly are no fault: five a second, where the plan says twenty."""
    floor = Floor(capacity=1_000)
    for _ in range(4):
        finished(floor, 80, 5)
    hard(floor, 400)
    assert told(floor, 80, 5) == [], "80 s, where the plan says 21: as slow as always"
    fresh = Floor(capacity=1_000)
    hard(fresh, 400)
    assert "drain.stuck" in told(fresh, 99, 2)


def test_a_pause_is_no_slowness() -> None:
    floor = Floor()
    id = hard(floor, 40)
    told(floor, LEAST_S - 5)
    floor.step(id, "pause")
    told(floor, 60)
    floor.step(id, "resume")
    assert told(floor, LEAST_S - 5) == []


def test_an_expired_drain_says_what_its_return_would_break() -> None:
    for sessions, says in ((0, "it may come back: undrain d-1"), (3, "it may come back")):
        floor = Floor()
        floor.live(a_1=sessions)
        floor.open(expires_at=floor.now + 5_000_000)
        (event,) = (e.event for _ in range(9) for e in floor.tick() if isinstance(e, Record))
        assert event.kind == "drain.expired" and says in event.reason
    floor = Floor()
    for n in (1, 2):
        floor.live(a_1=3)
        drain = floor.open(mode=DrainMode.HARD, expires_at=floor.now + 5_000_000)
        floor.live(a_1=-3)
        floor.tick()
        floor.tick()
        assert floor.drain(drain.id).state is DrainState.DRAINED
        if n == 1:
            floor.step(drain.id, "undo")
    (event,) = (e.event for _ in range(9) for e in floor.tick() if isinstance(e, Record))
    assert "it may not come back yet: its targets were in 1 other drains within a day" in event.reason
