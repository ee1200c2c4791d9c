"""What-if questions: what is taken away, and what is added; see ``simulated`` for the answers."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from router.core.model import DataCenter, DataCenterId, ProviderId, RegionId, Role, Selector
from router.core.whatif import Added, LinkName, WhatIf
from router.schemas.drains import SelectorBody, SelectorText, parse_selector
from router.schemas.fields import Body, Id, Latitude, Longitude, UsdPerGb
from router.schemas.resources import Capacity
from router.schemas.units import microusd

MAX_REMOVED = 64  # entries of one question; a selector may name any number of data centers
MAX_ADDED = 16  # data centers: each is another vertex of every routing context
MAX_NAMED = 100  # pairs per list of the answer
_ID = r"[a-z0-9][a-z0-9-]{0,62}"
_LINK = re.compile(rf"({_ID}):({_ID})")
Position = tuple[float, float, str]  # latitude, longitude, who knows


class LinkNameBody(Body):
    """All transports from one data center to another; the way back is a link of its own."""

    source: Id = Field(alias="from")
    target: Id = Field(alias="to")

    def core(self) -> LinkName:
        """Map to the core type."""
        return LinkName(DataCenterId(self.source), DataCenterId(self.target))


def parse_removal(text: str) -> Selector | LinkName:
    """``provider=oracle,region=singapore`` or ``FROM:TO`` -> core. Raises ``ValueError`` with the broken rule."""
    link = _LINK.fullmatch(text.strip())
    if link is not None:
        return LinkName(DataCenterId(link[1]), DataCenterId(link[2]))
    if ":" in text:
        raise ValueError("a link is FROM:TO, two ids of lower-case letters, digits and dashes")
    return parse_selector(text).core()


class NewDataCenterBody(Body):
    """A data center that is not there; without a position that of its region is taken, or the catalogue's."""

    id: Id
    provider: Id
    region: Id
    roles: Annotated[list[Role], Field(min_length=1, max_length=2)] = Field(default_factory=lambda: [Role.EDGE])
    latitude: Latitude | None = None
    longitude: Longitude | None = None
    capacity: Capacity = Capacity()
    egress_usd_per_gb: UsdPerGb | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.latitude is None) != (self.longitude is None):
            raise PydanticCustomError("position", "latitude and longitude must be given together")
        if len(set(self.roles)) != len(self.roles):
            raise PydanticCustomError("roles", "roles must not repeat an entry")
        return self

    def core(self, position: Position) -> Added:
        """Map to the core type, at a position that somebody knows."""
        latitude, longitude, known_by = position
        center = DataCenter(
            DataCenterId(self.id),
            ProviderId(self.provider),
            RegionId(self.region),
            roles=tuple(role for role in Role if role in self.roles),
            latitude=latitude,
            longitude=longitude,
            capacity_sessions=self.capacity.sessions,
            capacity_mbps=self.capacity.mbps,
            egress_microusd_per_gb=microusd(self.egress_usd_per_gb),
        )
        return Added(center, known_by)


class SimulationBody(Body):
    """What if some of the fleet were gone, or some more of it there? Nothing of it is done."""

    remove: Annotated[list[SelectorBody | LinkNameBody | SelectorText], Field(max_length=MAX_REMOVED)] = Field(
        default_factory=list,
        description="each `provider=oracle,region=singapore` or the same as object, or a directed link: `FROM:TO`"
        " or `{from, to}`",
    )
    add: Annotated[list[NewDataCenterBody], Field(max_length=MAX_ADDED)] = Field(default_factory=list)
    named: Annotated[int, Field(strict=True, ge=0, le=MAX_NAMED)] = Field(
        default=10, description="how many pairs each list of the answer names at most; counts are always of all"
    )

    @model_validator(mode="after")
    def _readable(self) -> Self:
        for i, part in enumerate(self.remove):
            if isinstance(part, str):
                try:
                    parse_removal(part)
                except ValueError as error:
                    told = {"place": f"remove.{i}", "rule": str(error)}
                    raise PydanticCustomError("selector", "{place}: {rule}", told) from None
        return self

    def core(self, position: Callable[[int, NewDataCenterBody], Position]) -> WhatIf:
        """Map to the core type; ``position`` is asked where each new data center would be."""
        remove = tuple(parse_removal(part) if isinstance(part, str) else part.core() for part in self.remove)
        add = tuple(one.core(position(i, one)) for i, one in enumerate(self.add))
        return WhatIf(remove, add, self.named)
