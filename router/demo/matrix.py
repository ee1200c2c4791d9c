"""Measured matrices: CSV files of round trips between data centers become worlds.

Two forms are accepted, told apart by the header; further columns are ignored, ``.gz`` loads too:

* unordered pairs: ``provider_a, region_a, provider_b, region_b, rtt_ms``: both links of the pair are half of the row;
* directed: ``src_region, dst_region`` and the first of ``p50_rtt_ms``, ``avg_rtt_ms``, ``rtt_ms`` that is there,
  optionally with ``src_provider, dst_provider``: the link from source to destination is half of its *own* row. Rows
  that name a ``src_tier`` or ``dst_tier`` other than ``PREMIUM`` measured another network of the same two data centers,
  and are skipped.

An empty cell, or a row that is not there, is a link that does not exist. A row from a data center to itself is checked
and then ignored (it is not a link). The same pair twice with the same number is harmless; with another number the file
contradicts itself and is refused.

The id of a data center is the slug of ``provider-region``, or of the region alone where the file names no providers;
its provider is then called ``measured``. Position and region come from the catalogue (the finder is passed in): there a
region is a market that several providers share. What the catalogue does not know has no position, and its region is the
slug of the region text.
"""

from __future__ import annotations

import csv
import gzip
import math
import re
import unicodedata
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from providers.catalog import CatalogRegion
from router.core.errors import InputRejected
from router.core.model import ID_PATTERN, ID_REGEX
from router.demo.hubs import choose_hubs, hub_count
from router.demo.world import MAX_DATA_CENTERS, OCTETS, Site, World, assemble

UNNAMED_PROVIDER = "measured"
TIER = "PREMIUM"
MAX_RTT_MS = 60_000
MAX_ROWS = 2_000_000  # two for each ordered pair of the largest world
MAX_TEXT = 200
RTT_COLUMNS = ("p50_rtt_ms", "avg_rtt_ms", "rtt_ms")
PAIR_COLUMNS = ("provider_a", "region_a", "provider_b", "region_b", "rtt_ms")
FORMS = "provider_a,region_a,provider_b,region_b,rtt_ms or src_region,dst_region,p50_rtt_ms|avg_rtt_ms|rtt_ms"


FindPosition = Callable[[str | None, str], CatalogRegion | None]


@dataclass(frozen=True, slots=True)
class _Columns:
    """Where the two ends and the number stand in a row."""

    a: tuple[int | None, int]  # provider (if any), region
    b: tuple[int | None, int]
    rtt: int
    rtt_name: str
    tiers: tuple[int, ...]
    directed: bool

    @property
    def last(self) -> int:
        return max(self.a[1], self.b[1], self.rtt, self.a[0] or 0, self.b[0] or 0, *self.tiers)


class _Reader:
    """Collects one file row by row; raises at the first broken rule."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.ends: dict[str, tuple[str | None, str]] = {}  # id -> provider and region as written
        self.rtt_ms: dict[tuple[str, str], float | None] = {}

    def fail(self, line: int, field: str, rule: str, limit: str | int | None = None) -> InputRejected:
        text = f"{self.name}, line {line}: {field} {rule}"
        return InputRejected("bad_matrix", text, field=f"line {line}: {field}", rule=rule, limit=limit)

    def row(self, line: int, cells: Sequence[str], columns: _Columns) -> None:
        if len(cells) <= columns.last:
            raise self.fail(line, "row", f"must have at least {columns.last + 1} columns", columns.last + 1)
        if any(cells[tier].strip().upper() != TIER for tier in columns.tiers):
            return
        a = self._end(line, cells, *columns.a)
        b = self._end(line, cells, *columns.b)
        rtt_ms = self._number(line, columns.rtt_name, cells[columns.rtt].strip())
        if a == b:
            return
        self._link(line, columns.rtt_name, (a, b), rtt_ms)
        if not columns.directed:
            self._link(line, columns.rtt_name, (b, a), rtt_ms)

    def _end(self, line: int, cells: Sequence[str], provider_at: int | None, region_at: int) -> str:
        region = cells[region_at].strip()
        provider = None if provider_at is None else cells[provider_at].strip()
        for field, text in (("region", region), ("provider", provider)):
            if text is not None and (not slug(text) or len(text) > MAX_TEXT):
                raise self.fail(line, field, f"{text[:40]!r} must be a name with a letter or digit", MAX_TEXT)
        name = slug(region if provider is None else f"{provider}-{region}")
        if not ID_REGEX.match(name):
            raise self.fail(line, "region", f"gives the id {name[:80]!r}, which must match {ID_PATTERN}", 63)
        written = self.ends.setdefault(name, (provider, region))
        if written != (provider, region):
            raise self.fail(line, "region", f"{region!r} and {written[1]!r} give the same id {name!r}")
        if len(self.ends) > MAX_DATA_CENTERS:
            raise self.fail(line, "region", f"is one data center more than {MAX_DATA_CENTERS}", MAX_DATA_CENTERS)
        return name

    def _number(self, line: int, field: str, text: str) -> float | None:
        if not text:
            return None
        try:
            value = float(text)
        except ValueError:
            raise self.fail(line, field, f"{text[:40]!r} must be a number of milliseconds or empty") from None
        if not math.isfinite(value) or not 0 <= value <= MAX_RTT_MS:
            raise self.fail(line, field, f"{text[:40]} must be between 0 and {MAX_RTT_MS} ms", MAX_RTT_MS)
        return value

    def _link(self, line: int, field: str, pair: tuple[str, str], rtt_ms: float | None) -> None:
        known = self.rtt_ms.setdefault(pair, rtt_ms)
        if known != rtt_ms:
            rule = f"of {pair[0]} to {pair[1]} is {_ms(rtt_ms)}, but an earlier line says {_ms(known)}"
            raise self.fail(line, field, rule)


def load_matrix(
    path: Path,
    *,
    find_position: FindPosition | None = None,
    nodes_per_data_center: int = 1,
    seed: int = 1,
    octets: tuple[int, int, int, int] = OCTETS,
) -> World:
    """World of a measured matrix. Raises :class:`InputRejected` (``bad_matrix``) naming line, field, rule and limit.

    ``find_position`` is the catalogue's look-up; without it no data center has a position.
    """
    reader = _read(path)
    if len(reader.ends) < 2:
        raise reader.fail(1, "file", "must name at least two data centers", 2)
    ids = sorted(reader.ends)
    delay_us = [[_half_us(reader.rtt_ms.get((a, b))) for b in ids] for a in ids]
    sites = [_site(name, *reader.ends[name], find_position) for name in ids]
    return assemble(
        path.name.removesuffix(".gz").removesuffix(".csv"),
        sites,
        delay_us,
        hubs=choose_hubs(delay_us, hub_count(len(sites))),
        nodes_per_data_center=nodes_per_data_center,
        seed=seed,
        octets=octets,
    )


def slug(text: str) -> str:
    """Lower-case ASCII letters and digits of ``text``, everything else one dash between them."""
    ascii_text = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z0-9]+", "-", ascii_text.lower()).strip("-")


def _read(path: Path) -> _Reader:
    reader = _Reader(path.name)
    line = 0
    try:
        with _open(path) as file:
            rows = _lines(file)
            line, header = next(rows, (1, []))
            columns = _columns(reader, header)
            for line, cells in rows:
                if line > MAX_ROWS:
                    raise reader.fail(line, "file", f"must have at most {MAX_ROWS} lines", MAX_ROWS)
                reader.row(line, cells, columns)
    except UnicodeDecodeError as error:
        raise reader.fail(line + 1, "file", "must be UTF-8") from error
    except csv.Error as error:
        raise reader.fail(line + 1, "file", f"must be CSV: {error}") from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise reader.fail(line + 1, "file", f"is broken gzip: {error}") from error
    except OSError as error:
        raise reader.fail(line + 1, "file", f"cannot be read: {error.strerror or error}") from error
    return reader


def _open(path: Path) -> TextIO:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8-sig", newline="")
    return path.open(encoding="utf-8-sig", newline="")


def _lines(file: TextIO) -> Iterator[tuple[int, list[str]]]:
    rows = csv.reader(file, strict=True)
    for cells in rows:
        if cells:
            yield rows.line_num, cells


def _columns(reader: _Reader, header: Sequence[str]) -> _Columns:
    names = [name.strip().lower() for name in header]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise reader.fail(1, "header", f"names the column {repeated[0]!r} twice", 1)
    at: Mapping[str, int] = {name: i for i, name in enumerate(names)}
    if all(name in at for name in PAIR_COLUMNS):
        first, second = (at["provider_a"], at["region_a"]), (at["provider_b"], at["region_b"])
        return _Columns(first, second, at["rtt_ms"], "rtt_ms", (), directed=False)
    rtt_name = next((name for name in RTT_COLUMNS if name in at), None)
    if rtt_name is None or "src_region" not in at or "dst_region" not in at:
        raise reader.fail(1, "header", f"must have the columns {FORMS}")
    if ("src_provider" in at) != ("dst_provider" in at):
        raise reader.fail(1, "header", "must have both of src_provider and dst_provider, or neither")
    tiers = tuple(at[name] for name in ("src_tier", "dst_tier") if name in at)
    a, b = (at.get("src_provider"), at["src_region"]), (at.get("dst_provider"), at["dst_region"])
    return _Columns(a, b, at[rtt_name], rtt_name, tiers, directed=True)


def _site(name: str, provider: str | None, region: str, find_position: FindPosition | None) -> Site:
    place = find_position(provider, region) if find_position else None
    return Site(
        id=name,
        provider=UNNAMED_PROVIDER if provider is None else slug(provider),
        region=place.area if place else slug(region),
        latitude=place.latitude if place else None,
        longitude=place.longitude if place else None,
        city=place.city if place else "",
        country=place.country if place else "",
    )


def _half_us(rtt_ms: float | None) -> int | None:
    return None if rtt_ms is None else round(rtt_ms * 500)


def _ms(value: float | None) -> str:
    return "empty" if value is None else f"{value:g} ms"
