"""Client network -> edge: what the access leg to every data center will take, with provenance.

The seam for measured client networks. Today the only provenance is ``geo``: a geographic prior over the client's
coordinates. Its form, great-circle distance at the speed of light in fibre times a detour factor plus a last-mile
constant, is the usual one (Landa et al., "The large-scale geography of Internet round trip times", 2013); the two
constants are judgement and are what measurements will replace.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from router.core.geography import FIBRE_US_PER_KM, distance_km
from router.core.model import Client, Inventory
from router.core.tables import I64, UNKNOWN

DETOUR = 2.0  # public paths are about twice as long as the great circle, in the median
LAST_MILE_US = 5_000  # one way: access network, Wi-Fi, home router


@dataclass(frozen=True, eq=False)
class Access:
    """Access legs of one client: one-way delay int64 ``[vertex]`` in microseconds, ``UNKNOWN`` where not known."""

    one_way_us: I64
    provenance: str  # ``geo`` or ``none``


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
