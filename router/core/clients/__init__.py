"""Client network -> edge: what the access leg to every data center will take, with provenance.

The seam for measured client networks. Today the only provenance is ``geo``: a geographic prior over the client's
coordinates. Its form, great-circle distance at the speed of light in fibre times a detour factor plus a last-mile
constant, is the usual one (Landa et al., "The large-scale geography of Internet round trip times", 2013); the two
constants are judgement and are what measurements will replace.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from router.core.geography import FIBRE_US_PER_KM, distances_km
from router.core.model import Client, Inventory
from router.core.tables import F64, I64, U8, UNKNOWN, View

DETOUR = 2.0  # public paths are about twice as long as the great circle, in the median
LAST_MILE_US = 5_000  # one way: access network, Wi-Fi, home router
PROVENANCES = ("none", "geo", "country", "asn", "asn_metro", "prefix")  # by how much they know
NONE, GEO, COUNTRY, ASN, ASN_METRO, PREFIX = range(len(PROVENANCES))


@dataclass(frozen=True, eq=False)
class Access:
    """Access legs of one client, arrays ``[vertex]``: one-way delay in microseconds, ``UNKNOWN`` where not known."""

    one_way_us: I64
    provenance: U8  # index into ``PROVENANCES``

    def provenance_of(self, vertex: int) -> str:
        """Where the estimate of one vertex comes from."""
        return PROVENANCES[self.provenance[vertex]]


def access_legs(view: View, client: Client) -> Access:
    """Estimate the access leg from a client to every data center."""
    n = len(view.inventory.data_centers)
    if client.latitude is None or client.longitude is None:
        return Access(np.full(n, UNKNOWN, np.int64), np.zeros(n, np.uint8))
    latitudes, longitudes = _positions(view.inventory)
    km = distances_km(client.latitude, client.longitude, latitudes, longitudes)
    known = ~np.isnan(km)
    legs = np.where(known, np.rint(np.nan_to_num(km) * (FIBRE_US_PER_KM * DETOUR)) + LAST_MILE_US, UNKNOWN)
    return Access(legs.astype(np.int64), np.where(known, GEO, NONE).astype(np.uint8))


_last: tuple[Inventory, F64, F64] | None = None


def _positions(inventory: Inventory) -> tuple[F64, F64]:
    """Latitudes and longitudes ``[vertex]`` in degrees, NaN where unknown; kept while the inventory is the same."""
    global _last
    last = _last
    if last is None or last[0] is not inventory:
        places = inventory.data_centers.values()
        last = _last = (
            inventory,
            np.array([np.nan if dc.latitude is None else dc.latitude for dc in places], np.float64),
            np.array([np.nan if dc.longitude is None else dc.longitude for dc in places], np.float64),
        )
    return last[1], last[2]
