"""Drains: preflight with numbers, what to commit, and what to do on every tick.

``bleeding (soft) | moving (hard) --no session left--> drained --undo--> undone``; a soft drain begins to move at its
deadline; ``pause`` and ``resume`` stop and restart it. A drain that outlives ``expires_at`` is told, not undone:
whether the machines are fit to serve again is for people to say. Opening a drain commits the intent ``draining``
of its targets in the same transaction, so no new session and no new route uses them from that moment;
the last session gone turns it into ``drained``.
"""

from router.core.drain.drive import drive
from router.core.drain.opening import open_drain
from router.core.drain.plan import DrainPlan, DrainRequest, Refusal, Shift
from router.core.drain.preflight import preflight
from router.core.drain.states import TRANSITIONS, pause, resume, step, undo
from router.core.drain.targets import targets_of

__all__ = [
    "TRANSITIONS",
    "DrainPlan",
    "DrainRequest",
    "Refusal",
    "Shift",
    "drive",
    "open_drain",
    "pause",
    "preflight",
    "resume",
    "step",
    "targets_of",
    "undo",
]
