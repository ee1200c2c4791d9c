"""Drains: preflight with numbers, what to commit, and what to do on every tick.

A request is judged on the View (``preflight``) and opened (``open_drain``); from then on its row goes from state to
state by the table ``TRANSITIONS``: stages of fewer and fewer new sessions, bleeding, moving, drained; pause, resume and
undo at any point. ``drive`` says on every tick what a drain wants now. All of it are functions of the View and the
time, so a control plane that starts anew goes on where the rows say; only how fast a drain goes is measured and soft.
A drain that outlives ``expires_at`` is told, not undone: whether the machines are fit to serve again is for people to
say.
"""

from router.core.drain.automatic import refusal
from router.core.drain.book import DrainBook, Outcome
from router.core.drain.calendar import in_words, next_at, read_calendar
from router.core.drain.comeback import comeback
from router.core.drain.drive import drive
from router.core.drain.opening import open_drain, taken_over
from router.core.drain.pace import moves_now
from router.core.drain.plan import AgentsBehind, DrainPlan, DrainRequest, Forecast, Headroom, Refusal, Shift, Stage
from router.core.drain.practice import Calendar, Practice, Window
from router.core.drain.preflight import preflight
from router.core.drain.returning import returning
from router.core.drain.stages import dials
from router.core.drain.states import EVENT_MEANINGS, RUNNING, TRANSITIONS, pause, resume, step, undo
from router.core.drain.targets import in_force, node_intents, targets_of
from router.core.drain.tick import on_tick

__all__ = [
    "EVENT_MEANINGS",
    "RUNNING",
    "TRANSITIONS",
    "AgentsBehind",
    "Calendar",
    "DrainBook",
    "DrainPlan",
    "DrainRequest",
    "Forecast",
    "Headroom",
    "Outcome",
    "Practice",
    "Refusal",
    "Shift",
    "Stage",
    "Window",
    "comeback",
    "dials",
    "drive",
    "in_force",
    "in_words",
    "moves_now",
    "next_at",
    "node_intents",
    "on_tick",
    "open_drain",
    "pause",
    "preflight",
    "read_calendar",
    "refusal",
    "resume",
    "returning",
    "step",
    "taken_over",
    "targets_of",
    "undo",
]
