"""The file of vantage targets: machines in client networks that the nodes may ask by echo request or TCP handshake.

CSV (gzipped if the name ends in ``.gz``): ``target,kind,host,port,asn,country[,latitude,longitude]``, one line each,
after a header if there is one. ``kind`` is ``icmp`` (port empty or 0) or ``tcp``. AS number or country must be known,
or what is measured belongs to nobody; without a position a country stands for its centre.
"""

from __future__ import annotations

import csv
import gzip
from collections.abc import Sequence
from pathlib import Path

from providers.countries import position
from router.core.errors import InputRejected
from router.core.vantage import Vantages, VantageTarget

MOST_TARGETS = 10_000
MOST_CHARACTERS = 255  # of a host: what DNS allows


def read_vantages(path: Path | None, contact: str) -> Vantages:
    """The targets of a file. Raises ``setting_invalid`` naming file and line, or the contact that is missing."""
    if path is None:
        return Vantages()
    if not contact:
        message = "whoever is asked must be able to learn by whom: set it to an address or a page about the probes"
        raise InputRejected("setting_invalid", message, field="vantage_contact")
    targets: dict[str, VantageTarget] = {}
    asked: set[str] = set()
    for number, row in enumerate(_rows(path), 1):
        if not row or (number == 1 and row[0].strip() == "target"):
            continue
        try:
            target = _target(row)
            if target.name in targets:
                raise ValueError(f"the target {target.name} is there twice")
            if target.host in asked:
                raise ValueError(f"the host {target.host} is there twice, and would be asked twice as often")
        except ValueError as error:
            raise _invalid(f"{path} line {number}: {error}") from None
        targets[target.name] = target
        asked.add(target.host)
        if len(targets) > MOST_TARGETS:
            raise _invalid(f"{path} line {number}: more than {MOST_TARGETS:,} targets")
    return Vantages(tuple(targets.values()), contact)


def _rows(path: Path) -> list[list[str]]:
    try:
        raw = path.read_bytes()
        text = (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode("utf-8-sig")
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise _invalid(f"{path}: cannot be read: {error}") from error
    return list(csv.reader(text.splitlines()))


def _invalid(message: str) -> InputRejected:
    return InputRejected("setting_invalid", message, field="vantage_file")


def _target(row: Sequence[str]) -> VantageTarget:
    if len(row) not in (6, 8):
        raise ValueError("is not target,kind,host,port,asn,country[,latitude,longitude]")
    name, kind, host, port, asn, country = (text.strip() for text in row[:6])
    if not name or not host or max(len(name), len(host)) > MOST_CHARACTERS:
        raise ValueError(f"target and host must have 1 to {MOST_CHARACTERS} characters")
    number = _integer(asn.removeprefix("AS"), "asn", (1 << 32) - 1)
    country = country.upper()
    if country and (len(country) != 2 or not (country.isascii() and country.isalpha())):
        raise ValueError(f"country is {country!r}, not an ISO 3166 code of two letters")
    if not number and not country:
        raise ValueError("neither asn nor country: what is measured would belong to nobody")
    latitude, longitude = _position(row[6:], country)
    return VantageTarget(name, kind, host, _port(kind, port), number, country, latitude, longitude)


def _port(kind: str, text: str) -> int:
    port = _integer(text, "port", 65_535)
    if kind not in ("icmp", "tcp"):
        raise ValueError(f"kind is {kind!r}, not icmp or tcp")
    if (kind == "tcp") != (port > 0):
        raise ValueError("tcp needs a port, and icmp has none")
    return port


def _position(texts: Sequence[str], country: str) -> tuple[float | None, float | None]:
    if not any(text.strip() for text in texts):
        return position(country) or (None, None) if country else (None, None)
    latitude, longitude = (float(text) for text in texts)
    if not (-90 <= latitude <= 90 and -180 <= longitude <= 180):
        raise ValueError(f"{latitude}, {longitude} is no place on earth")
    return latitude, longitude


def _integer(text: str, name: str, most: int) -> int:
    if not text:
        return 0
    if not (text.isascii() and text.isdigit()) or int(text) > most:
        raise ValueError(f"{name} is {text!r}, not a number up to {most}")
    return int(text)
