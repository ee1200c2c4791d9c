"""Whether everybody fits: session places now, afterwards, and when the largest remaining edge is lost on top."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from router.core.drain.plan import Forecast, Headroom
from router.core.model import DataCenterId, Role
from router.core.tables import View

ENOUGH_HISTORY_S = 3_600  # below this a percentile says more about the minutes seen than about the demand


@dataclass(frozen=True, slots=True)
class Room:
    """Session places of some edges, and the sessions that must fit in; no capacity: unlimited."""

    capacity: int
    sessions: int

    @property
    def free_pct(self) -> float | None:
        """Free share in per cent; ``None`` without a declared capacity."""
        return round(100 * (self.capacity - self.sessions) / self.capacity, 1) if self.capacity else None

    def missing(self, free_pct: float) -> int:
        """Session places that lack for a free share."""
        return max(0, -(-self.sessions * 100 // round(100 - free_pct)) - self.capacity)


def forecast(view: View) -> Forecast:
    """The sessions to reckon with: the 95th percentile of the last day where there is enough of it."""
    live = sum(view.counters.sessions.values())
    seen = view.demand
    if seen.history_s < ENOUGH_HISTORY_S:
        minutes = seen.history_s // 60
        return Forecast(live, f"the sessions of now: {minutes} min of history are too few for a forecast")
    hours = seen.history_s // 3600
    return Forecast(max(live, seen.sessions_p95), f"p95 of the last {min(24, hours)} h, at least the sessions of now")


def headroom(view: View, remaining: Sequence[DataCenterId], expected: Forecast) -> Headroom:
    """Free shares before and after; all sessions of edges that go must fit into those that remain."""
    edges = [dc.id for dc in view.inventory.data_centers.values() if Role.EDGE in dc.roles]
    serving = [dc for dc in edges if view.inventory.data_centers[dc].intent.takes_new_sessions]
    lost = next_loss(view, remaining)
    return Headroom(
        room(view, serving, expected).free_pct,
        room(view, remaining, expected).free_pct,
        room(view, [dc for dc in remaining if dc != lost], expected).free_pct if lost is not None else None,
        lost,
    )


def next_loss(view: View, remaining: Sequence[DataCenterId]) -> DataCenterId | None:
    """The remaining edge whose loss would hurt most; ``None`` where fewer than two are left."""
    if len(remaining) < 2:
        return None
    return min(remaining, key=lambda dc: (-_places(view, dc), -view.counters.sessions.get(dc, 0), dc))


def room(view: View, edges: Sequence[DataCenterId], expected: Forecast) -> Room:
    """Places of edges and who must fit. An edge without a declared limit takes whoever is at the edges that go."""
    bounded = [dc for dc in edges if _places(view, dc)]
    live = view.counters.sessions
    everybody = sum(live.values())
    inside = sum(live.get(dc, 0) for dc in bounded)
    sessions = everybody if len(bounded) == len(edges) else inside
    grown = sessions * expected.sessions // everybody if everybody else expected.sessions
    return Room(sum(_places(view, dc) for dc in bounded), max(sessions, grown))


def _places(view: View, dc: DataCenterId) -> int:
    return view.inventory.data_centers[dc].capacity_sessions
