"""Which route changes are kept: real ones, of pairs that had a path, and never a flood."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from worlds import snapshot

from router.core.messages import RouteChange
from router.core.model import DataCenterId, TrafficClass
from router.core.solve import Switcher, changes, solve
from router.core.solve.changes import RouteLog
from router.core.tables import NO_COST, Context, RouteTable

BASE = np.array([[0, 10, 90], [10, 0, 20], [90, 20, 0]], np.int64) * 1_000


def table(cost: np.ndarray, generation: int, names: str = "", previous: RouteTable | None = None) -> RouteTable:
    """A table that takes every candidate, as after a long dwell."""
    asked = snapshot(cost, generation=generation)
    if names:
        asked = replace(asked, data_centers=tuple(DataCenterId(name) for name in names.split()))
    return Switcher().adopt(previous, asked, solve(asked), generation)[0]


def without(vertex: int) -> np.ndarray:
    cost = BASE.copy()
    cost[vertex, :] = cost[:, vertex] = NO_COST
    return cost


def seen(found: tuple[RouteChange, ...]) -> list[tuple[str, str | None, str | None]]:
    def text(path: tuple[DataCenterId, ...] | None) -> str | None:
        return None if path is None else " ".join(path)

    return [(f"{c.source}>{c.target}", text(c.from_path), text(c.to_path)) for c in found]


def test_another_path_is_listed_with_both_paths() -> None:
    cost = BASE.copy()
    cost[0, 2] = 25_000
    (change,) = RouteLog().note(table(BASE, 1), table(cost, 2))
    path = (DataCenterId("d000"), DataCenterId("d001"), DataCenterId("d002"))
    assert change == RouteChange(2, 2, TrafficClass.VOICE, path[0], path[2], path, (path[0], path[2]))


def test_the_first_table_and_first_paths_are_no_changes() -> None:
    log, nothing = RouteLog(), np.full((3, 3), NO_COST)
    assert log.note(None, table(BASE, 1)) == ()
    assert log.note(table(nothing, 2), table(BASE, 3)) == ()
    assert log.note(table(BASE, 3), table(BASE, 4)) == ()


def test_a_lost_path_and_its_return_are_listed() -> None:
    log = RouteLog()
    up, down = table(BASE, 1), table(without(2), 2)
    gone = seen(log.note(up, down))
    assert gone == [
        ("d000>d002", "d000 d001 d002", None), ("d001>d002", "d001 d002", None),
        ("d002>d000", "d002 d001 d000", None), ("d002>d001", "d002 d001", None),
    ]  # fmt: skip
    assert log.note(down, table(without(2), 3)) == ()
    assert seen(log.note(down, up)) == [(pair, None, path) for pair, path, _ in gone]
    assert log.note(down, up) == (), "only what was lost can return"


def test_pairs_keep_their_story_when_vertices_are_renumbered() -> None:
    old = table(BASE, 1, "b c d")
    wider = np.full((4, 4), 70_000, np.int64)
    wider[1:, 1:] = BASE
    assert RouteLog().note(old, table(wider, 2, "a b c d")) == ()
    relay_gone = BASE[np.ix_([0, 2], [0, 2])]
    assert seen(RouteLog().note(old, table(relay_gone, 2, "b d"))) == [("b>d", "b c d", "b d"), ("d>b", "d c b", "d b")]
    cut = np.full((2, 2), NO_COST)
    log = RouteLog()
    assert seen(log.note(old, table(cut, 2, "b d"))) == [("b>d", "b c d", None), ("d>b", "d c b", None)]
    assert log.note(table(cut, 2, "b d"), table(relay_gone, 3, "b x")) == (), "d is another story than x"


def test_a_storm_is_listed_up_to_the_limit_and_then_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changes, "MAX_LISTED", 3)
    log, up, down = RouteLog(), table(BASE, 1), table(without(2), 2)
    assert len(log.note(up, down)) == 3
    assert log.note(down, up) == ()
    assert log.turn() == 5
    assert len(log.note(up, down)) == 3, "a new bucket has room again"
    assert (log.turn(), log.turn()) == (1, 0)


def test_only_plain_voice_is_kept() -> None:
    def as_bulk(held: RouteTable) -> RouteTable:
        return replace(held, snapshot=replace(held.snapshot, contexts=(Context(TrafficClass.BULK),)))

    up, down = table(BASE, 1), table(without(2), 2)
    assert RouteLog().note(as_bulk(up), as_bulk(down)) == ()
    assert RouteLog().note(as_bulk(up), down) == ()
