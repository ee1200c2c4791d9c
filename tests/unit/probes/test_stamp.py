"""STAMP packets: golden bytes, scapy as an independent codec, lengths, NTP time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.contrib.stamp import STAMPSessionReflectorTestUnauthenticated, STAMPSessionSenderTestUnauthenticated

from probes.stamp import (
    BASE_SIZE,
    ErrorEstimate,
    PacketError,
    ReflectorPacket,
    SenderPacket,
    micros_to_ntp,
    ntp_to_micros,
    pack_request,
    reflect,
    request_ssid,
    stamp_to_micros,
    unpack_reply,
)

U16, U32, U64 = st.integers(0, (1 << 16) - 1), st.integers(0, (1 << 32) - 1), st.integers(0, (1 << 64) - 1)
# an error estimate whose multiplier is not 0, the only valid ones
ESTIMATE = st.builds(lambda high, low: (high << 8) | low, st.integers(0, 255), st.integers(1, 255))
TLVS = st.binary(max_size=64)

GOLDEN_REQUEST = bytes.fromhex(
    "00000007" "eb0c2a8080000000" "8a01" "1234" + "00" * 28  # 0x8a01: S, scale 10, multiplier 1
)  # fmt: skip
GOLDEN_REPLY = bytes.fromhex(
    "00000003" "eb0c2a80c0000000" "0a02" "1234" "eb0c2a80a0000000"
    "00000007" "eb0c2a8080000000" "8a01" "0000" "fa" "000000"
)  # fmt: skip


def test_golden_request() -> None:
    packet = SenderPacket(7, 0xEB0C2A80_80000000, 0x8A01, 0x1234)
    assert packet.encode() == GOLDEN_REQUEST
    assert pack_request(7, 0xEB0C2A80_80000000, 0x8A01, 0x1234) == GOLDEN_REQUEST
    assert SenderPacket.decode(GOLDEN_REQUEST) == packet
    assert request_ssid(GOLDEN_REQUEST) == 0x1234


def test_golden_reply() -> None:
    reply = reflect(GOLDEN_REQUEST, 3, 0xEB0C2A80_A0000000, 0xEB0C2A80_C0000000, 0x0A02, 250)
    assert reply == GOLDEN_REPLY
    packet = ReflectorPacket.decode(reply)
    assert packet.encode() == GOLDEN_REPLY
    assert (packet.sender_sequence, packet.sender_ttl, packet.receive_timestamp) == (7, 250, 0xEB0C2A80_A0000000)


@given(U32, st.integers(0, (1 << 52)), ESTIMATE, U16)
def test_scapy_reads_our_requests_and_writes_the_same_bytes(
    sequence: int, micros: int, estimate: int, ssid: int
) -> None:
    ours = pack_request(sequence, micros_to_ntp(micros), estimate & 0xBFFF, ssid)
    theirs = STAMPSessionSenderTestUnauthenticated(ours)
    assert (theirs.seq, theirs.ssid) == (sequence, ssid)
    assert theirs.err_estimate.multiplier == estimate & 0xFF
    assert theirs.err_estimate.scale == (estimate >> 8) & 0x3F
    assert estimate >> 15 == theirs.err_estimate.S
    theirs.raw_packet_cache = None
    assert bytes(theirs)[:4] + bytes(theirs)[12:BASE_SIZE] == ours[:4] + ours[12:]


@given(U32, U32, ESTIMATE, ESTIMATE, U16, st.integers(0, 255))
def test_scapy_reads_our_replies(
    sequence: int, sender_sequence: int, own_estimate: int, sender_estimate: int, ssid: int, ttl: int
) -> None:
    t1, t2, t3 = (micros_to_ntp(1_795_000_000_000_000 + i) for i in range(3))
    request = pack_request(sender_sequence, t1, sender_estimate & 0xBFFF, ssid)
    theirs = STAMPSessionReflectorTestUnauthenticated(reflect(request, sequence, t2, t3, own_estimate & 0xBFFF, ttl))
    assert (theirs.seq, theirs.seq_sender, theirs.ssid, theirs.ttl_sender) == (sequence, sender_sequence, ssid, ttl)
    assert theirs.err_estimate.multiplier == own_estimate & 0xFF
    assert theirs.err_estimate_sender.multiplier == sender_estimate & 0xFF
    for stamp, raw in ((theirs.ts, t3), (theirs.ts_rx, t2), (theirs.ts_sender, t1)):
        assert abs(float(stamp) - raw / 2**32) < 1e-6  # scapy keeps stamps as floats or decimals


@given(st.binary(min_size=14, max_size=200).filter(lambda packet: packet[13]), U32, U64, U64)
def test_reply_is_as_long_as_its_request_and_returns_its_tlvs(request: bytes, sequence: int, t2: int, t3: int) -> None:
    reply = reflect(request, sequence, t2, t3, 1, 64)
    assert len(reply) == len(request)
    assert reply[BASE_SIZE:] == request[BASE_SIZE:]
    if len(request) >= BASE_SIZE:
        packet = ReflectorPacket.decode(reply)
        sent = SenderPacket.decode(request)
        assert (packet.sender_sequence, packet.sender_timestamp, packet.ssid) == (
            sent.sequence,
            sent.timestamp,
            sent.ssid,
        )


@given(U32, U64, ESTIMATE, U16, TLVS)
def test_sender_packets_survive_the_round_trip(
    sequence: int, stamp: int, estimate: int, ssid: int, tlvs: bytes
) -> None:
    packet = SenderPacket(sequence, stamp, estimate, ssid, tlvs)
    assert SenderPacket.decode(packet.encode()) == packet


@given(st.builds(ReflectorPacket, U32, U64, ESTIMATE, U16, U64, U32, U64, ESTIMATE, st.integers(0, 255), TLVS))
def test_reflector_packets_survive_the_round_trip(packet: ReflectorPacket) -> None:
    assert ReflectorPacket.decode(packet.encode()) == packet


def test_short_requests_count_as_padded_with_zeros() -> None:
    short = GOLDEN_REQUEST[:14]
    assert request_ssid(short) == 0
    assert SenderPacket.decode(short) == SenderPacket(7, 0xEB0C2A80_80000000, 0x8A01, 0)
    assert reflect(short, 3, 1, 0xEB0C2A80_C0000000, 0x0A02, 250) == GOLDEN_REPLY[:14]


@pytest.mark.parametrize("size", [0, 1, 13])
def test_too_short_a_request_is_refused(size: int) -> None:
    for read in (request_ssid, SenderPacket.decode):
        with pytest.raises(PacketError, match="at least 14"):
            read(GOLDEN_REQUEST[:size])


def test_multiplier_zero_is_refused() -> None:
    with pytest.raises(PacketError, match="multiplier 0"):
        request_ssid(GOLDEN_REQUEST[:13] + b"\0" + GOLDEN_REQUEST[14:])
    with pytest.raises(PacketError, match="multiplier 0"):
        unpack_reply(GOLDEN_REPLY[:13] + b"\0" + GOLDEN_REPLY[14:])
    with pytest.raises(PacketError, match="multiplier 0"):
        unpack_reply(GOLDEN_REPLY[:37] + b"\0" + GOLDEN_REPLY[38:])


def test_a_reply_needs_all_its_bytes() -> None:
    with pytest.raises(PacketError, match="at least 44"):
        unpack_reply(GOLDEN_REPLY[:43])


@given(st.integers(-2_208_988_800_000_000 + 68 * 366 * 86_400_000_000, 4_200_000_000_000_000))
def test_microseconds_survive_ntp_exactly(micros: int) -> None:
    assert ntp_to_micros(micros_to_ntp(micros)) == micros


@given(U64)
def test_foreign_stamps_are_off_by_at_most_half_a_microsecond(ntp: int) -> None:
    era = 0 if ntp >= 1 << 63 else 1 << 64
    exact_doubled = 2 * ((ntp + era) * 1_000_000 - (2_208_988_800_000_000 << 32))  # in half 2^-32 us
    assert abs(2 * (ntp_to_micros(ntp) << 32) - exact_doubled) <= 1 << 32


def test_ntp_of_known_times() -> None:
    assert micros_to_ntp(0) == 2_208_988_800 << 32  # 1970
    assert micros_to_ntp(500_000) & 0xFFFFFFFF == 1 << 31
    assert micros_to_ntp(2_085_978_496_000_000) == 0  # the era ends in February 2036
    assert ntp_to_micros(0) == 2_085_978_496_000_000


def test_ptp_stamps_are_read_by_their_z_bit() -> None:
    assert stamp_to_micros((12 << 32) | 3_499, 0x4001) == 12_000_003
    assert stamp_to_micros(micros_to_ntp(12_000_003), 0x0001) == 12_000_003


@given(st.integers(0, 1 << 40), st.booleans())
def test_error_estimate_is_the_smallest_that_covers(error_us: int, synchronized: bool) -> None:
    estimate = ErrorEstimate.of_micros(error_us, synchronized=synchronized)
    assert 1 <= estimate.multiplier <= 255
    assert ErrorEstimate.decode(estimate.encode()) == estimate
    assert error_us <= estimate.error_us * (1 + 1e-12)
    assert estimate.error_us <= error_us * (1 + 1 / 64) + 0.001
