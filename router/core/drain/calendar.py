"""The calendar of practice drains as people write it: ``tue 03:30 data_center=gcp-ams``, in UTC."""

from __future__ import annotations

import re

from router.core.drain.practice import DAY_MINUTES, MINUTE_US, WEEK_MINUTES, Calendar, Practice, Window, minute_of_week
from router.core.model import ID_REGEX, DataCenterId, Micros, NodeId, ProviderId, RegionId, Selector

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_MOMENT = r"(mon|tue|wed|thu|fri|sat|sun) ([01][0-9]|2[0-3]):([0-5][0-9])"
_PRACTICE = re.compile(rf"{_MOMENT} (\S+)")
_WINDOW = re.compile(rf"{_MOMENT} ?- ?{_MOMENT}")
_PARTS = {"provider": ProviderId, "region": RegionId, "data_center": DataCenterId, "node": NodeId}


def read_calendar(practices: str, blocked: str) -> Calendar:
    """The calendar of two texts whose entries are divided by semicolons. Raises ``ValueError`` with the entry."""
    windows = (window for text in _entries(blocked) for window in _windows(text))
    return Calendar(tuple(map(_practice, _entries(practices))), tuple(windows))


def in_words(minute: int) -> str:
    """``tue 03:30``."""
    day, rest = divmod(minute % WEEK_MINUTES, DAY_MINUTES)
    return f"{DAYS[day]} {rest // 60:02d}:{rest % 60:02d}"


def next_at(practice: Practice, now: Micros) -> Micros:
    """When it is due next, or is due now."""
    ahead = (practice.minute - minute_of_week(now)) % WEEK_MINUTES
    return now - now % MINUTE_US + ahead * MINUTE_US


def _entries(text: str) -> list[str]:
    return [" ".join(entry.split()) for entry in text.split(";") if entry.strip()]


def _practice(text: str) -> Practice:
    found = _PRACTICE.fullmatch(text)
    if found is None:
        raise ValueError(f"{text[:80]!r} must be like 'tue 03:30 data_center=ID'")
    return Practice(_minute(found.groups()[:3]), _selector(found[4]))


def _windows(text: str) -> tuple[Window, ...]:
    found = _WINDOW.fullmatch(text)
    if found is None:
        raise ValueError(f"{text[:80]!r} must be like 'fri 16:00 - mon 06:00'")
    begins, ends = _minute(found.groups()[:3]), _minute(found.groups()[3:])
    if begins < ends:
        return (Window(begins, ends),)
    return (Window(begins, WEEK_MINUTES), Window(0, ends))  # over the end of the week


def _minute(parts: tuple[str | None, ...]) -> int:
    day, hour, minute = (part or "" for part in parts)
    return DAYS.index(day) * DAY_MINUTES + int(hour) * 60 + int(minute)


def _selector(text: str) -> Selector:
    found: dict[str, str] = {}
    for part in text.split(","):
        name, _, value = part.partition("=")
        if name not in _PARTS or name in found or not ID_REGEX.match(value):
            raise ValueError(f"{part[:80]!r} must be one of {', '.join(f'{known}=ID' for known in _PARTS)}, each once")
        found[name] = value
    return Selector(**{name: _PARTS[name](value) for name, value in found.items()})  # type: ignore[arg-type]
