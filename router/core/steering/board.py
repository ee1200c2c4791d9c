"""The View as arrays for placements, made once and shared by all placements of a moment.

Three layers change at three speeds: the places (with the inventory), what is known of them (with health and routes,
about once a second), and how full they are (with every session). Each is kept as long as what it was made from is the
very same object; nothing here changes an answer, only how fast it comes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from router.core.dial import salt
from router.core.kernel import UNREACHABLE
from router.core.model import DataCenter, DataCenterId, Inventory, NodeId, Policy, PolicyId, PoolId, Role
from router.core.policy import forbids
from router.core.tables import I64, U8, U64, Bool, Context, Dial, Health, RouteTable, View

T = TypeVar("T")
MOST_ORDERS = 10_000  # orders of hubs that are kept: some for each edge and set of hubs with free agents
ROLE, INTENT, EXCLUDE, POLICY, DOWN, CAPACITY, UNMEASURED, SHUT, DIAL = range(1, 10)
"""Filters in the order in which they are asked; 0: none of them objects."""
RULES = ("", "role", "intent", "exclude", "policy", "health", "capacity", "health", "dial", "dial")
_STATES = {Health.UP: 0, Health.DEGRADED: 1, Health.UNKNOWN: 2, Health.DOWN: 3}
DEGRADED_STATE, UNKNOWN_STATE, DOWN_STATE = 1, 2, 3
DEGRADED_PENALTY_US = 50_000  # a degraded edge is a choice only where nothing healthy is within 50 ms


@dataclass(frozen=True, eq=False)
class Places:
    """What the inventory says; arrays ``[vertex]``."""

    inventory: Inventory
    data_centers: tuple[DataCenter, ...]
    ids: tuple[DataCenterId, ...]
    names: NDArray[np.object_]  # ``ids``, to pick many at once
    node: tuple[NodeId | None, ...]
    url: tuple[str, ...]
    capacity: I64  # 0: no limit
    fixed: U8  # ROLE, INTENT or 0
    under: dict[PolicyId | None, U8] = field(default_factory=dict)  # ``fixed``, or POLICY

    def rules(self, policy: Policy | None) -> U8:
        """What speaks against each vertex under a policy, whoever asks."""
        key = None if policy is None else policy.id
        known = self.under.get(key)
        if known is None:
            known = self.fixed.copy()
            for i, dc in enumerate(self.data_centers):
                if not known[i] and forbids(policy, dc) is not None:
                    known[i] = POLICY
            self.under[key] = known
        return known


@dataclass(frozen=True, eq=False)
class Known:
    """What measurement says: health as a code ``[vertex]``, and the ways over the routes in force."""

    health: object
    routes: RouteTable | None
    places: Places
    state: U8
    penalty_us: I64  # [vertex] of ailing edges
    ways: dict[tuple[Context, tuple[int, ...]], Ways] = field(default_factory=dict)
    orders: dict[tuple[Context, int, tuple[int, ...]], tuple[DataCenterId, ...]] = field(default_factory=dict)
    there: dict[Context, I64] = field(default_factory=dict)
    far: dict[PolicyId | None, Bool] = field(default_factory=dict)
    trips: dict[tuple[Context, tuple[int, ...]], I64] = field(default_factory=dict)

    def may_hold(self, policy: Policy | None) -> Bool:
        """Whether agents of each vertex may be taken under a policy, whoever asks."""
        key = None if policy is None else policy.id
        found = self.far.get(key)
        if found is None:
            allowed = [dc.intent.takes_new_sessions and forbids(policy, dc) is None for dc in self.places.data_centers]
            found = self.far[key] = np.array(allowed, np.bool_) & (self.state != DOWN_STATE)
        return found

    def cost(self, context: Context) -> I64:
        """Cost int64 ``[from, to]`` of the routes in force in inventory order; 0 on the diagonal (edge is the hub)."""
        found = self.there.get(context)
        if found is None:
            found = self.there[context] = _cost(self.places.inventory, self.routes, context)
        return found

    def ways_to(self, context: Context, hubs: tuple[int, ...]) -> Ways:
        """The best hub of each edge."""
        found = self.ways.get((context, hubs))
        if found is None:
            found = self.ways[context, hubs] = _ways(self.cost(context), hubs)
        return found

    def trip_us(self, context: Context, hubs: tuple[int, ...]) -> I64:
        """The way of each edge to its best hub and back, with what an ailing edge costs; no less than ``UNREACHABLE``
        where there is none."""
        found = self.trips.get((context, hubs))
        if found is None:
            found = self.trips[context, hubs] = self.ways_to(context, hubs).round_trip_us + self.penalty_us
        return found

    def order(self, context: Context, edge: int, hubs: tuple[int, ...]) -> tuple[DataCenterId, ...]:
        """Hubs from best to worst as seen from an edge, those that it reaches."""
        found = self.orders.get((context, edge, hubs))
        if found is None:
            cost, at = self.cost(context), np.array(hubs)
            ways = cost[edge, at] + cost[at, edge]
            order = np.argsort(ways, kind="stable")
            names = self.places.names[at[order[ways[order] < UNREACHABLE]]]
            if len(self.orders) >= MOST_ORDERS:
                self.orders.clear()
            found = self.orders[context, edge, hubs] = tuple(names.tolist())
        return found


@dataclass(frozen=True, eq=False)
class Ways:
    """Per edge, ``[vertex]``: the way to its best hub and back, and which hub that is (-1: none)."""

    round_trip_us: I64
    hub: I64


@dataclass(frozen=True, eq=False)
class Full:
    """How full the places are; ``sessions`` int64 ``[vertex]``."""

    counters: object
    places: Places
    sessions: I64
    full: Bool
    idle: dict[PoolId, I64] = field(default_factory=dict)  # pool -> vertices with free places, rising
    plain: dict[PolicyId | None, Plain] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Plain:
    """What holds for all who ask for nothing in particular; arrays ``[vertex]``, not to be written."""

    known: Known
    verdict: U8
    fit: I64  # vertices to choose from, by the ladder
    hubs: dict[PoolId, tuple[int, ...]] = field(default_factory=dict)  # where agents of a pool may be taken


@dataclass(frozen=True, eq=False)
class Dialled:
    """The data centers that take only a share of users; arrays ``[dialled]``."""

    dials: Mapping[DataCenterId, Dial]
    places: Places
    at: I64  # vertex, rising
    salts: U64
    share_ppm: I64
    shut: Bool  # [vertex] whether its dial is at 0


class _Last(Generic[T]):
    """The last value made; a tuple is swapped whole, so that readers in other threads see one or the other."""

    def __init__(self) -> None:
        self.value: T | None = None


_PLACES: _Last[Places] = _Last()
_KNOWN: _Last[Known] = _Last()
_FULL: _Last[Full] = _Last()
_DIALLED: _Last[Dialled] = _Last()


def places_of(inventory: Inventory) -> Places:
    """The places of an inventory."""
    last = _PLACES.value
    if last is None or last.inventory is not inventory:
        last = _PLACES.value = _places(inventory)
    return last


def known_of(view: View) -> Known:
    """What is measured of the places of a View."""
    places, last = places_of(view.inventory), _KNOWN.value
    if last is None or last.health is not view.health or last.routes is not view.routes or last.places is not places:
        state = np.array([_STATES[health.state] for health in view.health], np.uint8)
        penalty_us = np.where(state == DEGRADED_STATE, DEGRADED_PENALTY_US, 0)
        last = _KNOWN.value = Known(view.health, view.routes, places, state, penalty_us)
    return last


def full_of(view: View) -> Full:
    """How full the places of a View are."""
    places, last = places_of(view.inventory), _FULL.value
    if last is None or last.counters is not view.counters or last.places is not places:
        live = view.counters.sessions
        sessions = np.fromiter((live.get(dc, 0) for dc in places.ids), np.int64, len(places.ids))
        full = (places.capacity > 0) & (sessions >= places.capacity)
        last = _FULL.value = Full(view.counters, places, sessions, full)
    return last


def dialled_of(view: View) -> Dialled:
    """The dials of a View."""
    places, last = places_of(view.inventory), _DIALLED.value
    if last is None or last.dials is not view.dials or last.places is not places:
        index = view.inventory.index
        known = [dc for dc in sorted(view.dials) if dc in index]
        at = np.array([index[dc] for dc in known], np.int64)
        shares = np.array([view.dials[dc].share_ppm for dc in known], np.int64)
        shut = np.zeros(len(places.ids), np.bool_)
        shut[at[shares == 0]] = True
        salts = np.array([salt(dc) for dc in known], np.uint64)
        last = _DIALLED.value = Dialled(view.dials, places, at, salts, shares, shut)
    return last


def idle_of(view: View, pool: PoolId) -> I64:
    """Vertices where agents of a pool have free places, rising."""
    full = full_of(view)
    found = full.idle.get(pool)
    if found is None:
        index = view.inventory.index
        mine = sorted(
            index[dc] for (name, dc), n in view.counters.idle.items() if name == pool and n > 0 and dc in index
        )
        found = full.idle[pool] = np.array(mine, np.int64)
    return found


def _places(inventory: Inventory) -> Places:
    data_centers = tuple(inventory.data_centers.values())
    machines = [inventory.nodes_by_data_center[dc.id] for dc in data_centers]
    first = [next((node for node in nodes if node.intent.takes_new_sessions), None) for nodes in machines]
    # A data center without any machine is one that is only known by name: steering may still send users to its URL.
    takes = [
        dc.intent.takes_new_sessions and (node is not None or not nodes)
        for dc, node, nodes in zip(data_centers, first, machines, strict=True)
    ]
    fixed = [
        ROLE if Role.EDGE not in dc.roles else 0 if ok else INTENT for dc, ok in zip(data_centers, takes, strict=True)
    ]
    return Places(
        inventory,
        data_centers,
        tuple(dc.id for dc in data_centers),
        np.array([dc.id for dc in data_centers], object),
        tuple(None if node is None else node.id for node in first),
        tuple((node.media_url if node else "") or dc.media_url for dc, node in zip(data_centers, first, strict=True)),
        np.array([dc.capacity_sessions for dc in data_centers], np.int64),
        np.array(fixed, np.uint8),
    )


def _cost(inventory: Inventory, table: RouteTable | None, context: Context) -> I64:
    n = len(inventory.data_centers)
    if table is None or context not in table.snapshot.contexts:
        cost = np.full((n, n), UNREACHABLE, np.int64)
    else:
        cost = table.cost[table.snapshot.contexts.index(context)].astype(np.int64)
        if table.snapshot.data_centers != tuple(inventory.data_centers):
            index = inventory.index
            pairs = [(index[dc], j) for j, dc in enumerate(table.snapshot.data_centers) if dc in index]
            here, there = [p[0] for p in pairs], [p[1] for p in pairs]
            wide = np.full((n, n), UNREACHABLE, np.int64)
            wide[np.ix_(here, here)] = cost[np.ix_(there, there)]
            cost = wide
    np.fill_diagonal(cost, 0)
    return cost


def _ways(cost: I64, hubs: tuple[int, ...]) -> Ways:
    n = len(cost)
    if not hubs:
        return Ways(np.full(n, UNREACHABLE, np.int64), np.full(n, -1, np.int64))
    at = np.array(hubs)
    both = cost[:, at] + cost[at, :].T
    best = both.argmin(axis=1)  # hubs are in vertex order: ties go to the smaller id
    trip = both[np.arange(n), best]
    reachable = trip < UNREACHABLE
    return Ways(np.where(reachable, trip, UNREACHABLE), np.where(reachable, at[best], -1))
