"""Measured matrices of client networks and places, in the forms they are published in.

``--rtt``: pairs, one per row (two columns of names, and one of milliseconds), taken for both directions unless the
reverse is given too; or a matrix, whose first column names the row. ``--locations``: ``name,latitude,longitude,
country``, or countries with ``iso2,lat,lon`` (and ``internet_users``). Both may be gzipped.
"""

from __future__ import annotations

import csv
import gzip
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from providers.countries import position

F64 = NDArray[np.float64]
PAIR_NAMES = (("country_a", "country_b"), ("source", "destination"), ("src", "dst"), ("from", "to"), ("a", "b"))
PAIR_VALUES = ("median_rtt_ms", "avg_rtt_ms", "rtt_ms", "avg", "rtt", "p50_ms", "ms")
NAMES, LATITUDES, LONGITUDES = ("name", "iso2", "city", "id"), ("latitude", "lat"), ("longitude", "lon", "lng")
COUNTRIES = ("country", "iso2")


@dataclass(frozen=True)
class Place:
    """One client network: where it is."""

    name: str
    latitude: float
    longitude: float
    country: str | None
    users: float


@dataclass(frozen=True)
class World:
    """Places, and round trips in milliseconds ``[client, edge candidate]`` between all of them; NaN where missing."""

    places: tuple[Place, ...]
    rtt_ms: F64


def read(rtt: Path, locations: Path) -> World:
    """Read both files; what has no position or no measurement is left out. Raises ``ValueError`` on other forms."""
    places = {place.name: place for place in _places(locations)}
    measured = _measured(rtt)
    names = sorted({name for pair in measured for name in pair} & places.keys())
    index = {name: i for i, name in enumerate(names)}
    matrix = np.full((len(names), len(names)), np.nan)
    for (a, b), value in measured.items():
        if a in index and b in index:
            matrix[index[a], index[b]] = value
            if (b, a) not in measured:
                matrix[index[b], index[a]] = value
    return World(tuple(places[name] for name in names), matrix)


def _rows(path: Path) -> Iterator[list[str]]:
    raw = path.read_bytes()
    text = (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode("utf-8-sig")
    yield from csv.reader(text.splitlines())


def _measured(path: Path) -> Mapping[tuple[str, str], float]:
    rows = _rows(path)
    head = [name.strip() for name in next(rows)]
    pair = next((p for p in PAIR_NAMES if set(p) <= set(head)), None)
    found: dict[tuple[str, str], float] = {}
    if pair is not None:
        value = next((name for name in PAIR_VALUES if name in head), None)
        if value is None:
            raise ValueError(f"{path}: no column of round trips; known: {', '.join(PAIR_VALUES)}")
        a, b, v = head.index(pair[0]), head.index(pair[1]), head.index(value)
        for row in rows:
            _note(found, row[a], row[b], row[v])
        return found
    for row in rows:
        for name, text in zip(head[1:], row[1:], strict=False):
            _note(found, row[0], name, text)
    return found


def _note(found: dict[tuple[str, str], float], a: str, b: str, text: str) -> None:
    try:
        value = float(text)
    except ValueError:
        return
    if np.isfinite(value) and value > 0:  # zero is how matrices say "myself"
        found[a, b] = value


def _places(path: Path) -> Iterator[Place]:
    rows = _rows(path)
    head = [name.strip() for name in next(rows)]

    def column(names: tuple[str, ...]) -> int:
        return next((head.index(name) for name in names if name in head), -1)

    name, latitude, longitude = column(NAMES), column(LATITUDES), column(LONGITUDES)
    country = column(("iso2",)) if "iso2" in head else column(COUNTRIES)
    users = column(("internet_users", "users"))
    if min(name, latitude, longitude) < 0:
        raise ValueError(f"{path}: needs columns name, latitude, longitude (and country)")
    for row in rows:
        code = row[country].strip() if country >= 0 else ""
        where: tuple[float, float] | None
        try:
            where = (float(row[latitude]), float(row[longitude]))
        except ValueError:
            where = position(code) if len(code) == 2 else None  # known by its country alone
        if where is not None:
            weight = float(row[users] or 0) if users >= 0 else 1.0
            yield Place(row[name].strip(), where[0], where[1], code or None, weight)
