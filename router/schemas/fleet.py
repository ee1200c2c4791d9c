"""A whole fleet in one body, and the difference between it and what is in force.

With ``managed_by`` every resource of the body is labelled with it, and ``prune`` deletes what carries the same label
and is not in the body any more; nothing else is ever deleted. Policies have no labels and are never pruned.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from router.core.model import KINDS, Inventory, Policy, Resource
from router.schemas.fields import Answer, Body, Flag, Id
from router.schemas.resources import (
    AnyBody,
    DataCenterBody,
    LinkBody,
    NodeBody,
    PolicyBody,
    PoolBody,
    ProviderBody,
    RegionBody,
    collection,
    resource_json,
)

MANAGED_BY = "managed_by"
MAX_RESOURCES = 20_000  # of one kind


class FleetBody(Body):
    """Everything an operator wants to exist; kinds that are left out stay as they are."""

    providers: Annotated[list[ProviderBody], Field(max_length=MAX_RESOURCES)] = Field(default_factory=list)
    regions: Annotated[list[RegionBody], Field(max_length=MAX_RESOURCES)] = Field(default_factory=list)
    data_centers: Annotated[list[DataCenterBody], Field(max_length=MAX_RESOURCES)] = Field(default_factory=list)
    nodes: Annotated[list[NodeBody], Field(max_length=MAX_RESOURCES)] = Field(default_factory=list)
    links: Annotated[list[LinkBody], Field(max_length=MAX_RESOURCES)] = Field(default_factory=list)
    policies: Annotated[list[PolicyBody], Field(max_length=MAX_RESOURCES)] = Field(default_factory=list)
    pools: Annotated[list[PoolBody], Field(max_length=MAX_RESOURCES)] = Field(default_factory=list)
    managed_by: Id | None = None
    prune: Flag = False
    dry_run: Flag = False

    @model_validator(mode="after")
    def _named(self) -> Self:
        if self.prune and self.managed_by is None:
            raise PydanticCustomError("prune", "prune needs managed_by: only what carries that label may be deleted")
        for kind in KINDS:
            seen: set[str] = set()
            for i, body in enumerate(self.bodies(kind)):
                where = f"{kind.replace('-', '_')}[{i}].id"
                if body.id is None:
                    raise PydanticCustomError("fleet_id", "{where} is required", {"where": where})
                if body.id in seen:
                    raise PydanticCustomError("fleet_id", "{where} repeats {id}", {"where": where, "id": body.id})
                seen.add(body.id)
        return self

    def bodies(self, kind: str) -> list[AnyBody]:
        """The bodies of one collection."""
        return getattr(self, kind.replace("-", "_"))  # type: ignore[no-any-return]

    def resources(self, present: Inventory) -> Iterator[tuple[str, Resource]]:
        """``(collection, resource)`` of everything named, in the order in which references exist."""
        for kind in KINDS:
            for body in self.bodies(kind):
                yield kind, self._labelled(body.core(body.id or "", present))

    def _labelled(self, resource: Resource) -> Resource:
        if self.managed_by is None or isinstance(resource, Policy):
            return resource
        return replace(resource, labels=dict(sorted({**resource.labels, MANAGED_BY: self.managed_by}.items())))


class FieldChange(Answer):
    """One field before and after; null before a creation and after a deletion."""

    before: object
    after: object


class FleetChange(Answer):
    """What happens to one resource."""

    action: Literal["create", "update", "delete"]
    kind: str
    id: str
    fields: dict[str, FieldChange]


class FleetAnswer(Answer):
    """All changes; ``applied`` is false for a dry run."""

    applied: bool
    changes: list[FleetChange]


@dataclass(frozen=True)
class FleetDiff:
    """What to write and what to delete to get from the present inventory to the wanted one."""

    puts: tuple[Resource, ...]
    deletes: tuple[tuple[str, str], ...]
    changes: tuple[dict[str, object], ...]


def _same(before: Resource, after: Resource) -> bool:
    return all(getattr(before, f.name) == getattr(after, f.name) for f in fields(before) if f.name != "revision")


def _change(action: str, kind: str, before: Resource | None, after: Resource | None) -> dict[str, object]:
    old = {} if before is None else resource_json(before)
    new = {} if after is None else resource_json(after)
    names = [name for name in (new or old) if name not in ("id", "revision") and old.get(name) != new.get(name)]
    id = (new or old)["id"]
    changed = {name: {"before": old.get(name), "after": new.get(name)} for name in names}
    return {"action": action, "kind": kind, "id": id, "fields": changed}


def _pruned(body: FleetBody, present: Inventory) -> Iterator[tuple[str, Resource]]:
    """What carries the label and is not named any more; children before their parents."""
    if not body.prune:
        return
    for kind in reversed(list(KINDS)):
        named = {resource.id for resource in body.bodies(kind)}
        for id, resource in collection(present, kind).items():
            labels = {} if isinstance(resource, Policy) else resource.labels
            if labels.get(MANAGED_BY) == body.managed_by and id not in named:
                yield kind, resource


def fleet_diff(body: FleetBody, present: Inventory) -> FleetDiff:
    """Compare what is wanted with what is in force."""
    puts: list[Resource] = []
    changes: list[dict[str, object]] = []
    for kind, wanted in body.resources(present):
        before = collection(present, kind).get(wanted.id)
        if before is None or not _same(before, wanted):
            puts.append(wanted)
            changes.append(_change("create" if before is None else "update", kind, before, wanted))
    deletes: list[tuple[str, str]] = []
    for kind, gone in _pruned(body, present):
        deletes.append((kind, gone.id))
        changes.append(_change("delete", kind, gone, None))
    return FleetDiff(tuple(puts), tuple(deletes), tuple(changes))
