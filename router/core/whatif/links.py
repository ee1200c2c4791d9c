"""Links of data centers that are not there: one way each, from geography, with the interval that it deserves.

No probe ever left such a place, so the only evidence is how far light has to go and how much longer than light the
measured links of this very fleet are (:func:`router.core.predict.by_geography`). Nothing is believed to be faster than
light in fibre. Both directions are taken to be alike, jitter and loss to be those of the fleet's middle link.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from router.core.geography import FIBRE_US_PER_KM, distances_km
from router.core.model import DEFAULT_TRANSPORT, DataCenter
from router.core.predict import by_geography
from router.core.tables import F64, I64, UNKNOWN, LinkTable

METRO_US = 250.0  # within one city: 50 km of fibre, which is what separates the data centers of a metropolitan area


@dataclass(frozen=True, eq=False)
class Guess:
    """One-way delays float64 ``[from, to]`` in microseconds, NaN where a position is unknown; and the usual rest."""

    mean_us: F64
    low_us: F64  # 5 % quantile
    high_us: F64  # 95 % quantile
    jitter_us: int
    loss_ppm: int


def guessed(centers: Sequence[DataCenter | None], links: LinkTable) -> Guess:
    """Delays between all of some data centers, measured ones included; ``None`` stands for one that is forgotten."""
    floor = _floor_us(centers)
    measured = _measured_us(centers, links)
    found = by_geography(measured, floor)
    middle = links.rtt_us[0] != UNKNOWN if len(links.transports) else np.zeros((0, 0), np.bool_)
    jitter = _middle(links.jitter_us[0][middle]) if middle.any() else 0
    loss = _middle(links.certain_loss_ppm[0][middle]) if middle.any() else 0
    return Guess(found.mean_us, found.low_us, found.high_us, jitter, loss)


def _middle(values: I64) -> int:
    known = values[values != UNKNOWN]
    return int(np.median(known)) if len(known) else 0


def _floor_us(centers: Sequence[DataCenter | None]) -> F64:
    """Light's time between each two places, at least that of a city; 0 where a position is unknown."""
    nowhere = float("nan")
    latitudes = np.array([nowhere if dc is None or dc.latitude is None else dc.latitude for dc in centers])
    longitudes = np.array([nowhere if dc is None or dc.longitude is None else dc.longitude for dc in centers])
    km = np.zeros((len(centers), len(centers)))
    for i in range(len(centers)):
        km[i] = distances_km(latitudes[i], longitudes[i], latitudes, longitudes)
    return np.where(np.isfinite(km), np.maximum(km * FIBRE_US_PER_KM, METRO_US), 0.0)


def _measured_us(centers: Sequence[DataCenter | None], links: LinkTable) -> F64:
    """Half of the round trips over the presumed transport; NaN where there is none."""
    n = len(centers)
    measured = np.full((n, n), np.nan)
    if DEFAULT_TRANSPORT not in links.transports:
        return measured
    rtt = links.rtt_us[links.transports.index(DEFAULT_TRANSPORT)]
    index = {dc: i for i, dc in enumerate(links.data_centers)}
    place = [(k, index[dc.id]) for k, dc in enumerate(centers) if dc is not None and dc.id in index]
    here, there = [k for k, _ in place], [i for _, i in place]
    found = rtt[np.ix_(there, there)]
    measured[np.ix_(here, here)] = np.where(found == UNKNOWN, np.nan, found / 2)
    return measured
