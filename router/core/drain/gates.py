"""Gates between the stages of a soft drain: may the receivers be given more?"""

from __future__ import annotations

from collections.abc import Mapping

from router.core.blame.outcomes import OutcomeCount, total
from router.core.drain.targets import remaining_edges
from router.core.model import DataCenterId, Drain
from router.core.ramp.sequential import upper_share
from router.core.tables import Health, View
from router.core.verdicts import ComponentKind

MAX_BAD_GROWTH = 0.002  # of a receiver's sessions, as Facebook's Maelstrom has it for what a drain may cost
MAX_SETUP_GROWTH = 0.01  # 99 % is what is promised of set-ups
LEAST_BAD, LEAST_SEEN = 3, 20  # fewer say nothing
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
            return f"receiver {dc} is blamed with {blamed.sure_pct} %; the gate wants less than 90 %"
        fares = _worse(view, drain, dc)
        if fares:
            return fares
        limit = view.inventory.data_centers[dc].capacity_sessions
        used = view.counters.sessions.get(dc, 0)
        if limit and used * 100 > limit * MAX_RECEIVER_PCT:
            return f"receiver {dc} is {used * 100 // limit} % full; the gate closes at {MAX_RECEIVER_PCT} %"
    return ""


def _worse(view: View, drain: Drain, dc: DataCenterId) -> str:
    """What goes worse for the sessions of a receiver than before the drain, beyond what chance explains."""
    progress = view.progress.get(drain.id)
    if progress is None or dc not in progress.before:
        return ""
    now, was = total(view.outcomes, edge=dc), progress.before[dc]
    for name, bad, good, bad_was, good_was, slack in (
        ("sessions go badly", now.bad, now.good, was.bad, was.good, MAX_BAD_GROWTH),
        ("set-ups fail", now.setup_failed, now.setup_ok, was.setup_failed, was.setup_ok, MAX_SETUP_GROWTH),
    ):
        usual = bad_was / (bad_was + good_was) if bad_was + good_was >= LEAST_SEEN else 0.0
        surely = 1 - upper_share(round(good), round(good) + round(bad))
        if round(bad) >= LEAST_BAD and surely > usual + slack:
            share, limit = bad / (bad + good), usual + slack
            return f"receiver {dc}: {share:.1%} of {name}, {usual:.1%} before; the gate closes at {limit:.1%} for sure"
    return ""


def outcomes_before(view: View, drain: Drain) -> Mapping[DataCenterId, OutcomeCount]:
    """How sessions of the receivers fare now: what the gates compare with later."""
    return {dc: total(view.outcomes, edge=dc) for dc in drain.receivers}
