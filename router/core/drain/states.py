"""The states of a drain as a table that bites, and what a step commits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from router.core.errors import InputRejected
from router.core.model import DataCenterId, Drain, DrainId, DrainState, Intent, Micros
from router.core.tables import View

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


def undo(view: View, id: DrainId, now: Micros) -> tuple[Drain, Mapping[DataCenterId, Intent]]:
    """Put the targets back to what they were. Raises as :func:`step` does."""
    return step(view, id, "undo", now)


def pause(view: View, id: DrainId, now: Micros) -> tuple[Drain, Mapping[DataCenterId, Intent]]:
    """Stop moving sessions; the targets keep taking no new ones."""
    return step(view, id, "pause", now)


def resume(view: View, id: DrainId, now: Micros) -> tuple[Drain, Mapping[DataCenterId, Intent]]:
    """Go on after a pause."""
    return step(view, id, "resume", now)
