"""How fast sessions are moved off a data center."""

from __future__ import annotations

from dataclasses import replace

from test_plane import Desk

from router.core.drain.pace import MOVE_FLOOR, MOVE_LIMIT, moves_per_s
from router.core.model import Counters, DataCenterId
from router.core.tables import View

TO = DataCenterId("b-1")


def receiver(places: int, taken: int = 0) -> View:
    view = Desk().plane.view
    centers = {**view.inventory.data_centers}
    centers[TO] = replace(centers[TO], capacity_sessions=places)
    return replace(
        view, inventory=replace(view.inventory, data_centers=centers), counters=Counters({TO: taken}, {}, {})
    )


def test_the_pace_is_a_part_of_what_is_free_between_its_bounds() -> None:
    assert moves_per_s(receiver(0), [TO]) == MOVE_LIMIT, "no declared capacity: only the set-up rate counts"
    assert moves_per_s(receiver(1_000), [TO]) == MOVE_LIMIT
    assert moves_per_s(receiver(1_000, 800), [TO]) == 10
    assert moves_per_s(receiver(10, 4), [TO]) == MOVE_FLOOR
    assert moves_per_s(receiver(10, 12), [TO]) == MOVE_FLOOR, "overfilled is not for ever"


def test_five_hundred_sessions_move_within_a_minute_into_as_many_free_places() -> None:
    moved = seconds = 0
    while moved < 500:
        moved, seconds = moved + moves_per_s(receiver(500, moved), [TO]), seconds + 1
    assert seconds <= 60
