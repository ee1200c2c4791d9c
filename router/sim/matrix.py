"""Measured matrices: CSV files of round trips between data centers, read strictly. Worlds are made of them.

Three forms are accepted, told apart by the header; further columns are ignored, ``.gz`` loads too:

* unordered pairs: ``provider_a, region_a, provider_b, region_b, rtt_ms``: both links of the pair are half of the row;
* directed: ``src_region, dst_region`` and the first of ``p50_rtt_ms``, ``avg_rtt_ms``, ``rtt_ms`` that is there,
  optionally with ``src_provider, dst_provider``: the link from source to destination is half of its *own* row. Rows
  that name a ``src_tier`` or ``dst_tier`` other than ``PREMIUM`` measured another network of the same two data centers,
  and are skipped;
* square: ``src`` and one column per destination: the same, one line per source.

An empty cell, or a row that is not there, is a link that does not exist. A row from a data center to itself is checked
and then ignored (it is not a link). The same pair twice with the same number is harmless; with another number the file
contradicts itself and is refused.

The id of a data center is the slug of ``provider-region``, or of the region alone where the file names no providers.
"""

from __future__ import annotations

import csv
import gzip
import math
import re
import unicodedata
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from router.core.errors import InputRejected
from router.core.model import ID_PATTERN, ID_REGEX

UNNAMED_PROVIDER = "measured"  # who runs a data center of a file without providers
TIER = "PREMIUM"
MAX_DATA_CENTERS = 1_000  # the matrices are quadratic
MAX_RTT_MS = 60_000
MAX_TEXT = 200
RTT_COLUMNS = ("p50_rtt_ms", "avg_rtt_ms", "rtt_ms")
PAIR_COLUMNS = ("provider_a", "region_a", "provider_b", "region_b", "rtt_ms")
FORMS = (
    "provider_a,region_a,provider_b,region_b,rtt_ms or src_region,dst_region,p50_rtt_ms|avg_rtt_ms|rtt_ms "
    "or src and one per destination"
)


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

    def __init__(self, name: str, max_data_centers: int) -> None:
        self.name = name
        self.max_data_centers = max_data_centers
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

    def line_of_square(self, line: int, cells: Sequence[str], targets: Sequence[str]) -> None:
        if len(cells) != len(targets) + 1:
            raise self.fail(line, "row", f"must have {len(targets) + 1} columns", len(targets) + 1)
        a = self._named(line, None, cells[0].strip())
        for target, cell in zip(targets, cells[1:], strict=True):
            b = self._named(line, None, target)
            rtt_ms = self._number(line, target, cell.strip())
            if a != b:
                self._link(line, target, (a, b), rtt_ms)

    def _end(self, line: int, cells: Sequence[str], provider_at: int | None, region_at: int) -> str:
        return self._named(line, None if provider_at is None else cells[provider_at].strip(), cells[region_at].strip())

    def _named(self, line: int, provider: str | None, region: str) -> str:
        for field, text in (("region", region), ("provider", provider)):
            if text is not None and (not slug(text) or len(text) > MAX_TEXT):
                raise self.fail(line, field, f"{text[:40]!r} must be a name with a letter or digit", MAX_TEXT)
        name = slug(region if provider is None else f"{provider}-{region}")
        if not ID_REGEX.match(name):
            raise self.fail(line, "region", f"gives the id {name[:80]!r}, which must match {ID_PATTERN}", 63)
        written = self.ends.setdefault(name, (provider, region))
        if written != (provider, region):
            raise self.fail(line, "region", f"{region!r} and {written[1]!r} give the same id {name!r}")
        limit = self.max_data_centers
        if len(self.ends) > limit:
            raise self.fail(line, "region", f"is one data center more than {limit}", limit)
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


@dataclass(frozen=True, slots=True)
class Matrix:
    """A checked file: ``ends`` maps an id to provider (``None``: not named) and region as written, in id order.

    ``rtt_ms`` has the round trip of each directed link; ``None`` or absent where there is no link.
    """

    name: str
    ends: Mapping[str, tuple[str | None, str]]
    rtt_ms: Mapping[tuple[str, str], float | None]

    def delay_us(self, source: str, target: str) -> int | None:
        """One-way delay of a link: half of its round trip."""
        rtt_ms = self.rtt_ms.get((source, target))
        return None if rtt_ms is None else round(rtt_ms * 500)


def read_matrix(path: Path, max_data_centers: int = MAX_DATA_CENTERS) -> Matrix:
    """Read and check a file. Raises :class:`InputRejected` (``bad_matrix``) naming line, field, rule and limit."""
    reader = _read(path, max_data_centers)
    if len(reader.ends) < 2:
        raise reader.fail(1, "file", "must name at least two data centers", 2)
    name = path.name.removesuffix(".gz").removesuffix(".csv")
    return Matrix(name, dict(sorted(reader.ends.items())), reader.rtt_ms)


def slug(text: str) -> str:
    """Lower-case ASCII letters and digits of ``text``, everything else one dash between them."""
    ascii_text = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z0-9]+", "-", ascii_text.lower()).strip("-")


def _read(path: Path, max_data_centers: int) -> _Reader:
    reader = _Reader(path.name, max_data_centers)
    max_rows = 2 * max_data_centers**2  # two for each ordered pair
    line = 0
    try:
        with _open(path) as file:
            rows = _lines(file)
            line, header = next(rows, (1, []))
            square = [name.strip() for name in header[1:]] if _is_square(header) else None
            columns = None if square else _columns(reader, header)
            for line, cells in rows:
                if line > max_rows:
                    raise reader.fail(line, "file", f"must have at most {max_rows} lines", max_rows)
                if columns is None:
                    reader.line_of_square(line, cells, square or [])
                else:
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


def _is_square(header: Sequence[str]) -> bool:
    names = [name.strip().lower() for name in header]
    return len(names) > 2 and names[0] == "src" and len(set(names)) == len(names)


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


def _ms(value: float | None) -> str:
    return "empty" if value is None else f"{value:g} ms"
