"""Distances on the globe and the delay that light needs for them.

The floor: light travels about 299,792 km/s in vacuum and 1/1.468 of it in the glass of ITU-T G.652 fibre (204 km/ms);
200 km/ms is the usual round figure, so that no modelled link beats physics.
"""

from __future__ import annotations

from math import asin, cos, radians, sin, sqrt

EARTH_RADIUS_KM = 6_371.0
FIBRE_KM_PER_MS = 200.0


def great_circle_km(latitude_a: float, longitude_a: float, latitude_b: float, longitude_b: float) -> float:
    """Great-circle distance by the haversine formula (R. W. Sinnott, "Virtues of the Haversine", 1984)."""
    a, b = radians(latitude_a), radians(latitude_b)
    half_chord = (
        sin((b - a) / 2) ** 2 + cos(a) * cos(b) * sin(radians(longitude_b - longitude_a) / 2) ** 2
    )  # fmt: skip
    return 2 * EARTH_RADIUS_KM * asin(min(1.0, sqrt(half_chord)))


def fibre_us(km: float) -> float:
    """One-way time of light in fibre laid along the great circle."""
    return km / FIBRE_KM_PER_MS * 1_000
