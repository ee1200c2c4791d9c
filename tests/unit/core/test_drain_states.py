"""Every transition of a drain, and what drives it: stages, gates, bleeding, moves, agents, machines, expiry."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest
from worlds import SECOND, inventory

from router.core import drain as drains
from router.core.errors import InputRejected, Unsafe
from router.core.messages import (
    AdvanceDrain,
    Booted,
    Committed,
    CutAgents,
    DrainChanged,
    Effect,
    FinishDrain,
    Moved,
    MoveSessions,
    ResourcesChanged,
    SessionsChanged,
    Tick,
)
from router.core.model import (
    Client,
    Counters,
    DataCenterId,
    Drain,
    DrainId,
    DrainMode,
    DrainOrigin,
    DrainState,
    Intent,
    NodeId,
    PoolId,
    Selector,
    TrafficClass,
)
from router.core.plane import ControlPlane
from router.core.steering import Placement, PlaceRequest, place

A1, A2, B1, B2, C1 = map(DataCenterId, ("a-1", "a-2", "b-1", "b-2", "c-1"))
POOL = PoolId("p")


class Floor:
    """A core whose shell commits what drains want, as the real one does."""

    def __init__(self, capacity: int = 100) -> None:
        self.plane = ControlPlane()
        self.now = 1_000 * SECOND
        world = inventory("a-1 a-2 b-1 b-2 c-1")
        centers = {id: replace(dc, capacity_sessions=capacity) for id, dc in world.data_centers.items()}
        self.plane.handle(Booted(1, replace(world, data_centers=centers), Counters()), self.now)

    def commit(self, *changes: object) -> None:
        self.plane.handle(Committed(tuple(changes)), self.now)  # type: ignore[arg-type]

    def live(self, **counts: int) -> None:
        self.commit(SessionsChanged({DataCenterId(dc.replace("_", "-")): n for dc, n in counts.items()}))

    def held(self, dc: DataCenterId, n: int) -> None:
        self.commit(SessionsChanged(busy={(POOL, dc): n}))

    def open(self, selector: Selector | None = None, **more: object) -> Drain:
        request = drains.DrainRequest(selector or Selector(data_center=A1), force=True, **more)  # type: ignore[arg-type]
        view = self.plane.view
        plan = drains.preflight(view, request, self.now)
        drain, intents = drains.open_drain(view, request, plan, DrainId(f"d-{len(view.drains) + 1}"), "me", self.now)
        ended, restored = drains.taken_over(view, request, plan, self.now)
        for other in ended:
            self.commit(DrainChanged(other))
        self.write(drain, {**restored, **intents})
        return self.drain(drain.id)

    def write(self, drain: Drain, intents: Mapping[DataCenterId, Intent]) -> None:
        world = self.plane.view.inventory
        machines = drains.node_intents(world, drain)
        changed = [replace(world.data_centers[dc], intent=intent) for dc, intent in intents.items()]
        nodes = [replace(world.nodes[id], intent=intent) for id, intent in machines.items()]
        self.commit(DrainChanged(replace(drain, revision=drain.revision + 1)), ResourcesChanged((*changed, *nodes)))

    def step(self, id: DrainId, event: str) -> Drain:
        self.write(*drains.step(self.plane.view, id, event, self.now))
        return self.drain(id)

    def drain(self, id: DrainId) -> Drain:
        return self.plane.view.drains[id]

    def tick(self, seconds: float = 1) -> list[Effect]:
        self.now += int(seconds * SECOND)
        effects = self.plane.handle(Tick("drains"), self.now)
        for effect in effects:
            if isinstance(effect, AdvanceDrain | FinishDrain):
                self.step(effect.drain, effect.step if isinstance(effect, AdvanceDrain) else "empty")
        return effects

    def intent(self, dc: DataCenterId) -> Intent:
        return self.plane.view.inventory.data_centers[dc].intent


def moves(effects: list[Effect]) -> list[MoveSessions]:
    return [e for e in effects if isinstance(e, MoveSessions)]


def test_the_table_names_every_state_and_every_event_has_a_meaning() -> None:
    named = {event for _, event in drains.TRANSITIONS}
    assert {event if not event.startswith("resume_") else "resume_*" for event in named} == set(drains.EVENT_MEANINGS)
    assert {s for s, _ in drains.TRANSITIONS} | set(drains.TRANSITIONS.values()) == set(DrainState)
    assert not [state for state, _ in drains.TRANSITIONS if state is DrainState.UNDONE], "undone is the end"


@pytest.mark.parametrize(("state", "event"), sorted(drains.TRANSITIONS))
def test_each_transition_is_taken_and_no_other_is(state: DrainState, event: str) -> None:
    floor = Floor()
    drain = Drain(
        DrainId("d-1"), Selector(data_center=A1), DrainMode.SOFT, state, (A1,), {A1: Intent.SERVING}, "", 0, "me",
        share_ppm=750_000 if state is DrainState.SHIFTING else 0,
        paused_from=DrainState(event.removeprefix("resume_")) if event.startswith("resume_") else None,
    )  # fmt: skip
    floor.commit(DrainChanged(drain))
    after, _ = drains.step(floor.plane.view, drain.id, event, floor.now)
    assert after.state is drains.TRANSITIONS[state, event]
    for other in sorted({name for _, name in drains.TRANSITIONS} - {e for s, e in drains.TRANSITIONS if s is state}):
        with pytest.raises(InputRejected, match="cannot"):
            drains.step(floor.plane.view, drain.id, other, floor.now)


def test_a_soft_drain_takes_fewer_and_fewer_new_users_before_it_takes_none() -> None:
    floor = Floor()
    floor.live(a_1=40)
    drain = floor.open()
    assert (drain.state, drain.share_ppm, drain.stage_s) == (DrainState.SHIFTING, 750_000, 15)
    assert floor.intent(A1) is Intent.SERVING and floor.plane.view.dials[A1].share_ppm == 750_000
    seen = []
    for _ in range(60):
        floor.tick()
        drain = floor.drain(drain.id)
        if (drain.state, drain.share_ppm) not in seen:
            seen.append((drain.state, drain.share_ppm))
    shifting = [(DrainState.SHIFTING, share) for share in (750_000, 500_000, 250_000)]
    assert seen == [*shifting, (DrainState.BLEEDING, 0)]
    assert floor.intent(A1) is Intent.DRAINING and A1 not in floor.plane.view.dials


def test_a_red_gate_pauses_with_the_number_and_resume_goes_on_where_it_stopped() -> None:
    floor = Floor()
    floor.live(a_1=40)
    drain = floor.open()
    receiver = drain.receivers[0]
    floor.live(**{receiver.replace("-", "_"): 90})
    floor.tick()
    paused = floor.drain(drain.id)
    assert (paused.state, paused.paused_from) == (DrainState.PAUSED, DrainState.SHIFTING)
    assert paused.note == f"receiver {receiver} is 90 % full; the gate closes at 85 %"
    assert paused.share_ppm == 750_000 and floor.plane.view.dials[A1].share_ppm == 750_000
    floor.tick()
    assert floor.plane.view.progress[drain.id].blocked_by[0] == f"paused: {paused.note}"
    floor.live(**{receiver.replace("-", "_"): -90})
    assert floor.step(drain.id, "resume").state is DrainState.SHIFTING


def test_a_drain_undone_halfway_gives_everything_back() -> None:
    floor = Floor()
    floor.live(a_1=40)
    drain = floor.open()
    floor.tick(16)
    assert floor.drain(drain.id).share_ppm == 500_000
    undone = floor.step(drain.id, "undo")
    assert undone.state is DrainState.UNDONE and undone.share_ppm == 0
    assert floor.intent(A1) is Intent.SERVING and A1 not in floor.plane.view.dials


def test_a_hard_drain_takes_no_new_session_at_once_and_moves_within_the_free_places() -> None:
    floor = Floor(capacity=100)
    floor.live(a_1=80)
    drain = floor.open(mode=DrainMode.HARD)
    assert (drain.state, drain.share_ppm) == (DrainState.MOVING, 0) and floor.intent(A1) is Intent.DRAINING
    (move,) = moves(floor.tick())
    assert (move.data_center, move.limit) == (A1, 20)
    floor.live(a_2=95, b_1=95, b_2=95, c_1=95)
    (move,) = moves(floor.tick())
    assert move.limit == 5, "5 % of 20 free places would be one a second"


def test_the_last_to_be_late_are_moved_before_the_deadline_when_lengths_are_known() -> None:
    floor = Floor()
    floor.live(a_1=10)
    drain = floor.open(deadline_s=100, stage_s=0)
    assert not [e for e in floor.tick(98) if isinstance(e, AdvanceDrain)], "of lengths nothing is known"
    (step,) = [e for e in floor.tick(1.6) if isinstance(e, AdvanceDrain)]
    assert step.step == "late" and floor.drain(drain.id).state is DrainState.MOVING


def test_agents_bleed_to_the_deadline_and_are_cut_then() -> None:
    floor = Floor()
    floor.live(a_1=3)
    floor.held(A1, 5)
    drain = floor.open(mode=DrainMode.HARD)
    assert drain.agents_behind == {A1: 5} and drain.cut_at == floor.now + 7_200 * SECOND
    floor.live(a_1=-3)
    floor.tick()
    assert floor.drain(drain.id).state is DrainState.BLEEDING, "nobody at the edge, agents still hold sessions"
    assert "agents hold 5 sessions" in floor.plane.view.progress[drain.id].blocked_by[0]
    floor.tick(7_200)
    assert floor.drain(drain.id).state is DrainState.FORCING
    assert [e.data_center for e in floor.tick() if isinstance(e, CutAgents)] == [A1]
    floor.held(A1, -5)
    floor.tick()
    assert floor.drain(drain.id).state is DrainState.DRAINED and floor.intent(A1) is Intent.DRAINED


def test_in_an_emergency_nothing_is_moved() -> None:
    floor = Floor()
    floor.live(a_1=30)
    drain = floor.open(mode=DrainMode.EMERGENCY)
    assert drain.state is DrainState.CORDONED and floor.intent(A1) is Intent.DRAINING
    assert not moves(floor.tick())
    floor.live(a_1=-30)
    floor.tick()
    assert floor.drain(drain.id).state is DrainState.DRAINED


def test_agents_of_a_drained_machine_finish_what_they_hold_until_they_are_cut() -> None:
    floor = Floor()
    (node,) = floor.plane.view.inventory.nodes_by_data_center[A1]
    floor.commit(ResourcesChanged((replace(node, id=NodeId("a-1-zz")),)))
    floor.commit(SessionsChanged(busy={(POOL, A1): 7}, held_on={node.id: 4, NodeId("a-1-zz"): 3}, idle_on={node.id: 2}))
    request = drains.DrainRequest(Selector(node=node.id), deadline_s=600)
    plan = drains.preflight(floor.plane.view, request, floor.now)
    found = plan.agents[node.id]
    assert (found.held, found.idle, found.cut) == (4, 2, 4), "of unknown length: all of them will be cut"
    assert any("lose it and get another one" in stage.what and stage.after_s == 600 for stage in plan.timeline)
    drain = floor.open(Selector(node=node.id), deadline_s=600)
    assert drain.agents_behind == {node.id: 4} and drain.cut_at == floor.now + 600 * SECOND
    assert not [e for e in floor.tick() if isinstance(e, FinishDrain | CutAgents)], "agents still hold sessions"
    shown = floor.plane.view.progress[drain.id]
    assert shown.agents_left == 4 and "agents hold 4 sessions" in "; ".join(shown.blocked_by)
    floor.tick(600)
    while floor.drain(drain.id).state is not DrainState.FORCING:
        floor.tick()
    (cut,) = [e for e in floor.tick() if isinstance(e, CutAgents)]
    assert (cut.data_center, cut.node) == (A1, node.id), "its neighbour keeps its own"
    floor.commit(SessionsChanged(busy={(POOL, A1): -4}, held_on={node.id: -4}))
    assert [e for e in floor.tick() if isinstance(e, FinishDrain)]
    assert floor.drain(drain.id).state is DrainState.DRAINED


def test_a_node_is_drained_and_not_its_data_center() -> None:
    floor = Floor()
    (node,) = floor.plane.view.inventory.nodes_by_data_center[A1]
    second = replace(node, id=NodeId("a-1-zz"))
    floor.commit(ResourcesChanged((second,)))
    drain = floor.open(Selector(node=node.id), mode=DrainMode.HARD)
    assert (drain.targets, drain.nodes, drain.previous_nodes) == ((), (node.id,), {node.id: Intent.SERVING})
    view = floor.plane.view
    assert floor.intent(A1) is Intent.SERVING and view.inventory.nodes[node.id].intent is Intent.DRAINING
    (move,) = moves(floor.plane.handle(Tick("drains"), floor.now))
    assert (move.data_center, move.node) == (A1, node.id)
    found = place(floor.plane.view, PlaceRequest(Client(), TrafficClass.AGENT, exclude=(A2, B1, B2, C1)), floor.now)
    assert isinstance(found, Placement) and found.edges[0].node == second.id
    floor.plane.handle(Moved(A1, 0, 0, 0, node.id), floor.now)
    floor.step(drain.id, "empty")
    assert floor.plane.view.inventory.nodes[node.id].intent is Intent.DRAINED
    floor.step(drain.id, "undo")
    assert floor.plane.view.inventory.nodes[node.id].intent is Intent.SERVING


def test_the_last_machine_of_a_data_center_takes_it_out_of_placement() -> None:
    floor = Floor()
    (node,) = floor.plane.view.inventory.nodes_by_data_center[A1]
    floor.open(Selector(node=node.id), mode=DrainMode.HARD)
    found = place(floor.plane.view, PlaceRequest(Client(), TrafficClass.AGENT), floor.now)
    assert isinstance(found, Placement) and A1 not in [edge.data_center for edge in found.edges]
    assert [(r.rule, r.detail) for r in found.rejected if r.data_center == A1] == [
        ("intent", "has only drained machines")
    ]


def test_an_operator_takes_over_what_blame_has_drained_and_undo_knows_the_first_intent() -> None:
    floor = Floor()
    weak = floor.open(Selector(provider=floor.plane.view.inventory.data_centers[A1].provider),
                      mode=DrainMode.HARD, origin=DrainOrigin.AUTOMATIC)  # fmt: skip
    assert set(weak.targets) == {A1, A2}
    strong = floor.open(mode=DrainMode.HARD)
    assert floor.drain(weak.id).state is DrainState.UNDONE and "operator" in floor.drain(weak.id).note
    assert (floor.intent(A1), floor.intent(A2)) == (Intent.DRAINING, Intent.SERVING)
    assert strong.previous == {A1: Intent.SERVING}
    with pytest.raises(InputRejected) as refused:
        floor.open(mode=DrainMode.HARD, origin=DrainOrigin.AUTOMATIC)
    assert refused.value.code == "drain_overlaps"


def test_a_drain_ends_within_three_days_or_says_so() -> None:
    floor = Floor()
    drain = floor.open()
    assert drain.expires_at == floor.now + 72 * 3_600 * SECOND
    with pytest.raises(InputRejected) as refused:
        floor.open(Selector(data_center=B1), expires_at=floor.now + 73 * 3_600 * SECOND)
    assert (refused.value.code, refused.value.limit) == ("expires_too_late", 72 * 3_600)


def test_a_restart_in_the_middle_goes_on_from_the_rows() -> None:
    floor = Floor()
    floor.live(a_1=40)
    drain = floor.open()
    floor.tick(16)
    view = floor.plane.view
    again = ControlPlane()
    again.handle(Booted(2, view.inventory, view.counters, tuple(view.drains.values())), floor.now)
    assert again.view.dials == view.dials and again.view.drains == view.drains
    later = floor.now + 16 * SECOND
    steps = [plane.handle(Tick("drains"), later) for plane in (again, floor.plane)]
    first, second = ([e for e in effects if isinstance(e, AdvanceDrain)] for effects in steps)
    assert first == second == [AdvanceDrain(drain.id, "shift")]


def test_a_full_world_is_refused_with_what_is_missing_and_what_cures_it() -> None:
    floor = Floor(capacity=10)
    floor.live(a_1=8, a_2=8, b_1=8, b_2=8, c_1=4)
    request = drains.DrainRequest(Selector(data_center=A1))
    plan = drains.preflight(floor.plane.view, request, floor.now)
    rules = {refusal.rule: refusal for refusal in plan.refusals}
    assert rules["min_headroom"].value == 10.0 and rules["min_headroom"].shortfall == 5  # 36 / 0.8 - 40
    assert rules["min_headroom"].cure.startswith("5 session places are missing")
    with pytest.raises(Unsafe):
        drains.open_drain(floor.plane.view, request, plan, DrainId("d-1"), "me", floor.now)


def test_what_one_more_loss_would_leave_is_reckoned_with() -> None:
    floor = Floor(capacity=10)
    floor.live(a_1=5, a_2=5, b_1=5, b_2=5, c_1=5)
    plan = drains.preflight(floor.plane.view, drains.DrainRequest(Selector(data_center=A1)), floor.now)
    assert (plan.headroom.now_pct, plan.headroom.after_pct, plan.headroom.after_next_loss_pct) == (50.0, 37.5, 16.7)
    assert [(r.rule, r.shortfall) for r in plan.refusals] == [("n_plus_1", 2)]  # 25 / 0.8 = 32 places, 30 there


def test_receivers_fill_up_and_spill_as_placement_would() -> None:
    floor = Floor(capacity=100)
    floor.live(a_1=60, a_2=90, b_1=90, b_2=95, c_1=0)
    plan = drains.preflight(floor.plane.view, drains.DrainRequest(Selector(data_center=A1)), floor.now)
    taken: dict[str, int] = {}
    for shift in plan.shifts:
        taken[shift.target] = taken.get(shift.target, 0) + shift.sessions
    assert sum(taken.values()) == 60
    live = floor.plane.view.counters.sessions
    assert all(live.get(DataCenterId(dc), 0) + n <= 100 for dc, n in taken.items())


def test_agents_that_only_the_target_has_are_missed() -> None:
    floor = Floor()
    floor.held(A1, 30)
    floor.commit(SessionsChanged(idle={(POOL, A1): 5, (POOL, B1): 1}))
    plan = drains.preflight(floor.plane.view, drains.DrainRequest(Selector(data_center=A1)), floor.now)
    (refusal,) = [r for r in plan.refusals if r.rule == "warm_agents"]
    assert (refusal.value, refusal.limit, refusal.shortfall) == (1, 3, 2) and "start 2 agents of p in" in refusal.cure
    assert (plan.agents[A1].held, plan.agents[A1].cut) == (30, 30), "without a known length all may be cut"
