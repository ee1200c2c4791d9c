"""Authenticated STAMP: golden bytes (HMACs by OpenSSL), wrong keys, every bit covered, serial numbers, keys."""

from __future__ import annotations

import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probes.stamp import (
    AUTHENTICATED_SIZE,
    Key,
    PacketError,
    ReflectorPacket,
    SenderPacket,
    WrongKeyError,
    serial_distance,
    sign_request,
    verify_reply,
)

KEY = Key(bytes(range(32)))
OTHER = Key(bytes(range(1, 33)))
# RFC 8762, figures 4 and 6, SSID as in RFC 8972, figures 2 and 4;
# the last line of each: openssl dgst -sha256 -mac HMAC -macopt hexkey:000102…1f, first 16 bytes
GOLDEN_REQUEST = bytes.fromhex(
    "00000007" + "00" * 12 + "eb0c2a8080000000" "8a01" "0120" + "00" * 68
    + "1ad34c68dc152e7461622f704166dbe9"
)  # fmt: skip
GOLDEN_REPLY = bytes.fromhex(
    "00000003" + "00" * 12 + "eb0c2a80c0000000" "0a02" "0120" + "00" * 4 + "eb0c2a80a0000000" + "00" * 8
    + "00000007" + "00" * 12 + "eb0c2a8080000000" "8a01" + "00" * 6 + "fa" + "00" * 15
    + "85229b19b30f36f3a0bde61ae7d9c9d8"
)  # fmt: skip
REQUEST = SenderPacket(7, 0xEB0C2A80_80000000, 0x8A01, 0x0120)
REPLY = ReflectorPacket(
    3, 0xEB0C2A80_C0000000, 0x0A02, 0x0120, 0xEB0C2A80_A0000000, 7, 0xEB0C2A80_80000000, 0x8A01, 250
)
U16, U32, U64 = st.integers(0, (1 << 16) - 1), st.integers(0, (1 << 32) - 1), st.integers(0, (1 << 64) - 1)
ESTIMATE = st.builds(lambda high, low: (high << 8) | low, st.integers(0, 255), st.integers(1, 255))


def test_golden_request() -> None:
    assert REQUEST.sign(KEY) == GOLDEN_REQUEST
    assert SenderPacket.verify(KEY, GOLDEN_REQUEST) == REQUEST
    assert len(GOLDEN_REQUEST) == AUTHENTICATED_SIZE


def test_golden_reply() -> None:
    assert REPLY.sign(KEY) == GOLDEN_REPLY
    assert ReflectorPacket.verify(KEY, GOLDEN_REPLY) == REPLY
    assert ReflectorPacket.verify(KEY, GOLDEN_REPLY + b"tlvs").tlvs == b"tlvs"


@given(U32, U64, ESTIMATE, U16, st.binary(max_size=64))
def test_requests_survive_the_round_trip(sequence: int, stamp: int, estimate: int, ssid: int, tlvs: bytes) -> None:
    packet = SenderPacket(sequence, stamp, estimate, ssid, tlvs)
    assert SenderPacket.verify(KEY, packet.sign(KEY)) == packet


@given(st.builds(ReflectorPacket, U32, U64, ESTIMATE, U16, U64, U32, U64, ESTIMATE, st.integers(0, 255)))
def test_replies_survive_the_round_trip(packet: ReflectorPacket) -> None:
    assert ReflectorPacket.verify(KEY, packet.sign(KEY)) == packet


@given(st.integers(0, AUTHENTICATED_SIZE * 8 - 1))
def test_every_bit_is_covered(bit: int) -> None:
    for packet, read in ((GOLDEN_REQUEST, SenderPacket.verify), (GOLDEN_REPLY, ReflectorPacket.verify)):
        forged = bytearray(packet)
        forged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(WrongKeyError):
            read(KEY, bytes(forged))


@given(st.binary(max_size=200))
def test_strange_bytes_raise_nothing_else(packet: bytes) -> None:
    for read in (SenderPacket.verify, ReflectorPacket.verify):
        with pytest.raises(PacketError):
            read(KEY, packet)


def test_another_key_and_a_cut_packet_are_refused() -> None:
    with pytest.raises(WrongKeyError) as refused:
        SenderPacket.verify(OTHER, GOLDEN_REQUEST)
    assert refused.value.counter == "wrong_key"
    with pytest.raises(PacketError, match="at least 112") as cut:
        ReflectorPacket.verify(KEY, GOLDEN_REPLY[:111])
    assert cut.value.counter == "malformed"


def test_multiplier_zero_is_refused_however_well_signed() -> None:
    with pytest.raises(PacketError, match="multiplier 0"):
        verify_reply(KEY, ReflectorPacket(1, 2, 0x0A00, 4, 5, 6, 7, 1, 9).sign(KEY))
    assert not sign_request(KEY, 1, 2, 3, 4)[13]  # what tells the two layouts apart


def test_a_key_hides_itself_and_is_long_enough() -> None:
    assert "0001" not in repr(KEY) and "\\x01" not in repr(KEY)
    assert Key.of_hex("00" * 16) == Key(bytes(16))
    for text in ("zz" * 16, "00" * 15, "00" * 65):
        with pytest.raises(ValueError, match="a key") as refused:
            Key.of_hex(text)
        assert text not in str(refused.value)


@given(st.binary(min_size=16, max_size=64), st.binary(max_size=300))
def test_the_hmac_is_the_librarys(secret: bytes, text: bytes) -> None:
    expected = hmac.digest(secret, text, "sha256")[:16]
    key = Key(secret)
    assert key.mac(text) == key.mac(text) == expected
    assert key.fits(text, expected) and not key.fits(text, expected[:15])


@given(U32, st.integers(-(1 << 31), (1 << 31) - 1))
def test_serial_numbers_wrap(number: int, distance: int) -> None:
    assert serial_distance((number + distance) & 0xFFFFFFFF, number) == distance
