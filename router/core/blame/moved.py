"""How many sessions were moved off what is blamed, for as long as it is blamed.

Counted are moves that this control plane carried out, whoever opened the drain that asked for them: automation, or the
person who read the verdict. Users that went elsewhere by themselves are not moves. A restart begins anew.
"""

from __future__ import annotations

from collections.abc import Mapping

from router.core.blame.facts import on_component
from router.core.messages import Moved
from router.core.model import Inventory
from router.core.verdicts import Blame, Component, ComponentKind


class MovedBook:
    """Sessions moved per blamed component; private state of the core."""

    def __init__(self) -> None:
        self.counts: Mapping[Component, int] = {}

    def note(self, blame: Blame, inventory: Inventory, event: Moved) -> None:
        """Take in how a round of moves went."""
        hit = [verdict.component for verdict in blame.verdicts if _covers(verdict.component, inventory, event)]
        if event.moved and hit:
            self.counts = {**self.counts, **{one: self.counts.get(one, 0) + event.moved for one in hit}}

    def keep(self, blame: Blame) -> None:
        """Forget what is not blamed any more."""
        blamed = {verdict.component for verdict in blame.verdicts}
        self.counts = {one: count for one, count in self.counts.items() if one in blamed}


def _covers(blamed: Component, inventory: Inventory, event: Moved) -> bool:
    """Whether the sessions left the component: that machine, or one of its data centers, wholly or in part."""
    if blamed.kind is ComponentKind.NODE:
        return event.node == blamed.id
    places = on_component(inventory.data_centers.values(), blamed) or []
    return any(dc.id == event.data_center for dc in places)
