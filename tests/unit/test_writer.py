"""The writer's two lanes: what users wait for goes first, and nobody starves."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

from router.runtime.writer import IN_A_ROW, Writer


@pytest.fixture
def writer() -> Iterator[Writer]:
    """A writer that is stopped in the end."""
    made = Writer()
    yield made
    made.shutdown()


def held(writer: Writer) -> Callable[[], None]:
    """Keep the writer busy with something until what is returned is called."""
    begun, go_on = threading.Event(), threading.Event()

    def busy() -> None:
        begun.set()
        assert go_on.wait(30)

    writer.later.submit(busy)
    assert begun.wait(30)
    return go_on.set


def test_what_users_wait_for_overtakes_what_has_not_begun(writer: Writer) -> None:
    done: list[str] = []
    go_on = held(writer)
    last = [writer.later.submit(done.append, f"beat-{n}") for n in range(3)]
    writer.first.submit(done.append, "start")
    writer.first.submit(done.append, "end")
    go_on()
    last[-1].result(30)
    assert done == ["start", "end", "beat-0", "beat-1", "beat-2"]


def test_a_flood_of_starts_leaves_heartbeats_a_turn(writer: Writer) -> None:
    done: list[str] = []
    go_on = held(writer)
    beat = writer.later.submit(done.append, "beat")
    starts = [writer.first.submit(done.append, "start") for _ in range(3 * IN_A_ROW)]
    go_on()
    starts[-1].result(30)
    beat.result(30)
    assert done.index("beat") == IN_A_ROW


def test_errors_reach_who_asked_and_the_others_go_on(writer: Writer) -> None:
    go_on = held(writer)
    failed, fine = writer.first.submit(divmod, 1, 0), writer.first.submit(divmod, 7, 2)
    gone = writer.first.submit(divmod, 1, 1)
    assert gone.cancel()
    go_on()
    with pytest.raises(ZeroDivisionError):
        failed.result(30)
    assert fine.result(30) == (3, 1)


def test_stopping_finishes_what_waits_and_takes_nothing_more() -> None:
    writer, done = Writer(), list[int]()
    go_on = held(writer)
    for n in range(3):
        writer.later.submit(done.append, n)
    go_on()
    writer.shutdown()
    assert done == [0, 1, 2]
    with pytest.raises(RuntimeError, match="stopped"):
        writer.first.submit(done.append, 3)
    Writer().shutdown()  # one that never worked
