"""Thirty regions with users by local time, a spike, and sessions of log-normal length; the core is told nothing of it.

The day's shape is ours, since no public trace of voice agents exists: a cosine with its top in the early evening of
each region and a smaller bump before noon. Each day and region differ from it by a factor, and within the day by a slow
walk.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

DAY_S = 86_400
SLOT_S = 300
EARTH_KM = 6371.0
FIBRE_KM_PER_MS = 100.0  # of round trip, with the usual detours of a third included
DAY_SIGMA = 0.08  # between days, per region
WALK_SIGMA = 0.015  # per five minutes, mean-reverting over an hour and a half

# City, latitude, longitude, weight: millions of people online around it, rounded; only their proportions matter.
REGIONS = (
    ("tokyo", 35.7, 139.7, 60), ("osaka", 34.7, 135.5, 25), ("seoul", 37.6, 127.0, 35), ("taipei", 25.0, 121.6, 20),
    ("hong-kong", 22.3, 114.2, 30), ("singapore", 1.35, 103.8, 40), ("jakarta", -6.2, 106.8, 70),
    ("mumbai", 19.1, 72.9, 110), ("delhi", 28.6, 77.2, 120), ("dubai", 25.3, 55.3, 25), ("tel-aviv", 32.1, 34.8, 8),
    ("sydney", -33.9, 151.2, 15), ("melbourne", -37.8, 145.0, 10), ("johannesburg", -26.2, 28.0, 30),
    ("frankfurt", 50.1, 8.7, 60), ("amsterdam", 52.4, 4.9, 25), ("london", 51.5, -0.1, 55), ("paris", 48.9, 2.35, 50),
    ("madrid", 40.4, -3.7, 40), ("milan", 45.5, 9.2, 40), ("stockholm", 59.3, 18.1, 18), ("warsaw", 52.2, 21.0, 30),
    ("ashburn", 39.0, -77.5, 80), ("chicago", 41.9, -87.6, 55), ("dallas", 32.8, -96.8, 50),
    ("san-jose", 37.3, -121.9, 45), ("seattle", 47.6, -122.3, 20), ("toronto", 43.7, -79.4, 28),
    ("sao-paulo", -23.6, -46.6, 90), ("santiago", -33.4, -70.7, 15),
)  # fmt: skip


@dataclass(frozen=True)
class Load:
    """What a day is like; the spike multiplies the beginnings of some regions."""

    mean_busy: float = 20_000.0
    median_s: float = 480.0
    sigma: float = 1.0  # of the logarithm of a session's length
    spike: float = 3.0
    spike_s: int = 300
    shape: str = (
        "ramp"  # over spike_s up to the factor, then as slowly down; or "step": the factor at once, for spike_s
    )
    where: str = "world"  # or "region": one drawn by the seed
    days: int = 7  # of history before the day

    @property
    def mean_s(self) -> float:
        """Mean length of a session."""
        return self.median_s * float(np.exp(self.sigma**2 / 2))


def rtt_ms() -> F64:
    """Round trips between regions by distance."""
    lat, lon = (np.radians(np.array([r[k] for r in REGIONS], dtype=float)) for k in (1, 2))
    d_lat, d_lon = lat[:, None] - lat, lon[:, None] - lon
    a = np.sin(d_lat / 2) ** 2 + np.cos(lat[:, None]) * np.cos(lat) * np.sin(d_lon / 2) ** 2
    return np.asarray(2 * EARTH_KM * np.arcsin(np.sqrt(a)) / FIBRE_KM_PER_MS * 1.33 + 1.0)


def daily(load: Load) -> F64:
    """Mean beginnings per second, ``[slot, region]``, for the mean over the day and all regions that is asked for."""
    utc_h = (np.arange(DAY_S // SLOT_S) + 0.5) * SLOT_S / 3600
    local = (utc_h[:, None] + np.array([r[2] for r in REGIONS]) / 15) % 24
    evening = 1 + 0.75 * np.cos((local - 18.5) / 24 * 2 * np.pi)
    noon = 0.35 * np.exp(-(((local - 11) / 2.2) ** 2))
    shape = (evening + noon) * np.array([r[3] for r in REGIONS], dtype=float)
    return np.asarray(shape / shape.sum(1).mean() * (load.mean_busy / load.mean_s))


def one_day(load: Load, rng: np.random.Generator) -> F64:
    """Beginnings per second of one particular day, ``[slot, region]``."""
    base = daily(load)
    walk = np.zeros(base.shape)
    for slot in range(1, len(base)):
        walk[slot] = walk[slot - 1] * 0.945 + rng.normal(0, WALK_SIGMA, base.shape[1])
    return np.asarray(base * np.exp(rng.normal(0, DAY_SIGMA, base.shape[1]) + walk))


def spiked(load: Load, t: int, begin: int, hit: F64) -> F64:
    """What the spike multiplies beginnings with at second ``t``; ``hit[region]`` is 1 where it is felt."""
    since = t - begin
    if load.shape == "step":
        part = float(0 <= since < load.spike_s)
    else:
        part = max(0.0, 1 - abs(since - load.spike_s) / load.spike_s)
    return np.asarray(1 + (load.spike - 1) * part * hit)
