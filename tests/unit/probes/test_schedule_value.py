"""Where not everything fits: tiers, floor, value of information, passive media, expiry."""

from __future__ import annotations

from collections import Counter
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from probes.schedule import BALANCE_US, FLOOR_US, Schedule, allot
from probes.wire import PlanPeer

SECOND = 1_000_000


def peer(name: str, tier: str = "cold", interval_us: int = SECOND, weight: int = 0) -> PlanPeer:
    return PlanPeer(name, f"dc-{name}", "internet", "192.0.2.1", 7421, 0, interval_us, tier=tier, weight=weight)


def served(schedule: Schedule, start_us: int, until_us: int) -> Counter[str]:
    """Probes per peer, every slot served in time."""
    found: Counter[str] = Counter()
    while (at := schedule.next_at()) is not None and at <= until_us:
        found.update(due.node for due in schedule.due(max(at, start_us)))
    return found


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(1_000, 10**7), st.integers(0, 2), st.floats(0.01, 1e6)), min_size=1, max_size=60),
    st.floats(0.01, 3_000),
    st.integers(0, 2 * 10**7),
)
def test_intervals_stay_within_the_rate(peers: list[tuple[int, int, float]], per_s: float, floor_us: int) -> None:
    intervals, tiers, worth = map(list, zip(*peers, strict=True))
    got = allot(intervals, tiers, worth, per_s, floor_us)
    assert sum(1e6 / interval for interval in got) <= per_s * (1 + 1e-6) + len(got) * 1e6 / 3_600_000_000
    assert all(new >= asked for new, asked in zip(got, intervals, strict=True))


def test_without_a_limit_everyone_has_the_plans_interval() -> None:
    assert allot([50_000, 10**6], [0, 2], [1.0, 1.0], None, 5 * 10**6) == [50_000, 10**6]


def test_hot_comes_before_warm_and_cold_keeps_the_floor() -> None:
    schedule = Schedule(Random(1))
    schedule.per_s = 23.0
    peers = [peer("h", "hot", 50_000), peer("w", "warm", 100_000), *(peer(f"c{i}") for i in range(5))]
    schedule.replace(peers, 0, floor_interval_us=5 * SECOND)
    assert schedule.interval_us(("h", "internet")) == 50_000
    warm, cold = schedule.interval_us(("w", "internet")), schedule.interval_us(("c0", "internet"))
    assert warm is not None
    assert 400_000 < warm < 1_000_000
    assert cold is not None
    assert 5 * SECOND <= cold <= 6 * SECOND
    assert schedule.interval_us(("nobody", "internet")) is None


def test_the_scarce_tier_goes_by_weight() -> None:
    schedule = Schedule(Random(1))
    schedule.per_s = 10.0
    schedule.replace(
        [peer("a", interval_us=50_000, weight=30_000), peer("b", interval_us=50_000, weight=10_000)], 0, 10**7
    )
    found = served(schedule, 0, 60 * SECOND)
    assert 2 < found["a"] / found["b"] < 4.5
    assert 400 <= found.total() <= 600


def test_the_uncertain_and_the_stale_are_asked_more_often() -> None:
    schedule = Schedule(Random(1))
    schedule.per_s = 6.0
    names = ("calm", "wild", "stale")
    schedule.replace([peer(name, interval_us=100_000, weight=1_000) for name in names], 0, 10**7)
    schedule.note(("stale", "internet"), 0, 10_000)
    schedule.note(("calm", "internet"), BALANCE_US, 10_000)
    schedule.note(("wild", "internet"), BALANCE_US, 400_000)
    schedule.due(BALANCE_US)
    calm, wild, stale = (schedule.interval_us((name, "internet")) or 0 for name in names)
    assert wild < calm
    assert stale < calm


def test_a_peer_that_media_measures_is_probed_at_the_floor() -> None:
    schedule = Schedule(Random(2))
    schedule.replace([peer("a", "hot", 50_000), peer("b", "hot", 50_000)], 0, floor_interval_us=2 * SECOND)
    schedule.covered(("a", "internet"), 20 * SECOND)
    found = served(schedule, 0, 20 * SECOND - 1)
    assert 9 <= found["a"] <= 11
    assert found["b"] >= 399
    assert schedule.suppressed >= 380
    later = served(schedule, 20 * SECOND, 30 * SECOND)
    assert later["a"] >= 199


def test_an_expired_plan_falls_to_the_floor_until_it_is_confirmed() -> None:
    schedule = Schedule(Random(2))
    schedule.replace([peer("a", "hot", 50_000)], 0, floor_interval_us=0, expires_at_us=15 * SECOND)
    assert served(schedule, 0, 15 * SECOND)["a"] >= 299
    schedule.due(15 * SECOND)
    assert schedule.interval_us(("a", "internet")) == FLOOR_US
    assert served(schedule, 15 * SECOND, 65 * SECOND)["a"] <= 11
    schedule.confirmed(1_000 * SECOND)
    served(schedule, 65 * SECOND, 85 * SECOND)
    assert schedule.interval_us(("a", "internet")) == 50_000


def test_reckoning_anew_moves_no_slot_where_nothing_changed() -> None:
    schedule = Schedule(Random(4))
    schedule.replace([peer(f"n{i}", interval_us=3 * SECOND) for i in range(20)], 0)
    first = served(schedule, 0, BALANCE_US - 1)
    assert set(first.values()) <= {3, 4}
    assert set(served(schedule, BALANCE_US, BALANCE_US + 30 * SECOND - 1).values()) == {10}


def test_two_thousand_peers_within_a_hundred_probes_a_second() -> None:
    schedule = Schedule(Random(4))
    schedule.per_s = 100.0
    peers = [peer(f"n{i}", ("hot", "warm", "cold")[min(2, i // 20)], 50_000, weight=i) for i in range(2_000)]
    schedule.replace(peers, 0, floor_interval_us=30 * SECOND)
    found = served(schedule, 0, 60 * SECOND)
    assert found.total() <= 100 * 60 + 2_000
    assert len(found) == 2_000
    assert all(found[f"n{i}"] > found["n1999"] for i in range(20))
