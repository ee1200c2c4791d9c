"""What the evidence asks of a ramp now: a step with its reason, or what it still waits for, in words with numbers.

A rung is passed with enough sessions and time and no doubt. Where so few users come that this would take for ever, time
passes it instead, but only if the next rung exposes few as well; the reason then says so. It is left downwards as soon
as the e-value of its tests reaches 1 / alpha; the alphas of a whole climb add up to less than 1 %, which bounds the
probability that a data center like its neighbours is ever rolled back (:mod:`router.core.ramp.sequential`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from router.core.dial import CONTROL_SPAN_PPM, WHOLE_PPM
from router.core.model import DataCenterId, Inventory, Micros, Ramp, RampKind, RampState
from router.core.ramp.calls import CALLS, calls
from router.core.ramp.checks import DIRECT, INWARD, OUTWARD, THROUGH, relaying
from router.core.ramp.evidence import Evidence
from router.core.ramp.kinds import RUNGS_PPM
from router.core.ramp.sequential import upper_share
from router.core.tables import Bool, Health, LinkState, View
from router.core.verdicts import Component, ComponentKind

ROBOT_ALPHA = 0.0004  # per rung, and before the first; with the alphas of the sessions' tests 0.94 % in all
DOUBT = 3.0  # an e-value above this is no reason to roll back, and none to go on
RUNG_SESSIONS = 200  # settled; twice what a change of 2 % in set-ups needs to be seen by chance
FEW_SESSIONS = 50  # settled; the effects that must be caught are caught within these
FIRST_VERDICT = 20  # sessions in flight at most until the first ones are known
DOUBTFUL = 4  # the same, while there is a doubt: it can be settled, but not by a crowd
AT_ONCE = 4  # sessions that may begin before the catchment is known
ALLOWED = 0.008  # of the catchment's sessions on the first rung: it is estimated from the control arm, 1 % is promised
RUNG_US = 600_000_000
RUNG_PATIENCE_US = 7_200_000_000
RETURN_PATIENCE_US = 1_200_000_000  # it has served everybody before; where nobody comes, nobody is exposed
FIRST_PATIENCE_US = 86_400_000_000  # at 1 %: so that who has 50 users an hour is judged before it takes 5 % of them
LONG_PATIENCE_US = 259_200_000_000  # after three days a rung of some users a day has shown what it can
UNEXPLAINED = 2  # failed set-ups that time passes no rung with, unless the control arm has as many: one is chance
SHADOW_US = 600_000_000
SHADOW_SAMPLES = 100  # per link: a loss of 3 % would have shown
SHADOW_PATIENCE_US = 86_400_000_000
SHADOW_LOSS_PPM = 10_000  # of the median peer; more is no place for a call
PEERS_SHARE = 0.9  # of the others that must be measured both ways; some may be down themselves
CLOCK_ERROR_US = 50_000
REPORT_US = 10_000_000  # a node that was not heard for longer is not connected
ROBOT_RUNS = 400
ROBOTS_EACH = 50  # per errand
ROBOT_LIMIT = 0.02  # what the upper end of the interval of their failures must be under
ROBOT_Z = 3.0
ROBOT_PATIENCE_US = 3_600_000_000
ROBOT_LEAST_US = (
    60_000_000  # of robots before they roll back: a busy moment makes many fail together, and exposes nobody
)


@dataclass(frozen=True, slots=True)
class Outlook:
    """What comes next: a step with its reason, or what is waited for."""

    step: str | None = None
    reason: str = ""
    waits: tuple[str, ...] = ()


def errands(inventory: Inventory, data_center: DataCenterId) -> tuple[str, ...]:
    """What robots must have tried before a data center takes its first user.

    ``direct``: it is reached from, and reaches, every other. ``through``: it is the relay between two others.
    ``inward`` and ``outward``: it is reached, and reaches, over a relay. Those over relays only where there are enough
    of them: the last one of a path delivers. The rest are sessions to set up (:mod:`router.core.ramp.calls`).
    """
    relays, others = relaying(inventory), len(inventory.data_centers) - 1
    beside = sum(dc != data_center for dc in relays)
    found = [DIRECT] if others else []
    if data_center in relays and beside and others >= 2:
        found += [THROUGH, INWARD]
    if beside >= 2:
        found.append(OUTWARD)
    return (*found, *calls(inventory, data_center))


def outlook(view: View, ramp: Ramp, evidence: Evidence, now: Micros) -> Outlook:
    """What a ramp asks for now."""
    if ramp.state is RampState.ROLLED_BACK:
        due = ramp.retry_at is not None and now >= ramp.retry_at
        return Outlook("retry", f"attempt {ramp.attempt + 1}: the pause is over") if due else _until_retry(ramp)
    if ramp.kind is RampKind.VERSION:
        return _version(ramp, evidence, now)
    at = view.inventory.index.get(ramp.data_center)
    if at is None:
        return Outlook("withdraw", "the data center is no longer in the inventory")
    bad = _bad(view, ramp, evidence, at, now)
    if bad:
        return Outlook("bad", bad)
    match ramp.state:
        case RampState.REGISTERED:
            return _registered(view, ramp, now)
        case RampState.CONNECTED | RampState.SHADOW | RampState.SYNTHETIC if not _heard(view, ramp, now):
            return Outlook("lost", f"no node has reported for {REPORT_US // 1_000_000} s")
        case RampState.CONNECTED:
            return _connected(view, at)
        case RampState.SHADOW:
            return _shadow(view, ramp, at, now)
        case RampState.SYNTHETIC:
            return _synthetic(view, ramp, evidence, now)
        case RampState.CANARY:
            return _canary(ramp, evidence, now)
    return Outlook(waits=("somebody to resume it",))


def _version(ramp: Ramp, evidence: Evidence, now: Micros) -> Outlook:
    """Agents of a version are judged by their sessions alone: where they are is nobody's fault, or both arms'."""
    if ramp.share_ppm and evidence.worth >= 1 / evidence.alpha:
        return Outlook("bad", _accusation(evidence, 1 / evidence.alpha))
    if ramp.state is RampState.PAUSED:
        return Outlook(waits=("somebody to resume it",))
    if not evidence.canary.settled:
        return Outlook(waits=("a session: none with an agent of this version has shown anything yet",))
    return _canary(ramp, evidence, now)


def held(ramp: Ramp, evidence: Evidence) -> str:
    """Why no more sessions may start just now, or nothing: caps by count, whatever the share lets through."""
    if ramp.state not in (RampState.CANARY, RampState.PAUSED) or ramp.share_ppm >= RUNGS_PPM[-1]:
        return ""
    waiting, begun = evidence.unsettled, evidence.canary.begun
    if evidence.canary.settled < FEW_SESSIONS and waiting >= FIRST_VERDICT:
        return f"{waiting} sessions have yet to show something"
    if waiting >= DOUBTFUL and doubt(evidence):
        return f"{waiting} sessions have yet to show something while there is a doubt"
    if ramp.share_ppm <= RUNGS_PPM[0] and begun >= max(AT_ONCE, ALLOWED * catchment(evidence)):
        return f"{begun} sessions of about {catchment(evidence)} are all that it may have so far"
    return ""


def catchment(evidence: Evidence) -> int:
    """Sessions since the rung began of all users that the data center would have; estimated from the control arm."""
    return evidence.control.begun * WHOLE_PPM // CONTROL_SPAN_PPM


def doubt(evidence: Evidence) -> str:
    """What speaks against more users, though not enough to roll back; or nothing."""
    worth = evidence.worth
    told = f"e-value {worth:.1f} for {evidence.worst}, {DOUBT:g} is the limit" if worth > DOUBT else ""
    return evidence.suspect or told


def _until_retry(ramp: Ramp) -> Outlook:
    if ramp.retry_at is None:
        return Outlook(waits=(f"a person, after {ramp.attempt} attempts",))
    return Outlook(waits=(f"the pause before attempt {ramp.attempt + 1}, or a person",))


def _bad(view: View, ramp: Ramp, evidence: Evidence, at: int, now: Micros) -> str:
    """Why a data center must not go on, or nothing."""
    if ramp.share_ppm and view.health[at].state is Health.DOWN:
        return f"it went down: {view.health[at].reason}"
    for verdict in view.blame.sure():
        if verdict.component == Component(ComponentKind.EDGE_REGION, ramp.data_center):
            return f"it is to blame with {verdict.sure_pct} % confidence"
    if ramp.share_ppm and evidence.worth >= 1 / evidence.alpha:
        return _accusation(evidence, 1 / evidence.alpha)
    if evidence.robot_worth >= 1 / ROBOT_ALPHA and now - ramp.since >= ROBOT_LEAST_US:
        return f"robots: {_robots(evidence)}; e-value {evidence.robot_worth:.0f}, limit {1 / ROBOT_ALPHA:.0f}"
    return ""


def _accusation(evidence: Evidence, limit: float) -> str:
    canary, control, name = evidence.canary, evidence.control, evidence.worst
    told = {
        "setup_arm": f"set-ups fail: {_share(canary.setup_failed, canary.set_up)}"
        f" against {_share(control.setup_failed, control.set_up)}",
        "setup": f"set-ups fail: {_share(canary.setup_failed, canary.set_up)}"
        f" against {_share(control.setup_failed, control.set_up)}",
        "drops": f"sessions drop: {canary.dropped} of {canary.ended} against {control.dropped} of {control.ended}",
        "rtt": "round trips are longer than those of the control arm",
        "rtt_tail": "too many round trips are very long",
        "setup_time": "set-ups take longer than those of the control arm",
        "loss": "loss is higher than in the control arm",
    }[name]
    return f"{told}, {canary.settled} sessions seen; e-value {evidence.worth:.0f}, limit {limit:.0f}"


def _share(failed: int, ok: int) -> str:
    return f"{failed} of {failed + ok}"


def _robots(evidence: Evidence) -> str:
    failed = [(name, course) for name, course in sorted(evidence.errands.items()) if course.failed]
    told = [f"{name} failed {course.failed} of {course.tried} ({course.last})" for name, course in failed]
    return ", ".join(told) or "none failed"


def _heard(view: View, ramp: Ramp, now: Micros) -> bool:
    nodes = view.inventory.nodes_by_data_center[ramp.data_center]
    return any(node.id in view.nodes and now - view.nodes[node.id].reported_at <= REPORT_US for node in nodes)


def _registered(view: View, ramp: Ramp, now: Micros) -> Outlook:
    if _heard(view, ramp, now):
        return Outlook("connected", "a node of it reports")
    if not view.inventory.nodes_by_data_center[ramp.data_center]:
        return Outlook(waits=("a node: make a join token and start a probe agent there",))
    return Outlook(waits=("a report of one of its nodes",))


def _connected(view: View, at: int) -> Outlook:
    error = view.links.error_us[:, at, :][view.links.state[:, at, :] == LinkState.UP]
    known = error[error >= 0]
    if known.size and int(known.min()) <= CLOCK_ERROR_US:
        return Outlook("clock_known", f"its clock is known to {known.min() / 1000:.1f} ms")
    return Outlook(waits=(f"a link whose one-way delay is known to {CLOCK_ERROR_US // 1000} ms",))


def _shadow(view: View, ramp: Ramp, at: int, now: Micros) -> Outlook:
    state, others = view.links.state, len(view.inventory.data_centers) - 1
    up: Bool = ((state == LinkState.UP) | (state == LinkState.DEGRADED)).any(axis=0)
    both: Bool = up[at, :] & up[:, at]
    there = int(both.sum())
    waits: list[str] = []
    if there < PEERS_SHARE * others:
        waits.append(f"measurements both ways with {there} of {others} data centers, {PEERS_SHARE:.0%} needed")
    elif others:
        loss = np.concatenate((view.links.loss_ppm[0, at, both], view.links.loss_ppm[0, both, at]))
        lost = int(np.median(np.maximum(0, loss)))
        if lost > SHADOW_LOSS_PPM:
            waits.append(f"a median loss of {lost / 10_000:.2f} % to fall below {SHADOW_LOSS_PPM / 10_000:g} %")
    if now - ramp.since < SHADOW_US:
        waits.append(f"{SHADOW_US // 60_000_000} min of it, {(now - ramp.since) // 60_000_000} are over")
    if not waits:
        wins, pairs = would_win(view, at)
        return Outlook("measured", f"measured; as a relay it would shorten {wins} of {pairs} ways")
    if now - ramp.since >= SHADOW_PATIENCE_US:
        return Outlook("bad", f"a day was not enough for {'; '.join(waits)}")
    return Outlook(waits=tuple(waits))


def would_win(view: View, at: int) -> tuple[int, int]:
    """How many ordered pairs of others would be served better over a data center as relay, and of how many."""
    table = view.routes
    name = list(view.inventory.data_centers)[at]
    if table is None or name not in table.snapshot.data_centers:
        return 0, 0
    here = table.snapshot.data_centers.index(name)
    hop, held_cost = table.snapshot.cost[0], table.cost[0]
    over = hop[:, here, None] + hop[None, here, :] + int(table.snapshot.relay_cost_us[0])
    rest = np.ones(over.shape, np.bool_)
    rest[here, :] = rest[:, here] = False
    np.fill_diagonal(rest, False)
    return int(((over < held_cost) & rest).sum()), int(rest.sum())


def _synthetic(view: View, ramp: Ramp, evidence: Evidence, now: Micros) -> Outlook:
    wanted = errands(view.inventory, ramp.data_center)
    waits = []
    for name in wanted:
        course = evidence.errands.get(name)
        if course is None or course.tried < ROBOTS_EACH:
            waits.append(f"{ROBOTS_EACH} robots {name}, {0 if course is None else course.tried} were there")
    (probed, lost), (called, failed) = _tried(evidence, calls=False), _tried(evidence, calls=True)
    if set(wanted) - set(CALLS) and probed < ROBOT_RUNS:
        waits.append(f"{ROBOT_RUNS} robots in all, {probed} were there")
    for what, tried, bad in (("robots", probed, lost), ("calls", called, failed)):
        upper = upper_share(bad, tried, ROBOT_Z)
        if upper > ROBOT_LIMIT and (tried >= ROBOT_RUNS or what == "calls"):
            text = f"under {ROBOT_LIMIT:.0%} of {what} fail: {bad} of {tried} did, at most {upper:.1%}"
            waits.append(f"proof that {text}")
    if not waits:
        return Outlook("robots_passed", f"{probed} robots, {lost} failed; {called} calls, {failed} failed")
    if not called and set(wanted) & set(CALLS) and not [text for text in waits if "media" not in text]:
        waits.append("somebody who calls (POST /v1/ramps/ID/calls), or who vouches for it")
        return Outlook(waits=tuple(waits))
    if now - ramp.since >= ROBOT_PATIENCE_US:
        return Outlook("bad", f"an hour was not enough for {'; '.join(waits)}; {_robots(evidence)}")
    return Outlook(waits=tuple(waits))


def _tried(evidence: Evidence, *, calls: bool) -> tuple[int, int]:
    """Robots of all errands and how many failed: of those that call, which are few, or of those that probe."""
    found = [course for name, course in evidence.errands.items() if (name in CALLS) is calls]
    return sum(course.tried for course in found), sum(course.failed for course in found)


def _canary(ramp: Ramp, evidence: Evidence, now: Micros) -> Outlook:
    seen, passed_us = evidence.canary, now - ramp.since
    why = doubt(evidence)
    if why:
        return Outlook(waits=(f"doubt to go: {why}",))
    if passed_us < RUNG_US:
        return Outlook(waits=(f"{RUNG_US // 60_000_000} min on this rung, {passed_us // 60_000_000} are over",))
    told = f"{seen.settled} sessions in {passed_us // 60_000_000} min, not worse"
    last, expected = ramp.share_ppm >= RUNGS_PPM[-1], _expected_next(ramp, evidence)
    compared = last or evidence.compared >= FEW_SESSIONS
    if seen.settled >= RUNG_SESSIONS and compared and not evidence.harm:
        return Outlook("rung_passed", told)
    patience_us = _patience_us(ramp, expected)
    few = expected <= FIRST_VERDICT
    if passed_us < patience_us:
        hours = patience_us / 3_600_000_000
        text = f"{RUNG_SESSIONS} sessions on this rung, {seen.settled} were there, or {hours:g} h"
        return Outlook(waits=(evidence.harm if seen.settled >= RUNG_SESSIONS else text,))
    if seen.setup_failed >= UNEXPLAINED and evidence.harm:
        return Outlook(waits=(f"an explanation: {evidence.harm}",))
    if last or few or evidence.compared >= FEW_SESSIONS or passed_us >= LONG_PATIENCE_US:
        return Outlook("rung_passed", f"by time: only {told}; about {expected} on the next rung")
    text = f"{FEW_SESSIONS} sessions to compare, {evidence.compared} were there: the next rung would expose {expected}"
    return Outlook(waits=(text,))


def _patience_us(ramp: Ramp, expected: int) -> int:
    """How long a rung waits for users that do not come."""
    if ramp.kind is RampKind.RETURN:
        return RETURN_PATIENCE_US if expected else RUNG_US
    return FIRST_PATIENCE_US if ramp.share_ppm <= RUNGS_PPM[0] and expected else RUNG_PATIENCE_US


def _expected_next(ramp: Ramp, evidence: Evidence) -> int:
    """Sessions that the next rung would see in the time that this one took."""
    share = next((rung for rung in RUNGS_PPM if rung > ramp.share_ppm), ramp.share_ppm)
    if ramp.share_ppm >= RUNGS_PPM[-1]:
        return 0
    there = max(catchment(evidence), evidence.canary.begun * WHOLE_PPM // max(1, ramp.share_ppm))
    return -(-there * share // WHOLE_PPM)
