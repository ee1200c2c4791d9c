"""Copies of records with some fields changed: a take makes four, and ``dataclasses.replace`` costs more than a row."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from operator import attrgetter
from typing import Any, TypeVar

T = TypeVar("T")
_FORMS: dict[type[Any], tuple[tuple[str, ...], Callable[[Any], tuple[Any, ...]]]] = {}


def altered(record: T, **changes: object) -> T:
    """What ``dataclasses.replace`` gives for a dataclass whose every field is a parameter of its constructor."""
    form = _FORMS.get(type(record))
    if form is None:
        names = tuple(field.name for field in fields(record))  # type: ignore[arg-type]
        form = _FORMS[type(record)] = (names, attrgetter(*names))
    return type(record)(**{**dict(zip(form[0], form[1](record), strict=True)), **changes})
