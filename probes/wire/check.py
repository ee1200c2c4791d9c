"""Strict decoding of parsed JSON: each function returns the checked value or names field and rule. PURE."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields

WIRE_VERSION = 1
MAX_TEXT = 255
MAX_ENTRIES = 200_000  # of a list that nothing else bounds


class WireError(ValueError):
    """A message broke the contract: ``field``, the ``rule``, and the ``limit`` if the rule has one."""

    def __init__(self, field: str, rule: str, limit: str | int | None = None) -> None:
        super().__init__(f"{field}: {rule}" + (f" (limit {limit})" if limit is not None else ""))
        self.field = field
        self.rule = rule
        self.limit = limit


def record_of(data: object, name: str, cls: type, optional: Mapping[str, object] | None = None) -> dict[str, object]:
    """The object's fields, exactly those of ``cls``; what came later than version 1 may be absent: ``optional``."""
    if not isinstance(data, dict):
        raise WireError(name, "must be an object")
    known = [f.name for f in fields(cls)]
    for key in data:
        if key not in known:
            raise WireError(f"{name}.{key}", "is not a known field")
    found = data if optional is None else {**optional, **data}
    for key in known:
        if key not in found:
            raise WireError(f"{name}.{key}", "is required")
    return found


def check_version(record: Mapping[str, object]) -> None:
    """The only version there is so far."""
    if record["version"] != WIRE_VERSION:
        raise WireError("version", "is not supported", WIRE_VERSION)


def text_in(record: Mapping[str, object], key: str, prefix: str = "") -> str:
    """A field that is a non-empty text."""
    return string(record[key], f"{prefix}.{key}" if prefix else key)


def string(value: object, name: str) -> str:
    """A non-empty text of at most ``MAX_TEXT`` characters."""
    if not isinstance(value, str) or not 0 < len(value) <= MAX_TEXT:
        raise WireError(name, "must be a non-empty string", MAX_TEXT)
    return value


def integer(value: object, name: str, low: int, high: int) -> int:
    """An integer within both bounds; a boolean is none."""
    if type(value) is not int:
        raise WireError(name, "must be an integer")
    if not low <= value <= high:
        raise WireError(name, f"must be between {low} and {high}", high if value > high else low)
    return value


def listed(value: object, name: str, limit: int) -> list[object]:
    """A list of at most ``limit`` entries."""
    if not isinstance(value, list):
        raise WireError(name, "must be a list")
    if len(value) > limit:
        raise WireError(name, "is too long", limit)
    return value


def same_length(record: Mapping[str, object], name: str) -> dict[str, list[object]]:
    """Columns as long as the first one."""
    columns = {key: listed(value, f"{name}.{key}", MAX_ENTRIES) for key, value in record.items()}
    first, *others = columns
    for key in others:
        if len(columns[key]) != len(columns[first]):
            raise WireError(f"{name}.{key}", f"must be as long as {name}.{first}", len(columns[first]))
    return columns


def texts(value: object, name: str) -> tuple[str, ...]:
    """A list of non-empty texts."""
    return tuple(string(part, f"{name}[{i}]") for i, part in enumerate(listed(value, name, MAX_ENTRIES)))


def indexes(value: object, name: str, count: int, limit: int = MAX_ENTRIES, least: int = 0) -> tuple[int, ...]:
    """Places in a table of ``count`` entries."""
    parts = listed(value, name, limit)
    if len(parts) < least:
        raise WireError(name, "is too short", least)
    return tuple(integer(part, f"{name}[{i}]", 0, count - 1) for i, part in enumerate(parts))


def are_integers(column: Sequence[object], low: int, high: int) -> bool:
    """Whether all are integers within both bounds: told at once, where a check of each would name the first fault."""
    return not column or (
        set(map(type, column)) == {int} and low <= min(column) and max(column) <= high  # type: ignore[type-var, operator]
    )


def are_strings(column: Sequence[object]) -> bool:
    """Whether all are texts as ``string`` wants them."""
    return set(map(type, column)) <= {str} and all(0 < len(value) <= MAX_TEXT for value in column)  # type: ignore[arg-type]


def bounded(column: Sequence[object], name: str, low: int, high: int) -> None:
    """Integers within both bounds, all of them."""
    if are_integers(column, low, high):
        return
    for i, value in enumerate(column):
        integer(value, f"rows.{name}[{i}]", low, high)
