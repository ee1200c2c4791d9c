"""The region catalogue: every provider's published regions with their positions, usable offline.

One YAML file per provider in ``providers/data``; adding a region is adding one line to one file. An entry has ``code``
(the provider's own name of the region), ``city``, ``country`` (ISO 3166-1 alpha-2, quoted in the YAML because a bare
``NO`` is *false* there), ``latitude``, ``longitude`` and optionally ``area``, the id of the market on the map (what the
inventory calls a region) when it is not simply the slug of the city. Positions are those of the named city.

Look-up. Names in the wild carry decoration: a zone (``asia-east1-a``, ``us-east-1b``, ``us-ashburn-1-ad-2``) or blanks
and capitals (``Jio India West``). :func:`find_position` compares names without punctuation and takes the longest code
that the name starts with, but only if what is left is a zone: ``eastus3`` is not a part of ``eastus``. A name without
its provider that fits regions in different places (``us-west-1`` of one is Oregon, of another California) is decided by
spelling, and otherwise not at all: the answer is ``None``, because an invented position is worse than none.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import yaml

# libyaml's loader reads the catalogue five times faster; a PyYAML built without it has only the pure one.
_LOADER: type[yaml.SafeLoader] | type[yaml.CSafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_Normalise = Callable[[str], str]
_ID = re.compile(r"^[a-z0-9][a-z0-9-]{0,62}$")
_COUNTRY = re.compile(r"^[A-Z]{2}$")
_ZONE = re.compile(r"^(?:[a-z]|ad\d|az\d)?$")
_ALIASES = {"oci": "oracle", "akamai": "linode", "google": "gcp", "microsoft": "azure", "amazon": "aws"}
_REQUIRED = ("code", "city", "country", "latitude", "longitude")
_SAME_PLACE_KM = 150.0  # entries are exact to a city, metropolitan areas are smaller than this
_EARTH_RADIUS_KM = 6371.0088  # mean radius, IUGG


class CatalogError(ValueError):
    """An entry broke a rule: says file, entry, field and rule."""

    def __init__(self, file: str, entry: str, field: str, rule: str) -> None:
        super().__init__(f"{file}: {entry}: {field} {rule}")
        self.file = file
        self.entry = entry
        self.field = field
        self.rule = rule


@dataclass(frozen=True, slots=True)
class CatalogRegion:
    """One provider's region; ``area`` is the id of the market it belongs to."""

    provider: str
    code: str
    city: str
    country: str
    latitude: float
    longitude: float
    area: str


@dataclass(frozen=True, slots=True)
class _Parsed:
    provider: str
    name: str
    regions: tuple[CatalogRegion, ...]


@cache
def load() -> tuple[CatalogRegion, ...]:
    """Return every region, ordered by provider and code. Raises :class:`CatalogError`."""
    return tuple(sorted((r for p in _files() for r in p.regions), key=lambda r: (r.provider, r.code)))


@cache
def provider_names() -> Mapping[str, str]:
    """Return display names by provider id, in id order. Raises :class:`CatalogError`."""
    return {p.provider: p.name for p in sorted(_files(), key=lambda p: p.provider)}


def find_position(provider: str | None, region: str) -> CatalogRegion | None:
    """Return the region a (possibly decorated) name means, ``None`` when that is unknown or ambiguous."""
    wanted = None if provider is None else _ALIASES.get(_compact(provider), _compact(provider))
    for normalise in (_slug, _compact):  # exact spelling decides before loose spelling does
        matches = _longest(wanted, normalise(region), normalise)
        if matches:
            return matches[0] if all(_near(matches[0], other) for other in matches) else None
    return None


def distance_km(latitude_a: float, longitude_a: float, latitude_b: float, longitude_b: float) -> float:
    """Return the great-circle distance (haversine formula on the mean sphere)."""
    phi_a, phi_b = math.radians(latitude_a), math.radians(latitude_b)
    half_phi, half_lambda = (phi_b - phi_a) / 2, math.radians(longitude_b - longitude_a) / 2
    chord = math.sin(half_phi) ** 2 + math.cos(phi_a) * math.cos(phi_b) * math.sin(half_lambda) ** 2
    return 2 * _EARTH_RADIUS_KM * math.asin(math.sqrt(min(1.0, chord)))


def parse(file: str, text: str) -> tuple[CatalogRegion, ...]:
    """Check one provider's file and return its regions. Raises :class:`CatalogError`."""
    return _parse(file, text).regions


# --- look-up ---------------------------------------------------------------------------------------------------------


def _longest(provider: str | None, name: str, normalise: _Normalise) -> list[CatalogRegion]:
    best: list[CatalogRegion] = []
    length = 0
    for region in load():
        if provider is not None and region.provider != provider:
            continue
        code = normalise(region.code)
        if len(code) < length or not name.startswith(code) or not _ZONE.match(_compact(name[len(code) :])):
            continue
        if len(code) > length:
            best, length = [], len(code)
        best.append(region)
    return best


def _near(a: CatalogRegion, b: CatalogRegion) -> bool:
    return distance_km(a.latitude, a.longitude, b.latitude, b.longitude) <= _SAME_PLACE_KM


def _slug(text: str) -> str:
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")


def _compact(text: str) -> str:
    return _slug(text).replace("-", "")


# --- reading and checking --------------------------------------------------------------------------------------------


@cache
def _files() -> tuple[_Parsed, ...]:
    folder = files("providers").joinpath("data")
    names = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".yaml"))
    return tuple(_parse(name, folder.joinpath(name).read_text(encoding="utf-8")) for name in names)


def _parse(file: str, text: str) -> _Parsed:
    try:
        document = yaml.load(text, Loader=_LOADER)
    except yaml.YAMLError as error:
        raise CatalogError(file, "file", "YAML", f"cannot be read: {error}") from error
    if not isinstance(document, dict) or sorted(map(str, document)) != ["name", "provider", "regions"]:
        raise CatalogError(file, "file", "top level", "must have exactly the fields name, provider, regions")
    provider, name, rows = document["provider"], document["name"], document["regions"]
    if not isinstance(provider, str) or not _ID.match(provider):
        raise CatalogError(file, "file", "provider", f"must match {_ID.pattern}")
    if not isinstance(name, str) or not name:
        raise CatalogError(file, "file", "name", "must be a text")
    if not isinstance(rows, list):
        raise CatalogError(file, "file", "regions", "must be a list")
    return _Parsed(provider, name, tuple(_regions(file, provider, rows)))


def _regions(file: str, provider: str, rows: list[object]) -> Iterator[CatalogRegion]:
    seen: set[str] = set()
    for number, row in enumerate(rows, start=1):
        entry = f"entry {number}"
        if not isinstance(row, dict):
            raise CatalogError(file, entry, "entry", "must be a mapping")
        if isinstance(row.get("code"), str):
            entry = f"entry {number} ({row['code']})"
        region = _region(file, entry, provider, row)
        if region.code in seen:
            raise CatalogError(file, entry, "code", "must be unique in its file")
        seen.add(region.code)
        yield region


def _region(file: str, entry: str, provider: str, row: Mapping[object, object]) -> CatalogRegion:
    for key in row:
        if key not in (*_REQUIRED, "area"):
            raise CatalogError(file, entry, str(key), "is not a known field")
    for key in _REQUIRED:
        if key not in row:
            raise CatalogError(file, entry, key, "is required")
    code, city, country = row["code"], row["city"], row["country"]
    if not isinstance(code, str) or not _ID.match(code):
        raise CatalogError(file, entry, "code", f"must match {_ID.pattern}")
    if not isinstance(city, str) or not city.strip():
        raise CatalogError(file, entry, "city", "must be a text")
    if not isinstance(country, str) or not _COUNTRY.match(country):
        raise CatalogError(file, entry, "country", 'must be two capital letters in quotes, such as "NO"')
    area = row.get("area", _slug(city))
    if not isinstance(area, str) or not _ID.match(area):
        raise CatalogError(file, entry, "area", f"must match {_ID.pattern}")
    latitude = _degrees(file, entry, "latitude", row["latitude"], 90.0)
    longitude = _degrees(file, entry, "longitude", row["longitude"], 180.0)
    return CatalogRegion(provider, code, city, country, latitude, longitude, area)


def _degrees(file: str, entry: str, field: str, value: object, limit: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not -limit <= value <= limit:
        raise CatalogError(file, entry, field, f"must be a number between -{limit:g} and {limit:g}")
    return float(value)
