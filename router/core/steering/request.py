"""What is asked of a placement, and what it answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from router.core.model import (
    Client,
    Constraints,
    DataCenterId,
    NodeId,
    PoolId,
    TrafficClass,
)


@dataclass(frozen=True, slots=True)
class PlaceRequest:
    """What is to be placed. ``agent_data_center`` fixes the far end (moves keep the agent); ``seed`` spreads."""

    client: Client
    traffic_class: TrafficClass
    pool: PoolId | None = None
    to: DataCenterId | None = None
    constraints: Constraints = field(default_factory=Constraints)
    seed: str = ""
    sticky: DataCenterId | None = None
    exclude: tuple[DataCenterId, ...] = ()
    agent_data_center: DataCenterId | None = None
    labels: Mapping[str, str] = field(default_factory=dict)  # a session's metadata, for policies that match labels
    edge_only: bool = False  # where its user is served while it waits for an agent
    cap_factor: float = 1.0  # of the pool's limit on the whole way; a session that has waited gets more; inf: no limit


class RankedEdge(NamedTuple):
    """An edge with its predicted one-way legs and the round trip of the whole way; -1 or None where unknown."""

    data_center: DataCenterId
    node: NodeId | None
    url: str
    hub: DataCenterId | None
    access_us: int
    access_provenance: str
    forward_us: int | None
    return_us: int | None
    total_us: int
    reason: str


@dataclass(frozen=True, slots=True)
class Rejected:
    """A data center that was not chosen, and the rule that excluded it."""

    data_center: DataCenterId
    rule: str
    detail: str


Trace = Callable[[], tuple[Rejected, ...]]
"""Makes the list of what was rejected when somebody asks: most placements are never asked."""


@dataclass(frozen=True, slots=True)
class Placement:
    """Ranked edges, the hubs to take an agent from in order, and the trace of the decision."""

    edges: tuple[RankedEdge, ...]
    hubs: tuple[DataCenterId, ...]
    trace: Trace
    reasons: tuple[str, ...]
    generation: int
    arms: tuple[tuple[DataCenterId, bool], ...] = ()  # dialled data centers: True if chosen, False if outside its share

    @property
    def rejected(self) -> tuple[Rejected, ...]:
        """What was not chosen, in id order, and by which rule."""
        return self.trace()


@dataclass(frozen=True, slots=True)
class Refused:
    """No placement, as a value: a stable code, a sentence, and what was tried."""

    code: str
    reason: str
    rejected: tuple[Rejected, ...]
    field: str | None = None  # of the request that asks for what there is not
    limit: float | None = None
