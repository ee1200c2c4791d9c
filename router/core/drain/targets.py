"""What a selector names, and which edges remain beside it."""

from __future__ import annotations

from router.core.errors import InputRejected
from router.core.model import DataCenterId, Inventory, Role, Selector
from router.core.tables import Health, View


def targets_of(inventory: Inventory, selector: Selector) -> tuple[DataCenterId, ...]:
    """Data centers a selector names, in id order. Raises ``selector_empty``, ``selector_matches_nothing``."""
    if selector == Selector():
        raise InputRejected("selector_empty", "a selector needs at least one part", field="selector", rule="non-empty")
    found = tuple(
        dc.id
        for dc in inventory.data_centers.values()
        if selector.provider in (None, dc.provider)
        and selector.region in (None, dc.region)
        and selector.data_center in (None, dc.id)
        and (selector.node is None or any(n.id == selector.node for n in inventory.nodes_by_data_center[dc.id]))
    )
    if not found:
        raise InputRejected("selector_matches_nothing", "no data center matches the selector", field="selector")
    return found


def remaining_edges(view: View, targets: tuple[DataCenterId, ...]) -> tuple[DataCenterId, ...]:
    """Edges that take new sessions and are not targets, in id order."""
    index = view.inventory.index
    return tuple(
        dc.id
        for dc in view.inventory.data_centers.values()
        if dc.id not in targets
        and Role.EDGE in dc.roles
        and dc.intent.takes_new_sessions
        and view.health[index[dc.id]].state is not Health.DOWN
    )
