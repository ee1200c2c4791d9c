"""The compiled reader of reports takes what the Python form takes, makes the same of it, and takes nothing else."""

from __future__ import annotations

import json
import random
from dataclasses import replace

import pytest

from probes.wire import ProbeReport, ReportRows, WireError, decode_report, encode, read_report
from probes.wire import report as module

_report = pytest.importorskip("probes._report", reason="not compiled here")
ODD = [
    "0", "-1", "1", "2", "3", "-0", "00", "01", "1.0", "1e2", "true", "null", '""', '"a"', '"\\u0041"', '"é"', "[]",
    "{}", "[1]", "[1,1]", "[1,1,1,1]", "[2,1,1,1]", "[0,0]", "[3001,1]", "60000001", "1000001", " 7 ",
    "9" * 21, str(1 + (1 << 52)), "NaN", "-", "[", "]", "{", "}", ",", ":", '"', "\\", "\x00", "\x7f", "\t", "",
]  # fmt: skip


def compiled(text: bytes) -> ProbeReport | None:
    found = _report.read(text, ProbeReport, ReportRows, module._LIMITS)
    assert found is None or isinstance(found, ProbeReport)
    return found


def plain(rng: random.Random, rows: int) -> ProbeReport:
    def some(low: int, high: int) -> tuple[int, ...]:
        return tuple(rng.choice((low, high, rng.randint(low, high))) for _ in range(rows))

    def sketches() -> tuple[tuple[int, ...], ...]:
        def one() -> tuple[int, ...]:
            buckets = sorted(rng.sample(range(-3_000, 3_001), rng.choice((0, 1, 1, 2, 5))))
            return tuple(value for bucket in buckets for value in (bucket, rng.choice((1, 7, 1_000_000))))

        return tuple(one() for _ in range(rows))

    raw = 1 << 52
    sent, received = some(0, 1_000_000), some(0, 1_000_000)
    received = tuple(map(min, sent, received))
    rtt = tuple(-1 if count == 0 else rng.choice((0, 1, 60_000_000)) for count in received)
    return ProbeReport(
        "node-1", "b", rng.randrange(10**17), 3, rng.randint(-raw, raw), 3_600_000_000,
        ReportRows(
            tuple(f"peer-{i // 2}" for i in range(rows)), tuple(("internet", "backbone")[i % 2] for i in range(rows)),
            sent, received, some(0, 9), some(0, 1_000_000), some(0, 1), rtt, some(-raw, raw), some(-raw, raw),
            some(-1, 60_000_000), some(-raw, raw), some(-raw, raw), sketches(), sketches(), sketches(),
            some(0, 2) if rng.random() < 0.5 else (),
        ),
    )  # fmt: skip


@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": ")])
def test_plain_reports_need_no_python_form(separators: tuple[str, str]) -> None:
    rng = random.Random(1)
    for rows in [*range(20), 300]:
        report = plain(rng, rows)
        text = json.dumps(encode(report), separators=separators).encode()
        assert compiled(text) == decode_report(json.loads(text)) == report
        shuffled = dict(sorted(encode(report).items(), key=lambda _: rng.random()))
        shuffled["rows"] = dict(sorted(shuffled["rows"].items(), key=lambda _: rng.random()))  # type: ignore[attr-defined]
        assert compiled(json.dumps(shuffled, separators=separators).encode()) == report


def test_the_longest_report_there_may_be() -> None:
    rows = plain(random.Random(2), 4_096)
    assert compiled(json.dumps(encode(rows)).encode()) == rows
    text = json.dumps(encode(plain(random.Random(2), 4_097))).encode()
    assert compiled(text) is None
    with pytest.raises(WireError, match="too many rows"):
        read_report(text)
    wide = tuple(value for bucket in range(512) for value in (bucket, 1))
    for more, taken in (((), True), ((600, 1), False)):
        few = plain(random.Random(3), 1)
        text = json.dumps(encode(replace(few, rows=replace(few.rows, rtt_sketch=((*wide, *more),))))).encode()
        assert (compiled(text) is not None) == taken


def test_what_it_takes_of_broken_texts_is_what_the_python_form_makes_of_them() -> None:
    rng, taken, refused = random.Random(4), 0, 0
    texts = [json.dumps(encode(plain(rng, rows)), separators=(",", ":")) for rows in (0, 1, 2, 5)]
    for _ in range(6_000):
        text = rng.choice(texts)
        marks = [i for i, char in enumerate(text) if char in ',:[]{}"']
        start, end = sorted(rng.choices(marks, k=2)) if rng.random() < 0.3 else [rng.choice(marks)] * 2
        if end == start:  # what stands between two marks, or one of them
            later = [i for i in marks if i > start] or [len(text)]
            start, end = rng.choice(((start + 1, later[0]), (start, start + 1)))
        broken = (text[:start] + rng.choice(ODD) + text[end:]).encode()
        found = compiled(broken)
        if found is None:
            refused += 1
            continue
        taken += 1
        assert found == decode_report(json.loads(broken)), broken
    assert taken > 150 and refused > 3_000


def test_reports_with_what_is_rare_are_read_all_the_same() -> None:
    check = {"name": "in/a", "sent": 2, "received": 1, "rtt_min_us": 9}
    data = encode(plain(random.Random(5), 2)) | {"checks": [check]}
    assert compiled(json.dumps(data).encode()) is None
    assert read_report(json.dumps(data).encode()).checks[0].rtt_min_us == 9
    for text in (b"", b"{", b"\xff\xfe", b"[]", json.dumps(data).encode("utf-16")):
        assert compiled(text) is None


def test_limits_that_it_was_not_compiled_for_are_refused() -> None:
    with pytest.raises(ValueError, match="compiled for"):
        _report.read(b"{}", ProbeReport, ReportRows, (1, 5_000, *module._LIMITS[2:]))
