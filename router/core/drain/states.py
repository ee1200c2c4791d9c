"""The states of a drain as a table that bites, and what a step commits.

A step is decided on the View and committed with the revision that it was decided on; so a control plane that starts
anew in the middle of any step, or an operator who is faster, finds the row as it was before or after, never between.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from router.core.drain.gates import red_gate
from router.core.drain.stages import next_share
from router.core.errors import InputRejected
from router.core.model import DataCenterId, Drain, DrainId, DrainMode, DrainState, Intent, Micros
from router.core.tables import View

_S = DrainState
RUNNING = (_S.CORDONED, _S.SHIFTING, _S.BLEEDING, _S.MOVING, _S.FORCING)
_EMPTYING = (_S.CORDONED, _S.BLEEDING, _S.MOVING, _S.FORCING)
FINISHED = (_S.DRAINED, _S.UNDONE)

TRANSITIONS: dict[tuple[DrainState, str], DrainState] = {
    (_S.SHIFTING, "shift"): _S.SHIFTING,
    (_S.SHIFTING, "shifted"): _S.BLEEDING,
    (_S.SHIFTING, "deadline"): _S.MOVING,
    (_S.SHIFTING, "gate"): _S.PAUSED,
    (_S.BLEEDING, "late"): _S.MOVING,
    (_S.BLEEDING, "deadline"): _S.MOVING,
    (_S.MOVING, "moved"): _S.BLEEDING,
    (_S.BLEEDING, "overdue"): _S.FORCING,
    (_S.MOVING, "overdue"): _S.FORCING,
    **{(state, "pause"): _S.PAUSED for state in RUNNING},
    **{(_S.PAUSED, f"resume_{state.value}"): state for state in RUNNING},
    **{(state, "empty"): _S.DRAINED for state in _EMPTYING},
    **{(state, "undo"): _S.UNDONE for state in DrainState if state is not _S.UNDONE},
}
EVENT_MEANINGS: Mapping[str, str] = {
    "shift": "the gates are green and the share of new sessions was kept for its time: the next smaller share",
    "shifted": "the last share is over: no new sessions, no new routes over the targets",
    "gate": "a receiver is not well or too full; the drain says which and by how much, and waits for a person",
    "late": "what is left would not end by itself before the deadline",
    "deadline": "the deadline is there",
    "moved": "nobody is left at the edges; agents still hold sessions",
    "overdue": "agents still hold sessions when their time is over: these sessions get other agents",
    "pause": "an operator stops it; its targets still take no more than they did",
    "resume_*": "an operator lets it go on where it stopped",
    "empty": "no session, no agent in use, no route is left on the targets",
    "undo": "the targets get back the intent they had before; at any point, also halfway; who was out begins a ramp",
}


def step(view: View, id: DrainId, event: str, now: Micros) -> tuple[Drain, Mapping[DataCenterId, Intent]]:
    """What a step of ``TRANSITIONS``, or ``resume``, commits. Raises ``unknown_drain``, ``bad_transition``."""
    drain = view.drains.get(id)
    if drain is None:
        raise InputRejected("unknown_drain", f"there is no drain {id}", field="id")
    named = f"resume_{_resumed(drain).value}" if event == "resume" else event
    state = TRANSITIONS.get((drain.state, named))
    if state is None:
        raise InputRejected("bad_transition", f"a drain that is {drain.state.value} cannot {event}", field="state")
    share = _share(drain, named, state)
    after = replace(
        drain,
        state=state,
        share_ppm=share,
        since=drain.since if (state, share) == (drain.state, drain.share_ppm) else now,
        paused_from=drain.state if state is _S.PAUSED else None,
        note=red_gate(view, drain) if event == "gate" else "",
        finished_at=now if state in FINISHED else None,
    )
    return after, _intents(view, drain, after)


def _resumed(drain: Drain) -> DrainState:
    if drain.paused_from is not None:
        return drain.paused_from
    return _S.MOVING if drain.mode is DrainMode.HARD else _S.BLEEDING


def _share(drain: Drain, event: str, state: DrainState) -> int:
    if event == "shift":
        return next_share(drain.share_ppm)
    return drain.share_ppm if state in (_S.SHIFTING, _S.PAUSED) else 0


def _intents(view: View, before: Drain, after: Drain) -> Mapping[DataCenterId, Intent]:
    """What the targets' intents become; what operators decided meanwhile stays as they want it."""
    centers = view.inventory.data_centers
    present = {dc: centers[dc].intent for dc in after.targets if dc in centers}
    if after.state is _S.UNDONE:
        return {dc: before.previous[dc] for dc, i in present.items() if i in (Intent.DRAINING, Intent.DRAINED)}
    if after.state is _S.DRAINED:
        return {dc: Intent.DRAINED for dc, intent in present.items() if intent is Intent.DRAINING}
    if before.share_ppm and not after.share_ppm:
        return {dc: Intent.DRAINING for dc, intent in present.items() if intent is not Intent.RETIRED}
    return {}


def undo(view: View, id: DrainId, now: Micros) -> tuple[Drain, Mapping[DataCenterId, Intent]]:
    """Put the targets back to what they were. Raises as :func:`step` does."""
    return step(view, id, "undo", now)


def pause(view: View, id: DrainId, now: Micros) -> tuple[Drain, Mapping[DataCenterId, Intent]]:
    """Stop the shift and the moves; the targets take no more new sessions than they did."""
    return step(view, id, "pause", now)


def resume(view: View, id: DrainId, now: Micros) -> tuple[Drain, Mapping[DataCenterId, Intent]]:
    """Go on after a pause where it stopped."""
    return step(view, id, "resume", now)
