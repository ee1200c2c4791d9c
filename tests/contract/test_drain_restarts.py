"""Drains on real rows while control planes die at any moment: where a drain ends does not depend on who drove it there.

A death comes before a step is committed, or after it and before anybody was told; then another control plane boots
from the rows. Whatever the moments, the drain goes through its states in their order, empties its target and is undone.
"""

from __future__ import annotations

import random
from typing import Any

import pytest

from router.core import drain as drains
from router.core.errors import InputRejected
from router.core.messages import AdvanceDrain, Booted, Change, Committed, Effect, FinishDrain, MoveSessions, Tick
from router.core.model import DataCenterId, Drain, DrainId, DrainMode, DrainState, Intent, NodeId, Selector
from router.core.plane import ControlPlane
from router.core.pools import next_session_state
from router.store import Store
from router.store.rebinds import Rebind

TARGET, OTHER = DataCenterId("linode-fra"), DataCenterId("oracle-fra")
SESSIONS, DEATH = 9, 0.3
S = DrainState
ORDER = {DrainMode.SOFT: [S.SHIFTING, S.BLEEDING, S.MOVING, S.DRAINED], DrainMode.HARD: [S.MOVING, S.DRAINED]}


class Relay:
    """One control plane after the other on the same rows."""

    def __init__(self, store: Store, world: Any, seed: int) -> None:
        self.store, self.now, self._rng = store, world.now, random.Random(seed)
        self.deaths, self.epochs = 0, list[int]()
        self._boot()

    def _boot(self) -> None:
        state = self.store.boot(self.now)
        self.epochs.append(state.epoch)
        self.plane = ControlPlane()
        booted = Booted(
            state.epoch, state.inventory, state.counters, state.drains, None, state.flows, state.ramps
        )  # fmt: skip
        self.plane.handle(booted, self.now)

    def _dies(self) -> bool:
        if self._rng.random() >= DEATH:
            return False
        self.deaths += 1
        self._boot()
        return True

    def tick(self) -> None:
        """A second passes; whoever dies leaves the rest of what was wanted undone."""
        self.now += 1_000_000
        for effect in self.plane.handle(Tick("drains"), self.now):
            if self._dies():
                return
            changes = self._carried_out(effect)
            if self._dies():
                return
            self.plane.handle(Committed(changes), self.now)

    def _carried_out(self, effect: Effect) -> tuple[Change, ...]:
        match effect:
            case MoveSessions():
                return self._moved(effect)
            case AdvanceDrain(drain=id, step=step):
                return self.step(id, step)
            case FinishDrain(drain=id):
                return () if self.store.count_on(TARGET) else self.step(id, "empty")
        return ()

    def _moved(self, effect: MoveSessions) -> tuple[Change, ...]:
        changes: tuple[Change, ...] = ()
        for session in self.store.movable(effect.data_center, 2):
            to = next_session_state(session.state, "moved")
            asked = Rebind(
                session.id, session.epoch, to, OTHER, NodeId(f"{OTHER}-1"), (OTHER,), None, (effect.reason,),
                self.now + 60_000_000, "session.moved",
            )  # fmt: skip
            changes += self.store.rebind_session(asked, self.now).changes
        return changes

    def step(self, id: DrainId, event: str) -> tuple[Change, ...]:
        """One step of a drain, with the intents that go with it."""
        changed, intents = drains.step(self.plane.view, id, event, self.now)
        return self.store.put_drain(changed, intents, actor="test", now=self.now).changes

    def row(self) -> Drain:
        """The drain as the database has it."""
        (drain,) = self.store.drains()
        return drain


@pytest.mark.parametrize("mode", [DrainMode.SOFT, DrainMode.HARD])
def test_a_drain_ends_the_same_whoever_dies_on_the_way(store: Store, world: Any, mode: DrainMode) -> None:
    world.seed()
    ids = [world.start(world.session(f"s-{n}", pool=None)).id for n in range(SESSIONS)]
    relay = Relay(store, world, seed=len(mode.value))
    request = drains.DrainRequest(Selector(data_center=TARGET), mode, deadline_s=12, stage_s=2, force=True)
    plan = drains.preflight(relay.plane.view, request, relay.now)
    drain, intents = drains.open_drain(relay.plane.view, request, plan, DrainId("d-1"), "test", relay.now)
    store.put_drain(drain, intents, actor="test", now=relay.now)
    relay._boot()
    seen, shares = [relay.row().state], [relay.row().share_ppm]
    while relay.row().state is not S.DRAINED:
        relay.tick()
        seen.append(relay.row().state)
        shares.append(relay.row().share_ppm)
        assert len(seen) < 200, f"it does not end: {seen[-1]} after {relay.deaths} deaths"
        assert relay.plane.view.drains.keys() == {"d-1"}
    assert list(dict.fromkeys(seen)) == ORDER[mode] and shares == sorted(shares, reverse=True)
    assert relay.deaths > 3 and relay.epochs == sorted(set(relay.epochs))
    live = [session for id in ids if (session := store.session(id)) is not None]
    assert [(session.edge, session.epoch) for session in live] == [(OTHER, 2)] * SESSIONS, "each was moved once"
    relay._boot()
    assert relay.plane.view.inventory.data_centers[TARGET].intent is Intent.DRAINED
    relay.step(DrainId("d-1"), "undo")
    with pytest.raises(InputRejected) as refused:
        relay.step(DrainId("d-1"), "undo")  # decided on the same revision: the first one was committed
    assert refused.value.code == "revision_conflict"
    relay._boot()
    assert relay.plane.view.inventory.data_centers[TARGET].intent is Intent.SERVING
    assert relay.row().state is S.UNDONE and relay.plane.handle(Tick("drains"), relay.now + 1) == []
