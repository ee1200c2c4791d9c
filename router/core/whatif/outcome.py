"""The answer as a whole: routes, sessions, room, rules that would be broken, and a sentence that sums it up."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from router.core.drain.plan import Refusal
from router.core.drain.rules import refusals
from router.core.model import DataCenterId, Micros
from router.core.tables import RouteTable, View
from router.core.whatif.ask import Added, Scope, WhatIf, scope_of
from router.core.whatif.effect import Compared, RouteEffect, delays_us, parts, route_effects
from router.core.whatif.fleet import Rooms, rooms
from router.core.whatif.links import Guess, guessed
from router.core.whatif.people import SessionEffect, session_effect, sessions_after
from router.core.whatif.world import centers_of, changed_snapshot, changed_view, preferred, routes_of


@dataclass(frozen=True, slots=True)
class Predicted:
    """A predicted link, both ways alike: one-way delay and the interval that holds it 9 times in 10."""

    target: DataCenterId
    delay_us: int
    low_us: int
    high_us: int


@dataclass(frozen=True, slots=True)
class Newcomer:
    """What is believed of a data center that is not there."""

    added: Added
    links: int  # that could be predicted
    nearest: tuple[Predicted, ...]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What would happen."""

    scope: Scope
    generation: int
    computed_at: Micros | None  # of the routes that were compared; None: there are none yet
    stale: bool
    routes: tuple[RouteEffect, ...]
    parts_before: tuple[tuple[DataCenterId, ...], ...]
    parts_after: tuple[tuple[DataCenterId, ...], ...]
    newcomers: tuple[Newcomer, ...]
    sessions: SessionEffect
    rooms: Rooms
    refusals: tuple[Refusal, ...]
    notes: tuple[str, ...]


def simulate(view: View, asked: WhatIf) -> Outcome:
    """Compare the present world with the one that is asked about. Raises as :func:`scope_of`."""
    scope = scope_of(view.inventory, asked)
    table = view.routes
    guess = guessed(centers_of(view, table.snapshot, scope) if table and scope.added else [], view.links)
    found = None if table is None else _compared(view, table, scope, guess)
    changed = changed_view(view, scope, None if found is None else found.after)
    people = session_effect(view, changed, scope, found, asked.named)
    space = rooms(view, changed, scope, sessions_after(view, people, scope))
    moved = people.moved
    broken = refusals(changed, scope.data_centers, space.remaining, space.expected, space.whole, moved, None, view)
    return Outcome(
        scope=scope,
        generation=view.generation,
        computed_at=None if table is None else table.computed_at,
        stale=table is None or table.stale,
        routes=() if table is None or found is None else tuple(route_effects(table, found, asked.named)),
        parts_before=() if found is None else parts(found.before, [one.data_center.id for one in scope.added]),
        parts_after=() if found is None else parts(found.after, scope.data_centers),
        newcomers=() if found is None else tuple(_newcomers(found, scope, guess, asked.named)),
        sessions=people,
        rooms=space,
        refusals=broken,
        notes=tuple(_notes(view, scope, table)),
    )


def _compared(view: View, table: RouteTable, scope: Scope, guess: Guess) -> Compared:
    shot = table.snapshot
    after = routes_of(table, changed_snapshot(view, shot, scope, guess, guess.mean_us))
    slow = routes_of(table, changed_snapshot(view, shot, scope, guess, guess.high_us)) if scope.added else after
    before = preferred(table, len(scope.added))
    ids, n = after.snapshot.data_centers, len(shot.data_centers)
    kept = [k < n and dc not in scope.data_centers and dc in view.inventory.data_centers for k, dc in enumerate(ids)]
    after_us = delays_us(after)
    return Compared(
        before=before,
        after=after,
        before_us=delays_us(before),
        after_us=after_us,
        worst_us=delays_us(slow) if scope.added else after_us,
        kept=np.array(kept, np.bool_),
        known=n,
    )


def _newcomers(found: Compared, scope: Scope, guess: Guess, named: int) -> Iterator[Newcomer]:
    ids = found.after.snapshot.data_centers
    for k, one in enumerate(scope.added, start=found.known):
        there = [j for j in np.flatnonzero(np.isfinite(guess.mean_us[k])).tolist() if ids[j] not in scope.data_centers]
        order = sorted(there, key=lambda j: (float(guess.mean_us[k, j]), ids[j]))
        links = tuple(
            Predicted(ids[j], *(round(float(table[k, j])) for table in (guess.mean_us, guess.low_us, guess.high_us)))
            for j in order[:named]
        )
        yield Newcomer(one, len(there), links)


def _notes(view: View, scope: Scope, table: RouteTable | None) -> Iterator[str]:
    if table is None:
        yield "no route table has been computed yet: nothing can be said about routes"
    elif table.stale:
        yield "the routes are from before a restart"
    for dc, machines in view.inventory.nodes_by_data_center.items():
        left = sum(machine.id not in scope.nodes for machine in machines)
        if left < len(machines) and dc not in scope.data_centers:
            yield f"{dc} keeps {left} of its {len(machines)} nodes: its routes and its room stay as they are"
    if table is not None:
        lost = [dc for dc in scope.data_centers if dc not in table.snapshot.data_centers]
        for dc in lost:
            yield f"{dc} is newer than the route table: no route is compared for it"
    for one in scope.added:
        if one.data_center.capacity_sessions == 0:
            yield f"{one.data_center.id} has no limit of sessions: give capacity.sessions for an answer about room"
