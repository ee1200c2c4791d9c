"""A wrong clock as arithmetic."""

from __future__ import annotations

import asyncio
import logging
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probes.clock import Clock, ClockError, parse_injection
from probes.clock_file import ClockFile

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


def test_an_injected_error_steps_the_clock() -> None:
    clock = Clock(1_000, 10, 0)
    clock.inject(-500_000, -20, 7_000_000)
    assert clock.read(7_000_000) == 6_500_000
    assert clock.read(8_000_000) == 7_500_000 - 20


def test_an_injection_is_checked() -> None:
    assert parse_injection('{"offset_us": -5, "skew_ppm": 7, "anchor_us": 9}', 1) == (-5, 7, 9)
    assert parse_injection("{}", 11) == (0, 0, 11)
    for text, rule in (
        ("no", "must be JSON"),
        ("[1]", "must be an object"),
        ('{"offset": 1}', "fields out of"),
        ('{"skew_ppm": 1.5}', "skew_ppm must be an integer"),
        ('{"skew_ppm": true}', "skew_ppm must be an integer"),
        ('{"skew_ppm": -999999}', "between -100000 and 100000"),
    ):
        with pytest.raises(ClockError, match=rule):
            parse_injection(text, 1)


async def test_a_watched_file_steps_the_clock_and_a_broken_one_changes_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file, clock = tmp_path / "clock.json", Clock()
    file.write_text('{"offset_us": 100}')
    with caplog.at_level(logging.WARNING, "probes.clock"):
        watching = asyncio.create_task(ClockFile(file, clock).watch())
        await until(lambda: clock.offset_us == 100)
        file.write_text("broken")
        await until(lambda: "must be JSON" in caplog.text)
        assert clock.offset_us == 100
        replace(file, '{"offset_us": -200, "skew_ppm": 50, "anchor_us": 1}')
        await until(lambda: (clock.offset_us, clock.skew_ppm, clock.anchor_us) == (-200, 50, 1))
        file.unlink()
        await until(lambda: "No such file" in caplog.text)
        assert clock.offset_us == -200
        watching.cancel()
        await asyncio.wait({watching})


def replace(file: Path, text: str) -> None:
    draft = file.with_suffix(".part")
    draft.write_text(text)
    draft.replace(file)


async def until(condition: object) -> None:
    deadline = time.monotonic() + 20
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)
