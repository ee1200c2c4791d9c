"""Whose users come back step by step when a drain ends, and whose at once."""

from __future__ import annotations

from dataclasses import replace

import pytest
from test_drain_states import A1, A2, B1, B2, C1, Floor
from worlds import SECOND

from router.core import drain as drains
from router.core import ramp as ramps
from router.core.messages import RampChanged
from router.core.model import (
    DataCenterId,
    Drain,
    DrainMode,
    DrainOrigin,
    DrainState,
    Intent,
    RampId,
    RampKind,
    Selector,
)


def back(floor: Floor, drain: Drain, after_s: int = 0) -> tuple[DataCenterId, ...]:
    """Who begins a ramp if the drain is undone after a while."""
    view, now = floor.plane.view, floor.now + after_s * SECOND
    _, intents = drains.undo(view, drain.id, now)
    return drains.returning(view, drain, intents, now)


def emptied(floor: Floor, selector: Selector | None = None, **more: object) -> Drain:
    drain = floor.open(selector, **({"mode": DrainMode.HARD} | more))
    floor.live(**{dc.replace("-", "_"): -floor.plane.view.counters.sessions.get(dc, 0) for dc in drain.targets})
    floor.tick()
    assert floor.drain(drain.id).state is DrainState.DRAINED
    return floor.drain(drain.id)


def test_who_still_holds_sessions_has_its_users_back_at_once() -> None:
    floor = Floor()
    floor.live(a_1=30)
    drain = floor.open(mode=DrainMode.HARD)
    assert drain.state is DrainState.MOVING and back(floor, drain, 3_600) == ()


def test_who_was_empty_comes_back_step_by_step() -> None:
    floor = Floor()
    floor.live(a_1=3, a_2=4)
    assert back(floor, emptied(floor)) == (A1,)


def test_a_drain_that_took_nobody_out_for_less_than_three_minutes_has_changed_nothing() -> None:
    floor = Floor()
    drain = emptied(floor)
    assert (back(floor, drain, 170), back(floor, drain, 180)) == ((), (A1,))


@pytest.mark.parametrize("more", [{"origin": DrainOrigin.AUTOMATIC}, {"mode": DrainMode.EMERGENCY}])
def test_who_was_bad_comes_back_step_by_step_at_any_point(more: dict[str, object]) -> None:
    floor = Floor()
    floor.live(a_1=3)
    drain = floor.open(**({"mode": DrainMode.HARD} | more))
    assert drain.state is not DrainState.DRAINED and back(floor, drain) == (A1,)


def test_there_is_no_ramp_where_nobody_else_could_take_the_rest_of_the_users() -> None:
    floor = Floor()
    floor.live(a_1=1)
    drain = emptied(floor)
    for dc in (A2, B1, B2):
        emptied(floor, Selector(data_center=dc))
    assert back(floor, drain) == (A1,), "c-1 serves"
    floor.commit(RampChanged(ramps.begin(RampKind.RETURN, C1, RampId("r-1"), "", "me", floor.now)))
    assert back(floor, drain) == (), "the only other one takes a tenth itself"


def test_who_climbs_already_or_comes_back_to_something_else_than_serving_begins_no_ramp() -> None:
    floor = Floor()
    floor.live(a_1=1)
    drain = emptied(floor)
    canary = replace(drain, previous={A1: Intent.CANARY})
    view = replace(floor.plane.view, drains={drain.id: canary})
    assert drains.returning(view, canary, drains.undo(view, drain.id, floor.now)[1], floor.now) == ()
    floor.commit(RampChanged(ramps.begin(RampKind.RETURN, A1, RampId("r-1"), "", "me", floor.now)))
    assert back(floor, drain) == ()
