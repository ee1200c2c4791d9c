"""Reading values of a scenario strictly: each function takes a value and its place, and refuses with both."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from router.sim.faults import BUSIEST, SELECTOR_KEYS, Number, rejected

MAX_TEXT = 500
WHOLE = (
    "data_centers", "nodes", "seed", "clock_drift_ppm", "at_least", "at_most", "moves_at_most", "sessions",
    "agents_per_hub", "capacity_sessions", "deadline_s", "stage_s",
)  # fmt: skip


def selector(named: str, place: str) -> Mapping[str, str]:
    """Parts of a SELECTOR such as ``provider=gcp,region=fra``. Raises ``bad_scenario``."""
    parts: dict[str, str] = {}
    for part in named.split(","):
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals or key not in SELECTOR_KEYS or not value:
            raise rejected(
                place, f"{part[:80]!r} must be KEY=ID with KEY one of {', '.join(SELECTOR_KEYS)}, or {BUSIEST}"
            )
        if key in parts:
            raise rejected(place, f"names {key} twice", 1)
        parts[key] = value
    return parts


def mapping(data: object, place: str, known: tuple[str, ...]) -> Mapping[str, Any]:
    """A mapping without unknown fields."""
    if not isinstance(data, Mapping):
        raise rejected(place, "must be a mapping")
    for key in data:
        if key not in known:
            raise rejected(f"{place}.{str(key)[:80]}", f"is not a known field (known: {', '.join(known)})")
    return data


def items(record: Mapping[str, Any], name: str, limit: int) -> list[object]:
    """A list under a field, empty if it is not there."""
    value = record.get(name, [])
    if not isinstance(value, list) or len(value) > limit:
        raise rejected(name, "must be a list", limit)
    return value


def required(record: Mapping[str, Any], name: str, place: str = "") -> object:
    """A field that must be there."""
    if name not in record:
        raise rejected(f"{place}.{name}" if place else name, "is required")
    return record[name]


def text(value: object, place: str) -> str:
    """A text of at most ``MAX_TEXT`` characters."""
    if not isinstance(value, str) or not 0 < len(value.strip()) <= MAX_TEXT:
        raise rejected(place, "must be a text (in YAML, quote what looks like a number or a truth value)", MAX_TEXT)
    return value.strip()


def word(value: object, place: str, words: tuple[str, ...]) -> str:
    """One of some words."""
    if value not in words:
        raise rejected(place, f"{str(value)[:80]!r} must be one of {', '.join(words)}")
    return str(value)


def number(value: object, place: str, bounds: Number, whole: bool = False) -> float:
    """A number within bounds."""
    kind = int if whole else (int, float)
    if isinstance(value, bool) or not isinstance(value, kind) or not math.isfinite(value):
        raise rejected(place, "must be a whole number" if whole else "must be a number")
    if not bounds.low <= value <= bounds.high:
        over = value > bounds.high
        raise rejected(
            place, f"must be between {bounds.low:g} and {bounds.high:g}", bounds.high if over else bounds.low
        )
    return value if place == "seed" else float(value)


def micros(value: object, place: str, bounds: Number) -> int:
    """Seconds within bounds, in microseconds."""
    return round(number(value, place, bounds) * 1e6)
