"""Practice drains: on a calendar, under the guards of automation, so that the real one is no surprise.

A practice is a line of the calendar: a weekday, a minute of that day (UTC), a selector. It lasts half an hour and is
undone; where anything else is wrong, or a gate is red, it ends at once, and its outcome says so.
"""

from __future__ import annotations

from dataclasses import dataclass

from router.core.drain.plan import DrainRequest
from router.core.drain.preflight import preflight
from router.core.drain.states import FINISHED
from router.core.drain.targets import in_force
from router.core.model import Drain, DrainMode, DrainOrigin, DrainState, Micros, Selector
from router.core.tables import View

MINUTE_US = 60_000_000
DAY_MINUTES = 1_440
WEEK_MINUTES = 7 * DAY_MINUTES
EPOCH_WEEKDAY = 3  # 1970-01-01 was a Thursday; Monday is 0
LASTS_MINUTES = 30
GRACE_MINUTES = 5  # a practice that could not begin so long is left out this week


@dataclass(frozen=True, slots=True)
class Window:
    """Minutes of the week, the end excluded, in which no practice may run."""

    begins: int
    ends: int


@dataclass(frozen=True, slots=True)
class Practice:
    """What is drained every week, and in which minute of the week (Monday 00:00 UTC is 0)."""

    minute: int
    selector: Selector


@dataclass(frozen=True, slots=True)
class Calendar:
    """All practices and when there must be none."""

    practices: tuple[Practice, ...] = ()
    blocked: tuple[Window, ...] = ()


@dataclass(frozen=True, slots=True)
class Due:
    """A practice whose time has come, or why it is left out."""

    request: DrainRequest
    outcome: str = ""  # empty: begin


def minute_of_week(now: Micros) -> int:
    """Minutes since Monday 00:00 UTC."""
    minutes = now // MINUTE_US
    return (minutes + EPOCH_WEEKDAY * DAY_MINUTES) % WEEK_MINUTES


def due(view: View, calendar: Calendar, now: Micros) -> Due | None:
    """The first practice of the calendar whose time is now and that was neither begun nor left out yet."""
    minute = minute_of_week(now)
    for practice in calendar.practices:
        late = (minute - practice.minute) % WEEK_MINUTES
        if late >= GRACE_MINUTES:
            continue
        began = now - (late * MINUTE_US + now % MINUTE_US)
        if any(_is_of(drain, practice) and drain.created_at >= began for drain in view.drains.values()):
            continue
        expires = now + LASTS_MINUTES * MINUTE_US
        request = DrainRequest(
            practice.selector, DrainMode.HARD, "practice", expires_at=expires, origin=DrainOrigin.PRACTICE
        )
        return Due(request, _against(view, calendar, request, minute, now))
    return None


def ending(view: View, drain: Drain, now: Micros) -> str:
    """How a practice that is in force ends now; empty while it goes on."""
    if drain.origin is not DrainOrigin.PRACTICE or not in_force(drain):
        return ""
    if _event(view):
        return "interrupted"
    if drain.state is DrainState.PAUSED:
        return "failed"
    over = drain.expires_at is not None and now >= drain.expires_at
    return ("succeeded" if drain.state is DrainState.DRAINED else "failed") if over else ""


def _is_of(drain: Drain, practice: Practice) -> bool:
    return drain.origin is DrainOrigin.PRACTICE and drain.selector == practice.selector


def _against(view: View, calendar: Calendar, request: DrainRequest, minute: int, now: Micros) -> str:
    """Why a practice must be left out."""
    if any(window.begins <= minute < window.ends for window in calendar.blocked):
        return "blocked: the calendar wants no practice now"
    event = _event(view)
    if event:
        return f"interrupted: {event}"
    busy = [drain.id for drain in view.drains.values() if drain.state not in FINISHED]
    if busy:
        return f"interrupted: drain {min(busy)} is under way"
    broken = preflight(view, request, now).refusals
    return f"capacity_check_failed: {broken[0].message}" if broken else ""


def _event(view: View) -> str:
    """The real event that leaves no room for practice; empty when there is none."""
    if view.blame.sure() or view.blame.frozen:
        return "somebody is blamed" if view.blame.sure() else "most of the world is bad at once"
    real = [d.id for d in view.drains.values() if d.origin is DrainOrigin.AUTOMATIC and d.state not in FINISHED]
    return f"automatic drain {min(real)} is under way" if real else ""
