"""Gates between the stages of a soft drain: may the receivers be given more?"""

from __future__ import annotations

from router.core.drain.targets import remaining_edges
from router.core.model import Drain
from router.core.tables import Health, View
from router.core.verdicts import ComponentKind

MAX_RECEIVER_PCT = 85  # of a receiver's capacity: beyond it one more stage may overfill it before it is seen


def red_gate(view: View, drain: Drain) -> str:
    """The first gate that is red, with its number; empty when all are green."""
    index = view.inventory.index
    for dc in drain.receivers or remaining_edges(view, drain.targets):
        if dc not in index:
            continue
        health = view.health[index[dc]]
        worse = health.state is Health.DEGRADED and health.since > drain.created_at  # not before
        if health.state is Health.DOWN or worse:
            return f"receiver {dc} is {health.state.value}; the gate wants it up"
        blamed = None if view.blame.frozen else view.blame.of(ComponentKind.EDGE_REGION, dc)
        if blamed is not None and blamed.is_sure:
            return f"receiver {dc} is blamed with {blamed.confidence_ppm // 10_000} %; the gate wants less than 90 %"
        limit = view.inventory.data_centers[dc].capacity_sessions
        used = view.counters.sessions.get(dc, 0)
        if limit and used * 100 > limit * MAX_RECEIVER_PCT:
            return f"receiver {dc} is {used * 100 // limit} % full; the gate closes at {MAX_RECEIVER_PCT} %"
    return ""
