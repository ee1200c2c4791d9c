"""Mergeable log-bucket histograms, flattened to ``[bucket, count, bucket, count, …]``; DDSketch semantics. PURE."""

from __future__ import annotations

import math
from collections.abc import Sequence

MAX_BUCKETS = 512  # per sketch
GAMMA = 1.02  # relative width of a bucket (Masson et al., VLDB 2019)
_LOG_GAMMA = math.log(GAMMA)


def bucket_of(value_us: int) -> int:
    """Sketch bucket of a value in microseconds: 0 for 0, ``±(1 + floor(log(|v|) / log(GAMMA)))`` otherwise."""
    if value_us == 0:
        return 0
    magnitude = 1 + int(math.log(abs(value_us)) / _LOG_GAMMA)
    return magnitude if value_us > 0 else -magnitude


def bucket_value(bucket: int) -> float:
    """Representative value (microseconds) of a bucket: its geometric middle."""
    if bucket == 0:
        return 0.0
    value = math.exp((abs(bucket) - 0.5) * _LOG_GAMMA)
    return value if bucket > 0 else -value


def sketch_quantile(sketch: Sequence[int], q: float) -> float | None:
    """Quantile ``q`` in 0..1 (microseconds) of a flattened sketch, ``None`` when it is empty."""
    total = sum(sketch[1::2])
    if total == 0:
        return None
    rank, seen = q * (total - 1), 0
    for bucket, count in zip(sketch[::2], sketch[1::2], strict=True):
        seen += count
        if seen > rank:
            return bucket_value(bucket)
    return bucket_value(sketch[-2])


def merge_sketches(a: Sequence[int], b: Sequence[int]) -> tuple[int, ...]:
    """Add two flattened sketches; both must have been taken over the same base."""
    counts: dict[int, int] = {}
    for sketch in (a, b):
        for bucket, count in zip(sketch[::2], sketch[1::2], strict=True):
            counts[bucket] = counts.get(bucket, 0) + count
    return tuple(part for bucket in sorted(counts) for part in (bucket, counts[bucket]))
