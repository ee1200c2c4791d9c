"""Reaction plans: the part of the routes in force that one node needs to fail over by itself, read from the View.

Per routing context and destination up to four paths: the one in force, its backups in the order in which to try them,
and among them always the direct path, if it may be used: nobody else's relay is needed for it. Only what is usable
under the context's policy and the evidence of the routes' own generation is in the plan, so it is as right as they are.

When a path is suspect. While it carries something the node hears an answer every ``KEEPALIVE_US``. One that is later
than the round trip in force plus four times its jitter makes the path suspect, which costs a second copy of the media
for a moment and nothing else; so it may happen often. A burst of probes then asks; six answers missing in a row are
the least that makes it down, and the path's own record of losses says how many it takes (``probes.detect``).
"""

from __future__ import annotations

import hashlib
from itertools import pairwise

import numpy as np

from probes.wire import MAX_CHOICES, MAX_DELAY_US, ReactionHops, ReactionPlan, ReactionRows, Triggers
from router.core.errors import InputRejected
from router.core.kernel import UNREACHABLE
from router.core.model import Micros, NodeId
from router.core.solve.answer import STALE_TABLE_US
from router.core.solve.backups import Protects, choose, providers_of
from router.core.tables import DIRECT, I64, RouteTable, View

TRIGGERS = Triggers(
    keepalive_us=50_000,
    suspect_missing=1,
    burst_probes=5,
    burst_gap_us=10_000,
    down_missing=6,
    up_answers=10,
    hold_down_us=1_000_000,
)
JITTERS = 4  # as TCP's retransmission timer (RFC 6298) has four times the variation
LEAST_SLACK_US = 5_000  # an agent's timers are no finer
LETTERS = {Protects.PROVIDER: "p", Protects.DATA_CENTER: "d", Protects.LINK: "l"}

Path = tuple[int, ...]
Row = tuple[int, tuple[int, ...], str, int]
"""Destination, choices, protection, overdue: a row of a table as in ``ReactionRows``."""


def reaction_plan(view: View, node_id: NodeId, now: Micros) -> ReactionPlan:
    """The reaction plan of a node; without rows while there are no routes from its data center. ``unknown_node``."""
    node = view.inventory.nodes.get(node_id)
    if node is None:
        raise InputRejected("unknown_node", f"there is no node {node_id}", field="id")
    table = view.routes
    shared = _Shared(view, node_id)
    contexts: list[str] = []
    tables: list[int] = []
    known: dict[tuple[Row, ...], int] = {}
    if table is not None and node.data_center in table.snapshot.data_centers:
        source = table.snapshot.data_centers.index(node.data_center)
        for c, context in enumerate(table.snapshot.contexts):
            contexts.append(context.name)
            tables.append(known.setdefault(_rows(view, table, c, source, shared), len(known)))
    at = 0 if table is None else table.computed_at
    rows = [(number, *row) for listed, number in known.items() for row in listed]
    return ReactionPlan(
        node=node.id,
        data_center=node.data_center,
        generation=view.generation,
        plan_version=view.plan_version,
        computed_at_us=at,
        issued_at_us=now,
        degraded_at_us=at if table is None or table.stale else at + STALE_TABLE_US,
        triggers=TRIGGERS,
        contexts=tuple(contexts),
        tables=tuple(tables),
        data_centers=() if table is None else table.snapshot.data_centers,
        hops=shared.hops(),
        paths=tuple(shared.paths),
        rows=ReactionRows(*(tuple(column) for column in zip(*rows, strict=True))) if rows else ReactionRows(),
        drained=_drained(view),
    )


def same_reactions(held: View, view: View, node_id: NodeId) -> bool:
    """Whether a node that holds the plan of one view has the same paths in force, addresses and drains in another.

    What else may differ (order and choice of backups, when answers are overdue, ages) can wait for a refresh.
    """
    before, after, node = held.routes, view.routes, view.inventory.nodes.get(node_id)
    if before is None or after is None or node is None or held.plan_version != view.plan_version:
        return before is after
    old, new = before.snapshot, after.snapshot
    if (old.data_centers, old.contexts, old.transports) != (new.data_centers, new.contexts, new.transports):
        return False
    if node.data_center not in new.data_centers or before.stale != after.stale or _drained(held) != _drained(view):
        return False
    u = new.data_centers.index(node.data_center)
    return (
        np.array_equal(before.relays[:, u], after.relays[:, u])
        and np.array_equal(before.reachable[:, u], after.reachable[:, u])
        and np.array_equal(old.transport, new.transport)
    )


def _drained(view: View) -> tuple[int, ...]:
    """Vertices of the table that operators let nothing pass through."""
    if view.routes is None:
        return ()
    centers = view.inventory.data_centers
    ids = view.routes.snapshot.data_centers
    return tuple(i for i, name in enumerate(ids) if name in centers and not centers[name].intent.relays)


class _Shared:
    """The tables that all rows of one plan refer to; grows while they are made."""

    def __init__(self, view: View, node_id: NodeId) -> None:
        self._view = view
        self._node = node_id
        self._hops: dict[tuple[int, int], int] = {}
        self._addresses: list[tuple[int, str, str, int, str, int]] = []
        self.paths: dict[Path, int] = {}

    def path(self, table: RouteTable, c: int, vertices: Path) -> int:
        """Number of a path of a context."""
        transport = table.snapshot.transport[c]
        hops = tuple(self._hop(table, v, int(transport[u, v])) for u, v in pairwise(vertices))
        return self.paths.setdefault(hops, len(self.paths))

    def hops(self) -> ReactionHops:
        """All addresses so far."""
        return ReactionHops(*(tuple(c) for c in zip(*self._addresses, strict=True))) if self._hops else ReactionHops()

    def _hop(self, table: RouteTable, vertex: int, transport: int) -> int:
        number = self._hops.get((vertex, transport))
        if number is None:
            number = self._hops[vertex, transport] = len(self._hops)
            name = table.snapshot.transports[transport]
            self._addresses.append((vertex, name, *self._address(table, vertex, name)))
        return number

    def _address(self, table: RouteTable, vertex: int, transport: str) -> tuple[str, int, str, int]:
        """The relay that this node uses there: rendezvous hashing spreads the nodes over a data center's relays."""
        there = self._view.inventory.nodes_by_data_center.get(table.snapshot.data_centers[vertex], ())
        relays = [node for node in there if node.relay_port and node.addresses.get(transport)]
        if not relays:
            return "", 0, "", 0
        best = max(relays, key=lambda n: hashlib.blake2b(f"{self._node}>{n.id}".encode(), digest_size=8).digest())
        return best.addresses[transport], best.relay_port, best.id, best.reflector_port


def _rows(view: View, table: RouteTable, c: int, u: int, shared: _Shared) -> tuple[Row, ...]:
    """Rows of one context, in the order of the destinations."""
    snapshot = table.snapshot
    cost, relay_us = snapshot.cost[c], int(snapshot.relay_cost_us[c])
    straight, provider = cost[u].tolist(), providers_of(snapshot).tolist()
    spares, overdue = table.candidate.spares[c, u].tolist(), _overdue_us(view, table, c, u).tolist()
    rows: list[Row] = []
    for v, relays in enumerate(table.relays[c, u].tolist()):
        if v == u or not table.reachable[c, u, v]:
            continue
        in_force = (u, *(k for k in relays if k != DIRECT), v)

        def metric(relay: int, onto: I64 = cost[:, v], direct: int = straight[v]) -> int:
            return direct if relay == DIRECT else straight[relay] + int(onto[relay]) + relay_us

        chosen = choose(spares[v], in_force, provider, metric)
        if len(in_force) > 2 and straight[v] < UNREACHABLE and all(relay != DIRECT for relay, _ in chosen):
            chosen = [*chosen[: MAX_CHOICES - 2], (DIRECT, Protects.PROVIDER)]
        ways = [in_force, *((u, v) if relay == DIRECT else (u, relay, v) for relay, _ in chosen)]
        choices = tuple(shared.path(table, c, way) for way in ways)
        rows.append((v, choices, "".join(LETTERS[grade] for _, grade in chosen), overdue[v]))
    return tuple(rows)


def _overdue_us(view: View, table: RouteTable, c: int, u: int) -> I64:
    """After how many microseconds an answer is missing, int64 ``[to]``: over the paths in force there and back.

    Offsets of the clocks cancel in a round trip. Jitters of hops add as variances; those of a table older than the
    inventory are not known any more.
    """
    snapshot = table.snapshot
    n = len(snapshot.data_centers)
    delay = snapshot.cost[c] if snapshot.extra_us is None else snapshot.cost[c] - snapshot.extra_us[c]
    variance = np.zeros((n, n))
    if view.links.data_centers == snapshot.data_centers and view.links.transports == snapshot.transports:
        place = (snapshot.transport[c].astype(np.int64), *np.indices((n, n), sparse=True))
        variance = np.maximum(0, view.links.jitter_us[place]).astype(np.float64) ** 2
    everyone = np.arange(n)
    trip, spread = np.zeros(n, np.int64), np.zeros(n)
    for here, target, relays in ((u, everyone, table.relays[c, u]), (everyone, u, table.relays[c, :, u])):
        at = np.broadcast_to(here, (n,))
        for slot in range(relays.shape[-1] + 1):
            onto = np.broadcast_to(target, (n,)) if slot == relays.shape[-1] else relays[:, slot]
            onto = np.where(onto == DIRECT, at, onto)
            moves = onto != at
            trip += np.where(moves, delay[at, onto], 0)
            spread += np.where(moves, variance[at, onto], 0)
            at = onto
    slack = np.maximum(LEAST_SLACK_US, JITTERS * np.sqrt(spread))
    overdue: I64 = np.clip(trip + np.rint(slack).astype(np.int64), LEAST_SLACK_US, MAX_DELAY_US)
    return overdue
