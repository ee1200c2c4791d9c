"""What a selector names, and what remains beside it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from router.core.errors import InputRejected
from router.core.model import DataCenterId, Drain, DrainState, Intent, Inventory, Node, NodeId, Role, Selector
from router.core.tables import Health, View


@dataclass(frozen=True, slots=True)
class Targets:
    """A selector, expanded once: whole data centers, or single machines."""

    data_centers: tuple[DataCenterId, ...] = ()
    nodes: tuple[NodeId, ...] = ()


def expand(inventory: Inventory, selector: Selector) -> Targets:
    """What a selector names, in id order, without what is retired. Raises ``selector_…``."""
    if selector == Selector():
        raise InputRejected("selector_empty", "a selector needs at least one part", field="selector", rule="non-empty")
    places = tuple(
        dc
        for dc in inventory.data_centers.values()
        if selector.provider in (None, dc.provider)
        and selector.region in (None, dc.region)
        and selector.data_center in (None, dc.id)
    )
    if selector.node is None:
        found = Targets(tuple(dc.id for dc in places if dc.intent is not Intent.RETIRED))
    else:
        machines = [node for dc in places for node in inventory.nodes_by_data_center[dc.id]]
        alive = [node for node in machines if node.id == selector.node and node.intent is not Intent.RETIRED]
        found = Targets(nodes=tuple(node.id for node in alive))
    if not found.data_centers and not found.nodes:
        what = "data center" if selector.node is None else "node"
        raise InputRejected("selector_matches_nothing", f"no {what} matches the selector", field="selector")
    return found


def targets_of(inventory: Inventory, selector: Selector) -> tuple[DataCenterId, ...]:
    """Data centers a selector names, those of its machines where it names machines. Raises ``selector_…``."""
    found = expand(inventory, selector)
    return found.data_centers or tuple(sorted({inventory.nodes[id].data_center for id in found.nodes}))


def emptied(inventory: Inventory, targets: Targets) -> tuple[DataCenterId, ...]:
    """Data centers that take no more sessions once the targets are drained: those whose last machine goes, too."""
    machines = inventory.nodes_by_data_center
    hit = sorted({inventory.nodes[id].data_center for id in targets.nodes})
    last = [dc for dc in hit if all(_gone(node, targets.nodes) for node in machines[dc])]
    return (*targets.data_centers, *last)


def _gone(node: Node, nodes: Collection[NodeId]) -> bool:
    return node.id in nodes or not node.intent.takes_new_sessions


def in_force(drain: Drain) -> bool:
    """Whether a drain keeps its targets out of use."""
    return drain.state is not DrainState.UNDONE


def claimed(view: View) -> Mapping[DataCenterId, Drain]:
    """Data centers that are in a drain that is in force, and which."""
    return {dc: drain for drain in view.drains.values() if in_force(drain) for dc in drain.targets}


def remaining_edges(view: View, out: Collection[DataCenterId]) -> tuple[DataCenterId, ...]:
    """Edges that take new sessions and go on doing so: not ``out``, not in any drain or ramp, not down; in id order."""
    index, taken = view.inventory.index, claimed(view)
    return tuple(
        dc.id
        for dc in view.inventory.data_centers.values()
        if dc.id not in out
        and dc.id not in taken
        and dc.id not in view.dials  # who takes a share of users only is nobody to count on
        and Role.EDGE in dc.roles
        and dc.intent.takes_new_sessions
        and view.health[index[dc.id]].state is not Health.DOWN
    )


def remaining_hubs(view: View, out: Collection[DataCenterId]) -> tuple[DataCenterId, ...]:
    """Hubs whose agents may be taken beside the targets, in id order."""
    index, taken = view.inventory.index, claimed(view)
    return tuple(
        dc.id
        for dc in view.inventory.data_centers.values()
        if dc.id not in out
        and dc.id not in taken
        and Role.HUB in dc.roles
        and dc.intent.takes_new_sessions
        and view.health[index[dc.id]].state is not Health.DOWN
    )


def node_intents(inventory: Inventory, drain: Drain) -> Mapping[NodeId, Intent]:
    """What the intents of a drain's machines must become by its state; nothing where they are that already."""
    wanted = {DrainState.DRAINED: Intent.DRAINED}.get(drain.state, Intent.DRAINING)
    changed: dict[NodeId, Intent] = {}
    for id in drain.nodes:
        node = inventory.nodes.get(id)
        if node is None or node.intent is Intent.RETIRED:
            continue
        ours = node.intent in (Intent.DRAINING, Intent.DRAINED)
        to = drain.previous_nodes[id] if drain.state is DrainState.UNDONE and ours else wanted
        if drain.state is DrainState.UNDONE and not ours:
            continue
        if to is not node.intent and (drain.share_ppm == 0 or drain.state is DrainState.UNDONE):
            changed[id] = to
    return changed
