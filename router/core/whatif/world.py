"""The changed world: the snapshot of the last solve without what is removed and with what is added, and its routes.

What is there keeps its vertex number, so that arrays of both worlds compare entry by entry; what is removed keeps it
too, without a link; what is added comes behind. So ties between equal paths fall the same way in both worlds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from router.core import policy as rules
from router.core.kernel import UNREACHABLE
from router.core.model import DEFAULT_TRANSPORT, MAX_RELAYS, DataCenter, DataCenterId, Intent, Inventory
from router.core.quality import metric_us
from router.core.solve import solve
from router.core.tables import (
    F64,
    I64,
    NO_COST,
    Bool,
    Context,
    DataCenterHealth,
    GraphSnapshot,
    Health,
    RouteTable,
    View,
)
from router.core.whatif.ask import Scope
from router.core.whatif.links import Guess


def centers_of(view: View, snapshot: GraphSnapshot, scope: Scope) -> list[DataCenter | None]:
    """The data centers of the changed world in vertex order; ``None``: not in the inventory any more."""
    known = view.inventory.data_centers
    return [*(known.get(dc) for dc in snapshot.data_centers), *(one.data_center for one in scope.added)]


def changed_snapshot(view: View, before: GraphSnapshot, scope: Scope, guess: Guess, delay_us: F64) -> GraphSnapshot:
    """The snapshot with links cut, vertices emptied, and vertices added that are reached in ``delay_us``."""
    wider = _widened(before, scope)
    cost, extra, relays = wider.cost.copy(), _extra(wider).copy(), wider.may_relay.copy()
    index = {dc: i for i, dc in enumerate(wider.data_centers)}
    centers = centers_of(view, before, scope)
    for c, context in enumerate(wider.contexts):
        _reach(view, before, context, c, centers, guess, delay_us, cost, extra)
        relays[c, len(before.data_centers) :] = _may_relay(view, context, centers)[len(before.data_centers) :]
    gone = [index[dc] for dc in scope.data_centers if dc in index]
    cost[:, gone, :] = cost[:, :, gone] = NO_COST
    relays[:, gone] = False
    for link in scope.links:
        if link.source in index and link.target in index:
            cost[:, index[link.source], index[link.target]] = NO_COST
    return replace(wider, cost=cost, extra_us=np.where(cost < NO_COST, extra, 0), may_relay=relays)


def _extra(snapshot: GraphSnapshot) -> I64:
    return np.zeros_like(snapshot.cost) if snapshot.extra_us is None else snapshot.extra_us


def _widened(before: GraphSnapshot, scope: Scope) -> GraphSnapshot:
    """Room for what is added, without a link yet; history and backups play no part in what is compared."""
    n, k = len(before.data_centers), len(scope.added)
    ids = (*before.data_centers, *(one.data_center.id for one in scope.added))
    default = before.transports.index(DEFAULT_TRANSPORT) if DEFAULT_TRANSPORT in before.transports else 0
    return replace(
        before,
        data_centers=ids,
        cost=_padded(before.cost, k, int(NO_COST)),
        transport=_padded(before.transport, k, default),
        extra_us=_padded(_extra(before), k, 0),
        may_relay=np.pad(before.may_relay, ((0, 0), (0, k))),
        potential_us=np.pad(before.potential_us, (0, k)) if n or k else before.potential_us,
        provider=None,
        evidence=None,
    )


def _padded(table: np.ndarray, k: int, value: int) -> np.ndarray:
    return np.pad(table, ((0, 0), (0, k), (0, k)), constant_values=value)


def _reach(
    view: View,
    before: GraphSnapshot,
    context: Context,
    c: int,
    centers: list[DataCenter | None],
    guess: Guess,
    delay_us: F64,
    cost: I64,
    extra: I64,
) -> None:
    """Price the predicted links of one context into ``cost`` and ``extra``."""
    n, m = len(before.data_centers), len(centers)
    if n == m:
        return
    policy = None if context.policy is None else view.inventory.policies.get(context.policy)
    price = np.array([0 if dc is None else dc.egress_microusd_per_gb or 0 for dc in centers], np.int64)
    usable = _inside(view, context, centers)
    fresh = np.ones((m, m), np.bool_)
    fresh[:n, :n] = False
    fresh &= usable[:, None] & usable[None, :] & np.isfinite(delay_us) & ~np.eye(m, dtype=np.bool_)
    if policy is not None:
        if policy.allow_transports is not None and DEFAULT_TRANSPORT not in policy.allow_transports:
            return
        limit = policy.max_price_microusd_per_gb
        if limit is not None:
            fresh &= price[:, None] <= limit
    potential = np.pad(before.potential_us, (0, m - n))
    delay = np.rint(np.where(fresh, delay_us, 0)).astype(np.int64) - potential[:, None] + potential[None, :]
    jitter, loss = np.full((m, m), guess.jitter_us), np.full((m, m), guess.loss_ppm)
    metric = metric_us(context.traffic_class, delay, jitter, loss, price[:, None])
    cost[c] = np.where(fresh, metric, cost[c])
    extra[c] = np.where(fresh, metric - delay, extra[c])


def _inside(view: View, context: Context, centers: list[DataCenter | None]) -> Bool:
    """Data centers that are not down and that the context's policy lets traffic into."""
    policy = None if context.policy is None else view.inventory.policies.get(context.policy)
    state = dict(zip(view.inventory.data_centers, view.health, strict=False))
    down = [dc is not None and dc.id in state and state[dc.id].state is Health.DOWN for dc in centers]
    found = [dc is not None and rules.forbids(policy, dc) is None for dc in centers]
    return np.array(found, np.bool_) & ~np.array(down, np.bool_)


def _may_relay(view: View, context: Context, centers: list[DataCenter | None]) -> Bool:
    relays = [dc is not None and dc.intent.relays for dc in centers]
    return np.array(relays, np.bool_) & _inside(view, context, centers)


def routes_of(table: RouteTable, snapshot: GraphSnapshot) -> RouteTable:
    """The solver's choice for a snapshot as a route table; what the switching rule remembers is left empty."""
    candidate = solve(snapshot)
    shape = candidate.cost.shape
    zero = np.zeros(shape, np.int64)
    return replace(
        table,
        snapshot=snapshot,
        candidate=candidate,
        relays=candidate.relays,
        reachable=candidate.cost < UNREACHABLE,
        cost=candidate.cost,
        since=zero,
        challenger_since=zero,
        held_back=np.zeros(shape, np.uint8),
        flaps=np.zeros(shape),
        risk_ppm=np.full(shape, -1, np.int32),
        regret=None,
    )


def preferred(table: RouteTable, k: int) -> RouteTable:
    """The solver's choice in the present world, with room for what is added."""
    found, n = table.candidate, len(table.snapshot.data_centers)
    relays = np.full((*found.cost.shape[:1], n + k, n + k, MAX_RELAYS), -1, np.int16)
    relays[:, :n, :n] = found.relays
    cost = _padded(found.cost, k, int(NO_COST))
    return replace(table, relays=relays, cost=cost, reachable=cost < UNREACHABLE)


def changed_view(view: View, scope: Scope, routes: RouteTable | None) -> View:
    """The View in which what is removed is down and takes nobody, and what is added is up."""
    health = dict(zip(view.inventory.data_centers, view.health, strict=False))
    for dc in scope.data_centers:
        health[dc] = DataCenterHealth(Health.DOWN, view.now, view.now, reason="removed in this question")
    for one in scope.added:
        health[one.data_center.id] = DataCenterHealth(Health.UP, view.now, view.now)
    centers = _changed_centers(view.inventory, scope)
    inventory = replace(view.inventory, data_centers=centers)
    states = tuple(health.get(dc, DataCenterHealth()) for dc in centers)
    return replace(view, inventory=inventory, health=states, routes=routes)


def _changed_centers(inventory: Inventory, scope: Scope) -> Mapping[DataCenterId, DataCenter]:
    found = dict(inventory.data_centers)
    for dc in scope.data_centers:
        found[dc] = replace(found[dc], intent=Intent.DRAINED)
    for one in scope.added:
        found[one.data_center.id] = one.data_center
    return dict(sorted(found.items()))
