"""What machines say of themselves, beside a verdict on them: the evidence that is trusted last, and weighs nothing.

A gray node says that it is well; so its word is shown with what users and others say of it, and changes no confidence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from router.core.doubts import DOWN
from router.core.model import Node
from router.core.tables import View
from router.core.verdicts import Component, ComponentKind

SILENT_US = 10_000_000


@dataclass(frozen=True, slots=True)
class Selves:
    """How many machines a verdict is about, and what their own agents say."""

    machines: int = 0
    silent: int = 0
    links_down: int = 0  # that they call so

    @property
    def agrees(self) -> bool:
        """Whether they say that something is wrong."""
        return self.links_down > 0

    @property
    def text(self) -> str:
        """In words; empty where the verdict is about no machines."""
        if not self.machines:
            return ""
        heard = self.machines - self.silent
        if not heard:
            return f"{self.machines} of {self.machines} machines are silent"
        told = f"call {self.links_down} links down" if self.links_down else "say that all is well"
        return f"{heard} of {self.machines} machines report and {told}"


def selves(view: View, component: Component) -> Selves:
    """What the machines of a component say of themselves."""
    nodes = _machines(view, component)
    status = [view.nodes.get(node.id) for node in nodes]
    heard = [one for one in status if one is not None and view.now - one.reported_at <= SILENT_US]
    down = sum(state == DOWN for one in heard for state in one.doubts.values())
    return Selves(len(nodes), len(nodes) - len(heard), down)


def _machines(view: View, component: Component) -> Sequence[Node]:
    inventory, id = view.inventory, component.id
    match component.kind:
        case ComponentKind.NODE | ComponentKind.PROBER:
            return [node for node in inventory.nodes.values() if node.id == id]
        case ComponentKind.EDGE_REGION | ComponentKind.TARGET:
            places = {dc.id for dc in inventory.data_centers.values() if dc.id == id}
        case ComponentKind.PROVIDER_REGION:
            places = {dc.id for dc in inventory.data_centers.values() if f"{dc.provider}/{dc.region}" == id}
        case ComponentKind.PROVIDER:
            places = {dc.id for dc in inventory.data_centers.values() if dc.provider == id}
        case _:
            return ()
    return [node for node in inventory.nodes.values() if node.data_center in places]
