"""Ramps in histories: they begin, are pushed through their table by people and by evidence, and end."""

from __future__ import annotations

from dataclasses import replace

from bench.histories.history import History
from router.core import ramp as ramps
from router.core.errors import InputRejected
from router.core.messages import AdvanceRamp, OpenRamp
from router.core.model import DataCenterId, Intent, Ramp, RampId, RampKind, RampState
from router.core.ramp import RUNGS_PPM, life
from router.core.tables import NodeStatus

FORWARD = ("connected", "clock_known", "measured", "robots_passed", "rung_passed", "all_passed", "retry")
EVENTS = (*FORWARD, "lost", "bad", "pause", "resume", "withdraw", "advance")
VERSIONS = ("1.9", "2.0")
SEEN = 0.9  # of the looks, at which nodes report


def begin(h: History) -> None:
    """Somebody lets a data center, or a version of agents, earn its users."""
    dc, kind = h.rows.inventory.data_centers[h.some_place()], h.random.choice(tuple(RampKind))
    if kind is RampKind.VERSION:
        pool, version = h.random.choice(sorted(h.rows.inventory.pools)), h.random.choice(VERSIONS)
        _put(h, ramps.begin_version(pool, version, _next_id(h), "history", "history", h.now), {})
        return
    if dc.intent.takes_new_sessions:
        _begin(h, dc.id, kind, {dc.id: Intent.CANARY} if kind is RampKind.NEW else {})


def _begin(h: History, dc: DataCenterId, kind: RampKind, intents: dict[DataCenterId, Intent]) -> None:
    _put(h, _anywhere(h, ramps.begin(kind, dc, _next_id(h), "history", "history", h.now)), intents)


def _next_id(h: History) -> RampId:
    return RampId(f"r-{len(h.rows.ramps) + 1}")


def _put(h: History, draft: Ramp, intents: dict[DataCenterId, Intent]) -> None:
    taken = any(ramp.open and ramp.subject == draft.subject for ramp in h.rows.ramps.values())
    try:
        h.commit(h.rows.put_ramp(draft, intents))
    except InputRejected as error:
        h.rules.want(taken and error.code == "ramp_exists", f"a ramp was refused: {error.code}")
        return
    h.rules.want(not taken, f"{draft.subject} has two ramps")


def _anywhere(h: History, draft: Ramp) -> Ramp:
    """As it begins, or as far on as one that began before the history did; a whole climb is longer than most."""
    if draft.kind is RampKind.RETURN or h.random.random() < 0.5:
        return draft
    state = h.random.choice((RampState.CONNECTED, RampState.SHADOW, RampState.SYNTHETIC))
    paused = h.random.random() < 0.3
    return replace(draft, state=RampState.PAUSED if paused else state, paused_from=state if paused else None)


def push(h: History) -> None:
    """Evidence or a person asks for a step, legal or not."""
    running = [ramp for ramp in h.rows.ramps.values() if ramp.open]
    found = running if running and h.random.random() < 0.9 else list(h.rows.ramps.values())
    if not found:
        return
    ramp = h.random.choice(found)
    wanted = (
        FORWARD if h.random.random() < 0.6 else EVENTS
    )  # a ramp is long: most histories must see more than its foot
    legal = [event for event in wanted if _legal(ramp, event)]
    event = h.random.choice(legal if legal and h.random.random() < 0.8 else EVENTS)
    _step(h, ramp.id, event)


def _legal(ramp: Ramp, event: str) -> bool:
    return (ramp.state, life.named(ramp, event)) in ramps.TRANSITIONS


def _step(h: History, id: RampId, event: str) -> None:
    before = h.rows.ramps[id]
    try:
        after, intents = ramps.step(h.view, id, event, "history", h.now)
    except InputRejected as error:
        refused = error.code == "bad_transition" and not _legal(before, event)
        h.rules.want(refused, f"{event} of a ramp that is {before.state.value}: {error.code}")
        return
    h.commit(h.rows.put_ramp(after, intents))
    h.rules.want(_legal(before, event), f"a ramp that is {before.state.value} took {event}")
    h.rules.climbed(h.view, before, h.rows.ramps[id])


def look(h: History) -> None:
    """The core looks at its ramps, and what it wants is done."""
    heard = {node: NodeStatus(h.now) for node in h.view.inventory.nodes} if h.random.random() < SEEN else {}
    h.view = replace(h.view, now=h.now, nodes=heard)
    for effect in h.book.drive(h.view, h.now):
        match effect:
            case OpenRamp():
                _begin(h, effect.data_center, effect.kind, {})
            case AdvanceRamp():
                _step(h, effect.ramp, effect.step)


def calm(h: History) -> None:
    """No ramp is stuck: it has a next step, or says what it waits for."""
    h.view = replace(h.view, now=h.now)
    wanted = {effect.ramp for effect in h.book.drive(h.view, h.now) if isinstance(effect, AdvanceRamp)}
    for id, climb in h.book.climbs().items():
        h.rules.want(bool(climb.waits) or id in wanted, f"ramp {id} waits and does not say for what")
    for ramp in h.rows.ramps.values():
        served = ramp.state is not RampState.SERVING or ramp.share_ppm == RUNGS_PPM[-1]
        h.rules.want(served, f"ramp {ramp.id} serves {ramp.share_ppm} ppm")
