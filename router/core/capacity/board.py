"""What readers see of capacity: per pool and region how much there is, is expected, should be, and what is bought."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from router.core.capacity.machines import Buying
from router.core.capacity.offers import Offer, Plan
from router.core.model import DataCenterId, Micros, PoolId, RegionId


@dataclass(frozen=True, slots=True)
class PlaceBoard:
    """A pool in a region; places of agents, not agents, are counted."""

    pool: PoolId
    region: RegionId
    busy: int
    idle: int
    coming: int  # loading, or on machines that were bought and do not serve yet
    queued: int
    began: int  # sessions of users whose home this is, since the last count
    horizon_s: float  # of the forecast: a cold start
    forecast: float  # beginnings to expect in it
    quantile: int  # the number that is not exceeded with the rule's probability, helpers in reach considered
    level: float  # today over the season; 1 while there is no season
    spike: bool
    buffer: int
    rule: str  # who set the buffer
    desired: int
    missing: int
    spare: int


@dataclass(frozen=True, eq=False)
class CapacityBoard:
    """As of the last count; ``plans`` are what was bought, or would be, for each pool that lacked something last."""

    at: Micros = 0
    buying: Buying = field(default_factory=Buying)
    offers: tuple[Offer, ...] = ()  # with prices and quotas as they are known now
    places: tuple[PlaceBoard, ...] = ()
    plans: Mapping[PoolId, Plan] = field(default_factory=dict)
    planned_at: Mapping[PoolId, Micros] = field(default_factory=dict)
    blocked: Mapping[tuple[str, DataCenterId, str], str] = field(default_factory=dict)  # offer -> why not now
    spent_uusd_h: int = 0
    machines: int = 0
    failure: str = ""  # of the last programme
