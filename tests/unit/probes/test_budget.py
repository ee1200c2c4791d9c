"""The allowance: never more than the budget, in any window, over any restart; a reserve for confirm probes."""

from __future__ import annotations

from bisect import bisect_left
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from probes.budget import CONFIRM_DEPTH, CONFIRM_PER_S, MAX_PACKETS_PER_S, WINDOW_S, Allowance, MonthState
from probes.schedule import Schedule
from probes.wire import Budget, PlanPeer

SECOND = 1_000_000
SIZE = 72


def allowance(packets: int = 0, size: int = 0, monthly: int = 0, reserve_ppm: int = 150_000) -> Allowance:
    made = Allowance(0)
    made.follow(Budget(packets, size, monthly, reserve_ppm), 0)
    return made


def most_in_a_window(times: list[int]) -> int:
    """Most events in any window of ``WINDOW_S``."""
    return max((i + 1 - bisect_left(times, at - WINDOW_S * SECOND + 1) for i, at in enumerate(times)), default=0)


@settings(deadline=None)
@given(
    st.integers(1, 40),
    st.integers(0, 4_000),
    st.lists(st.tuples(st.integers(0, 3 * SECOND), st.booleans()), max_size=300),
)
def test_any_ten_seconds_hold_at_most_ten_seconds_worth(packets: int, size: int, steps: list[tuple[int, bool]]) -> None:
    kept = allowance(packets, size)
    now, times = 0, []
    for step, confirm in steps:
        now += step % (SECOND // 4) if step % 3 else step
        times += [now for _ in range(3) if kept.take(now, SIZE, confirm)]
    most = most_in_a_window(times)
    assert most <= packets * WINDOW_S
    assert size == 0 or most * SIZE <= size * WINDOW_S


def test_a_small_budget_is_used_and_not_only_kept() -> None:
    kept = allowance(packets=1, reserve_ppm=0)
    sent = sum(kept.take(at, SIZE) for at in range(0, 100 * SECOND, SECOND // 10))
    assert 80 <= sent <= 100


def test_routine_leaves_the_reserve_to_confirm_probes() -> None:
    kept = allowance(packets=100, reserve_ppm=200_000)
    routine = sum(kept.take(0, SIZE) for _ in range(200))
    confirm = sum(kept.take(0, SIZE, confirm=True) for _ in range(200))
    assert (routine, confirm) == (80, 20)
    assert kept.refused == 300


def test_doubt_about_everything_does_not_feed_itself() -> None:
    kept = allowance(packets=500)
    times = [at for at in range(0, 60 * SECOND, SECOND // 400) if kept.take(at, SIZE, confirm=True)]
    assert sum(at < SECOND for at in times) >= CONFIRM_DEPTH  # a provider that dies is asked about at once
    assert most_in_a_window(times) <= CONFIRM_PER_S * WINDOW_S
    assert kept.take(60 * SECOND, SIZE)  # routine goes on


def test_the_month_is_counted_over_restarts_and_ends_everything() -> None:
    kept = allowance(monthly=100 * SIZE, reserve_ppm=0)
    kept.calendar(7, 10**12)
    assert sum(kept.take(at * SECOND, SIZE) for at in range(60)) == 60
    again = allowance(monthly=100 * SIZE, reserve_ppm=0)
    again.calendar(7, 10**12)
    again.restore(kept.state())
    assert sum(again.take(at * SECOND, SIZE, confirm=True) for at in range(60)) == 40
    again.calendar(6, 10**12)  # a clock that goes back frees nothing
    assert not again.take(100 * SECOND, SIZE)
    again.calendar(8, 10**12)
    assert again.take(101 * SECOND, SIZE)
    assert again.state() == MonthState(8, SIZE)


def test_what_was_written_down_before_the_calendar_is_known_counts() -> None:
    kept = allowance(monthly=10 * SIZE, reserve_ppm=0)
    kept.restore(MonthState(7, 10 * SIZE))
    assert not kept.take(0, SIZE)
    kept.calendar(7, 1)
    assert not kept.take(0, SIZE)


def test_routine_is_paced_so_that_the_month_lasts() -> None:
    kept = allowance(monthly=1_000_000 * SIZE, reserve_ppm=0)
    kept.calendar(7, 100_000 * SECOND)
    assert kept.regular_per_s(SIZE) == 10
    kept.calendar(7, 1_000_000 * SECOND)
    assert kept.regular_per_s(SIZE) == 1


def test_another_budget_does_not_fill_the_bucket() -> None:
    kept = allowance(packets=100, reserve_ppm=0)
    assert sum(kept.take(0, SIZE) for _ in range(200)) == 100
    kept.follow(Budget(10), 0)
    kept.follow(Budget(1_000), 0)
    assert not kept.take(0, SIZE)


def test_the_agents_own_cap_holds_whatever_a_plan_says() -> None:
    kept = allowance(packets=10**9, size=10**12, reserve_ppm=0)
    assert sum(kept.take(0, SIZE) for _ in range(2 * MAX_PACKETS_PER_S)) == MAX_PACKETS_PER_S


plans = st.tuples(
    st.integers(1, 2_000),  # peers
    st.integers(1, 400),  # packets per second
    st.integers(0, 60_000),  # bytes per second
    st.integers(0, 400_000),  # bytes per month
    st.integers(0, 1_000_000),  # reserve
    st.integers(0, 20 * SECOND),  # floor
)


@settings(max_examples=25, deadline=None)
@given(plans, st.integers(0, 1 << 30))
def test_an_agent_never_exceeds_its_budget(plan: tuple[int, int, int, int, int, int], seed: int) -> None:
    count, packets, size, monthly, reserve_ppm, floor_us = plan
    rng = Random(seed)
    peers = [
        PlanPeer(
            f"n{i}", "dc", "internet", "192.0.2.1", 1, 0, rng.choice((1_000, 50_000, 500_000, 5_000_000)),
            tier=rng.choice(("hot", "warm", "cold")), weight=rng.randrange(1_000_000),
        )
        for i in range(count)
    ]  # fmt: skip
    kept = allowance(packets, size, monthly, reserve_ppm)
    kept.calendar(1, 10**12)
    schedule = Schedule(rng)
    schedule.per_s = kept.regular_per_s(SIZE)
    schedule.replace(peers, 0, floor_us)
    times: list[int] = []
    now = 0
    for _ in range(400):
        times += [now for _ in schedule.due(now) if kept.take(now, SIZE)]
        times += [now for _ in range(rng.randrange(3)) if kept.take(now, SIZE, confirm=True)]
        now += rng.choice((1_000, 20_000, 100_000, 1_000_000))
        schedule.per_s = kept.regular_per_s(SIZE)
    assert most_in_a_window(times) <= packets * WINDOW_S
    assert not size or most_in_a_window(times) * SIZE <= size * WINDOW_S
    assert not monthly or len(times) * SIZE <= monthly
