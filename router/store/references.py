"""What resources refer to, and what keeps one from being deleted.

Two questions, two directions. Forward: which ``(field, kind, id)`` a resource names; all of them must exist when it is
written. Backward: what still refers to a resource, or lives on it; a delete is refused with the count and the first
few names, so that an operator knows what to do next.

Errors: ``sessions_live`` (limit = how many), ``in_use`` (limit = how many refer to it).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from sqlalchemy import ColumnElement, Connection, delete, func, or_, select, update

from router.access import AGENT_PREFIX
from router.core.errors import InputRejected
from router.core.model import DataCenter, DrainState, Link, Micros, Node, Policy, Resource
from router.core.pools import PRESENT
from router.store.rows import read_resource
from router.store.tables import (
    LIVE,
    LIVE_LEG,
    agents,
    data_centers,
    drains,
    join_tokens,
    keys,
    legs,
    links,
    node_leases,
    nodes,
    policies,
    sessions,
)

SINGULAR: Mapping[str, str] = {
    "providers": "provider",
    "regions": "region",
    "data-centers": "data_center",
    "nodes": "node",
    "links": "link",
    "policies": "policy",
    "pools": "pool",
}
# Writing in this order, and deleting in the reverse one, never breaks a foreign key.
ORDER = ("providers", "regions", "pools", "data-centers", "nodes", "links", "policies")
NAMED_REFERRERS = 3
_HELD = agents.c.state.in_(PRESENT)
_OPEN = drains.c.state.not_in([DrainState.DRAINED, DrainState.UNDONE])


def references(resource: Resource) -> Iterator[tuple[str, str, str]]:
    """Yield ``(field, kind, id)`` of everything a resource names."""
    if isinstance(resource, DataCenter):
        yield "provider", "providers", resource.provider
        yield "region", "regions", resource.region
    elif isinstance(resource, Node):
        yield "data_center", "data-centers", resource.data_center
    elif isinstance(resource, Link):
        yield "from", "data-centers", resource.source
        yield "to", "data-centers", resource.target
    elif isinstance(resource, Policy):
        yield from _policy_references(resource)


def _policy_references(policy: Policy) -> Iterator[tuple[str, str, str]]:
    if policy.match_pool is not None:
        yield "match.pool", "pools", policy.match_pool
    for field, ids in (("allow_providers", policy.allow_providers), ("deny_providers", policy.deny_providers)):
        yield from ((field, "providers", id) for id in ids or ())
    for field, regions in (("allow_regions", policy.allow_regions), ("deny_regions", policy.deny_regions)):
        yield from ((field, "regions", id) for id in regions or ())
    yield from (("pin", "data-centers", id) for id in policy.pin)


def refuse_if_needed(connection: Connection, kind: str, id: str) -> None:
    """Raise ``sessions_live`` or ``in_use`` if anything would miss ``id``."""
    live = _live_sessions(connection, kind, id)
    name = f"{SINGULAR[kind].replace('_', ' ')} {id}"
    if live:
        message = f"{name} has {live} live session{'s' if live > 1 else ''}; drain it first"
        raise InputRejected("sessions_live", message, field="id", rule="no live sessions", limit=live)
    referrers = {what: found for what, found in _referrers(connection, kind, id) if found}
    if referrers:
        listed = "; ".join(_listed(what, found) for what, found in referrers.items())
        total = sum(map(len, referrers.values()))
        raise InputRejected(
            "in_use",
            f"{name} is in use by {listed}; delete or change them first",
            field="id",
            rule="nothing refers to it",
            limit=total,
        )


def clear_dependants(connection: Connection, kind: str, id: str, now: Micros) -> None:
    """Remove what has no life without ``id``: dead agents, unused join tokens, and a node's key."""
    where: Mapping[str, ColumnElement[bool]] = {
        "pools": agents.c.pool == id,
        "data-centers": agents.c.data_center == id,
        "nodes": agents.c.node == id,
    }
    if kind in where:
        connection.execute(delete(agents).where(where[kind]))
    if kind == "data-centers":
        connection.execute(delete(join_tokens).where(join_tokens.c.data_center == id))
    if kind == "nodes":
        mine = (keys.c.scope == f"{AGENT_PREFIX}{id}", keys.c.revoked_at.is_(None))
        connection.execute(update(keys).where(*mine).values(revoked_at=now))
        connection.execute(delete(node_leases).where(node_leases.c.node == id))


def _live_sessions(connection: Connection, kind: str, id: str) -> int:
    held: Mapping[str, ColumnElement[bool]] = {
        "data-centers": or_(sessions.c.edge == id, sessions.c.agent_data_center == id, sessions.c.moved_from == id),
        "nodes": or_(sessions.c.edge_node == id, sessions.c.held_by == id),
        "pools": sessions.c.pool == id,
    }
    if kind not in held:
        return 0
    legs_held: Mapping[str, ColumnElement[bool]] = {
        "data-centers": or_(legs.c.edge == id, legs.c.agent_data_center == id, legs.c.moved_from == id),
        "nodes": or_(legs.c.edge_node == id, legs.c.held_by == id),
        "pools": legs.c.pool == id,
    }
    count = select(func.count())
    found = connection.execute(count.select_from(sessions).where(LIVE, held[kind])).scalar_one()
    return found + connection.execute(count.select_from(legs).where(LIVE_LEG, legs_held[kind])).scalar_one()


def _referrers(connection: Connection, kind: str, id: str) -> Iterator[tuple[str, list[str]]]:
    """Yield what refers to a resource, by kind, with all ids in order."""

    def ids(column: ColumnElement[str], *where: ColumnElement[bool]) -> list[str]:
        return sorted(connection.execute(select(column).where(*where)).scalars())

    if kind in ("providers", "regions"):
        yield "data center", ids(data_centers.c.id, data_centers.c[SINGULAR[kind]] == id)
    if kind == "data-centers":
        yield "node", ids(nodes.c.id, nodes.c.data_center == id)
        yield "link", ids(links.c.id, or_(links.c.source == id, links.c.target == id))
        yield "agent", ids(agents.c.id, agents.c.data_center == id, _HELD)
        open_drains = connection.execute(select(drains.c.id, drains.c.targets).where(_OPEN))
        yield "drain", sorted(drain for drain, targets in open_drains if id in targets)
    if kind == "nodes":
        yield "agent", ids(agents.c.id, agents.c.node == id, _HELD)
    if kind == "pools":
        yield "agent", ids(agents.c.id, agents.c.pool == id, _HELD)
    if kind in ("providers", "regions", "data-centers", "pools"):
        found = (read_resource("policies", row) for row in connection.execute(select(policies)).mappings())
        named = [policy for policy in found if any(ref[1:] == (kind, id) for ref in references(policy))]
        yield "policy", sorted(policy.id for policy in named)


def _listed(what: str, ids: list[str]) -> str:
    plural = what if len(ids) == 1 else f"{what[:-1]}ies" if what.endswith("y") else f"{what}s"
    more = f" and {len(ids) - NAMED_REFERRERS} more" if len(ids) > NAMED_REFERRERS else ""
    return f"{len(ids)} {plural} ({', '.join(ids[:NAMED_REFERRERS])}{more})"
