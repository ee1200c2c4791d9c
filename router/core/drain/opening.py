"""Opening a drain: what is refused, what it takes over, and what to commit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from router.core.drain.plan import AGENTS_S, LONGEST_S, DrainPlan, DrainRequest
from router.core.drain.stages import SHARES_PPM, stage_s
from router.core.drain.targets import in_force
from router.core.errors import InputRejected, Unsafe
from router.core.model import (
    DataCenterId,
    Drain,
    DrainId,
    DrainMode,
    DrainOrigin,
    DrainState,
    Intent,
    Micros,
    NodeId,
)
from router.core.tables import View

RANK = tuple(DrainOrigin)  # a drain takes over what a later one in this list has


def open_drain(
    view: View, request: DrainRequest, plan: DrainPlan, id: DrainId, actor: str, now: Micros
) -> tuple[Drain, Mapping[DataCenterId, Intent]]:
    """What to commit. Raises ``drain_unsafe`` unless forced, ``drain_overlaps``, ``expires_too_late``."""
    weaker = overlapping(view, request, plan)
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
    sessions = sum(plan.sessions.values())
    step = stage_s(request, sessions)
    drain = Drain(
        id=id,
        selector=request.selector,
        mode=request.mode,
        state=_first_state(request.mode, step),
        targets=plan.targets,
        previous={dc: _before(view, weaker, dc) for dc in plan.targets},
        reason=request.reason,
        created_at=now,
        created_by=actor,
        deadline_at=None if request.deadline_s is None else now + request.deadline_s * 1_000_000,
        expires_at=_expiry(request, now),
        sessions_at_start=sessions,
        origin=request.origin,
        share_ppm=SHARES_PPM[0] if step else 0,
        since=now,
        stage_s=step,
        nodes=plan.nodes,
        previous_nodes={node: _node_before(view, weaker, node) for node in plan.nodes},
        receivers=tuple(sorted({shift.target for shift in plan.shifts})),
        routes_through=plan.routes_through,
        agents_behind=plan.agents_behind,
        cut_at=now + (request.deadline_s or AGENTS_S) * 1_000_000 if _may_hold(view, plan) else None,
    )
    return drain, {} if step else dict.fromkeys(plan.targets, Intent.DRAINING)


def _first_state(mode: DrainMode, step: int) -> DrainState:
    if mode is DrainMode.EMERGENCY:
        return DrainState.CORDONED
    if mode is DrainMode.HARD:
        return DrainState.MOVING
    return DrainState.SHIFTING if step else DrainState.BLEEDING


def _may_hold(view: View, plan: DrainPlan) -> bool:
    """Whether agents of the targets hold sessions, or may be taken while a share of new sessions still comes."""
    counters = view.counters
    on_machines = any(node in counters.held_on or node in counters.idle_on for node in plan.nodes)
    return bool(plan.agents_behind) or on_machines or any(place in plan.targets for _, place in counters.idle)


def _expiry(request: DrainRequest, now: Micros) -> Micros:
    latest = now + LONGEST_S * 1_000_000
    if request.expires_at is not None and request.expires_at > latest:
        raise InputRejected(
            "expires_too_late",
            f"a drain lasts at most {LONGEST_S // 3600} h; for longer set the intent of its targets to retired",
            field="expires_at",
            rule="at most 72 h ahead",
            limit=LONGEST_S,
        )
    return latest if request.expires_at is None else request.expires_at


def overlapping(view: View, request: DrainRequest, plan: DrainPlan) -> tuple[Drain, ...]:
    """Weaker drains that this one takes over, in id order. Raises ``drain_overlaps`` with one that is as strong."""
    found = []
    for other in sorted(view.drains.values(), key=lambda d: d.id):
        both = sorted({*other.targets} & {*plan.targets}) + sorted({*other.nodes} & {*plan.nodes})
        if not in_force(other) or not both:
            continue
        if RANK.index(other.origin) <= RANK.index(request.origin):
            raise InputRejected(
                "drain_overlaps",
                f"drain {other.id} already has {', '.join(both)}; undo it or narrow the selector",
                field="selector",
                rule="a data center is in at most one drain",
            )
        found.append(other)
    return tuple(found)


def taken_over(
    view: View, request: DrainRequest, plan: DrainPlan, now: Micros
) -> tuple[tuple[Drain, ...], Mapping[DataCenterId, Intent]]:
    """How weaker drains end when this one takes over: undone, and what only they had gets its intent back."""
    ended, intents = [], dict[DataCenterId, Intent]()
    for other in overlapping(view, request, plan):
        note = f"taken over by a drain of {request.origin.value}"
        ended.append(replace(other, state=DrainState.UNDONE, share_ppm=0, since=now, note=note, finished_at=now))
        for dc in other.targets:
            now_is = view.inventory.data_centers[dc].intent if dc in view.inventory.data_centers else Intent.RETIRED
            if dc not in plan.targets and now_is in (Intent.DRAINING, Intent.DRAINED):
                intents[dc] = other.previous[dc]
    return tuple(ended), intents


def _before(view: View, weaker: tuple[Drain, ...], dc: DataCenterId) -> Intent:
    held = next((drain.previous[dc] for drain in weaker if dc in drain.previous), None)
    return view.inventory.data_centers[dc].intent if held is None else held


def _node_before(view: View, weaker: tuple[Drain, ...], node: NodeId) -> Intent:
    held = next((drain.previous_nodes[node] for drain in weaker if node in drain.previous_nodes), None)
    return view.inventory.nodes[node].intent if held is None else held
