"""Leases per node: one row says until when a media node holds all the sessions and legs whose users it has.

A million quiet sessions on a thousand nodes then cost a thousand rows, not a million writes per heartbeat. A session
is *held* (``held_by``) from the moment its user attaches to a node until the user detaches, resumes, arrives elsewhere
or the session ends; its own ``lease_expires_at`` counts only while nobody holds it. A move keeps the old holder, who
still carries the user.

When a node's lease is over, what it held falls back on its own lease, which is the node's at that moment, and ends
with all others whose time is over. A lease that begins takes in the active sessions of its node that nobody holds, so
that sessions from before the table existed, and those of a node that came back in time, are held again.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, case, delete, insert, literal, select, update

from router.core.model import Micros, NodeId, SessionState
from router.store import bulk
from router.store.tables import LIVE, LIVE_LEG, legs, node_leases, sessions

AT_ONCE = 16  # nodes whose leases end in one transaction; the others follow in the next

# Built once: every heartbeat needs them.
_OF = select(node_leases).where(node_leases.c.node.in_(bindparam("nodes", expanding=True))).order_by(node_leases.c.node)


@dataclass(frozen=True, slots=True)
class NodeLease:
    """Until when a node holds what it has; ``epoch`` numbers the starts of its process."""

    node: NodeId
    epoch: int
    expires_at: Micros


def of_nodes(connection: Connection, nodes: list[NodeId]) -> dict[NodeId, NodeLease]:
    """The leases of some nodes, locked in id order."""
    rows = connection.execute(_OF.with_for_update(), {"nodes": nodes})
    return {row.node: NodeLease(row.node, row.epoch, row.expires_at) for row in rows}


def renewed(connection: Connection, before: NodeLease | None, node: NodeId, epoch: int, until: Micros) -> NodeLease:
    """The lease of a node that holds what it has until a later time, never an earlier one.

    The first one is written at once; the others are for :func:`write`.
    """
    if before is None:
        connection.execute(insert(node_leases).values(node=node, epoch=epoch, expires_at=until))
        for table, live in ((sessions, LIVE), (legs, LIVE_LEG)):
            alone = (live, table.c.edge_node == node, table.c.state == SessionState.ACTIVE, table.c.held_by.is_(None))
            connection.execute(update(table).where(*alone).values(held_by=node))
        return NodeLease(node, epoch, until)
    return NodeLease(node, max(epoch, before.epoch), max(until, before.expires_at))


def write(connection: Connection, leases: Iterable[NodeLease]) -> None:
    """Write leases of nodes that have one, all in one statement."""
    rows = [{"node": lease.node, "epoch": lease.epoch, "expires_at": lease.expires_at} for lease in leases]
    bulk.update(connection, node_leases, rows)


def release(connection: Connection, node: NodeId, expires_at: Micros) -> None:
    """A node holds nothing any more: what it held has time until its lease is over, or its own if that is later."""
    for table in (sessions, legs):
        own = table.c.lease_expires_at
        later = case((own > literal(expires_at), own), else_=literal(expires_at))
        connection.execute(update(table).where(table.c.held_by == node).values(held_by=None, lease_expires_at=later))
    connection.execute(delete(node_leases).where(node_leases.c.node == node))


def lapse(connection: Connection, now: Micros) -> tuple[NodeId, ...]:
    """Release what is held by nodes that were silent for too long; some nodes at a time."""
    over = select(node_leases).where(node_leases.c.expires_at <= now).order_by(node_leases.c.node).limit(AT_ONCE)
    found = connection.execute(over.with_for_update(skip_locked=True)).all()
    for row in found:
        release(connection, row.node, row.expires_at)
    return tuple(NodeId(row.node) for row in found)
