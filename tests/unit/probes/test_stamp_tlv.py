"""TLVs of RFC 8972: golden bytes, scapy as an independent codec, flags, order, integrity, malformed ones."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.contrib.stamp import (
    STAMPSessionReflectorTestUnauthenticated,
    STAMPSessionSenderTestUnauthenticated,
    STAMPTestTLV,
)

from probes.stamp import (
    BASE_SIZE,
    ClassOfService,
    DirectMeasurement,
    Extensions,
    ExtraPadding,
    FollowUp,
    Key,
    Reflection,
    Request,
    TimestampInformation,
    Tlv,
    tlv,
)

KEY = Key(bytes(range(32)))
OTHER = Key(bytes(range(1, 33)))
# HMACs: openssl, over sequence number (7, then 3) and the TLV, as in the test of authenticated packets
ASKED = bytes.fromhex("80070010" + "00" * 16 + "8008001071c37b63ba9bd12337fa16fb96ffd594")
TOLD = bytes.fromhex(
    "00070010" "00000002" "eb0c2a9080000000" "02" "000000"
    "00080010" "d08e7910e4bc18f7b47211dd95a96bdf"
)  # fmt: skip
PREVIOUS = FollowUp(2, 0xEB0C2A90_80000000, tlv.SOFTWARE)
U8, U32 = st.integers(0, 255), st.integers(0, (1 << 32) - 1)


def follow_up_only(kind: int, value: bytes) -> bytes | None:
    return PREVIOUS.tlv().value if kind == tlv.FOLLOW_UP else None


def answer(raw: bytes, key: Key | None = None, *, signed: bool = False) -> bytes:
    return tlv.answer(raw, follow_up_only, key, (7, 3), signed=signed)


def flags(raw: bytes) -> list[int]:
    chain = tlv.Chain.of(raw)
    assert chain.whole
    return [raw[offset] for offset, _, _ in chain.entries]


@pytest.mark.parametrize(
    ("extension", "wire"),
    [
        (ExtraPadding(3), "80010003" "000000"),
        (ExtraPadding(2, b"\xab\xcd\xef"), "80010002" "abcd"),
        (TimestampInformation(1, 2, 5, 1), "80030004" "01020501"),
        (ClassOfService(46), "80040004" "b8000000"),  # expedited forwarding wanted
        (ClassOfService(46, 10, 2, 1), "80040004" "b8a90000"),  # 101110 001010 10 01
        (DirectMeasurement(1, 2, 0xFFFFFFFF), "8005000c" "00000001" "00000002" "ffffffff"),
        (FollowUp(2, 0xEB0C2A90_80000000, 1), "80070010" "00000002" "eb0c2a9080000000" "01000000"),
        (Tlv(200, b"xyz"), "80c80003" "78797a"),
    ],
)  # fmt: skip
def test_golden_tlvs(extension: tlv.Extension, wire: str) -> None:
    assert tlv.encode([extension]) == bytes.fromhex(wire)


@given(U8, U8, U8, U8)
def test_timestamp_information_round_trip(a: int, b: int, c: int, d: int) -> None:
    assert TimestampInformation.decode((one := TimestampInformation(a, b, c, d)).tlv().value) == one


@given(st.integers(0, 63), st.integers(0, 63), st.integers(0, 3), st.integers(0, 3))
def test_class_of_service_round_trip(a: int, b: int, c: int, d: int) -> None:
    assert ClassOfService.decode((one := ClassOfService(a, b, c, d)).tlv().value) == one


@given(U32, U32, U32, st.integers(0, (1 << 64) - 1), U8)
def test_counters_and_follow_up_round_trip(a: int, b: int, c: int, stamp: int, method: int) -> None:
    assert DirectMeasurement.decode((one := DirectMeasurement(a, b, c)).tlv().value) == one
    assert FollowUp.decode((two := FollowUp(a, stamp, method)).tlv().value) == two


@given(st.lists(st.builds(Tlv, U8, st.binary(max_size=40), U8), max_size=5))
def test_scapy_writes_and_reads_the_same_tlvs(tlvs: list[Tlv]) -> None:
    theirs = STAMPSessionSenderTestUnauthenticated(
        seq=1, tlv_objects=[STAMPTestTLV(flags=t.flags, type=t.type, len=len(t.value), value=t.value) for t in tlvs]
    )
    ours = tlv.encode(tlvs)
    assert bytes(theirs)[BASE_SIZE:] == ours
    read = STAMPSessionReflectorTestUnauthenticated(bytes(BASE_SIZE) + ours).tlv_objects
    assert [(int(t.flags), t.type, t.value) for t in read] == [(t.flags, t.type, t.value) for t in tlvs]


def test_scapys_request_with_tlvs_is_answered_and_scapy_reads_the_answer() -> None:
    asked = [
        STAMPTestTLV(flags="U", type=7, len=16, value=bytes(16)),
        STAMPTestTLV(flags="U", type=99, len=1, value="x"),
    ]
    request = bytes(STAMPSessionSenderTestUnauthenticated(seq=5, ssid=9, tlv_objects=asked))
    reply = Reflection().answer(request, ("192.0.2.1", 862), 1_000_000, 2_000_000, 64)
    assert len(reply) == len(request)
    read = STAMPSessionReflectorTestUnauthenticated(reply)
    assert (read.seq_sender, read.ssid, read.ttl_sender) == (5, 9, 64)
    assert [(int(t.flags), t.type) for t in read.tlv_objects] == [(0, 7), (0x80, 99)]


def test_golden_seal_and_answer() -> None:
    assert tlv.seal(ASKED[:20], KEY, 7) == ASKED
    assert answer(ASKED, KEY, signed=True) == TOLD
    assert tlv.read(TOLD, KEY, 3, signed=True) == Extensions(follow_up=PREVIOUS)


def test_what_a_reflector_understands_loses_its_u_and_the_rest_keeps_it() -> None:
    told = answer(
        tlv.encode([Tlv(2, b"1234"), FollowUp(), Tlv(0xFC, b""), ExtraPadding(5, b"noise"), Tlv(7, bytes(16), 0)])
    )
    assert flags(told) == [0x80, 0, 0x80, 0, 0]
    assert told[4:8] == b"1234" and b"noise" in told
    assert tlv.read(told, None, 3, signed=False) == Extensions(follow_up=PREVIOUS, unrecognized=(2, 0xFC))


@pytest.mark.parametrize(
    "tail",
    [b"\x80\x07\x00\x11" + bytes(17), b"\x80\x07\x00\x0f" + bytes(15), b"\x80\x07\x00\x10" + bytes(15),
     b"\x80\x01\xff\xff"],
    ids=["too long for its type", "too short for its type", "cut", "longer than the packet"],
)  # fmt: skip
def test_a_malformed_tlv_is_marked_and_ends_the_reading(tail: bytes) -> None:
    told = answer(tlv.encode([FollowUp()]) + tail)
    assert told[:20] == TOLD[:20]
    assert told[20] == tlv.MALFORMED and told[21:] == tail[1:]
    read = tlv.read(told, None, 3, signed=False)
    assert read.malformed and read.follow_up == PREVIOUS


def test_a_rest_too_short_for_a_header_is_returned_and_noted() -> None:
    told = answer(tlv.encode([FollowUp()]) + b"\x80\x01\x00")
    assert told[20:] == b"\x80\x01\x00"
    assert tlv.read(told, None, 3, signed=False).malformed


def test_an_m_flag_in_a_reply_ends_the_reading() -> None:
    raw = Tlv(3, bytes(4), tlv.MALFORMED).encode() + Tlv(7, bytes(16), 0).encode()
    assert tlv.read(raw, None, 3, signed=False) == Extensions(malformed=True)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda raw: raw[:4] + b"\1" + raw[5:],
        lambda raw: raw[:-1] + b"\0",
        lambda raw: raw[20:] + raw[:20],  # the HMAC first
        lambda raw: raw + raw[20:],  # twice
        lambda raw: raw[:20],  # none
        lambda raw: raw[:20] + Tlv(7, bytes(15)).encode() + raw[20:],  # behind a malformed one
    ],
    ids=["changed", "wrong", "first", "twice", "missing", "unreachable"],
)
def test_integrity_failures_mark_every_tlv_and_read_nothing(spoil: Callable[[bytes], bytes]) -> None:
    asked = spoil(ASKED)
    told = answer(asked, KEY, signed=True)
    assert len(told) == len(asked)
    assert all(told[offset] & tlv.INTEGRITY_FAILED for offset, _, _ in tlv.Chain.of(told).entries)
    assert PREVIOUS.tlv().value not in told
    assert tlv.read(told, KEY, 3, signed=True) == Extensions(integrity_failed=True)


def test_extra_padding_alone_needs_no_hmac_and_may_follow_one() -> None:
    padding = tlv.encode([ExtraPadding(9, b"123456789")])
    assert flags(answer(padding, KEY, signed=True)) == [0]
    told = answer(ASKED + padding, KEY, signed=True)
    assert told == TOLD + b"\0" + padding[1:]
    assert tlv.read(told, KEY, 3, signed=True).follow_up == PREVIOUS
    assert tlv.read(answer(padding + padding, KEY, signed=True), KEY, 3, signed=True).integrity_failed


def test_a_sender_does_not_believe_a_forged_answer() -> None:
    assert tlv.read(TOLD, OTHER, 3, signed=True).integrity_failed
    assert tlv.read(TOLD, KEY, 4, signed=True).integrity_failed  # replayed under another sequence number
    assert tlv.read(TOLD[:20], KEY, 3, signed=True).integrity_failed


def test_an_hmac_works_in_unauthenticated_mode_and_fails_without_a_key() -> None:
    assert answer(ASKED, KEY) == TOLD
    assert flags(answer(ASKED)) == [tlv.INTEGRITY_FAILED, tlv.INTEGRITY_FAILED]


def test_zeros_are_packet_padding_and_come_back_untouched() -> None:
    assert answer(bytes(100)) == bytes(100)
    assert tlv.read(bytes(100), None, 3, signed=False) == Extensions()


@given(st.binary(max_size=120), st.booleans(), st.booleans())
def test_any_bytes_are_answered_at_their_length_and_read(raw: bytes, with_key: bool, signed: bool) -> None:
    key = KEY if with_key else None
    told = answer(raw, key, signed=signed)
    assert len(told) == len(raw)
    tlv.read(told, key, 3, signed=signed)
    tlv.read(raw, key, 3, signed=signed)


@given(st.lists(st.one_of(
    st.builds(FollowUp), st.builds(TimestampInformation), st.builds(ExtraPadding, st.integers(0, 50)),
    st.builds(ClassOfService, st.integers(0, 63)), st.builds(DirectMeasurement, U32),
    st.builds(Tlv, st.integers(100, 250), st.binary(min_size=1, max_size=9)),
), min_size=1, max_size=5), st.booleans())  # fmt: skip
def test_what_a_sender_builds_is_whole_and_vouched_for(extensions: list[tlv.Extension], signed: bool) -> None:
    packet = Request(16, KEY, tuple(extensions), authenticated=signed).encode(7, 1, 1)
    raw = packet[112 if signed else 44 :]
    chain = tlv.Chain.of(raw)
    assert chain.whole and chain.intact(KEY, 7, signed=signed)
