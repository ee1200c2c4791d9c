"""Waiting for a node's probe agent to come up."""

from __future__ import annotations

import time
from typing import Any

from tendril_terraform.problems import Failed

POLL_S = 0.25


def until_reported(provider: Any, node: dict[str, Any]) -> None:
    """Return when the control plane has heard the node. Raises ``Failed`` after ``wait.timeout_s``."""
    deadline = time.monotonic() + float(node["wait"]["timeout_s"])
    while not _heard(provider, node["data_center"], node["id"]):
        if time.monotonic() >= deadline or provider.stopping():
            raise Failed(
                f"Node {node['id']} has not reported in {node['wait']['timeout_s']:g} s",
                "The node is declared. Look at the machine's boot log (cloud-init), its join token, and UDP to it.",
                ["wait"],
            )
        time.sleep(POLL_S)


def _heard(provider: Any, data_center: str, node: str) -> bool:
    for place in provider.client.get("/v1/health")["data_centers"]:
        if place["id"] == data_center:
            return any(one["id"] == node and one["age_ms"] is not None for one in place["nodes"])
    return False
