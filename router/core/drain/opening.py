"""Opening a drain: what is refused, and what to commit."""

from __future__ import annotations

from collections.abc import Mapping

from router.core.drain.plan import DrainPlan, DrainRequest
from router.core.errors import InputRejected, Unsafe
from router.core.model import DataCenterId, Drain, DrainId, DrainMode, DrainState, Intent, Micros
from router.core.tables import View


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
