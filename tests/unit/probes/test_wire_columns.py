"""Whole columns are judged at once; the verdict is that of looking at each value."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from probes.wire.check import WireError, are_integers, are_strings, integer, string
from probes.wire.report import _are_sound, _sketch

VALUES = st.one_of(st.integers(-4, 9), st.booleans(), st.none(), st.floats(), st.text(max_size=2), st.just("x" * 5_000))
SKETCHES = st.lists(
    st.one_of(st.lists(st.integers(-3_002, 3_002), max_size=6), st.lists(VALUES, max_size=4), VALUES), max_size=3
)


def passes(check: Any, values: Any, *bounds: int) -> bool:
    try:
        for value in values:
            check(value, "it", *bounds)
    except WireError:
        return False
    return True


@given(st.lists(VALUES, max_size=4))
def test_of_integers(values: list[Any]) -> None:
    assert are_integers(values, 0, 5) == passes(integer, values, 0, 5)


@given(st.lists(VALUES, max_size=4))
def test_of_texts(values: list[Any]) -> None:
    assert are_strings(values) == passes(string, values)


@given(SKETCHES)
def test_of_sketches(column: list[Any]) -> None:
    assert _are_sound(column) == passes(_sketch, column)
    rising = [[1, 2, 3, 4], [], [-3_000, 1, 3_000, 1_000_000]]
    assert _are_sound(rising) and not _are_sound([*rising, [3, 1, 3, 1]])
