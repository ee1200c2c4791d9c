"""Follow-Up Telemetry: the next reply corrects the sample of this one."""

from __future__ import annotations

import asyncio

import pytest

from probes.clock import Clock
from probes.keys import derive
from probes.sockets import ProbeSender, Reflector, Target, open_udp
from probes.stamp import Key, tlv
from probes.summary import HELD_FROM, Row, Summary

OWN_KEY, KEY_ID = bytes(range(32)), 5


def answered(row: Row, number: int, sent_us: int, rtt_us: int) -> None:
    """A probe that came back as the reflector's reply of that number, with T3 10 us before it really left."""
    sequence = row.send(sent_us, sent_us)
    t2_us, t3_us = sent_us + 20, sent_us + 30
    row.answer(sequence, sent_us, t2_us, t3_us, t3_us + rtt_us - 20, t3_us + rtt_us)


def test_the_reply_after_tells_when_this_one_left() -> None:
    summary = Summary()
    row = summary.row("a", "internet")
    answered(row, 7, 1_000, 100)
    row.follow_up(7, -1, 0)
    answered(row, 8, 2_000, 100)
    row.follow_up(8, 7, 1_030 + 40)
    assert row.waiting() == [60, 100]
    assert summary.followed_up == 1


@pytest.mark.parametrize(("number", "left_us"), [(6, 1_040), (8, 1_040), (-1, 0), (7, 1_020), (7, 5_000)])
def test_what_is_about_another_reply_or_cannot_be_true_corrects_nothing(number: int, left_us: int) -> None:
    summary = Summary()
    row = summary.row("a", "internet")
    answered(row, 7, 1_000, 100)
    row.follow_up(7, -1, 0)
    answered(row, 8, 2_000, 100)
    row.follow_up(8, number, left_us)
    assert row.waiting() == [100, 100]
    assert summary.followed_up == 0


def test_the_last_answer_of_a_busy_interval_waits_for_its_correction_and_is_counted_once() -> None:
    summary = Summary()
    row = summary.row("a", "internet")
    for number in range(HELD_FROM):
        answered(row, number, 1_000 * (number + 1), 100)
        row.follow_up(number, -1, 0)
    first = summary.close(1_000_000)
    assert (first.sent, first.received) == ((HELD_FROM - 1,), (HELD_FROM - 1,))
    assert row.open == 1
    answered(row, HELD_FROM, 500_000, 100)
    row.follow_up(HELD_FROM, HELD_FROM - 1, 1_000 * HELD_FROM + 30 + 5)
    assert row.waiting() == [95, 100]
    second = summary.close(1_000_000)
    assert (second.sent, second.received) == ((2,), (2,))
    assert row.open == 0


@pytest.mark.parametrize("key", [None, Key(derive(OWN_KEY, KEY_ID))])
async def test_our_reflector_is_asked_and_tells(key: Key | None) -> None:
    reflector = Reflector(open_udp("127.0.0.1", 0), Clock())
    reflector.trust(OWN_KEY)
    sender = ProbeSender(open_udp("127.0.0.1", 0), Clock())
    summary = Summary(60_000_000)
    target = Target(summary.row("a", "internet"), reflector.address, (KEY_ID << 4) + 1, key=key, follow_up=True)
    sender.replace([target])
    try:
        async with asyncio.timeout(60):
            for answers in range(1, 6):
                sender.send(target)
                while len(target.row.waiting()) < answers:
                    await asyncio.sleep(0.001)
    finally:
        sender.close()
        reflector.close()
    if reflector.stamps_departures:
        assert summary.followed_up == 4
    assert not {"malformed", "stray", "wrong_key"} & sender.counters.keys()


def test_only_a_told_and_understood_telemetry_is_read() -> None:
    told = tlv.FollowUp(3, 1 << 40, tlv.SOFTWARE).tlv()
    assert tlv.read_follow_up(tlv.Tlv(told.type, told.value, 0).encode()) == (3, 1 << 40)
    for raw in (b"", told.encode(), tlv.Tlv(told.type, bytes(16), 0).encode(), tlv.Tlv(6, told.value, 0).encode(),
                tlv.Tlv(told.type, told.value, 0).encode()[:-1]):  # fmt: skip
        assert tlv.read_follow_up(raw) == (-1, 0)
