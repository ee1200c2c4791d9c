"""Whose an address is and where: AS number, country and position, from files that the operator supplies.

Two CSV files (gzipped if the name ends in ``.gz``), each a list of address ranges, first and last included, as text
(``1.0.0.0``, ``2001:db8::``) or as unsigned 32-bit integers: ``start,end,asn`` and ``start,end,country[,latitude,
longitude]``. A header line is skipped. Ranges may nest: the narrowest one counts, as longest prefixes do. Everything is
sorted arrays; a lookup is a bisection of each, about two microseconds.

Look-ups take the /24 or /48 that is kept of an address: the address itself is needed nowhere. Of IPv6 the upper
64 bits are compared.
"""

from __future__ import annotations

import csv
import gzip
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Network, ip_address, ip_network
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from providers.countries import position
from router.core.errors import InputRejected
from router.core.model import Client

U64 = NDArray[np.uint64]
NOBODY = -1
CACHED = 65_536  # look-ups
# Addresses that many networks use at once: nothing can be known of "the" network behind them.
SHARED = tuple(
    ip_network(text)
    for text in (
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16",
        "224.0.0.0/3", "::/16", "fc00::/7", "fe80::/10", "ff00::/8",
    )
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Where:
    """What a file says about a range."""

    country: str | None = None
    latitude: float | None = None
    longitude: float | None = None


@dataclass(frozen=True, eq=False)
class Ranges:
    """Disjoint ranges in order, and the index of what is said about each."""

    start: U64 = field(default_factory=lambda: np.zeros(0, np.uint64))
    end: U64 = field(default_factory=lambda: np.zeros(0, np.uint64))
    value: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))

    def find(self, address: int) -> int:
        """What is said about an address, ``NOBODY`` if nothing."""
        at = int(self.start.searchsorted(np.uint64(address), "right")) - 1
        return int(self.value[at]) if at >= 0 and address <= int(self.end[at]) else NOBODY


class AddressBook:
    """Look-ups by prefix; without files it knows nothing."""

    def __init__(self, asn_file: Path | None = None, location_file: Path | None = None) -> None:
        """Read the files. Raises ``setting_invalid`` naming the file and the line."""
        self._asn4, self._asn6 = (Ranges(), Ranges()) if asn_file is None else _tables(asn_file, "asn_file", _asn)
        self._places: list[Where] = []
        self._where4, self._where6 = Ranges(), Ranges()
        if location_file is not None:
            index: dict[Where, int] = {}
            self._where4, self._where6 = _tables(
                location_file, "location_file", lambda row: index.setdefault(_where(row), len(index))
            )
            self._places = list(index)
        self._looked_up = lru_cache(CACHED)(self._look_up)

    def located(self, client: Client) -> Client:
        """The client with what its prefix tells, where it says nothing itself; a country puts it at its centre."""
        if client.prefix is None and (client.latitude is not None or client.country is None):
            return client
        asn, where = (None, Where()) if client.prefix is None else self._looked_up(client.prefix)
        country = where.country if client.country is None else client.country
        latitude, longitude = client.latitude, client.longitude
        if latitude is None and client.country in (None, where.country):
            latitude, longitude = where.latitude, where.longitude
        if latitude is None and country is not None:
            latitude, longitude = position(country) or (None, None)
        return Client(client.prefix, asn if client.asn is None else client.asn, country, latitude, longitude)

    def network(self, client: Client) -> Client | None:
        """:meth:`located`, for keeping measurements of it: without a prefix that many networks share.

        ``None`` if nothing is left to know it by.
        """
        if client.prefix is not None and is_shared(client.prefix):
            client = replace(client, prefix=None)
        found = self.located(client)
        return None if found.prefix is None and found.asn is None and found.country is None else found

    def _look_up(self, prefix: str) -> tuple[int | None, Where]:
        network = ip_network(prefix)
        small = isinstance(network, IPv4Network)
        first = int(network.network_address)
        address = first if small else first >> 64
        asn = (self._asn4 if small else self._asn6).find(address)
        place = (self._where4 if small else self._where6).find(address)
        return (None if asn in (NOBODY, 0) else asn), (Where() if place == NOBODY else self._places[place])


def is_shared(prefix: str) -> bool:
    """Whether a prefix is private, local or otherwise used by many networks at once."""
    network = ip_network(prefix)
    return any(_inside(network, other) for other in SHARED)


def _inside(network: IPv4Network | IPv6Network, other: IPv4Network | IPv6Network) -> bool:
    return network.version == other.version and network.network_address in other


def _tables(path: Path, setting: str, value_of: object) -> tuple[Ranges, Ranges]:
    """Ranges of IPv4 and of IPv6."""
    assert callable(value_of)
    small: list[tuple[int, int, int]] = []
    large: list[tuple[int, int, int]] = []
    for number, row in _rows(path, setting):
        try:
            start, is_small = _address(row[0])
            end, also_small = _address(row[1])
            if is_small != also_small or end < start:
                raise ValueError
            (small if is_small else large).append((start, end, value_of(row)))
        except (ValueError, IndexError):
            if number == 1:
                continue  # a header
            message = f"{path} line {number}: is not a range of addresses and what belongs to it"
            raise InputRejected("setting_invalid", message, field=setting) from None
    return _disjoint(small), _disjoint(large)


def _rows(path: Path, setting: str) -> Iterator[tuple[int, list[str]]]:
    try:
        raw = path.read_bytes()
        text = (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode("utf-8-sig")
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise InputRejected("setting_invalid", f"{path}: cannot be read: {error}", field=setting) from error
    for number, row in enumerate(csv.reader(text.splitlines()), 1):
        if row:
            yield number, row


def _address(text: str) -> tuple[int, bool]:
    """The number to compare, and whether it is an IPv4 address."""
    if text.isdigit():
        value = int(text)
        if value >= 1 << 32:
            raise ValueError
        return value, True
    address = ip_address(text)
    return (int(address), True) if isinstance(address, IPv4Address) else (int(address) >> 64, False)


def _asn(row: Sequence[str]) -> int:
    value = int(row[2].removeprefix("AS"))
    if not 0 <= value < 1 << 32:
        raise ValueError
    return value


def _where(row: Sequence[str]) -> Where:
    country = row[2].upper()
    if country and (len(country) != 2 or not country.isalpha()):
        raise ValueError
    if len(row) < 5 or not row[3] or not row[4]:
        return Where(country or None)
    latitude, longitude = float(row[3]), float(row[4])
    if not (-90 <= latitude <= 90 and -180 <= longitude <= 180):
        raise ValueError
    return Where(country or None, latitude, longitude)


def _disjoint(ranges: list[tuple[int, int, int]]) -> Ranges:
    """Ranges in order, none over another: of nested ones the narrowest stays on top."""
    ranges.sort(key=lambda one: (one[0], -one[1]))
    nested = any(b[0] <= a[1] for a, b in pairwise(ranges))
    rows = _flattened(ranges) if nested else ranges
    columns = list(zip(*rows, strict=True)) or [(), (), ()]
    return Ranges(np.array(columns[0], np.uint64), np.array(columns[1], np.uint64), np.array(columns[2], np.int64))


def _flattened(ranges: list[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    out: list[tuple[int, int, int]] = []
    open_: list[tuple[int, int]] = []  # ends and values of the ranges we are in, the narrowest last
    at = 0

    def close(until: int) -> None:
        nonlocal at
        while open_ and open_[-1][0] < until:
            end, value = open_.pop()
            if end >= at:
                out.append((at, end, value))
                at = end + 1

    for start, end, value in ranges:
        close(start)
        if open_ and start > at:
            out.append((at, start - 1, open_[-1][1]))
        at = max(at, start) if open_ else start
        end = min(end, open_[-1][0]) if open_ else end  # one that only overlaps is cut
        open_.append((end, value))
    close(1 << 65)
    return out
