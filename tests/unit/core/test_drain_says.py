"""A drain of a machine says what it waits for, although the View does not know who is on it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bench.histories.place import START, first_view
from router.core.drain import DrainBook
from router.core.model import Drain, DrainId, DrainMode, DrainState, NodeId, Selector

NODE = NodeId("gcp-fra-0")


@pytest.mark.parametrize("state", [DrainState.BLEEDING, DrainState.CORDONED])
def test_a_waiting_drain_of_a_machine_names_it(state: DrainState) -> None:
    drain = Drain(
        DrainId("d-1"), Selector(node=NODE), DrainMode.SOFT, state, (), {}, "", START, "test", nodes=(NODE,)
    )  # fmt: skip
    book = DrainBook()
    book.measure(replace(first_view(), drains={drain.id: drain}), START)
    assert any(NODE in text for text in book.progress[drain.id].blocked_by)
