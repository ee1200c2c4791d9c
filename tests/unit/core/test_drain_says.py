"""What drains wait for is said: of machines, and of agents that were taken after the drain began."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bench.histories.place import PLAIN, START, first_view
from router.core.drain import DrainBook, DrainRequest, Outcome, open_drain, preflight
from router.core.model import Counters, DataCenterId, Drain, DrainId, DrainMode, DrainState, NodeId, Selector

NODE, HUB = NodeId("gcp-fra-0"), DataCenterId("gcp-fra")


@pytest.mark.parametrize("state", [DrainState.BLEEDING, DrainState.CORDONED])
def test_a_waiting_drain_of_a_machine_names_it(state: DrainState) -> None:
    drain = Drain(
        DrainId("d-1"), Selector(node=NODE), DrainMode.SOFT, state, (), {}, "", START, "test", nodes=(NODE,)
    )  # fmt: skip
    book = DrainBook()
    book.measure(replace(first_view(), drains={drain.id: drain}), START)
    assert any(NODE in text for text in book.progress[drain.id].blocked_by)


def test_agents_that_are_taken_while_a_drain_goes_on_are_cut_at_its_deadline_too() -> None:
    view = replace(first_view(), counters=Counters(idle={(PLAIN, HUB): 1}))
    request = DrainRequest(Selector(data_center=HUB), deadline_s=30, force=True)
    drain, _ = open_drain(view, request, preflight(view, request, START), DrainId("d-1"), "test", START)
    assert drain.agents_behind == {} and drain.cut_at == START + 30_000_000


def test_held_agents_without_a_deadline_are_named() -> None:
    drain = Drain(
        DrainId("d-1"), Selector(data_center=HUB), DrainMode.SOFT, DrainState.BLEEDING, (HUB,), {}, "", 0, "t"
    )
    book = DrainBook()
    counters = Counters(busy={(PLAIN, HUB): 1})
    book.measure(replace(first_view(), drains={drain.id: drain}, counters=counters), START)
    assert book.progress[drain.id].blocked_by == ("agents hold 1 sessions, which must end by themselves",)


def test_a_drain_says_that_users_whom_it_moves_do_not_arrive() -> None:
    drain = Drain(DrainId("d-1"), Selector(data_center=HUB), DrainMode.HARD, DrainState.MOVING, (HUB,), {}, "", 0, "t")
    view, book = replace(first_view(), drains={drain.id: drain}, counters=Counters({HUB: 300})), DrainBook()
    told = []
    for outcome in (Outcome(20, 0, 320, 80), Outcome(0, 0, 320, 100), Outcome(20, 0, 300, 80)):
        book.note_move(HUB, outcome)
        book.measure(view, START)
        told.append(book.progress[drain.id].blocked_by)
    assert told == [(), ("100 sessions on their way from gcp-fra have not arrived yet",), ()]
