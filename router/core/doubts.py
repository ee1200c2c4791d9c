"""What probe agents themselves think of their links: which they call suspect or down, as of their newest report.

An agent's detector judges in a fraction of a second, from single missing answers, and its own routes follow at once.
The estimator does not take its word for anything: it counts probes. What is kept here is for people, beside the
estimate.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from probes.wire import ReportRows
from router.core.model import DataCenterId, Inventory, NodeId
from router.core.tables import Doubts, NodeStatus

SUSPECT, DOWN = 1, 2  # of a report's ``state`` column; 0 is up
WORDS = {SUSPECT: "suspect", DOWN: "down"}
LinkName = tuple[DataCenterId, DataCenterId, str]


def doubted(before: Doubts, rows: ReportRows) -> Doubts:
    """The doubts of a node after a report; of a peer that is not in it, nothing has changed."""
    if not before and not any(rows.state):
        return before
    told = dict(zip(zip(rows.peer, rows.transport, strict=True), rows.state, strict=False))
    kept = {key: state for key, state in before.items() if key not in told}
    return kept | {(NodeId(peer), transport): state for (peer, transport), state in told.items() if state}


def doubts_of_links(inventory: Inventory, nodes: Mapping[NodeId, NodeStatus]) -> dict[LinkName, Counter[int]]:
    """Per directed link, how many agents at its beginning call it suspect and how many down, by node at its end."""
    found: dict[LinkName, Counter[int]] = {}
    for name, status in nodes.items():
        here = inventory.nodes.get(name) if status.doubts else None
        for (peer, transport), state in status.doubts.items() if here is not None else ():
            there = inventory.nodes.get(peer)
            if there is not None and here is not None and there.data_center != here.data_center:
                found.setdefault((here.data_center, there.data_center, transport), Counter())[state] += 1
    return found
