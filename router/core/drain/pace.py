"""How fast sessions are moved: no faster than the receivers can set up, and no more than a part of what they have free.

20 per second and data center is what one edge sets up beside its own arrivals; 5 % of the free places per second leaves
them time to say that they are full. Five per second in any case: into exactly as many free places 500 sessions then
move within a minute, where 5 % of what is left would become one a second.
"""

from __future__ import annotations

from collections.abc import Sequence

from router.core.model import DataCenterId
from router.core.tables import View

MOVE_FLOOR = 5  # sessions per data center and second, however little is free
MOVE_LIMIT = 20  # sessions per data center and second; a receiver's set-up rate is the scarce thing
HEADROOM_PCT_PER_S = 5  # of the free places of all receivers


IN_FLIGHT_S = 5  # of the pace: a move is told with the next heartbeat, followed, and reported: three seconds at most


def moves_now(limit: int, under_way: int) -> int:
    """How many of the ``limit`` sessions of this second may be sent off while others have not arrived yet."""
    return max(0, min(limit, IN_FLIGHT_S * limit - under_way))


def moves_per_s(view: View, receivers: Sequence[DataCenterId]) -> int:
    """Sessions that one data center may lose per second."""
    limits = [(dc, view.inventory.data_centers[dc].capacity_sessions) for dc in receivers]
    if not limits or any(limit == 0 for _, limit in limits):
        return MOVE_LIMIT
    free = sum(max(0, limit - view.counters.sessions.get(dc, 0)) for dc, limit in limits)
    return max(MOVE_FLOOR, min(MOVE_LIMIT, free * HEADROOM_PCT_PER_S // 100))
