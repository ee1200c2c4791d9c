"""Scenarios made of published incident histories: who, where, how long, how badly.

Two forms of CSV are read: ``service,region,severity_0to3,duration_min`` (as the archive of AWS's status page gives
them), and ``impact,started_utc,last_update_seen_utc,components`` (as Statuspage histories do). What a row says of how
bad it was is mapped by ``SEVERITIES``; what it cannot say, which links and how many packets, is drawn from a stream
named after the row, so that the same row always gives the same scenario. An incident of hours is played in minutes:
its first two minutes and its end are what a control plane can get wrong, so ``for_s`` is at most ``LONGEST_S``, and the
scenario's ``about`` says how long it really was.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from router.core.errors import InputRejected
from router.sim.engine import stream
from router.sim.matrix import slug

LONGEST_S = 120
BEFORE_S, AFTER_S = 40, 60
SERVICES = ("ec2", "vpc", "directconnect", "internetconnectivity", "elb", "globalaccelerator", "transitgateway")
"""Services of the first form whose failure is one of machines or the network; others are told apart by their words."""
SEVERITIES: Mapping[str, tuple[str, float]] = {
    # AWS: 0 informational, 1 performance, 2 disruption of part of it, 3 disruption; Statuspage: none to critical.
    "0": ("nothing", 0.0), "1": ("brownout", 2.0), "2": ("partial", 40.0), "3": ("outage", 100.0),
    "none": ("nothing", 0.0), "maintenance": ("nothing", 0.0), "minor": ("brownout", 2.0),
    "major": ("partial", 40.0), "critical": ("outage", 100.0),
}  # fmt: skip
PARTIAL_WORDS = ("single availability zone", "a small number", "some ", "subset", "partial", "a single")


@dataclass(frozen=True, slots=True)
class Incident:
    """One row of a history, as far as it matters here."""

    row: int
    provider: str
    region: str  # "" or "global": everywhere
    minutes: float
    severity: str
    partial: bool
    title: str


def read(path: Path) -> list[Incident]:
    """All incidents of a file. Raises ``bad_incidents`` for a file of neither form."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            fields = frozenset(reader.fieldnames or ())
            rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputRejected("bad_incidents", f"{path} cannot be read: {error}", field="incidents") from error
    if {"service", "region", "severity_0to3", "duration_min"} <= fields:
        return [_of_archive(i, row) for i, row in enumerate(rows, 1)]
    if {"impact", "started_utc", "last_update_seen_utc", "components"} <= fields:
        provider = "digitalocean" if "digitalocean" in path.name else slug(path.stem)
        return [_of_statuspage(i, row, provider) for i, row in enumerate(rows, 1)]
    rule = "service,region,severity_0to3,duration_min or impact,started_utc,last_update_seen_utc,components"
    raise InputRejected("bad_incidents", f"{path} has no columns that are known", field="incidents", rule=rule)


def scenario_of(path: Path, row: int) -> dict[str, Any]:
    """The scenario of one row, ready for ``scenario.parse``. Raises ``bad_incidents``."""
    found = read(path)
    if not 1 <= row <= len(found):
        text = f"row {row} is not there: {path.name} has rows 1 to {len(found)}"
        raise InputRejected("bad_incidents", text, field="row", rule="a row of the file", limit=len(found))
    return scenario(found[row - 1])


def scenario(incident: Incident, longest_s: int = LONGEST_S) -> dict[str, Any]:
    """A world in which it happens to one provider: in one region of it, or in all; so many seconds of it at most."""
    kind, percent = SEVERITIES.get(incident.severity, ("brownout", 2.0))
    draw = stream(incident.row, f"incident/{incident.provider}")
    for_s = min(longest_s, max(10, round(incident.minutes * 60)))
    target = "provider=oracle" if incident.region in ("", "global") else "data_center=linode-syd1"
    fault: dict[str, Any] = {"id": "incident", "target": target, "at_s": BEFORE_S, "for_s": for_s}
    if kind == "outage" and not incident.partial:
        fault |= {"kind": "outage"}
    elif kind in ("outage", "partial"):
        fault |= {"kind": "gray", "what": "flows", "share_percent": percent if kind == "partial" else 60.0}
    else:
        loss = percent if kind == "brownout" else 0.0
        fault |= {"kind": "brownout", "loss_percent": loss, "delay_ms": draw.choice((0, 20, 60)), "ramp_s": 5}
    scope = "everywhere" if target.startswith("provider") else incident.region
    about = f"{incident.provider} {scope}, {incident.minutes:g} min, severity {incident.severity}: {incident.title}"
    return {
        "name": f"incident-{incident.provider}-{incident.row}",
        "about": about[:480],
        "duration_s": BEFORE_S + for_s + AFTER_S,
        "seed": incident.row,
        "world": {"data_centers": 6, "nodes": 2 if fault["kind"] == "gray" else 1},
        "users": {"sessions": 40, "length_s": 60},
        "faults": [fault],
        "expect": [
            {"count": "sessions_lost", "at_most": 0},
            {"healed_within_s": 30, "fault": "incident"},
            {"placed_percent": 99, "fault": "incident", "after_s": 5},
            {"event": "data_center.down", "at_most": 2},
        ],
    }


def _of_archive(number: int, row: Mapping[str, str]) -> Incident:
    text = f"{row.get('summary', '')} {row.get('text_600ch', '')}".lower()
    minutes = float(row["duration_min"] or 0)
    partial = any(word in text for word in PARTIAL_WORDS) or row["service"] not in SERVICES
    title = " ".join(f"{row['service']}: {row.get('summary', '')}".split())
    return Incident(number, "aws", row["region"], minutes, row["severity_0to3"], partial, title)


def _of_statuspage(number: int, row: Mapping[str, str], provider: str) -> Incident:
    regions = [part.split("/")[1].strip().lower() for part in row["components"].split(";")
               if part.strip().startswith("Regions /")]  # fmt: skip
    region = regions[0] if len(regions) == 1 else "global" if not regions or "global" in regions else ",".join(regions)
    start, end = (
        datetime.fromisoformat(row[k].replace("Z", "+00:00")) for k in ("started_utc", "last_update_seen_utc")
    )
    minutes = max(0.0, (end - start).total_seconds() / 60)
    services = row["components"].count("Services /")
    title = " ".join(row.get("title", "").split())
    return Incident(number, provider, region, round(minutes), row["impact"] or "none", services > 0, title)


def as_yaml(document: Mapping[str, Any]) -> str:
    """The scenario as text to save and edit: JSON is YAML, one field a line."""
    lines = [f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in document.items()]
    return "\n".join(lines) + "\n"
