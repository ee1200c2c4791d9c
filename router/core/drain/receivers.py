"""Where the sessions of the targets would go: asked of placement itself, a few sessions at a time.

The View knows sessions by number and not by name, so a user is presumed to be where its edge is, which placement chose
for being near. Every handful of sessions is placed on a View in which the targets are gone and the handfuls before are
where they went; so receivers fill up, and spill, as they would. What no receiver has a place for is counted.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace

from router.core import steering
from router.core.clients import access_legs
from router.core.drain.plan import Shift
from router.core.kernel import UNREACHABLE
from router.core.model import Client, DataCenterId, Flow, Intent, TrafficClass
from router.core.tables import UNKNOWN, Context, View

HANDFULS = 64  # placements per plan: a few tens of milliseconds; finer handfuls change no receiver's share by 2 %


@dataclass(frozen=True, slots=True)
class Spread:
    """Who takes what."""

    shifts: tuple[Shift, ...] = ()
    flows: Mapping[Flow, int] | None = None  # of all sessions with an agent, afterwards
    homeless: int = 0  # sessions that no edge has a place for
    why: str = ""  # of the first of them
    growth_p95_us: int | None = None


@dataclass(frozen=True, slots=True)
class _Group:
    edge: DataCenterId
    hub: DataCenterId | None
    traffic_class: TrafficClass
    sessions: int


def spread(view: View, targets: Collection[DataCenterId], world: View | None = None) -> Spread:
    """Place the targets' sessions elsewhere, largest groups first; ``world``: where to, if not into the present."""
    groups = sorted(_groups(view, targets), key=lambda g: (-g.sessions, g.edge, g.hub or "", g.traffic_class))
    total = sum(group.sessions for group in groups)
    if not total:
        return Spread(flows=view.flows)
    ways = [_way_us(view, group) for group in groups]  # before all placements: both keep what they believe of clients
    without, live = _without(world or view, targets), {**view.counters.sessions}
    handful = -(-total // HANDFULS)
    moved: dict[tuple[DataCenterId, DataCenterId], int] = {}
    flows, growth, homeless, number, why = {**view.flows}, list[tuple[int, int]](), 0, 0, ""
    for group, before in zip(groups, ways, strict=True):
        for start in range(0, group.sessions, handful):
            size, number = min(handful, group.sessions - start), number + 1
            scene = replace(without, counters=replace(view.counters, sessions=live))
            found = _receiver(scene, group, f"{group.edge}|{group.hub}|{number}")
            if isinstance(found, str):
                homeless, why = homeless + size, why or f"those of {group.edge}: {found}"
                continue
            to, way_us = found
            live = {**live, to: live.get(to, 0) + size, group.edge: live.get(group.edge, 0) - size}
            moved[group.edge, to] = moved.get((group.edge, to), 0) + size
            _reroute(flows, group, to, size)
            if before is not None:
                growth.append((max(0, way_us - before) // 2, size))
    shifts = tuple(Shift(source, to, n) for (source, to), n in sorted(moved.items()))
    return Spread(shifts, {flow: n for flow, n in sorted(flows.items()) if n > 0}, homeless, why, _p95(growth))


def _groups(view: View, targets: Collection[DataCenterId]) -> Iterator[_Group]:
    """Sessions of the targets by where their agent is; those without one are left over."""
    for edge in sorted(targets):
        rest = view.counters.sessions.get(edge, 0)
        for (source, hub, kind), count in view.flows.items():
            if source == edge and rest > 0 and count > 0:
                yield _Group(edge, hub, kind, min(count, rest))
                rest -= min(count, rest)
        if rest > 0:
            yield _Group(edge, None, TrafficClass.AGENT, rest)


def _without(view: View, targets: Collection[DataCenterId]) -> View:
    centers = {
        dc.id: replace(dc, intent=Intent.DRAINING) if dc.id in targets and dc.intent.takes_new_sessions else dc
        for dc in view.inventory.data_centers.values()
    }
    return replace(view, inventory=replace(view.inventory, data_centers=centers))


def _client(view: View, edge: DataCenterId) -> Client:
    place = view.inventory.data_centers[edge]
    return Client(latitude=place.latitude, longitude=place.longitude)


def _receiver(view: View, group: _Group, seed: str) -> tuple[DataCenterId, int] | str:
    """The edge that a handful goes to and its whole way, or why none takes it."""
    request = steering.PlaceRequest(
        _client(view, group.edge), group.traffic_class, seed=seed, agent_data_center=group.hub, exclude=(group.edge,)
    )
    found = steering.place(view, request, view.now)
    if isinstance(found, steering.Refused):
        return found.reason
    first = found.edges[0]
    limit = view.inventory.data_centers[first.data_center].capacity_sessions
    if limit and view.counters.sessions.get(first.data_center, 0) >= limit:
        return (
            f"{first.data_center} is the best and is full"  # placement would rather overfill an edge; a plan must not
        )
    return first.data_center, first.total_us


def _way_us(view: View, group: _Group) -> int | None:
    """The whole way there and back that these sessions have now."""
    leg = int(access_legs(view, _client(view, group.edge)).one_way_us[view.inventory.index[group.edge]])
    if leg == UNKNOWN:
        return None
    if group.hub is None or group.hub == group.edge:
        return 2 * leg
    table = view.routes
    if table is None or not {group.edge, group.hub} <= set(table.snapshot.data_centers):
        return None
    context, ids = table.snapshot.contexts.index(Context(group.traffic_class)), table.snapshot.data_centers
    i, j = ids.index(group.edge), ids.index(group.hub)
    way = int(table.cost[context, i, j]) + int(table.cost[context, j, i])
    return 2 * leg + way if way < UNREACHABLE else None


def _reroute(flows: dict[Flow, int], group: _Group, to: DataCenterId, size: int) -> None:
    if group.hub is not None:
        old, new = (group.edge, group.hub, group.traffic_class), (to, group.hub, group.traffic_class)
        flows[old] = flows.get(old, 0) - size
        flows[new] = flows.get(new, 0) + size


def _p95(growth: list[tuple[int, int]]) -> int | None:
    """The growth that 95 % of the sessions stay within."""
    left = sum(size for _, size in growth) * 95 // 100
    for value, size in sorted(growth):
        left -= size
        if left <= 0:
            return value
    return None
