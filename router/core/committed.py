"""What commits did to inventory and counters: several as one change, the inventory after it, how soon routes follow.

Every change of the inventory costs the core the same whether it is of one resource or of a hundred, so commits that
become durable close together (Terraform writes ten at a time) are one change for it.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from itertools import groupby
from typing import TypeVar

from router.core.messages import Change, ResourcesChanged, SessionsChanged
from router.core.model import KINDS, Counters, DataCenter, Inventory, Link, Node, Policy, Resource, kind_of

Ref = tuple[str, str]
K = TypeVar("K", bound=Hashable)


def merged(changes: Sequence[Change]) -> tuple[Change, ...]:
    """The same changes, those of resources that follow one another as one."""
    found: list[Change] = []
    for of_resources, run in groupby(changes, key=lambda change: isinstance(change, ResourcesChanged)):
        some = list(run)
        found += [_one([c for c in some if isinstance(c, ResourcesChanged)])] if of_resources else some
    return tuple(found)


def _one(changes: Sequence[ResourcesChanged]) -> ResourcesChanged:
    if len(changes) == 1:
        return changes[0]
    upserts: dict[Ref, Resource] = {}
    deletes: dict[Ref, None] = {}
    for change in changes:  # the last word on a resource counts
        for resource in change.upserts:
            ref = (kind_of(resource), str(resource.id))
            deletes.pop(ref, None)
            upserts[ref] = resource
        for ref in change.deletes:
            upserts.pop(ref, None)
            deletes[ref] = None
    return ResourcesChanged(tuple(upserts.values()), tuple(deletes))


def followed(inventory: Inventory, change: ResourcesChanged) -> Inventory:
    """The inventory after a change, ids in order."""
    collections = {kind: dict(getattr(inventory, attribute(kind))) for kind in KINDS}
    for resource in change.upserts:
        collections[kind_of(resource)][resource.id] = resource
    for kind, id in change.deletes:
        collections[kind].pop(id, None)
    return Inventory(**{attribute(kind): dict(sorted(items.items())) for kind, items in collections.items()})


def attribute(kind: str) -> str:
    """Where an inventory keeps a kind."""
    return kind.replace("-", "_")


def same_graph(a: Inventory, b: Inventory) -> bool:
    """Whether both have the same vertices at the same places and the same transports: estimates stay what they are."""
    return _places(a) == _places(b) and a.transports == b.transports


def _places(inventory: Inventory) -> list[tuple[str, float | None, float | None]]:
    return [(dc.id, dc.latitude, dc.longitude) for dc in inventory.data_centers.values()]


def changes_plans(change: ResourcesChanged) -> bool:
    """Whether nodes have other peers or paths to probe now."""
    kinds = ("data-centers", "nodes", "links")
    return any(isinstance(r, DataCenter | Node | Link) for r in change.upserts) or any(
        kind in kinds for kind, _ in change.deletes
    )


def changes_routes(before: Resource | None, after: Resource | None) -> bool:
    """Whether routes must be solved again before the answer leaves: intent, links and policies."""
    either = after if after is not None else before
    if isinstance(either, DataCenter):
        return before is not None and (
            after is None or (isinstance(before, DataCenter) and before.intent is not either.intent)
        )
    return isinstance(either, Link | Policy) and before != after


def hurries(before: Inventory, change: ResourcesChanged) -> bool:
    """Whether somebody waits for the routes that follow from a change, or takes a machine in or out of service."""
    held = {kind: getattr(before, attribute(kind)) for kind in KINDS}
    pairs: list[tuple[Resource | None, Resource | None]] = [(held[kind_of(r)].get(r.id), r) for r in change.upserts]
    pairs += [(held[kind].get(id), None) for kind, id in change.deletes]
    return any(changes_routes(old, new) or _of_intent(old, new) for old, new in pairs)


def _of_intent(old: Resource | None, new: Resource | None) -> bool:
    return isinstance(old, Node) and isinstance(new, Node) and old.intent is not new.intent


def counted(held: Counters, change: SessionsChanged) -> Counters:
    """The counters after a commit."""
    return Counters(
        sessions=_added(held.sessions, change.sessions),
        idle=_added(held.idle, change.idle),
        busy=_added(held.busy, change.busy),
        idle_on=_added(held.idle_on, change.idle_on),
        held_on=_added(held.held_on, change.held_on),
    )


def _added(held: Mapping[K, int], difference: Mapping[K, int]) -> Mapping[K, int]:
    """Sum of two counters without zeros."""
    total = dict(held)
    for key, count in difference.items():
        total[key] = total.get(key, 0) + count
    return {key: count for key, count in total.items() if count}
