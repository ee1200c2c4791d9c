"""Targets for Prometheus, in the form of its HTTP service discovery: a list of groups, each with targets and labels."""

from __future__ import annotations

import re
from collections.abc import Iterator

from pydantic import RootModel

from router.core.model import DEFAULT_TRANSPORT, Inventory, Node
from router.schemas.fields import Answer

META = "__meta_tendril_"
_NO_LABEL_NAME = re.compile(r"[^A-Za-z0-9_]")


class TargetGroup(Answer):
    """Addresses to scrape, `host:port`, and the labels they share; `__meta_…` ones are for relabelling."""

    targets: list[str]
    labels: dict[str, str]


class TargetGroups(RootModel[list[TargetGroup]]):
    """All groups, each time; `[]`: none."""


def control_plane_group(address: str, scheme: str) -> dict[str, object]:
    """The control plane itself, at the address by which it was asked."""
    labels = {"__scheme__": scheme, "__metrics_path__": "/metrics", f"{META}role": "control-plane"}
    return {"targets": [address], "labels": labels}


def node_groups(inventory: Inventory, port: int) -> Iterator[dict[str, object]]:
    """One group per node with an address, at a port where something of the operator's serves metrics."""
    for node in inventory.nodes.values():
        host = node.addresses.get(DEFAULT_TRANSPORT) or next((a for a in node.addresses.values() if a), None)
        if host is not None:
            address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
            yield {"targets": [address], "labels": dict(_labels(inventory, node))}


def _labels(inventory: Inventory, node: Node) -> Iterator[tuple[str, str]]:
    """Facts that relabelling can pick from; names of labels as Prometheus allows them, as its own discoveries do."""
    center = inventory.data_centers[node.data_center]
    yield f"{META}role", "node"
    yield f"{META}node", node.id
    yield f"{META}data_center", center.id
    yield f"{META}provider", center.provider
    yield f"{META}region", center.region
    yield f"{META}roles", f",{','.join(role.value for role in center.roles)},"
    yield f"{META}intent", node.intent.value
    yield f"{META}data_center_intent", center.intent.value
    for name, value in sorted({**center.labels, **node.labels}.items()):
        yield f"{META}label_{_NO_LABEL_NAME.sub('_', name)}", value
