"""Rolled-up history of one link: bucket rows of the store, unpacked and rolled up again to the step asked for."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pydantic import Field

from router.core.messages import AppendHistory
from router.core.model import DataCenterId, Micros
from router.schemas.fields import Answer
from router.schemas.units import known_ms, known_pct, rfc3339

COLUMNS = ("rtt_us", "forward_us", "jitter_us", "loss_ppm", "samples")


class Spread(Answer):
    """Least, mean and greatest of the buckets in a step, in ms."""

    min: float
    mean: float
    max: float


class HistoryPoint(Answer):
    """One step; null where nothing was measured in it."""

    at: str
    rtt_ms: Spread | None
    forward_ms: Spread | None
    return_ms: Spread | None
    jitter_ms: Spread | None
    loss_pct: float | None
    samples: int


class History(Answer):
    """History of one directed link over one transport."""

    source: str = Field(alias="from")
    target: str = Field(alias="to")
    transport: str
    step_s: int
    items: list[HistoryPoint]


Bucket = tuple[Micros, dict[str, int]]


def unpack(rows: Sequence[AppendHistory], target: DataCenterId, transport: str) -> list[Bucket]:
    """Pick one link out of the packed rows of a source; rows that did not know the link yet are skipped."""
    found: list[Bucket] = []
    for row in rows:
        if target in row.data_centers and transport in row.transports:
            shape = (len(row.transports), len(row.data_centers))
            place = (row.transports.index(transport), row.data_centers.index(target))
            cells = {
                name: int(np.frombuffer(row.columns[name], np.dtype("<i8")).reshape(shape)[place])
                for name in COLUMNS
                if name in row.columns
            }
            found.append((row.bucket_at, cells))
    return found


def _spread(buckets: Sequence[dict[str, int]], name: str) -> dict[str, object] | None:
    values = [cells[name] for cells in buckets if cells.get(name, -1) >= 0]
    if not values:
        return None
    return {
        "min": known_ms(min(values)),
        "mean": known_ms(round(sum(values) / len(values))),
        "max": known_ms(max(values)),
    }


def _loss(buckets: Sequence[dict[str, int]]) -> float | None:
    weighed = [(c["loss_ppm"], max(1, c.get("samples", 1))) for c in buckets if c.get("loss_ppm", -1) >= 0]
    if not weighed:
        return None
    return known_pct(round(sum(loss * weight for loss, weight in weighed) / sum(weight for _, weight in weighed)))


def history_points(forward: Sequence[Bucket], back: Sequence[Bucket], step_s: int) -> list[dict[str, object]]:
    """Roll buckets of both directions up into steps of ``step_s`` aligned to the epoch; empty steps are left out."""
    step_us = step_s * 1_000_000
    steps: dict[Micros, tuple[list[dict[str, int]], list[dict[str, int]]]] = {}
    for direction, buckets in enumerate((forward, back)):
        for at, cells in buckets:
            steps.setdefault(at - at % step_us, ([], []))[direction].append(cells)
    return [
        {
            "at": rfc3339(at),
            "rtt_ms": _spread(out, "rtt_us"),
            "forward_ms": _spread(out, "forward_us"),
            "return_ms": _spread(home, "forward_us"),
            "jitter_ms": _spread(out, "jitter_us"),
            "loss_pct": _loss(out),
            "samples": sum(max(0, cells.get("samples", 0)) for cells in out),
        }
        for at, (out, home) in sorted(steps.items())
    ]
