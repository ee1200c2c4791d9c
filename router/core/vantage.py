"""Who asks which vantage target: a machine in somebody else's network, whose round trip stands for its users'.

Each target is asked from the :data:`NEAREST` edges around it, which is where its users may be placed, and from one
further edge, so that a detour nobody expects is found; by one node per data center. They belong to somebody else: all
together ask an address once in :data:`ASKED_EVERY_S`, however many edges there are.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from probes.wire import PlanVantage
from router.core.geography import distances_km
from router.core.model import DEFAULT_TRANSPORT, DataCenter, Inventory, Node, NodeId, Role
from router.core.tables import F64

NEAREST = 3  # edges; with a fourth one, a typical user's best edge is among them
FURTHER = 1
ASKED_EVERY_S = 15  # an address, by all nodes together; the agent itself never asks more often than every 10 s


@dataclass(frozen=True, slots=True)
class VantageTarget:
    """A machine to ask; ``asn`` 0 and ``country`` empty where not known, never both."""

    name: str
    kind: str  # ``icmp`` or ``tcp``
    host: str
    port: int  # 0 for icmp
    asn: int
    country: str
    latitude: float | None = None
    longitude: float | None = None


@dataclass(frozen=True, slots=True)
class Vantages:
    """All targets, and whom to ask about them: ``contact`` travels in every echo request."""

    targets: tuple[VantageTarget, ...] = ()
    contact: str = ""


def assign(inventory: Inventory, targets: Sequence[VantageTarget]) -> Mapping[NodeId, tuple[PlanVantage, ...]]:
    """The targets that each node asks, in the order of ``targets``; nodes without any are left out."""
    edges = [dc for dc in inventory.data_centers.values() if Role.EDGE in dc.roles and _askers(inventory, dc)]
    latitudes = np.array([np.nan if dc.latitude is None else dc.latitude for dc in edges])
    longitudes = np.array([np.nan if dc.longitude is None else dc.longitude for dc in edges])
    found: dict[NodeId, list[PlanVantage]] = defaultdict(list)
    for target in targets:
        chosen = _chosen(target, len(edges), latitudes, longitudes)
        interval_us = max(1, len(chosen)) * ASKED_EVERY_S * 1_000_000
        plan = PlanVantage(
            target.name, target.kind, target.host, target.port, target.asn, target.country, interval_us
        )  # fmt: skip
        for i in chosen:
            nodes = _askers(inventory, edges[i])
            found[max(nodes, key=lambda node: _weight(target.name, node.id)).id].append(plan)
    return {node: tuple(plans) for node, plans in found.items()}


def _askers(inventory: Inventory, dc: DataCenter) -> list[Node]:
    return [node for node in inventory.nodes_by_data_center[dc.id] if node.addresses.get(DEFAULT_TRANSPORT)]


def _chosen(target: VantageTarget, edges: int, latitudes: F64, longitudes: F64) -> list[int]:
    """Places of the nearest edges, and of further ones that the target's name picks; no position: all by name."""
    if target.latitude is None or target.longitude is None:
        order = list(range(edges))
        near = 0
    else:
        away = np.nan_to_num(distances_km(target.latitude, target.longitude, latitudes, longitudes), nan=np.inf)
        order = np.argsort(away, kind="stable").tolist()
        near = min(NEAREST, edges)
    rest = order[near:]
    first = _weight(target.name, "") % len(rest) if rest else 0
    turned = rest[first:] + rest[:first]
    return order[:near] + turned[: NEAREST + FURTHER - near]


def _weight(target: str, who: str) -> int:
    return int.from_bytes(hashlib.blake2b(f"{target}>{who}".encode(), digest_size=8).digest(), "big")
