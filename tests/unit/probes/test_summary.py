"""What becomes of probes: conservation, lateness, duplicates, minima, sketches, jitter, untrusted stamps."""

from __future__ import annotations

import json
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from probes import summary as module
from probes.summary import MAX_LOST_REMEMBERED, Outcome, Row, Summary
from probes.wire import MAX_BUCKETS, ProbeReport, ReportRows, bucket_of, decode_report, encode, sketch_quantile

OFFSET = 700_000_000  # how far the peer's clock is ahead, microseconds


def exchange(row: Row, now_us: int, rtt_us: int, *, residence_us: int = 50, forward_us: int | None = None) -> Outcome:
    """One probe whose answer takes ``rtt_us`` on the network, half of it forward unless told."""
    t1 = now_us
    sequence = row.send(t1, now_us)
    t2 = t1 + (rtt_us // 2 if forward_us is None else forward_us) + OFFSET
    t4 = t1 + rtt_us + residence_us
    return row.answer(sequence, t1, t2, t2 + residence_us, t4, t4)


def decoded(rows: ReportRows) -> ReportRows:
    """The rows as the control plane reads them."""
    report = ProbeReport("n", "boot", 1, 1, 0, 1_000_000, rows)
    return decode_report(json.loads(json.dumps(encode(report)))).rows


def test_an_answered_probe_gives_delays_without_the_offset_in_the_round_trip() -> None:
    summary = Summary()
    row = summary.row("b", "internet")
    assert exchange(row, 1_000, 40_000, forward_us=15_000) is Outcome.ANSWERED
    rows = decoded(summary.close(2_000_000))
    assert (rows.sent, rows.received) == ((1,), (1,))
    assert rows.rtt_min_us == (40_000,)
    assert rows.forward_min_us == rows.forward_base_us == (15_000 + OFFSET,)
    assert rows.backward_min_us == rows.backward_base_us == (25_000 - OFFSET,)
    assert rows.forward_sketch == ((0, 1),)
    assert rows.rtt_sketch == ((bucket_of(40_000), 1),)
    assert rows.forward_min_us[0] + rows.backward_min_us[0] == rows.rtt_min_us[0]


def test_minima_and_sketches_cover_one_interval_and_keep_their_base() -> None:
    summary = Summary()
    row = summary.row("b", "internet")
    for i, rtt_us in enumerate((50_000, 30_000, 44_000)):
        exchange(row, i * 100_000, rtt_us)
    first = decoded(summary.close(1_000_000))
    for i, rtt_us in enumerate((90_000, 80_000)):
        exchange(row, 1_000_000 + i * 100_000, rtt_us)
    second = decoded(summary.close(2_000_000))
    assert (first.rtt_min_us, second.rtt_min_us) == ((30_000,), (80_000,))
    assert first.forward_base_us == second.forward_base_us == (25_000 + OFFSET,)
    assert sum(second.forward_sketch[0][1::2]) == 2
    assert sketch_quantile(first.rtt_sketch[0], 0.5) == pytest.approx(44_000, rel=0.02)
    assert second.forward_sketch[0][0] == bucket_of(40_000 - 25_000)
    assert len(summary.close(3_000_000)) == 0


def test_an_overdue_probe_is_lost_and_its_answer_late() -> None:
    summary = Summary(timeout_us=1_000_000)
    row = summary.row("b", "internet")
    sequence = row.send(10, 0)
    assert len(summary.close(1_000_000)) == 0
    assert summary.open == 1
    rows = decoded(summary.close(1_000_001))
    assert (rows.sent, rows.received, rows.rtt_min_us, rows.jitter_us) == ((1,), (0,), (-1,), (-1,))
    assert row.answer(sequence, 10, 20, 30, 40, 1_200_000) is Outcome.LATE
    assert row.answer(sequence, 10, 20, 30, 40, 1_300_000) is Outcome.DUPLICATE
    rows = decoded(summary.close(2_000_000))
    assert (rows.sent, rows.late, rows.duplicate) == ((0,), (1,), (1,))


def test_an_answer_past_the_timeout_is_late_even_before_the_interval_ends() -> None:
    summary = Summary(timeout_us=100_000)
    row = summary.row("b", "internet")
    sequence = row.send(0, 0)
    assert row.answer(sequence, 0, 5, 6, 100_001, 100_001) is Outcome.LATE
    rows = summary.close(200_000)
    assert (rows.sent, rows.received, rows.late) == ((1,), (0,), (1,))


def test_duplicates_change_nothing_else() -> None:
    summary = Summary()
    row = summary.row("b", "internet")
    exchange(row, 0, 1_000)
    assert row.answer(0, 0, 1, 2, 900, 900) is Outcome.DUPLICATE
    rows = summary.close(1_000_000)
    assert (rows.sent, rows.received, rows.duplicate, rows.rtt_min_us) == ((1,), (1,), (1,), (1_000,))


def test_answers_to_nothing_we_sent_are_strays() -> None:
    summary = Summary()
    row = summary.row("b", "internet")
    assert row.answer(0, 0, 0, 0, 0, 0) is Outcome.STRAY  # before the first
    sequence = row.send(77, 0)
    assert row.answer(sequence, 78, 0, 0, 0, 0) is Outcome.STRAY  # somebody guessed the number, not the stamp
    assert row.answer(sequence + 1, 77, 0, 0, 0, 0) is Outcome.STRAY
    assert row.answer((sequence - 1) % (1 << 32), 77, 0, 0, 0, 0) is Outcome.STRAY
    assert summary.strays == 4
    assert row.open == 1


def test_sequence_numbers_wrap() -> None:
    summary = Summary(first_sequence=(1 << 32) - 2)
    row = summary.row("b", "internet")
    for i in range(4):
        assert exchange(row, i * 10_000, 1_000) is Outcome.ANSWERED
    assert row.next_sequence == 2
    assert row.answer((1 << 32) - 1, 0, 0, 0, 0, 0) is Outcome.DUPLICATE
    assert row.answer((1 << 32) - 3, 0, 0, 0, 0, 0) is Outcome.STRAY


@pytest.mark.parametrize("residence_us", [-1, -5_000_000, 40_001, 1 << 50])
def test_impossible_residence_is_not_believed(residence_us: int) -> None:
    summary = Summary()
    row = summary.row("b", "internet")
    sequence = row.send(0, 0)
    assert row.answer(sequence, 0, 20_000, 20_000 + residence_us, 40_000, 40_000) is Outcome.ANSWERED
    rows = decoded(summary.close(1_000_000))
    assert (rows.rtt_min_us, rows.forward_min_us, rows.backward_min_us) == ((40_000,), (20_000,), (20_000,))
    assert summary.residences_refused == 1


@pytest.mark.parametrize("step_us", [-3_600_000_000, 3_600_000_000])
def test_a_wall_clock_that_is_set_meanwhile_does_not_make_a_round_trip(step_us: int) -> None:
    summary = Summary()
    row = summary.row("b", "internet")
    sequence = row.send(5_000_000_000, 0)
    outcome = row.answer(sequence, 5_000_000_000, 5_000_010_000, 5_000_010_000, 5_000_020_000 + step_us, 20_100)
    assert outcome is Outcome.ANSWERED
    assert decoded(summary.close(1_000_000)).rtt_min_us == (20_100,)
    assert summary.clock_steps == 1


def test_jitter_is_that_of_rfc_3550() -> None:
    summary = Summary()
    row = summary.row("b", "internet")
    jitter, previous = 0.0, None
    for i in range(200):
        rtt_us = 20_000 + (i * 7_919) % 3_000
        exchange(row, i * 50_000, rtt_us)
        if previous is not None:
            jitter += (abs(rtt_us - previous) - jitter) / 16
        previous = rtt_us
    assert summary.close(20_000_000).jitter_us[0] == pytest.approx(jitter, abs=2)


def test_reflected_probes_make_a_row_of_their_own() -> None:
    summary = Summary()
    for _ in range(3):
        summary.row("b", "internet").reflect()
    rows = decoded(summary.close(0))
    assert (rows.peer, rows.sent, rows.received, rows.reflected, rows.rtt_min_us) == (("b",), (0,), (0,), (3,), (-1,))


def test_open_probes_are_bounded_and_the_oldest_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_OPEN", 10)
    summary = Summary()
    row = summary.row("b", "internet")
    for i in range(25):
        row.send(i, 0)
    assert summary.open == 10
    assert summary.close(0).sent == (15,)
    assert row.answer(24, 24, 30, 31, 40, 40) is Outcome.ANSWERED


def test_remembered_losses_are_bounded() -> None:
    summary = Summary(timeout_us=10)
    row = summary.row("b", "internet")
    for i in range(MAX_LOST_REMEMBERED + 5):
        row.send(i, 0)
    summary.expire(100)
    assert row.answer(0, 0, 0, 0, 0, 100) is Outcome.DUPLICATE  # forgotten that it was lost
    assert row.answer(5, 5, 0, 0, 0, 100) is Outcome.LATE


def test_rows_of_former_peers_go_only_when_there_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_ROWS", 3)
    summary = Summary()
    for name in "abcd":
        exchange(summary.row(name, "internet"), 0, 1_000)
    summary.retain({("d", "internet")})
    assert [summary.knows((name, "internet")) for name in "abcd"] == [False, True, True, True]
    assert summary.close(1_000_000).peer == ("b", "c", "d")


def test_too_many_buckets_are_put_together_at_the_low_end() -> None:
    sketch = dict.fromkeys(range(-400, 400), 1)
    flat = module._flat(sketch)
    assert len(flat) == 2 * MAX_BUCKETS
    assert sum(flat[1::2]) == 800
    assert flat[-2:] == (399, 1)
    assert flat[1] == 800 - MAX_BUCKETS + 1


class Probing(RuleBasedStateMachine):
    """Any interleaving of sending, answering (again), waiting and reporting keeps the books balanced."""

    def __init__(self) -> None:
        super().__init__()
        self.summary = Summary(timeout_us=500)
        self.now_us = 0
        self.sent: list[tuple[str, int, int]] = []
        self.totals: Counter[str] = Counter()
        self.outcomes: Counter[Outcome] = Counter()

    @rule(peer=st.sampled_from("ab"))
    def send(self, peer: str) -> None:
        self.sent.append((peer, self.summary.row(peer, "internet").send(self.now_us, self.now_us), self.now_us))

    @precondition(lambda self: self.sent)
    @rule(data=st.data(), t2=st.integers(-(1 << 51), 1 << 51), residence=st.integers(-10, 1_000))
    def answer(self, data: st.DataObject, t2: int, residence: int) -> None:
        peer, sequence, t1 = data.draw(st.sampled_from(self.sent))
        row = self.summary.row(peer, "internet")
        self.outcomes[row.answer(sequence, t1, t2, t2 + residence, self.now_us, self.now_us)] += 1

    @rule(us=st.integers(0, 400))
    def wait(self, us: int) -> None:
        self.now_us += us

    @rule()
    def report(self) -> None:
        rows = decoded(self.summary.close(self.now_us))
        for name in ("sent", "received", "late", "duplicate"):
            self.totals[name] += sum(getattr(rows, name))
        for i, received in enumerate(rows.received):
            for sketch in (rows.rtt_sketch[i], rows.forward_sketch[i], rows.backward_sketch[i]):
                assert sum(sketch[1::2]) == received
        assert len(self.sent) == self.totals["sent"] + self.summary.open
        lost = self.totals["sent"] - self.totals["received"]
        assert lost >= self.totals["late"]
        assert self.totals["received"] == self.outcomes[Outcome.ANSWERED]
        assert self.totals["late"] == self.outcomes[Outcome.LATE]
        assert self.totals["duplicate"] == self.outcomes[Outcome.DUPLICATE]

    def teardown(self) -> None:
        self.now_us += 501
        self.report()
        assert self.summary.open == 0


TestProbing = Probing.TestCase
TestProbing.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)


@given(st.lists(st.integers(0, 900_000), min_size=1, max_size=100))
def test_reports_are_always_within_the_contract(rtts: list[int]) -> None:
    summary = Summary()
    row = summary.row("b", "internet")
    for i, rtt_us in enumerate(rtts):
        exchange(row, i * 1_000_000, rtt_us, forward_us=rtt_us // 3)
    rows = decoded(summary.close(len(rtts) * 1_000_000))
    assert rows.received == (len(rtts),)
    assert rows.rtt_min_us == (min(rtts),)
