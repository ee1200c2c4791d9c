"""Rolled-up history of one link: bucket rows of the store, unpacked and rolled up again to the step asked for.

What was *counted* merges exactly. A link from A to B and the one from B to A have the same round trip, so the counts of
both ends are added, over all buckets of a step; quantiles are taken off the merged sketch (within 1 %), never averaged.
``loss_pct`` is half of the counted round-trip loss, as everywhere: the share of one direction.

What was *estimated* (one-way delays, jitter) is one value per bucket, shown as least, mean and greatest of the step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from pydantic import Field

from probes.wire import merge_sketches, sketch_quantile
from router.core.messages import AppendHistory, RouteChange
from router.core.model import DataCenterId, Micros
from router.core.rollup import unpack_sketch
from router.core.tables import UNKNOWN
from router.schemas.fields import Answer
from router.schemas.units import known_ms, known_pct, rfc3339


class Quantiles(Answer):
    """Round trips of a step in ms: the least exactly, the others within 1 %."""

    min: float
    p50: float
    p95: float
    max: float


class Spread(Answer):
    """Least, mean and greatest of the buckets in a step, in ms."""

    min: float
    mean: float
    max: float


class HistoryPoint(Answer):
    """One step; null where nothing was measured in it."""

    at: str
    rtt_ms: Quantiles | None
    forward_ms: Spread | None
    return_ms: Spread | None
    jitter_ms: Spread | None
    loss_pct: float | None
    samples: int = Field(description="probes that were answered; `rtt_ms` is about these")
    lost: int = Field(description="probes that were not")


class HistoryRouteChange(Answer):
    """The path in force from here to there became another one; null where there is no path."""

    at: str
    generation: int
    traffic_class: str = Field(alias="class")
    from_path: list[str] | None
    to_path: list[str] | None


class History(Answer):
    """History of one directed link over one transport, and of the routes between its ends."""

    source: str = Field(alias="from")
    target: str = Field(alias="to")
    transport: str
    step_s: int
    items: list[HistoryPoint]
    route_changes: list[HistoryRouteChange] = Field(description="oldest first; at most the newest 1,000")


@dataclass(frozen=True, slots=True)
class Bucket:
    """One link in one roll-up bucket."""

    at: Micros
    forward_us: int = UNKNOWN
    jitter_us: int = UNKNOWN
    rtt_min_us: int = UNKNOWN
    sent: int = 0
    lost: int = 0
    rtt_sketch: tuple[int, ...] = ()


_PLAIN = ("forward_us", "jitter_us", "rtt_min_us", "sent", "lost")


def unpack(rows: Sequence[AppendHistory], target: DataCenterId, transport: str) -> list[Bucket]:
    """Pick one link out of the packed rows of a source; rows that did not know the link yet are skipped."""
    found: list[Bucket] = []
    for row in rows:
        if target in row.data_centers and transport in row.transports:
            links = len(row.transports) * len(row.data_centers)
            place = row.transports.index(transport) * len(row.data_centers) + row.data_centers.index(target)
            cells = {
                name: int(np.frombuffer(row.columns[name], "<i8")[place]) for name in _PLAIN if name in row.columns
            }
            packed = row.columns.get("rtt_sketch")
            sketch = () if packed is None else unpack_sketch(packed, links, place)
            found.append(Bucket(row.bucket_at, rtt_sketch=sketch, **cells))
    return found


def _quantiles(buckets: Sequence[Bucket]) -> dict[str, object] | None:
    merged: tuple[int, ...] = ()
    for bucket in buckets:
        merged = merge_sketches(merged, bucket.rtt_sketch)
    least = min((b.rtt_min_us for b in buckets if b.rtt_min_us >= 0), default=0)
    found = [sketch_quantile(merged, q) for q in (0.5, 0.95, 1.0)]
    values = [max(least, round(value)) for value in found if value is not None]
    if not values:
        return None
    return dict(zip(("min", "p50", "p95", "max"), map(known_ms, [least, *values]), strict=True))


def _spread(values: Sequence[int]) -> dict[str, object] | None:
    known = [value for value in values if value >= 0]
    if not known:
        return None
    return {"min": known_ms(min(known)), "mean": known_ms(round(sum(known) / len(known))), "max": known_ms(max(known))}


def history_points(forward: Sequence[Bucket], back: Sequence[Bucket], step_s: int) -> list[dict[str, object]]:
    """Roll buckets of both directions up into steps of ``step_s`` aligned to the epoch; empty steps are left out."""
    step_us = step_s * 1_000_000
    steps: dict[Micros, tuple[list[Bucket], list[Bucket]]] = {}
    for direction, buckets in enumerate((forward, back)):
        for bucket in buckets:
            steps.setdefault(bucket.at - bucket.at % step_us, ([], []))[direction].append(bucket)
    return [_point(at, out, home) for at, (out, home) in sorted(steps.items())]


def _point(at: Micros, out: Sequence[Bucket], home: Sequence[Bucket]) -> dict[str, object]:
    both = [*out, *home]
    sent, lost = sum(b.sent for b in both), sum(b.lost for b in both)
    return {
        "at": rfc3339(at),
        "rtt_ms": _quantiles(both),
        "forward_ms": _spread([b.forward_us for b in out]),
        "return_ms": _spread([b.forward_us for b in home]),
        "jitter_ms": _spread([b.jitter_us for b in out]),
        "loss_pct": known_pct(round(lost * 500_000 / sent)) if sent else None,
        "samples": sent - lost,
        "lost": lost,
    }


def route_change_json(change: RouteChange) -> dict[str, object]:
    """Map a route change to its JSON form."""
    return {
        "at": rfc3339(change.at),
        "generation": change.generation,
        "class": change.traffic_class.value,
        "from_path": change.from_path,
        "to_path": change.to_path,
    }
