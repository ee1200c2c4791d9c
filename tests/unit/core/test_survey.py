"""Work that a worker does from frozen inputs: what comes in meanwhile is neither lost nor reaches the worker."""

from __future__ import annotations

import pickle
from copy import deepcopy

import numpy as np
import pytest
from test_plane import DETOUR, Desk
from worlds import SECOND, feed, inventory, report

from router.core.estimate import Estimator
from router.core.messages import Reported, Tick
from router.core.tables import FALLEN

WORLD = inventory("x-a x-b y-c")
THERE = {(a, b): 20_000 for a in WORLD.data_centers for b in WORLD.data_centers if a != b}
CLOCKS = dict.fromkeys(WORLD.nodes, 0)


def heard(seconds: range, estimator: Estimator | None = None) -> Estimator:
    estimator = estimator or Estimator(WORLD)
    for s in seconds:
        feed(estimator, THERE, CLOCKS, s * SECOND, s)
    return estimator


def test_a_window_does_not_change_with_what_is_reported_later() -> None:
    estimator = heard(range(1, 9))
    window = estimator.window(1, 9 * SECOND)
    before = pickle.dumps(window)
    heard(range(9, 31), estimator)
    estimator.observe(report("x-a-0", {"x-b-0": (41_000, 2_020_500, -1_979_500)}, 99), 31 * SECOND)  # its clock steps
    assert pickle.dumps(window) == before
    once, again = window.survey(), window.survey()
    assert pickle.dumps(window) == before
    assert pickle.dumps(_plain(once)) == pickle.dumps(_plain(again))


def test_settling_late_is_settling_at_once_for_what_did_not_change() -> None:
    late, prompt = heard(range(1, 4)), heard(range(1, 4))
    found = late.window(1, 3 * SECOND).survey()
    prompt.table(3 * SECOND)
    late.settle(found)
    for name in ("_potential", "_is_placed", "_drift"):
        assert np.array_equal(getattr(late, name), getattr(prompt, name)), name
    assert np.array_equal(late.history.latest, prompt.history.latest)


def test_a_clock_that_steps_while_a_survey_is_made_is_not_placed_where_it_was() -> None:
    estimator = heard(range(1, 4))
    estimator.table(3 * SECOND)
    found = estimator.window(2, 4 * SECOND).survey()
    assert found.measured.all()
    estimator._forget_raw(1)
    estimator.settle(found)
    assert estimator._is_placed.tolist() == [True, False, True]
    assert (estimator.history.latest[0, 1] == FALLEN).all() and (estimator.history.latest[0, :, 1] == FALLEN).all()
    heard(range(5, 7), estimator)
    estimator.table(7 * SECOND)
    assert estimator._is_placed.all() and (estimator.history.latest[0, 1, [0, 2]] != FALLEN).all()


def test_buckets_that_end_while_a_survey_is_made_are_noted_by_the_next() -> None:
    estimator = heard(range(1, 9))
    found = estimator.window(1, 9 * SECOND).survey()
    heard(range(9, 17), estimator)
    estimator.settle(found)
    estimator.table(17 * SECOND)
    at = [at for at, _ in estimator._offsets]
    assert at == sorted(set(at)) == [0, 4 * SECOND, 8 * SECOND, 12 * SECOND]


@pytest.mark.parametrize("asked", [False, True])
def test_a_checkpoint_is_the_state_of_its_moment(asked: bool) -> None:
    desk = Desk()
    for _ in range(3):
        desk.second(DETOUR)
    if asked:
        desk.now += SECOND
        desk.plane.handle(Tick("routes"), desk.now)
    twin, reference = desk.plane.checkpoint(), deepcopy(desk.plane)
    for s in range(40, 60):
        desk.now += SECOND
        desk.submit(Reported(report("a-1-0", {"b-1-0": (41_000, 20_500, 20_500)}, s)))
        for job in ("health", "drains", "rollup"):
            desk.submit(Tick(job))
    assert pickle.dumps(_plain(twin)) == pickle.dumps(_plain(reference))
    assert twin.handle(Tick("rollup"), desk.now) != []


def _plain(value: object) -> object:
    """Nested plain values, so that equal states give equal bytes whoever shares what with whom."""
    if isinstance(value, np.ndarray):
        return value.shape, value.tobytes()
    if isinstance(value, dict):
        return [(str(k), _plain(v)) for k, v in value.items()]
    if isinstance(value, list | tuple) or type(value).__name__ == "deque":
        return [_plain(v) for v in value]  # type: ignore[attr-defined]
    if type(value).__module__.startswith("router.core.") and hasattr(value, "__dict__"):
        return [(k, _plain(v)) for k, v in vars(value).items()]
    return str(value)
