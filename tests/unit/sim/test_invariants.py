"""The invariants bite: each rule, broken on purpose, is named."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from router.core.messages import Solved, Tick
from router.core.model import Intent
from router.core.plane import ControlPlane
from router.core.solve import Answer, Switcher, question, switching
from router.core.solve.changes import Noted
from router.core.tables import DIRECT, GraphSnapshot, RouteTable, View
from router.sim.faults import Fault, Kind
from router.sim.invariants import Invariants, consistent, decided_again, explained_again, permitted, sound
from router.sim.simulation import Simulation
from router.sim.worlds import make_world


@pytest.fixture(scope="module")
def view() -> View:
    sim = Simulation(make_world(6, 1, 2), 2)
    sim.run(15)
    assert sim.violations == []
    return sim.plane.view


@pytest.fixture
def table(view: View) -> RouteTable:
    assert view.routes is not None
    return view.routes


def a_relayed_pair(table: RouteTable) -> tuple[int, int]:
    u, v = np.argwhere((table.relays[0, :, :, 0] != DIRECT) & table.reachable[0])[0]
    return int(u), int(v)


def writable(array: np.ndarray) -> np.ndarray:
    return np.array(array)


def test_a_sound_table_breaks_nothing(view: View, table: RouteTable) -> None:
    assert consistent(view) + sound(table) + permitted(table, view) + decided_again(table) == []
    assert [text for turn in range(40) for text in explained_again(table, view, turn)] == []


def test_a_cost_that_is_not_the_sum_of_its_parts(table: RouteTable) -> None:
    cost = writable(table.cost)
    cost[1, 0, 2] += 1
    broken = sound(replace(table, cost=cost))
    assert len(broken) == 1 and "costs" in broken[0] and "the table says" in broken[0]


@pytest.mark.parametrize("who", ["start", "end", "relay"])
def test_a_path_that_visits_a_data_center_twice(table: RouteTable, who: str) -> None:
    u, v = a_relayed_pair(table)
    relays, first = writable(table.relays), int(table.relays[0, u, v, 0])
    relays[0, u, v, 1] = {"start": u, "end": v, "relay": first}[who]
    assert any("visits a data center twice" in text for text in sound(replace(table, relays=relays)))


def test_too_many_relays_and_gaps(table: RouteTable) -> None:
    u, v = a_relayed_pair(table)
    relays = writable(table.relays)
    relays[0, u, v] = np.roll(relays[0, u, v], 1)
    assert any("gap" in text for text in sound(replace(table, relays=relays)))
    short = replace(table, snapshot=replace(table.snapshot, max_relays=table.snapshot.max_relays * 0))
    assert any("more than 0 relays" in text for text in sound(short))


def test_a_relay_that_may_not_relay(view: View, table: RouteTable) -> None:
    u, v = a_relayed_pair(table)
    k = int(table.relays[0, u, v, 0])
    may = writable(table.snapshot.may_relay)
    may[:, k] = False
    broken = permitted(replace(table, snapshot=replace(table.snapshot, may_relay=may)), view)
    assert any("which may not relay" in text for text in broken)
    dc = table.snapshot.data_centers[k]
    centers = dict(view.inventory.data_centers)
    centers[dc] = replace(centers[dc], intent=Intent.DRAINED)
    drained = replace(view, inventory=replace(view.inventory, data_centers=centers))
    assert any(f"relays over {dc}, drained" in text for text in permitted(table, drained))


def test_parts_of_different_generations_or_shapes_or_writable(view: View, table: RouteTable) -> None:
    other = replace(table, candidate=replace(table.candidate, generation=table.generation - 1))
    assert any("other generations" in text for text in consistent(replace(view, routes=other)))
    cut = replace(table, since=table.since[:, :3])
    assert any("differ in shape" in text for text in consistent(replace(view, routes=cut)))
    loose = replace(table, cost=writable(table.cost))
    assert any("can be written to" in text for text in consistent(replace(view, routes=loose)))
    assert any("different sizes" in text for text in consistent(replace(view, health=view.health[:-1])))


def test_a_decision_that_solving_and_explaining_do_not_repeat(view: View, table: RouteTable) -> None:
    u, v = a_relayed_pair(table)
    relays = writable(table.candidate.relays)
    relays[0, u, v] = DIRECT
    assert decided_again(replace(table, candidate=replace(table.candidate, relays=relays))) != []
    dear = replace(table, candidate=replace(table.candidate, cost=table.candidate.cost + 900_000))
    found = [text for turn in range(8) for text in explained_again(dear, replace(view, routes=dear), turn)]
    assert any("a path better than the candidate" in text for text in found)
    wrong = replace(table, cost=table.cost + 1)
    found = [text for turn in range(8) for text in explained_again(wrong, replace(view, routes=wrong), turn)]
    assert any("the table says" in text for text in found)


def test_a_generation_that_goes_back_and_a_late_answer(view: View, table: RouteTable) -> None:
    watch = Invariants()
    assert watch.check(Tick("routes"), None, view, view) == []
    older = replace(table, generation=table.generation - 1)
    broken = watch.check(Tick("routes"), None, view, replace(view, routes=older))
    assert any(text.startswith("generation went back") for text in broken)
    newer = replace(view, routes=replace(table))
    answer = Solved(Answer(table.generation, table, 0, Switcher(), Noted((), {}, 0)))
    assert any("late answer" in text for text in Invariants().check(answer, table.generation + 1, view, newer))
    assert Invariants().check(answer, table.generation, view, newer) == []


# --- planted bugs in the core, found by running --------------------------------------------------------------------


def test_a_core_that_adopts_late_answers_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = ControlPlane._solved

    def gullible(self: ControlPlane, event: Solved) -> object:
        if self._pending is not None and self._pending.generation != event.answer.generation:
            self._pending = replace(self._pending, generation=event.answer.generation)
        return honest(self, event)

    monkeypatch.setattr(ControlPlane, "_solved", gullible)
    numbers = {"delay_s": 1.2, "give_up_s": 0.3}
    sim = Simulation(make_world(4, 1, 1), 1, faults=[Fault("slow", Kind.SLOW_SOLVER, 3_000_000, numbers=numbers)])
    sim.run(12)
    assert any("late answer" in text for text in sim.violations)


def test_a_core_that_relays_over_drained_data_centers_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = question.snapshot

    def careless(*facts: Any) -> GraphSnapshot:
        found = honest(*facts)
        return replace(found, may_relay=np.ones_like(found.may_relay))

    monkeypatch.setattr(question, "snapshot", careless)
    sim = Simulation(make_world(6, 1, 2), 2)
    sim.run(10)
    busiest = sim.busiest_relay()
    assert busiest is not None and sim.violations == []
    sim.drain(busiest)
    sim.run(5)
    assert any(f"relays over {busiest}, " in text for text in sim.violations)


def test_a_core_that_forgets_the_relay_cost_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = switching.path_cost
    monkeypatch.setattr(switching, "path_cost", lambda cost, relays, relay_cost: honest(cost, relays, 0))
    sim = Simulation(make_world(6, 1, 2), 2)
    sim.run(15)
    assert any("costs" in text and "the table says" in text for text in sim.violations)
