"""How many sessions were moved off what is blamed: counted from rounds of moves, told in the verdict's line."""

from __future__ import annotations

import pytest
from test_drain_states import A1, A2, B1, Floor
from worlds import SECOND

from router.core.blame.outcomes import Outcome
from router.core.messages import Judged, JudgeFault, Moved, Observed, Record, Tick
from router.core.model import NodeId
from router.core.verdicts import Action, Blame, Component, ComponentKind, Evidence, Verdict
from router.schemas.blame import verdict_json

NODE = NodeId("a-1-0")
OFF_CENTER, OFF_NODE = Moved(A1, 12, 0, 3), Moved(A1, 5, 1, 0, NODE)


def accused(floor: Floor, kind: ComponentKind, id: str) -> Component:
    """Somebody is blamed from now on."""
    component = Component(kind, id)
    verdict = Verdict(component, 980_000, floor.now, 3, Evidence(), (), Action.DRAIN_DATA_CENTER, 0, "It is bad.")
    floor.plane._blame.book.current = Blame((verdict,), at=floor.now)
    return component


@pytest.mark.parametrize(
    ("kind", "id", "count"),
    [
        (ComponentKind.EDGE_REGION, "a-1", 17),
        (ComponentKind.PROVIDER, "a", 17),
        (ComponentKind.PROVIDER_REGION, "a/earth", 17),
        (ComponentKind.NODE, "a-1-0", 5),
        (ComponentKind.EDGE_REGION, "b-1", 0),
        (ComponentKind.TARGET, "a-1", 0),  # its agents are at fault, and the edge is well
        (ComponentKind.CLIENT_ISP, "as1", 0),
    ],
)
def test_moves_count_for_what_they_lead_away_from(kind: ComponentKind, id: str, count: int) -> None:
    floor = Floor()
    floor.plane.handle(Moved(A1, 100, 0, 0), floor.now)  # before anybody was blamed
    component = accused(floor, kind, id)
    for event in (OFF_CENTER, OFF_NODE, Moved(A2, 0, 4, 4)):
        floor.plane.handle(event, floor.now)
    view = floor.plane.view
    assert view.moved.get(component, 0) == count
    shown = verdict_json(view, view.blame.verdicts[0], floor.now)
    assert shown["sessions_moved"] == count
    assert (f"{count} sessions moved; " in str(shown["text"])) == (count > 0)


def test_the_line_says_what_was_moved_what_is_left_and_what_to_do() -> None:
    floor = Floor()
    accused(floor, ComponentKind.EDGE_REGION, "a-1")
    floor.live(a_1=3)

    def line() -> object:
        return verdict_json(floor.plane.view, floor.plane.view.blame.verdicts[0], floor.now)["text"]

    assert line() == "It is bad. 3 sessions are on it; drain the data center if it lasts."
    floor.plane.handle(OFF_CENTER, floor.now)
    assert line() == "It is bad. 12 sessions moved; 3 sessions are on it; drain the data center if it lasts."
    floor.live(a_1=-3)
    assert line() == "It is bad. 12 sessions moved; 0 sessions are on it; nothing to do."


def test_the_count_ends_with_the_verdict_and_the_trail_keeps_it() -> None:
    floor = Floor()
    floor.plane.handle(Observed((Outcome(A1, good=5),)), floor.now)
    component = accused(floor, ComponentKind.EDGE_REGION, "a-1")
    floor.plane.handle(OFF_CENTER, floor.now)
    floor.now += 60 * SECOND
    (question,) = floor.plane.handle(Tick("blame"), floor.now)
    assert isinstance(question, JudgeFault)
    told = [e.event for e in floor.plane.handle(Judged(question.case.judged()), floor.now) if isinstance(e, Record)]
    assert [(e.kind, e.subject, e.detail["sessions_moved"]) for e in told] == [("blame.ended", component.name, 12)]
    assert floor.plane.view.moved == {}
    accused(floor, ComponentKind.EDGE_REGION, B1)
    floor.plane.handle(OFF_CENTER, floor.now)
    assert floor.plane.view.moved == {}
