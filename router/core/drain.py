"""Drains: preflight with numbers, what to commit, and what to do on every tick.

``bleeding (soft) | moving (hard) --no session left--> drained --undo--> undone``; a soft drain begins to move at its
deadline; ``pause`` and ``resume`` stop and restart it. A drain that outlives ``expires_at`` is told, not undone:
whether the machines are fit to serve again is for people to say. Opening a drain commits the intent ``draining``
of its targets in the same transaction, so no new session and no new route uses them from that moment;
the last session gone turns it into ``drained``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from router.core.errors import InputRejected, Unsafe
from router.core.kernel import UNREACHABLE
from router.core.messages import AdvanceDrain, Effect, FinishDrain, MoveSessions
from router.core.model import (
    DataCenterId,
    Drain,
    DrainId,
    DrainMode,
    DrainState,
    Intent,
    Inventory,
    Micros,
    Role,
    Selector,
    TrafficClass,
)
from router.core.tables import DIRECT, Context, Health, View

MOVE_LIMIT = 20  # sessions per data center and second; a receiver's set-up rate is the scarce thing
MIN_HEADROOM_PCT = 20.0  # of the remaining edges' capacity; the usual N+1 reserve of a small fleet
MAX_DRAINED_SHARE = 0.5  # of all serving edges, counting what is already drained

TRANSITIONS: dict[tuple[DrainState, str], DrainState] = {
    (DrainState.BLEEDING, "pause"): DrainState.PAUSED,
    (DrainState.MOVING, "pause"): DrainState.PAUSED,
    (DrainState.PAUSED, "resume_soft"): DrainState.BLEEDING,
    (DrainState.PAUSED, "resume_hard"): DrainState.MOVING,
    (DrainState.BLEEDING, "deadline"): DrainState.MOVING,
    (DrainState.BLEEDING, "empty"): DrainState.DRAINED,
    (DrainState.MOVING, "empty"): DrainState.DRAINED,
    **{(state, "undo"): DrainState.UNDONE for state in DrainState if state is not DrainState.UNDONE},
}


@dataclass(frozen=True, slots=True)
class DrainRequest:
    """What an operator asks for."""

    selector: Selector
    mode: DrainMode = DrainMode.SOFT
    reason: str = ""
    deadline_s: int | None = None
    expires_at: Micros | None = None
    force: bool = False


@dataclass(frozen=True, slots=True)
class Shift:
    """Live sessions that would go from one edge to another."""

    source: DataCenterId
    target: DataCenterId
    sessions: int


@dataclass(frozen=True, slots=True)
class Refusal:
    """A broken constraint: what is, what must be, and how to get past it."""

    rule: str
    message: str
    value: float
    limit: float
    override: str


@dataclass(frozen=True, slots=True)
class DrainPlan:
    """What a drain would do; printable, judged before anything happens."""

    targets: tuple[DataCenterId, ...]
    sessions: Mapping[DataCenterId, int]
    shifts: tuple[Shift, ...]
    agents_behind: Mapping[DataCenterId, int] = field(default_factory=dict)
    routes_through: int = 0
    headroom_after_pct: float | None = None  # None: no remaining edge declares a capacity
    refusals: tuple[Refusal, ...] = ()


def targets_of(inventory: Inventory, selector: Selector) -> tuple[DataCenterId, ...]:
    """Data centers a selector names, in id order. Raises ``selector_empty``, ``selector_matches_nothing``."""
    if selector == Selector():
        raise InputRejected("selector_empty", "a selector needs at least one part", field="selector", rule="non-empty")
    found = tuple(
        dc.id
        for dc in inventory.data_centers.values()
        if selector.provider in (None, dc.provider)
        and selector.region in (None, dc.region)
        and selector.data_center in (None, dc.id)
        and (selector.node is None or any(n.id == selector.node for n in inventory.nodes_by_data_center[dc.id]))
    )
    if not found:
        raise InputRejected("selector_matches_nothing", "no data center matches the selector", field="selector")
    return found


def preflight(view: View, request: DrainRequest, now: Micros) -> DrainPlan:
    """Judge a drain on the View. Raises ``selector_…``; broken constraints are values in the plan."""
    targets = targets_of(view.inventory, request.selector)
    remaining = _remaining_edges(view, targets)
    sessions = {dc: view.counters.sessions.get(dc, 0) for dc in targets}
    headroom = _headroom_after(view, remaining, sum(sessions.values()))
    agents = {dc: sum(n for (_, at), n in view.counters.busy.items() if at == dc) for dc in targets}
    return DrainPlan(
        targets=targets,
        sessions=sessions,
        shifts=_shifts(view, sessions, remaining),
        agents_behind={dc: n for dc, n in agents.items() if n},
        routes_through=_routes_through(view, targets),
        headroom_after_pct=headroom,
        refusals=_refusals(view, targets, remaining, headroom),
    )


def _remaining_edges(view: View, targets: tuple[DataCenterId, ...]) -> tuple[DataCenterId, ...]:
    index = view.inventory.index
    return tuple(
        dc.id
        for dc in view.inventory.data_centers.values()
        if dc.id not in targets
        and Role.EDGE in dc.roles
        and dc.intent.takes_new_sessions
        and view.health[index[dc.id]].state is not Health.DOWN
    )


def _headroom_after(view: View, remaining: tuple[DataCenterId, ...], moved: int) -> float | None:
    bounded = [dc for dc in remaining if view.inventory.data_centers[dc].capacity_sessions]
    capacity = sum(view.inventory.data_centers[dc].capacity_sessions for dc in bounded)
    if not capacity:
        return None
    used = sum(view.counters.sessions.get(dc, 0) for dc in bounded) + (moved if len(bounded) == len(remaining) else 0)
    return round(100 * (capacity - used) / capacity, 1)


def _shifts(view: View, sessions: Mapping[DataCenterId, int], remaining: tuple[DataCenterId, ...]) -> tuple[Shift, ...]:
    """Where sessions would go: the remaining edge nearest to each target by measured round trip (placement decides)."""
    table, shifts = view.routes, []
    for source, count in sessions.items():
        if not count or not remaining or table is None or source not in table.snapshot.data_centers:
            continue
        context = table.snapshot.contexts.index(Context(TrafficClass.AGENT))
        i, ids = table.snapshot.data_centers.index(source), table.snapshot.data_centers
        ways = [
            (int(table.cost[context, i, ids.index(dc)] + table.cost[context, ids.index(dc), i]), dc)
            for dc in remaining
            if dc in ids
        ]
        if ways:
            shifts.append(Shift(source, min(ways)[1], count))
    return tuple(shifts)


def _routes_through(view: View, targets: tuple[DataCenterId, ...]) -> int:
    """Ordered pairs whose agent route in force relays over a target."""
    table = view.routes
    if table is None:
        return 0
    context = table.snapshot.contexts.index(Context(TrafficClass.AGENT))
    vertices = [i for i, dc in enumerate(table.snapshot.data_centers) if dc in targets]
    relays = table.relays[context]
    through = ((relays[..., None] == vertices) & (relays[..., None] != DIRECT)).any(axis=(-1, -2))
    return int((through & (table.cost[context] < UNREACHABLE)).sum())


def _refusals(
    view: View, targets: tuple[DataCenterId, ...], remaining: tuple[DataCenterId, ...], headroom: float | None
) -> tuple[Refusal, ...]:
    refusals = []
    edges = [
        dc for dc in view.inventory.data_centers.values() if Role.EDGE in dc.roles and dc.intent is not Intent.RETIRED
    ]
    if any(dc.id in targets for dc in edges):
        if not remaining:
            text = "no edge would be left to take sessions; add or undrain one first"
            refusals.append(Refusal("last_edge", text, 0, 1, "force"))
        share = 1 - len(remaining) / len(edges)
        if remaining and share > MAX_DRAINED_SHARE:
            text = f"{share:.0%} of all edges would be out of rotation; drain them one after the other"
            refusals.append(Refusal("max_drained_share", text, round(share, 3), MAX_DRAINED_SHARE, "force"))
    if headroom is not None and headroom < MIN_HEADROOM_PCT:
        text = f"the remaining edges would keep {headroom} % headroom; add capacity or wait for sessions to end"
        refusals.append(Refusal("min_headroom", text, headroom, MIN_HEADROOM_PCT, "force"))
    return tuple(refusals)


def open_drain(
    view: View, request: DrainRequest, plan: DrainPlan, id: DrainId, actor: str, now: Micros
) -> tuple[Drain, Mapping[DataCenterId, Intent]]:
    """What to commit. Raises ``drain_unsafe`` unless forced, ``drain_overlaps`` with a running drain."""
    for other in view.drains.values():
        overlap = sorted(set(other.targets) & set(plan.targets))
        if other.state is not DrainState.UNDONE and overlap:
            raise InputRejected(
                "drain_overlaps",
                f"drain {other.id} already has {', '.join(overlap)}; undo it or narrow the selector",
                field="selector",
                rule="a data center is in at most one drain",
            )
    if plan.refusals and not request.force:
        worst = plan.refusals[0]
        raise Unsafe(
            "drain_unsafe",
            "; ".join(r.message for r in plan.refusals),
            field="selector",
            rule=worst.rule,
            limit=worst.limit,
            override="force",
        )
    drain = Drain(
        id=id,
        selector=request.selector,
        mode=request.mode,
        state=DrainState.MOVING if request.mode is DrainMode.HARD else DrainState.BLEEDING,
        targets=plan.targets,
        previous={dc: view.inventory.data_centers[dc].intent for dc in plan.targets},
        reason=request.reason,
        created_at=now,
        created_by=actor,
        deadline_at=None if request.deadline_s is None else now + request.deadline_s * 1_000_000,
        expires_at=request.expires_at,
        sessions_at_start=sum(plan.sessions.values()),
    )
    return drain, dict.fromkeys(plan.targets, Intent.DRAINING)


def step(view: View, id: DrainId, event: str, now: Micros) -> tuple[Drain, Mapping[DataCenterId, Intent]]:
    """What a step of ``TRANSITIONS``, or ``resume``, commits. Raises ``unknown_drain``, ``bad_transition``."""
    drain = view.drains.get(id)
    if drain is None:
        raise InputRejected("unknown_drain", f"there is no drain {id}", field="id")
    named = f"resume_{drain.mode.value}" if event == "resume" else event
    state = TRANSITIONS.get((drain.state, named))
    if state is None:
        raise InputRejected("bad_transition", f"a drain that is {drain.state.value} cannot {event}", field="state")
    finished = now if state in (DrainState.DRAINED, DrainState.UNDONE) else None
    present = [dc for dc in drain.targets if dc in view.inventory.data_centers]
    intents: dict[DataCenterId, Intent] = {}
    if event == "undo":
        # Back to what it was; a data center that someone retired meanwhile stays retired.
        intents = {
            dc: drain.previous[dc]
            for dc in present
            if view.inventory.data_centers[dc].intent in (Intent.DRAINING, Intent.DRAINED)
        }
    elif event == "empty":  # what operators retired or uncordoned meanwhile stays as they want it
        intents = {dc: Intent.DRAINED for dc in present if view.inventory.data_centers[dc].intent is Intent.DRAINING}
    return replace(drain, state=state, finished_at=finished), intents


def drive(drain: Drain, sessions: Mapping[DataCenterId, int], now: Micros) -> list[Effect]:
    """What a running drain wants now: finish, begin to move at its deadline, move."""
    if drain.state not in (DrainState.MOVING, DrainState.BLEEDING):
        return []
    left = {dc: sessions.get(dc, 0) for dc in drain.targets}
    if not any(left.values()):
        return [FinishDrain(drain.id)]
    if drain.state is DrainState.MOVING:
        text = f"drain {drain.id}: {drain.reason}" if drain.reason else f"drain {drain.id}"
        return [MoveSessions(dc, MOVE_LIMIT, text) for dc, count in left.items() if count]
    if drain.deadline_at is not None and now >= drain.deadline_at:
        return [AdvanceDrain(drain.id, "deadline")]
    return []


def undo(view: View, id: DrainId, now: Micros) -> tuple[Drain, Mapping[DataCenterId, Intent]]:
    """Put the targets back to what they were. Raises as :func:`step` does."""
    return step(view, id, "undo", now)


def pause(view: View, id: DrainId, now: Micros) -> tuple[Drain, Mapping[DataCenterId, Intent]]:
    """Stop moving sessions; the targets keep taking no new ones."""
    return step(view, id, "pause", now)


def resume(view: View, id: DrainId, now: Micros) -> tuple[Drain, Mapping[DataCenterId, Intent]]:
    """Go on after a pause."""
    return step(view, id, "resume", now)
