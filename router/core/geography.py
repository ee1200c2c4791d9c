"""Distances on the globe and the least time that light in glass needs for them."""

from __future__ import annotations

import math

import numpy as np

from router.core.model import DataCenter
from router.core.tables import F64

EARTH_RADIUS_KM = 6371.0
FIBRE_US_PER_KM = 5.0  # light in glass: about 200 km per millisecond


def distance_km(latitude_a: float, longitude_a: float, latitude_b: float, longitude_b: float) -> float:
    """Great-circle distance in kilometres (haversine)."""
    a, b = math.radians(latitude_a), math.radians(latitude_b)
    h = math.sin((b - a) / 2) ** 2
    h += math.cos(a) * math.cos(b) * math.sin(math.radians(longitude_b - longitude_a) / 2) ** 2
    return 2 * EARTH_RADIUS_KM * math.asin(min(1.0, math.sqrt(h)))


def distances_km(latitude: float, longitude: float, latitudes: F64, longitudes: F64) -> F64:
    """Great-circle distances float64 ``[place]`` from one position to many (degrees, NaN in, NaN out)."""
    a, b = np.radians(latitude), np.radians(latitudes)
    h = np.sin((b - a) / 2) ** 2 + np.cos(a) * np.cos(b) * np.sin(np.radians(longitudes - longitude) / 2) ** 2
    found: F64 = 2 * EARTH_RADIUS_KM * np.arcsin(np.sqrt(np.minimum(1.0, h)))
    return found


def light_floor_us(a: DataCenter, b: DataCenter) -> int:
    """Least possible one-way delay between two data centers; 0 where a position is unknown."""
    if a.latitude is None or a.longitude is None or b.latitude is None or b.longitude is None:
        return 0
    return int(distance_km(a.latitude, a.longitude, b.latitude, b.longitude) * FIBRE_US_PER_KM)
