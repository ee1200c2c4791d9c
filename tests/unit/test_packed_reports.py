"""Reports that the flight recorder packs come out as they went in; what cannot be packed is kept as it is."""

from __future__ import annotations

import pickle
import random
from dataclasses import replace

import pytest

from probes.wire import CheckResult, ProbeReport, ReportRows
from router.core.messages import Reported
from router.runtime import packed as module
from router.runtime.packed import PackedReport, Packer, Unpacker

pytest.importorskip("probes._report", reason="not compiled here")


def some(rng: random.Random, rows: int) -> ProbeReport:
    def numbers() -> tuple[int, ...]:
        return tuple(rng.choice((0, -1, 63, -64, 64, 300, rng.randint(-(1 << 63), (1 << 63) - 1))) for _ in range(rows))

    def sketches() -> tuple[tuple[int, ...], ...]:
        return tuple(tuple(rng.randint(-3_000, 3_000) for _ in range(rng.choice((0, 2, 6)))) for _ in range(rows))

    columns = [numbers() for _ in range(11)]
    names = tuple(f"n-{i}" for i in range(rows)), ("internet",) * rows
    state = rng.choice(((), (2,) * rows))
    return ProbeReport(
        "n", "b", rng.randrange(99), 1, -5, 7, ReportRows(*names, *columns, sketches(), sketches(), sketches(), state)
    )


def test_what_is_packed_comes_out_again() -> None:
    rng, packer, unpacker = random.Random(1), Packer(), Unpacker()
    named = 0
    for _ in range(200):
        event = Reported(some(rng, rng.choice((0, 1, 2, 50))))
        kept = packer.packed(event)
        assert isinstance(kept, PackedReport)
        named += kept.names is not None
        again = unpacker.unpacked(pickle.loads(pickle.dumps(kept)))  # noqa: S301 - made right here
        assert again == event
    assert named == 4


def test_names_are_given_again_when_there_were_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_NAMES", 2)
    rng, packer, unpacker = random.Random(2), Packer(), Unpacker()
    for rows in (1, 2, 3, 1, 2, 3, 3, 1):
        event = Reported(some(rng, rows))
        kept = packer.packed(event)
        assert isinstance(kept, PackedReport) and unpacker.unpacked(kept) == event


def test_what_cannot_be_packed_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = some(random.Random(3), 2)
    odd = (
        replace(plain, checks=(CheckResult("c", 1, 1, 5),)),
        replace(plain, rows=replace(plain.rows, sent=(1 << 64, 0))),
        replace(plain, rows=replace(plain.rows, sent=(True, 0))),
        replace(plain, rows=replace(plain.rows, rtt_sketch=(((1,), 1), ()))),  # type: ignore[arg-type]
    )
    for report in odd:
        assert Packer().packed(Reported(report)) == Reported(report)
    monkeypatch.setattr(module, "pack", module.pack_each)
    assert Packer().packed(Reported(plain)) == Reported(plain)


def test_a_packed_report_that_was_broken_is_refused() -> None:
    kept = Packer().packed(Reported(some(random.Random(4), 3)))
    assert isinstance(kept, PackedReport)
    for broken in (
        kept._replace(columns=kept.columns[:-1]),
        kept._replace(columns=kept.columns + b"\x00"),
        kept._replace(names=None),
    ):
        with pytest.raises(ValueError, match="packed report"):
            Unpacker().unpacked(broken)
