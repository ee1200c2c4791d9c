"""How a new or returning data center earns its users step by step, and loses them at once when it is bad.

``life`` is the table of states and what each step commits; ``evidence`` what sessions and robots showed; ``sequential``
the tests; ``judge`` what the evidence asks for; ``book`` all of it on each tick, and the dials for steering;
``machines`` the same for single machines that were bought for a data center that serves. ``kinds`` says what tells a
data center from a version of agents, which takes the same rungs; ``lanes`` who gets an agent of such a version.
"""

from router.core.ramp.book import RampBook
from router.core.ramp.calls import CALLS, ERRAND_LABEL, RAMP_LABEL, RESERVED, VIA_LABEL, Call, calls, next_call
from router.core.ramp.checks import World, plan_checks
from router.core.ramp.evidence import Evidence
from router.core.ramp.judge import Outlook, errands, outlook
from router.core.ramp.kinds import KINDS, RETURN_SHARE_PPM, RUNGS_PPM
from router.core.ramp.lanes import NOBODY, Turn, turn
from router.core.ramp.life import ADVANCES, TRANSITIONS, begin, begin_version, step
from router.core.ramp.machines import MachineBook

__all__ = [
    "ADVANCES",
    "CALLS",
    "ERRAND_LABEL",
    "KINDS",
    "NOBODY",
    "RAMP_LABEL",
    "RESERVED",
    "RETURN_SHARE_PPM",
    "RUNGS_PPM",
    "TRANSITIONS",
    "VIA_LABEL",
    "Call",
    "Evidence",
    "MachineBook",
    "Outlook",
    "RampBook",
    "Turn",
    "World",
    "begin",
    "begin_version",
    "calls",
    "errands",
    "next_call",
    "outlook",
    "plan_checks",
    "step",
    "turn",
]
