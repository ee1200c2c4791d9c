"""What fits before and afterwards: per data center, per region, and everywhere together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from router.core.drain.capacity import forecast, headroom, room
from router.core.drain.plan import Forecast, Headroom
from router.core.drain.targets import remaining_edges
from router.core.model import DataCenter, DataCenterId, RegionId
from router.core.tables import View
from router.core.whatif.ask import Scope


@dataclass(frozen=True, slots=True)
class DataCenterRoom:
    """One data center in both worlds; no capacity: unlimited."""

    data_center: DataCenter
    change: str  # kept, removed or added
    before: int  # live sessions
    after: int


@dataclass(frozen=True, slots=True)
class RegionRoom:
    """The edges of one region that take sessions, and whether it gets over losing its largest one."""

    region: RegionId
    edges_before: int
    edges_after: int
    capacity_before: int | None  # None: unlimited
    capacity_after: int | None
    sessions_before: int
    sessions_after: int
    next_loss: DataCenterId | None  # None: no edge is left
    missing: int  # places that lack in the region then


@dataclass(frozen=True, slots=True)
class Rooms:
    """Room in both worlds."""

    whole: Headroom
    expected: Forecast
    data_centers: tuple[DataCenterRoom, ...]
    regions: tuple[RegionRoom, ...]
    remaining: tuple[DataCenterId, ...]  # edges to count on afterwards


def rooms(view: View, changed: View, scope: Scope, after: Mapping[DataCenterId, int]) -> Rooms:
    """Compare both worlds; ``after``: live sessions per edge once they have moved."""
    expected = forecast(view)
    now, then = remaining_edges(view, ()), remaining_edges(changed, scope.data_centers)
    free = headroom(changed, then, expected)
    before = room(view, now, expected).free_pct
    added = {one.data_center.id for one in scope.added}
    live = view.counters.sessions

    def kind(dc: DataCenterId) -> str:
        return "removed" if dc in scope.data_centers else "added" if dc in added else "kept"

    return Rooms(
        whole=Headroom(before, free.after_pct, free.after_next_loss_pct, free.next_loss),
        expected=expected,
        data_centers=tuple(
            DataCenterRoom(
                view.inventory.data_centers.get(dc.id, dc), kind(dc.id), live.get(dc.id, 0), after.get(dc.id, 0)
            )
            for dc in changed.inventory.data_centers.values()
        ),
        regions=tuple(_regions(changed, now, then, live, after)),
        remaining=then,
    )


def _regions(
    changed: View,
    now: Sequence[DataCenterId],
    then: Sequence[DataCenterId],
    live: Mapping[DataCenterId, int],
    after: Mapping[DataCenterId, int],
) -> list[RegionRoom]:
    centers = changed.inventory.data_centers
    found = []
    for region in sorted({dc.region for dc in centers.values()}):
        inside = [dc.id for dc in centers.values() if dc.region == region]
        was, will = [dc for dc in now if dc in inside], [dc for dc in then if dc in inside]
        sessions = sum(after.get(dc, 0) for dc in inside)
        lost = min(will, key=lambda dc: (-_weight(centers[dc]), -after.get(dc, 0), dc), default=None)
        left = _capacity([centers[dc] for dc in will if dc != lost])
        found.append(
            RegionRoom(
                region=region,
                edges_before=len(was),
                edges_after=len(will),
                capacity_before=_capacity([centers[dc] for dc in was]),
                capacity_after=_capacity([centers[dc] for dc in will]),
                sessions_before=sum(live.get(dc, 0) for dc in inside),
                sessions_after=sessions,
                next_loss=lost,
                missing=0 if left is None else max(0, sessions - left),
            )
        )
    return found


def _weight(dc: DataCenter) -> float:
    """How much the loss of an edge takes away; an unlimited one takes all that it holds."""
    return float(dc.capacity_sessions) if dc.capacity_sessions else float("inf")


def _capacity(edges: Sequence[DataCenter]) -> int | None:
    """Session places of some edges together; ``None``: one of them has no limit."""
    return None if any(not dc.capacity_sessions for dc in edges) else sum(dc.capacity_sessions for dc in edges)
