"""Client network -> edge: what the access leg to every data center will take, with provenance.

The seam for measured client networks. Today the only provenance is ``geo``: a geographic prior over the client's
coordinates. Its form, great-circle distance at the speed of light in fibre times a detour factor plus a last-mile
constant, is the usual one (Landa et al., "The large-scale geography of Internet round trip times", 2013); the two
constants are judgement and are what measurements will replace.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from router.core.model import Client, DataCenter, Inventory
from router.core.tables import I64, UNKNOWN

EARTH_RADIUS_KM = 6371.0
FIBRE_US_PER_KM = 5.0  # light in glass: about 200 km per millisecond
DETOUR = 1.7  # public paths are that much longer than the great circle, in the median
LAST_MILE_US = 5_000  # one way: access network, Wi-Fi, home router


@dataclass(frozen=True, eq=False)
class Access:
    """Access legs of one client: one-way delay int64 ``[vertex]`` in microseconds, ``UNKNOWN`` where not known."""

    one_way_us: I64
    provenance: str  # ``geo`` or ``none``


def distance_km(latitude_a: float, longitude_a: float, latitude_b: float, longitude_b: float) -> float:
    """Great-circle distance in kilometres (haversine)."""
    a, b = math.radians(latitude_a), math.radians(latitude_b)
    h = math.sin((b - a) / 2) ** 2
    h += math.cos(a) * math.cos(b) * math.sin(math.radians(longitude_b - longitude_a) / 2) ** 2
    return 2 * EARTH_RADIUS_KM * math.asin(min(1.0, math.sqrt(h)))


def light_floor_us(a: DataCenter, b: DataCenter) -> int:
    """Least possible one-way delay between two data centers; 0 where a position is unknown."""
    if a.latitude is None or a.longitude is None or b.latitude is None or b.longitude is None:
        return 0
    return int(distance_km(a.latitude, a.longitude, b.latitude, b.longitude) * FIBRE_US_PER_KM)


def access_legs(inventory: Inventory, client: Client) -> Access:
    """Estimate the access leg from a client to every data center."""
    legs = np.full(len(inventory.data_centers), UNKNOWN, np.int64)
    if client.latitude is None or client.longitude is None:
        return Access(legs, "none")
    for i, dc in enumerate(inventory.data_centers.values()):
        if dc.latitude is not None and dc.longitude is not None:
            km = distance_km(client.latitude, client.longitude, dc.latitude, dc.longitude)
            legs[i] = round(km * FIBRE_US_PER_KM * DETOUR) + LAST_MILE_US
    return Access(legs, "geo")
