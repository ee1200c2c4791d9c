"""The calendar of practice drains as people write it."""

from __future__ import annotations

import pytest
from worlds import SECOND

from router.core.drain import Window, in_words, next_at, read_calendar
from router.core.model import DataCenterId, ProviderId, RegionId, Selector

MONDAY = 4 * 86_400 * SECOND  # 1970-01-05


def test_practices_and_windows_are_read_as_minutes_of_the_week() -> None:
    calendar = read_calendar(
        "tue 03:30 data_center=gcp-ams;  wed  04:00 provider=oracle,region=fra ;",
        "fri 16:00 - mon 06:00; tue 00:00-tue 01:00",
    )
    first, second = calendar.practices
    assert (first.minute, first.selector) == (1_440 + 210, Selector(data_center=DataCenterId("gcp-ams")))
    assert second.selector == Selector(ProviderId("oracle"), RegionId("fra"))
    assert calendar.blocked == (Window(4 * 1_440 + 960, 10_080), Window(0, 360), Window(1_440, 1_500))
    assert [in_words(practice.minute) for practice in calendar.practices] == ["tue 03:30", "wed 04:00"]
    assert read_calendar(" ", "") == read_calendar("", ";")


def test_when_it_is_due_next() -> None:
    (practice,) = read_calendar("tue 03:30 data_center=gcp-ams", "").practices
    due = MONDAY + (1_440 + 210) * 60 * SECOND
    assert next_at(practice, MONDAY + 5) == due == next_at(practice, due + 59 * SECOND)
    assert next_at(practice, due + 60 * SECOND) == due + 7 * 86_400 * SECOND


@pytest.mark.parametrize(
    ("practices", "blocked", "says"),
    [
        ("tuesday 03:30 data_center=a", "", "must be like 'tue 03:30 data_center=ID'"),
        ("tue 24:00 data_center=a", "", "must be like"),
        ("tue 03:30", "", "must be like"),
        ("tue 03:30 planet=earth", "", "must be one of provider=ID"),
        ("tue 03:30 node=a,node=b", "", "each once"),
        ("tue 03:30 node=A B", "", "must be like"),
        ("", "fri 16:00", "must be like 'fri 16:00 - mon 06:00'"),
    ],
)
def test_what_cannot_be_read_is_named(practices: str, blocked: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        read_calendar(practices, blocked)
