"""Placement: which edge, which agent's data center, and why not the others.

``place`` is a pure function of the View. It scores every (edge, hub) pair by the whole way a word travels: access leg
there and back, the route in force from edge to hub and the route back. Edges pass an ordered chain of filters; each
rejection keeps its rule. Of the near-equals at the top two are drawn by rendezvous hashing of the session's seed, and
the emptier of the two wins (power of two choices: Mitzenmacher, 2001), so that many who place on the same slightly old
View do not herd.

The ladder. When no edge passes, rules are given up one by one, in this order: not measured yet; outside the share of
users that it takes; full; down, if most edges look down at once, because then the measurement is in doubt. What an
operator cordoned, drained or retired, what a policy or the caller forbids, what takes nobody (a dial at 0), is never
chosen, whatever the shortage.
"""

from router.core.steering.board import DEGRADED_PENALTY_US, RULES
from router.core.steering.place import NEAR_EQUAL_US, RANKED, hubs_from, place
from router.core.steering.request import Placement, PlaceRequest, RankedEdge, Refused, Rejected

__all__ = [
    "DEGRADED_PENALTY_US",
    "NEAR_EQUAL_US",
    "RANKED",
    "RULES",
    "PlaceRequest",
    "Placement",
    "RankedEdge",
    "Refused",
    "Rejected",
    "hubs_from",
    "place",
]
