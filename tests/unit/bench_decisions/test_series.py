"""Series files: every documented freedom loads, every broken rule names its line."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from router.core.errors import InputRejected
from router.sim.series import load_series

PLAIN = "slice,src,a,b\n0,a,,10\n0,b,20.5,0\n1,a,0,\n1,b,40,0\n"


def write(folder: Path, text: str, name: str = "s.csv") -> Path:
    path = folder / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return path


@pytest.mark.parametrize("name", ["s.csv", "s.csv.gz", "packed-without-ending.gz"])
def test_plain_and_packed_files_load(tmp_path: Path, name: str) -> None:
    series = load_series(write(tmp_path, PLAIN, name))
    assert series.nodes == ("a", "b")
    assert series.slices == (0, 1)
    nan = np.nan
    np.testing.assert_array_equal(series.rtt_ms, [[[nan, 10], [20.5, nan]], [[nan, nan], [40, nan]]])
    np.testing.assert_array_equal(series.one_way_ms[0], [[nan, 5], [10.25, nan]])


def test_rows_in_any_order_absent_sources_and_gaps_in_the_numbers(tmp_path: Path) -> None:
    text = "\ufeffslice,src,a,b,c\r\n7,c,1,2,\r\n3,b,4,,6\r\n7,a,,8,9\r\n"
    series = load_series(write(tmp_path, text))
    assert series.slices == (3, 7)
    assert np.isnan(series.rtt_ms[0, 0]).all()
    assert series.rtt_ms[0, 1, 0] == 4
    assert series.rtt_ms[1, 2].tolist()[:2] == [1, 2]
    assert series.rtt_ms[1, 0, 2] == 9


@pytest.mark.parametrize(
    ("text", "field", "rule"),
    [
        ("", "line 1: header", "slice,src"),
        ("src,slice,a,b\n", "line 1: header", "slice,src"),
        ("slice,src,a\n0,a,1\n", "line 1: header", "2 to 2000"),
        ("slice,src,a,a\n0,a,1,2\n", "line 1: header", "named once"),
        ("slice,src,a,\n0,a,1,2\n", "line 1: header", "must have a name"),
        ("slice,src,a,b\n", "line 2: row", "at least one slice"),
        ("slice,src,a,b\n0,x,1,2\n", "line 2: src", "one of the destination columns"),
        ("slice,src,a,b\n0,a,1\n", "line 2: row", "must have 4 cells"),
        ("slice,src,a,b\n0.5,a,1,2\n", "line 2: slice", "whole number"),
        ("slice,src,a,b\n-1,a,1,2\n", "line 2: slice", "whole number"),
        ("slice,src,a,b\n0,a,1,2\n0,a,1,2\n", "line 3: slice, src", "once"),
        ("slice,src,a,b\n0,a,1,-2\n", "line 2: b", "from 0"),
        ("slice,src,a,b\n0,a,1,nan\n", "line 2: b", "from 0"),
        ("slice,src,a,b\n0,a,inf,2\n", "line 2: a", "from 0"),
        ("slice,src,a,b\n0,a,1,fast\n", "line 2: b", "number of milliseconds"),
        ("slice,src,a,b\n0,a,1,99999999\n", "line 2: b", "3600000"),
    ],
)
def test_a_broken_rule_names_its_line(tmp_path: Path, text: str, field: str, rule: str) -> None:
    with pytest.raises(InputRejected) as caught:
        load_series(write(tmp_path, text))
    assert caught.value.code == "bad_series"
    assert caught.value.field == field
    assert caught.value.rule is not None
    assert rule in caught.value.rule


@pytest.mark.parametrize("content", [b"\x1f\x8bnot really gzip", b"slice,src,a,b\n0,a,\xff\xfe,2\n"])
def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "s.csv"
    path.write_bytes(content)
    with pytest.raises(InputRejected, match=r"s\.csv"):
        load_series(path)
    with pytest.raises(InputRejected, match=r"gone\.csv"):
        load_series(tmp_path / "gone.csv")


def test_a_series_that_would_not_fit_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("router.sim.series.MAX_CELLS", 8)
    load_series(write(tmp_path, "slice,src,a,b\n0,a,1,2\n1,a,1,2\n"))
    with pytest.raises(InputRejected, match="at most 8") as caught:
        load_series(write(tmp_path, "slice,src,a,b\n0,a,1,2\n1,a,1,2\n2,a,1,2\n"))
    assert caught.value.limit == 8
