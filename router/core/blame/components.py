"""What can be at fault in an inventory, numbered: one number per component, and how they contain each other."""

from __future__ import annotations

from dataclasses import dataclass

from router.core.model import DataCenterId, Inventory, NodeId
from router.core.verdicts import Component, ComponentKind

SHARES = {  # of all faults; how often each kind was the cause in the incidents we know of, in round numbers
    ComponentKind.NODE: 0.20,
    ComponentKind.EDGE_REGION: 0.15,
    ComponentKind.PROVIDER_REGION: 0.10,
    ComponentKind.PROVIDER: 0.05,
    ComponentKind.TARGET: 0.15,
    ComponentKind.TRANSIT: 0.20,  # one half peerings, one half ways between data centers
    ComponentKind.CLIENT_ISP: 0.10,
    ComponentKind.PROBER: 0.05,
}


class Components:
    """Numbers of components; those of client networks and segments are given out as they are seen."""

    def __init__(self) -> None:
        self.names: list[Component] = []
        self.number: dict[Component, int] = {}
        self.children: dict[int, list[int]] = {}  # parts of what can be at fault as a whole

    def of(self, kind: ComponentKind, id: str) -> int:
        """The number of a component, a new one if it was never seen."""
        name = Component(kind, id)
        found = self.number.get(name)
        if found is None:
            found = self.number[name] = len(self.names)
            self.names.append(name)
        return found

    def contain(self, parent: int, child: int) -> None:
        """Note that one component is part of another."""
        if child not in self.children.setdefault(parent, []):
            self.children[parent].append(child)


@dataclass(frozen=True, slots=True)
class Place:
    """The components that a node, or a data center, is part of; ``whole`` without the node itself."""

    data_center: int  # vertex
    provider: str
    whole: tuple[int, ...]
    node: tuple[int, ...] = ()  # the node itself; nothing where its data center has no other and stands for it
    prober: tuple[int, ...] = ()

    @property
    def alone(self) -> tuple[int, ...]:
        """What only its own probes cross, and the node."""
        return self.prober + self.node


class Atlas:
    """Where everything is: made anew when data centers or nodes come, go or change hands."""

    def __init__(self, inventory: Inventory) -> None:
        self.signature = signature(inventory)
        self.components = Components()
        self.data_centers = tuple(inventory.data_centers)
        self.vertex = {dc: i for i, dc in enumerate(self.data_centers)}
        self.providers = [str(dc.provider) for dc in inventory.data_centers.values()]
        self.nodes: dict[NodeId, Place] = {}
        self.places: dict[DataCenterId, Place] = {}
        self.nodes_of: dict[DataCenterId, list[int]] = {}  # components; none of a lone node
        self._siblings = _siblings(inventory)
        for dc in inventory.data_centers.values():
            self._add(dc.id, str(dc.provider), str(dc.region))
        for place, nodes in inventory.nodes_by_data_center.items():
            for node in nodes:
                self._add_node(node.id, place, len(nodes) > 1)

    def _add(self, dc: DataCenterId, provider: str, region: str) -> None:
        known = self.components
        whole = known.of(ComponentKind.PROVIDER, provider)
        own = known.of(ComponentKind.EDGE_REGION, dc)
        inside = whole
        chain = [own]
        if self._siblings[provider, region] > 1:
            inside = known.of(ComponentKind.PROVIDER_REGION, f"{provider}/{region}")
            known.contain(whole, inside)
            chain.append(inside)
        known.contain(inside, own)
        self.places[dc] = Place(self.vertex[dc], provider, (*chain, whole))

    def _add_node(self, node: NodeId, dc: DataCenterId, has_siblings: bool) -> None:
        place, known = self.places[dc], self.components
        prober, inside = known.of(ComponentKind.PROBER, node), tuple[int, ...]()
        if has_siblings:
            inside = (known.of(ComponentKind.NODE, node),)
            known.contain(place.whole[0], inside[0])
            self.nodes_of.setdefault(dc, []).append(inside[0])
        self.nodes[node] = Place(place.data_center, place.provider, place.whole, inside, (prober,))

    def segment(self, a: DataCenterId, b: DataCenterId) -> int:
        """The way between two data centers; loss is told for the round trip, so it is one component."""
        return self.components.of(ComponentKind.TRANSIT, f"{min(a, b)}>{max(a, b)}")

    def client(self, group: str, provider: str) -> tuple[int, int]:
        """A client network, and its peering with a provider."""
        whole = self.components.of(ComponentKind.CLIENT_ISP, group)
        peering = self.components.of(ComponentKind.TRANSIT, f"{group}/{provider}")
        self.components.contain(whole, peering)
        return whole, peering

    def target(self, dc: DataCenterId) -> int:
        """The agents of a hub."""
        return self.components.of(ComponentKind.TARGET, dc)


def signature(inventory: Inventory) -> tuple[object, ...]:
    """What an atlas is made of."""
    places = tuple((dc.id, dc.provider, dc.region) for dc in inventory.data_centers.values())
    return places, tuple((node.id, node.data_center) for node in inventory.nodes.values())


def _siblings(inventory: Inventory) -> dict[tuple[str, str], int]:
    found: dict[tuple[str, str], int] = {}
    for dc in inventory.data_centers.values():
        key = (str(dc.provider), str(dc.region))
        found[key] = found.get(key, 0) + 1
    return found
