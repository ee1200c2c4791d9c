"""Carrying out moves of sessions and steps of drains: decide on the View, commit with compare-and-swap, report back."""

from __future__ import annotations

import secrets
from collections.abc import Coroutine
from dataclasses import replace
from typing import TYPE_CHECKING

import structlog

from router.core import drain as drains
from router.core import steering
from router.core.errors import InputRejected, Unsafe
from router.core.messages import AdvanceDrain, CutAgents, FinishDrain, Moved, MoveSessions, OpenDrain
from router.core.model import DataCenterId, DrainId, DrainOrigin, Micros, NodeId, Session
from router.core.pools import next_session_state
from router.runtime.climbs import US, coming_back
from router.store.rebinds import Rebind

if TYPE_CHECKING:
    from router.runtime.shell import Runtime

log = structlog.get_logger("tendril.moves")
URGENT = ("interrupted",)  # a practice that makes room for a real event gives everything back at once


def carry_out(runtime: Runtime, effect: MoveSessions | CutAgents | FinishDrain | AdvanceDrain | OpenDrain) -> None:
    """Begin what a drain wants, unless the last of it is still being done."""
    about: str
    match effect:
        case MoveSessions():
            about, work = effect.node or effect.data_center, _move(runtime, effect)
        case CutAgents():
            about, work = f"agents of {effect.node or effect.data_center}", cut_agents(runtime, effect)
        case OpenDrain():
            about, work = effect.request.origin.value, open_drain(runtime, effect)
        case FinishDrain():
            about, work = effect.drain, finish_drain(runtime, effect)
        case AdvanceDrain():
            about, work = effect.drain, advance_drain(runtime, effect)
    if about in runtime.draining:
        work.close()
        return
    runtime.draining.add(about)
    runtime.beside(_alone(runtime, about, work))


async def _alone(runtime: Runtime, about: str, work: Coroutine[object, object, None]) -> None:
    try:
        await work
    finally:
        runtime.draining.discard(about)


async def _move(runtime: Runtime, effect: MoveSessions) -> None:
    runtime.post(await move_sessions(runtime, effect))


async def move_sessions(runtime: Runtime, effect: MoveSessions) -> Moved:
    """Move up to ``limit`` sessions off an edge; a session that changed meanwhile is left for the next round.

    As few are under way at once as the pace has it: a node that passes no moves on, silent or cut off by our own
    restart, must not send everybody to the receivers in one moment when it speaks again.
    """
    place, from_, on = effect.node or effect.data_center, effect.data_center, effect.node
    stuck = runtime.unmovable.setdefault(place, set())
    limit = effect.limit + len(stuck) + runtime.upkeep.backing_off  # these are the oldest, and would be all we find
    under_way = await runtime.read(lambda store: store.count_leaving(from_, on))
    found = await runtime.read(lambda store: store.movable(from_, limit, on))
    found = tuple(session for session in found if not runtime.upkeep.backs_off(session.id))
    fresh = [session for session in found if session.id not in stuck]
    if not fresh:
        stuck.clear()  # everybody was tried; begin again
        fresh = list(found)
    moved = failed = 0
    for session in fresh[: drains.moves_now(effect.limit, under_way)]:
        if await _move_one(runtime, session, effect.data_center, effect.reason, effect.node):
            moved += 1
        else:
            stuck.add(session.id)
            failed += 1
    remaining = await runtime.read(lambda store: store.count_on(from_, on))
    return Moved(from_, moved, failed, remaining, on, under_way)


async def _move_one(
    runtime: Runtime, session: Session, away_from: DataCenterId, reason: str, off: NodeId | None = None
) -> bool:
    now = runtime.now()
    request = steering.PlaceRequest(
        client=session.client,
        traffic_class=session.traffic_class,
        pool=session.pool,  # its policies hold for moves too
        constraints=session.constraints,
        seed=session.id,
        exclude=(away_from,) if off is None else (),
        agent_data_center=session.agent_data_center,
        labels=session.metadata,
    )
    decision = steering.place(runtime.view, request, now)
    if isinstance(decision, steering.Refused):
        log.warning("session_cannot_move", session=session.id, code=decision.code, reason=decision.reason)
        return False
    edge = decision.edges[0]
    if off is not None and edge.node == off:
        return False  # its intent has not reached the View yet, or nothing else is there
    try:
        await runtime.rebindings.ask(
            Rebind(
                session.id,
                expect_epoch=session.epoch,
                state=next_session_state(session.state, "moved"),
                edge=edge.data_center,
                edge_node=edge.node,
                edges=tuple(e.data_center for e in decision.edges),
                moved_from=away_from,
                reasons=(reason, *decision.reasons),
                lease_expires_at=_arrive_by(session, now + runtime.options.move_lease_us),
                event_kind="session.moved",
            )
        )
    except InputRejected as error:
        log.info("session_changed_meanwhile", session=session.id, code=error.code)
        return False
    return True


def _arrive_by(session: Session, deadline: Micros) -> Micros:
    """Until when the user must have arrived; one whom a node still holds is taken back to it after that."""
    return deadline if session.held_by is not None else max(session.lease_expires_at, deadline)


async def finish_drain(runtime: Runtime, effect: FinishDrain) -> None:
    """Commit ``drained`` once the database agrees that nobody is left, those on their way to another edge included."""
    drain = runtime.view.drains.get(effect.drain)
    if drain is None:
        return
    places = [(dc, None) for dc in drain.targets]
    inventory = runtime.view.inventory
    places += [(inventory.nodes[id].data_center, id) for id in drain.nodes if id in inventory.nodes]  # type: ignore[misc]
    for data_center, node in places:
        if await runtime.read(lambda store, dc=data_center, on=node: store.count_on(dc, on)):  # type: ignore[misc]
            return
    await _step(runtime, effect.drain, "empty")


async def advance_drain(runtime: Runtime, effect: AdvanceDrain) -> None:
    """Commit a step whose time has come."""
    await _step(runtime, effect.drain, effect.step, effect.outcome)


async def _step(runtime: Runtime, id: DrainId, event: str, outcome: str = "") -> None:
    now = runtime.now()
    try:
        changed, intents = drains.step(runtime.view, id, event, now)
        if outcome:
            changed = replace(changed, outcome=outcome)
        nodes = drains.node_intents(runtime.view.inventory, changed)
        held = runtime.view.drains[id]
        begun = coming_back(runtime.view, held, intents, US, now) if event == "undo" and outcome not in URGENT else ()
        await runtime.commit(
            lambda store: store.put_drain(changed, intents, nodes=nodes, begun=begun, actor=US, now=now)
        )
    except InputRejected as error:  # an operator was faster; the next tick looks again
        log.info("drain_changed_meanwhile", drain=id, code=error.code)


async def cut_agents(runtime: Runtime, effect: CutAgents) -> None:
    """Part agents from the sessions they still hold; whoever waits for agents is served the sessions next."""
    now = runtime.now()
    cut = await runtime.commit(lambda store: store.cut_agents(effect.data_center, effect.reason, now, effect.node))
    log.info("agents_cut", data_center=effect.data_center, node=effect.node, sessions=cut)


async def open_drain(runtime: Runtime, effect: OpenDrain) -> None:
    """Open a drain that blame or the calendar wants, if it may still be opened now."""
    request, view, now = effect.request, runtime.view, runtime.now()
    if request.origin is DrainOrigin.AUTOMATIC and drains.refusal(view, request, now):
        return
    try:
        plan = drains.preflight(view, request, now)
        id = DrainId(f"d-{secrets.token_hex(6)}")
        drain, intents = drains.open_drain(view, request, plan, id, "tendril", now)
        ended, restored = drains.taken_over(view, request, plan, now)
    except (InputRejected, Unsafe) as error:
        log.info("drain_not_opened", origin=request.origin.value, code=error.code, reason=error.message)
        return
    nodes, wish = drains.node_intents(view.inventory, drain), {**restored, **intents}
    await runtime.commit(lambda store: store.put_drain(drain, wish, nodes=nodes, ended=ended, actor="tendril", now=now))
