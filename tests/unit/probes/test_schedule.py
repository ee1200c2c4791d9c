"""Who is probed next: rate, phase, stalls, replaced plans."""

from __future__ import annotations

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from probes.schedule import MAX_LATENESS_US, SELDOM_FROM_US, TOGETHER, Schedule
from probes.wire import PlanPeer


def peer(name: str, interval_us: int = 1_000_000, transport: str = "internet") -> PlanPeer:
    return PlanPeer(name, f"dc-{name}", transport, "192.0.2.1", 7421, 0, interval_us)


def run(schedule: Schedule, until_us: int) -> list[tuple[int, str]]:
    """Serve every slot exactly on time."""
    sent = []
    while (at := schedule.next_at()) is not None and at <= until_us:
        sent.extend((at, due.node) for due in schedule.due(at))
    return sent


@settings(deadline=None)
@given(st.lists(st.integers(1_000, 5_000_000), min_size=1, max_size=12), st.integers(0, 1 << 40), st.integers(0, 99))
def test_every_peer_gets_one_probe_per_interval(intervals: list[int], start_us: int, seed: int) -> None:
    peers = [peer(f"n{i}", interval) for i, interval in enumerate(intervals)]
    schedule = Schedule(Random(seed))
    schedule.replace(peers, start_us)
    span_us = 3 * max(intervals)
    if span_us // min(intervals) > 500:
        span_us = 500 * min(intervals)
    sent = run(schedule, start_us + span_us)
    for one in peers:
        times = [at for at, name in sent if name == one.node]
        assert span_us // one.interval_us <= len(times) <= span_us // one.interval_us + 1 + (early(one) > 0)
        drifts = [at - times[0] - i * one.interval_us for i, at in enumerate(times)]
        assert all(abs(drift) <= early(one) for drift in drifts), "who is served early keeps its grid"
    assert schedule.skipped == 0


def early(one: PlanPeer) -> int:
    """By how much a probe may be early."""
    return one.interval_us // TOGETHER if one.interval_us >= SELDOM_FROM_US else 0


def test_seldom_probed_peers_share_wake_ups_and_frequent_ones_do_not() -> None:
    for interval_us, least, most in ((1_000_000, 8, 14), (SELDOM_FROM_US - 1, 30, 30)):
        schedule = Schedule(Random(4))
        schedule.replace([peer(f"n{i}", interval_us) for i in range(30)], 0)
        sent = run(schedule, 10 * interval_us - 1)
        assert least * 10 <= len({at for at, _ in sent}) <= most * 10
        assert 300 <= len(sent) <= 330


def test_who_is_awake_anyway_serves_a_slot_that_is_near_and_no_other() -> None:
    early_us = 1_000_000 // TOGETHER
    for ahead_us, awake, served in ((0, False, True), (1, False, False), (early_us // 2, True, True),
                                    (early_us // 2 + 1, True, False)):  # fmt: skip
        schedule = Schedule(Random(4))
        schedule.replace([peer("a")], 0)
        slot = schedule.next_at()
        assert slot is not None
        assert bool(schedule.due(slot - ahead_us, awake=awake)) is served
        assert schedule.next_at() == slot + 1_000_000 * served, "who is served early keeps its grid"
    often = Schedule(Random(4))
    often.replace([peer("a", SELDOM_FROM_US - 1)], 0)
    slot = often.next_at()
    assert slot is not None
    assert often.due(slot - 1, awake=True) == []


def test_phases_are_spread_over_the_interval() -> None:
    schedule = Schedule(Random(5))
    schedule.replace([peer(f"n{i}") for i in range(1_000)], 0)
    times = sorted(at for at, _ in run(schedule, 999_999) if at <= 999_999)
    assert 1_000 <= len(times) <= 1_000 * (TOGETHER + 1) // TOGETHER
    for quarter in range(4):
        assert 100 < sum(quarter * 250_000 <= at < (quarter + 1) * 250_000 for at in times) < 450


@settings(deadline=None)
@given(st.integers(1_000, 4_000_000), st.integers(0, 20_000_000), st.integers(0, 99))
def test_a_stall_of_any_length_is_followed_by_no_burst(interval_us: int, stall_us: int, seed: int) -> None:
    peers = [peer(f"n{i:02}", interval_us) for i in range(40)]
    schedule = Schedule(Random(seed))
    schedule.replace(peers, 0)
    run(schedule, 2 * interval_us)
    due = schedule.due(2 * interval_us + stall_us)
    names = [one.node for one in due]
    assert len(names) == len(set(names))
    next_at = schedule.next_at()
    assert next_at is not None
    assert next_at > 2 * interval_us + stall_us
    assert schedule.due(2 * interval_us + stall_us) == []


def test_only_fresh_slots_are_served_after_a_stall() -> None:
    schedule = Schedule(Random(1))
    peers = [peer(f"n{i:03}", 4_000_000) for i in range(200)]
    schedule.replace(peers, 0)
    run(schedule, 4_000_000)
    served = schedule.due(14_000_000)
    expected = 200 * (MAX_LATENESS_US / 4_000_000 + 1 / TOGETHER)  # a little late, or early
    assert 0 < len(served) < 2 * expected
    assert schedule.skipped >= 400


def test_replacing_the_plan_keeps_the_slots_of_those_who_stay() -> None:
    schedule = Schedule(Random(3))
    schedule.replace([peer("a"), peer("b"), peer("c")], 0)
    before = {name: at for at, name in run(schedule, 1_000_000)}
    schedule.replace([peer("b"), peer("a"), peer("d")], 1_000_000)
    after = {name: at for at, name in run(schedule, 1_999_999)}
    assert all(abs(after[name] - 1_000_000 - before[name]) <= 1_000_000 // TOGETHER for name in ("a", "b"))
    assert "c" not in after
    assert "d" in after


def test_a_new_interval_gets_a_new_phase_within_it() -> None:
    schedule = Schedule(Random(3))
    schedule.replace([peer("a", 60_000_000)], 0)
    schedule.replace([peer("a", 50_000)], 10)
    at = schedule.next_at()
    assert at is not None
    assert 10 <= at < 50_010


def test_transports_of_one_peer_are_probed_separately() -> None:
    schedule = Schedule(Random(3))
    schedule.replace([peer("a"), peer("a", transport="backbone")], 0)
    assert len(schedule) == 2
    assert len(run(schedule, 999_999)) == 2


def test_without_peers_nothing_is_due() -> None:
    schedule = Schedule(Random(0))
    assert schedule.next_at() is None
    assert schedule.due(1 << 50) == []
