"""Gaps in a numbered stream, while it runs; and who is let talk."""

from __future__ import annotations

from router.demo.calls import pairs
from router.demo.streams import LATE_US, Stream, at_share
from router.demo.world import Site, assemble

STEP_US = 20_000
LATE = LATE_US // STEP_US


def played(lost: set[int], count: int, *, twice: set[int] = frozenset()) -> Stream:  # type: ignore[assignment]
    stream = Stream(STEP_US)
    for _ in range(count):
        number = stream.send()
        for _ in range((number not in lost) + (number in twice)):
            stream.hear(number)
    return stream


def test_runs_of_lost_numbers_are_gaps_and_second_copies_are_counted() -> None:
    stream = played({5, 10, 11, 12}, 400, twice={20, 21})
    assert (stream.arrived, stream.lost, stream.again) == (396, 4, 2)
    assert stream.gaps_ms() == [20, 60]


def test_a_number_has_time_to_arrive_and_order_does_not_matter() -> None:
    stream = Stream(STEP_US)
    numbers = [stream.send() for _ in range(LATE)]
    for number in (numbers[0], *reversed(numbers[1:])):
        stream.hear(number)
    stream.send()
    assert (stream.arrived, stream.lost, stream.gaps_ms()) == (LATE, 0, [])


def test_nothing_counts_before_the_first_arrival_and_a_gap_that_lasts_shows() -> None:
    stream = played(set(range(50)), 200)
    assert (stream.arrived, stream.lost) == (150, 0)
    stream = played(set(range(100, 1_000)), 500)
    assert stream.lost == 500 - 1 - LATE - 100
    assert stream.gaps_ms() == [stream.lost * 20]
    stream.hear(100)  # far too late
    assert stream.arrived == 100


def test_numbers_that_were_never_sent_are_not_heard() -> None:
    stream = Stream(STEP_US)
    stream.send()
    stream.hear(0)
    stream.hear(7)
    assert (stream.arrived, stream.again) == (1, 0)


def test_quantiles_are_those_of_the_nearest_rank() -> None:
    assert at_share([], 0.5) is None
    assert [at_share([20, 40, 60], share) for share in (0.0, 0.5, 0.99)] == [20, 40, 60]


def test_those_talk_who_gain_most_by_a_relay_each_in_one_call() -> None:
    far, near = 60_000, 10_000
    delay: list[list[int | None]] = [[None if a == b else far for b in range(5)] for a in range(5)]
    for a, b in ((0, 4), (4, 1)):  # over 4, 0 and 1 are near
        delay[a][b] = delay[b][a] = near
    world = assemble("w", [Site(f"dc-{name}", "p", "r") for name in "abcde"], delay, seed=1)
    assert pairs(world, 3) == [("dc-a", "dc-b"), ("dc-c", "dc-e")], "ties in order"
    assert pairs(world, 1) == [("dc-a", "dc-b")]
