"""What if: some of the fleet gone, or some more of it there, asked of the routes and the sessions of this moment.

A pure function of the View. The routes that the solver would choose now are compared with those that it would choose in
the changed world, under the same measurements, so that nothing but the change makes a difference; removal is exact,
what is added is reached over links that nobody has measured and that are predicted from geography. Sessions of what is
removed are placed one handful after the other, by the same code that plans drains. Nothing is committed and nothing
moves.
"""

from router.core.whatif.ask import Added, LinkName, Scope, WhatIf, scope_of
from router.core.whatif.effect import Change, Growth, RouteEffect
from router.core.whatif.fleet import DataCenterRoom, RegionRoom, Rooms
from router.core.whatif.outcome import Newcomer, Outcome, Predicted, simulate
from router.core.whatif.people import FlowChange, SessionEffect
from router.core.whatif.words import summary

__all__ = [
    "Added",
    "Change",
    "DataCenterRoom",
    "FlowChange",
    "Growth",
    "LinkName",
    "Newcomer",
    "Outcome",
    "Predicted",
    "RegionRoom",
    "Rooms",
    "RouteEffect",
    "Scope",
    "SessionEffect",
    "WhatIf",
    "scope_of",
    "simulate",
    "summary",
]
