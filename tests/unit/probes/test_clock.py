"""A wrong clock as arithmetic."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from probes.clock import Clock

TIME = st.integers(0, 1 << 52)
OFFSET = st.integers(-(1 << 40), 1 << 40)
SKEW = st.integers(-1_000, 1_000)


@given(TIME)
def test_a_right_clock_changes_nothing(true_us: int) -> None:
    assert Clock().read(true_us) == true_us


@given(TIME, OFFSET, SKEW, TIME)
def test_true_inverts_read_within_a_microsecond(true_us: int, offset: int, skew: int, anchor: int) -> None:
    clock = Clock(offset, skew, anchor)
    assert abs(clock.true(clock.read(true_us)) - true_us) <= 1
    assert clock.read(clock.true(true_us)) - true_us in (0, 1)


@given(TIME, st.integers(0, 10_000_000), OFFSET, SKEW, TIME)
def test_time_never_goes_back(true_us: int, later: int, offset: int, skew: int, anchor: int) -> None:
    clock = Clock(offset, skew, anchor)
    assert clock.read(true_us + later) >= clock.read(true_us)


def test_skew_counts_from_the_anchor() -> None:
    clock = Clock(offset_us=500_000, skew_ppm=20, anchor_us=1_000)
    assert clock.read(1_000) == 501_000
    assert clock.read(1_000 + 3_600_000_000) - 3_600_000_000 == 501_000 + 72_000
