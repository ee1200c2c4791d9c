"""What is asked, and what it names in the inventory."""

from __future__ import annotations

from dataclasses import dataclass

from router.core.drain.targets import Targets, emptied, expand
from router.core.errors import InputRejected
from router.core.model import DataCenter, DataCenterId, Inventory, NodeId, Selector


@dataclass(frozen=True, slots=True)
class LinkName:
    """All transports from one data center to another, this direction only."""

    source: DataCenterId
    target: DataCenterId


@dataclass(frozen=True, slots=True)
class Added:
    """A data center that is not there; ``position_from`` says who knew where it would be."""

    data_center: DataCenter
    position_from: str


@dataclass(frozen=True, slots=True)
class WhatIf:
    """A question: what is taken away, what is added, and how many pairs are to be named."""

    remove: tuple[Selector | LinkName, ...] = ()
    add: tuple[Added, ...] = ()
    named: int = 10


@dataclass(frozen=True, slots=True)
class Scope:
    """The question in terms of the inventory, everything in id order."""

    data_centers: tuple[DataCenterId, ...]  # that are gone, those whose last machine goes included
    nodes: tuple[NodeId, ...]
    links: tuple[LinkName, ...]
    added: tuple[Added, ...]


def scope_of(inventory: Inventory, asked: WhatIf) -> Scope:
    """Look everything up. Raises ``selector_…``, ``unknown_data_center``, ``same_data_center``, …

    … and ``data_center_exists``, each with the place in the question as its field.
    """
    gone: set[DataCenterId] = set()
    nodes: set[NodeId] = set()
    links: dict[tuple[DataCenterId, DataCenterId], LinkName] = {}
    for i, part in enumerate(asked.remove):
        field = f"remove.{i}"
        if isinstance(part, LinkName):
            _insist_on_link(inventory, part, field)
            links[part.source, part.target] = part
            continue
        found = _expanded(inventory, part, field)
        gone.update(found[0])
        nodes.update(found[1])
    for i, one in enumerate(asked.add):
        _insist_on_new(inventory, asked, i, one)
    named = Targets(tuple(sorted(gone)), tuple(sorted(nodes)))
    every = tuple(sorted(set(emptied(inventory, named))))  # who loses the last machine is gone, too
    added = tuple(sorted(asked.add, key=lambda one: one.data_center.id))
    return Scope(every, named.nodes, tuple(links[key] for key in sorted(links)), added)


def _expanded(
    inventory: Inventory, selector: Selector, field: str
) -> tuple[tuple[DataCenterId, ...], tuple[NodeId, ...]]:
    try:
        found = expand(inventory, selector)
    except InputRejected as error:
        raise InputRejected(error.code, f"{field}: {error.message}", field=field, rule=error.rule) from error
    return found.data_centers, found.nodes


def _insist_on_link(inventory: Inventory, link: LinkName, field: str) -> None:
    for id in (link.source, link.target):
        if id not in inventory.data_centers:
            raise InputRejected("unknown_data_center", f"{field}: there is no data center {id}", field=field)
    if link.source == link.target:
        raise InputRejected(
            "same_data_center", f"{field}: a link joins two data centers", field=field, rule="must differ"
        )


def _insist_on_new(inventory: Inventory, asked: WhatIf, i: int, one: Added) -> None:
    id, field = one.data_center.id, f"add.{i}.id"
    if id in inventory.data_centers or any(other.data_center.id == id for other in asked.add[:i]):
        where = "is there already" if id in inventory.data_centers else "is given twice"
        raise InputRejected(
            "data_center_exists",
            f"data center {id} {where}",
            field=field,
            rule="new id",
            override="give it another id, or remove the present one in the same question",
        )
