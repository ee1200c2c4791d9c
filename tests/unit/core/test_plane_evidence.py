"""What one report changes at once in the view, and what the view says was left out."""

from __future__ import annotations

from dataclasses import replace

import pytest
from test_plane import DETOUR, Desk
from worlds import SECOND, report

from router.core.messages import Committed, Reported, ResourcesChanged, Solve, Tick
from router.core.model import DataCenterId, Intent
from router.core.plane import FRESH_KEPT
from router.core.tables import NO_COST, FreshRow


@pytest.fixture
def desk() -> Desk:
    made = Desk()
    for _ in range(3):
        made.second(DETOUR)
    return made


def tell(desk: Desk, node: str = "a-1-0", peer: str = "b-1-0", there: int = 70_000, back: int = 40_000) -> None:
    """A report from ``node`` about one peer, a quarter of a second later, on true clocks."""
    desk.now += SECOND // 4
    desk.sequence += 1
    desk.submit(Reported(report(node, {peer: (there + back, there, back)}, desk.sequence)))


def fresh(desk: Desk, vertex: int = 0) -> FreshRow:
    """The newest row of a data center."""
    return desk.plane.view.fresh[vertex][-1]


def test_a_report_shows_at_once_and_the_routes_tick_takes_it_in(desk: Desk) -> None:
    assert desk.plane.view.fresh == {}
    links, generation = desk.plane.view.links, desk.plane.view.generation
    tell(desk)
    view = desk.plane.view
    assert list(view.fresh) == [0] and view.links is links and view.generation == generation
    row = fresh(desk)
    assert (row.at, row.source, row.target.tolist(), row.transport.tolist()) == (desk.now, 0, [2], [0])
    better = int(links.expected_us[0, 0, 2]) - int(row.forward_us[0])
    assert 15_000 <= better <= 30_000, "at least half of what is expected is the newest"
    assert abs(int(row.backward_us[0]) - int(links.expected_us[0, 2, 0])) <= 2_000
    desk.now += SECOND
    desk.submit(Tick("routes"))
    after = desk.plane.view
    assert after.fresh == {} and list(view.fresh) == [0], "views that were handed out do not change"
    assert after.generation > generation
    assert abs(int(after.links.expected_us[0, 0, 2]) - int(row.forward_us[0])) <= 10_000


def test_what_is_fresh_agrees_with_the_next_table_when_nothing_else_comes_in(desk: Desk) -> None:
    tell(desk, there=100_000)
    row = fresh(desk)
    desk.submit(Tick("routes"))
    table = desk.plane.view.links
    round_trip = int(row.forward_us[0] + row.backward_us[0])
    assert round_trip == int(table.expected_us[0, 0, 2] + table.expected_us[0, 2, 0])


def test_each_data_center_has_its_own_rows_in_order_and_only_so_many(desk: Desk) -> None:
    tell(desk)
    first = fresh(desk)
    tell(desk, "a-2-0", "b-1-0", 30_000, 60_000)
    assert sorted(desk.plane.view.fresh) == [0, 1] and desk.plane.view.fresh[0] == (first,)
    tell(desk, there=50_000)
    assert desk.plane.view.fresh[0][0] is first and fresh(desk).forward_us[0] < first.forward_us[0]
    for _ in range(FRESH_KEPT):
        tell(desk)
    at = [row.at for row in desk.plane.view.fresh[0]]
    assert len(at) == FRESH_KEPT and at == sorted(at) and at[-1] == desk.now
    assert len(desk.plane.view.fresh[1]) == 1


def test_before_the_clocks_are_known_a_report_promises_no_delay() -> None:
    desk = Desk()
    tell(desk)
    assert (fresh(desk).forward_us == NO_COST).all()
    tell(desk, "b-1-0", "a-1-0", 40_000, 70_000)
    desk.submit(Tick("routes"))
    tell(desk)
    assert fresh(desk).target.tolist() == [2] and (fresh(desk).forward_us < NO_COST).all()


def test_a_report_that_is_left_out_changes_nothing_and_is_counted(desk: Desk) -> None:
    tell(desk)
    view = desk.plane.view
    desk.now += SECOND // 4
    assert view.refused == {}
    desk.submit(Reported(report("a-1-0", {"b-1-0": (90_000, 50_000, 40_000)}, desk.sequence)))
    desk.submit(Reported(report("a-1-0", {"b-1-0": (90_000, 50_000, 40_000)}, desk.sequence - 1)))
    desk.submit(Reported(report("stranger", {"b-1-0": (90_000, 50_000, 40_000)}, 1)))
    assert desk.plane.view.fresh == view.fresh
    assert desk.plane.view.refused == {"duplicate": 2, "unknown_node": 1} and view.refused == {}
    tell(desk, there=50_000, back=-60_000)
    assert desk.plane.view.refused == {"duplicate": 2, "unknown_node": 1, "faster_than_light": 1}
    assert fresh(desk).target.size == 0


def test_a_report_after_a_restart_of_its_agent_is_no_duplicate(desk: Desk) -> None:
    again = replace(report("a-1-0", {"b-1-0": (110_000, 70_000, 40_000)}, 0), boot="after")
    desk.submit(Reported(again))
    assert desk.plane.view.refused == {} and list(desk.plane.view.fresh) == [0]


def test_a_changed_graph_drops_what_is_fresh_and_any_other_change_keeps_it(desk: Desk) -> None:
    tell(desk)
    desk.submit(Reported(report("stranger", {}, 1)))
    before = desk.plane.view
    center = before.inventory.data_centers[DataCenterId("a-2")]
    desk.submit(Committed((ResourcesChanged((replace(center, intent=Intent.DRAINED, revision=2),)),)))
    assert desk.plane.view.fresh == before.fresh != {} and desk.plane.view.links is before.links
    desk.submit(Committed((ResourcesChanged((replace(center, id=DataCenterId("a-0")),)),)))
    assert desk.plane.view.fresh == {} and desk.plane.view.refused == {"unknown_node": 1}
    assert desk.plane.view.links.data_centers[0] == "a-0"


def test_every_snapshot_carries_the_evidence_of_its_moment(desk: Desk) -> None:
    shots = []
    for _ in range(8):
        desk.log.clear()
        desk.second(DETOUR)
        shots += [e.question for e in desk.log if isinstance(e, Solve)]
    buckets = [shot.evidence.bucket for shot in shots]
    assert len(buckets) == 8 and buckets == sorted(buckets) and buckets[-1] >= buckets[0] + 3
    assert [len(shot.evidence.ring) for shot in shots] == buckets
