"""The stateful reflector: sequences, restarts, keys, replays, follow-up stamps, and what it refuses."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probes.keys import derive, key_id
from probes.stamp import (
    AUTHENTICATED_SIZE,
    BASE_SIZE,
    ClassOfService,
    DirectMeasurement,
    ErrorEstimate,
    Flow,
    FollowUp,
    FromReflectorError,
    Key,
    PacketError,
    Reflection,
    ReflectorPacket,
    ReplayedError,
    Request,
    SenderPacket,
    TimestampInformation,
    Tlv,
    TooLongError,
    UnauthenticatedError,
    WrongKeyError,
    followed_up,
    micros_to_ntp,
    ntp_to_micros,
    pack_request,
    read_reply,
    reflect,
    tlv,
)

NOW = 1_795_000_000_000_000
HERE = ("192.0.2.1", 7420)
OWN = bytes(range(32))
IDENTITY = key_id("fra-1")
SSID = IDENTITY << 4 | 3
KEY = Key(derive(OWN, IDENTITY))
STRANGER = Key(derive(OWN, IDENTITY ^ 1))


def own(**options: int | bool) -> Reflection:
    reflection = Reflection(**options)  # type: ignore[arg-type]
    reflection.trust(OWN)
    return reflection


def plain(sequence: int, ssid: int = 5) -> bytes:
    return pack_request(sequence, micros_to_ntp(NOW), 1, ssid)


def signed(sequence: int, t1_us: int = NOW, key: Key = KEY, ssid: int = SSID) -> bytes:
    return SenderPacket(sequence, micros_to_ntp(t1_us), 1, ssid).sign(key)


def sequence_of(reflection: Reflection, packet: bytes, address: tuple[str, int] = HERE, at_us: int = NOW) -> int:
    return int.from_bytes(reflection.answer(packet, address, at_us, at_us + 20, 64)[:4], "big")


def test_an_answer_is_what_the_layout_says() -> None:
    reply = Reflection().answer(plain(9), HERE, NOW + 7, NOW + 30, 251)
    assert reply == reflect(
        plain(9), 0, micros_to_ntp(NOW + 7), micros_to_ntp(NOW + 30), Reflection().error_estimate, 251
    )


def test_every_session_has_a_counter_of_its_own() -> None:
    reflection = Reflection()
    assert [sequence_of(reflection, plain(i)) for i in (4, 5, 9)] == [0, 1, 2]  # lost on the way there: 3
    assert sequence_of(reflection, plain(0, ssid=6)) == 0
    assert sequence_of(reflection, plain(0), ("192.0.2.1", 7421)) == 0
    assert sequence_of(reflection, plain(10)) == 3
    assert reflection.sessions == 3


def test_reordered_and_doubled_packets_are_answered_and_counted() -> None:
    reflection = Reflection()
    assert [sequence_of(reflection, plain(i)) for i in (1, 3, 2, 2)] == [0, 1, 2, 3]


def test_a_restarted_sender_starts_a_session_anew_but_a_wrapped_one_does_not() -> None:
    reflection = Reflection()
    assert [sequence_of(reflection, plain(i)) for i in (0xFFFFFFFE, 0xFFFFFFFF, 0, 1)] == [0, 1, 2, 3]
    assert [sequence_of(reflection, plain(i)) for i in (5_000, 0)] == [4, 0]


def test_memory_is_bounded_and_strangers_push_out_only_strangers() -> None:
    reflection = own(max_sessions=3)
    assert sequence_of(reflection, signed(0)) == 0
    for port in range(1, 100):
        assert sequence_of(reflection, plain(0), ("192.0.2.9", port)) == 0
    assert reflection.sessions == 4
    assert sequence_of(reflection, signed(1)) == 1
    assert sequence_of(reflection, plain(1), ("192.0.2.9", 97)) == 1  # the longest unused one went, not this
    assert sequence_of(reflection, plain(1), ("192.0.2.9", 1)) == 0


def test_reflectors_are_not_answered() -> None:
    reflection = Reflection(own_port=7421)
    reflection.refuse([("192.0.2.7", 862)])
    for address in (("192.0.2.3", 7421), ("192.0.2.7", 862)):
        with pytest.raises(FromReflectorError) as refused:
            reflection.answer(plain(0), address, NOW, NOW, 64)
        assert refused.value.counter == "from_reflector"
    assert sequence_of(reflection, plain(0), ("192.0.2.7", 863)) == 0


def test_too_short_and_too_long_is_refused() -> None:
    with pytest.raises(PacketError, match="at least 14"):
        Reflection().answer(plain(0)[:13], HERE, NOW, NOW, 64)
    with pytest.raises(TooLongError) as refused:
        Reflection().answer(plain(0) + bytes(3_000), HERE, NOW, NOW, 64)
    assert refused.value.counter == "too_long"
    assert len(Reflection().answer(plain(0)[:14], HERE, NOW, NOW, 64)) == 14


@given(st.binary(max_size=300), st.integers(-1, 255), st.booleans())
def test_any_bytes_are_refused_by_name_or_answered_at_their_length(packet: bytes, traffic: int, closed: bool) -> None:
    reflection = own(closed=closed)
    try:
        reply = reflection.answer(packet, HERE, NOW, NOW + 1, 64, traffic)
    except PacketError as refused:
        assert refused.counter
    else:
        assert len(reply) == len(packet)


@given(st.integers(0, AUTHENTICATED_SIZE), st.binary(min_size=1, max_size=60))
def test_spoiled_authenticated_requests_are_never_answered_as_such(at: int, noise: bytes) -> None:
    packet = signed(0)
    spoiled = packet[:at] + noise + packet[at + len(noise) :]
    reflection = own(closed=True)
    if spoiled[:AUTHENTICATED_SIZE] != packet:
        with pytest.raises(PacketError):
            reflection.answer(spoiled, HERE, NOW, NOW, 64)


# --- authenticated mode ---------------------------------------------------------------------------------------------


def test_a_key_follows_from_the_session_id() -> None:
    reflection = own()
    reply = reflection.answer(signed(7), HERE, NOW + 5, NOW + 9, 250)
    assert len(reply) == AUTHENTICATED_SIZE
    read = ReflectorPacket.verify(KEY, reply)
    assert (read.sequence, read.sender_sequence, read.ssid, read.sender_ttl) == (0, 7, SSID, 250)
    assert ntp_to_micros(read.receive_timestamp) == NOW + 5
    assert sequence_of(reflection, signed(8)) == 1
    assert sequence_of(reflection, signed(0, key=STRANGER, ssid=SSID ^ 1 << 4)) == 0


def test_wrong_keys_are_refused_and_so_is_everything_signed_without_a_key() -> None:
    for reflection, packet in ((own(), signed(0, key=STRANGER)), (Reflection(), signed(0))):
        with pytest.raises(WrongKeyError):
            reflection.answer(packet, HERE, NOW, NOW, 64)
        assert reflection.sessions == 0


def test_a_new_own_key_opens_and_an_old_one_closes() -> None:
    reflection = own()
    assert sequence_of(reflection, signed(0)) == 0
    reflection.trust(bytes(32))
    with pytest.raises(WrongKeyError):
        sequence_of(reflection, signed(1))
    assert sequence_of(reflection, signed(1, key=Key(derive(bytes(32), IDENTITY)))) == 1


def test_cut_and_lengthened_authenticated_packets() -> None:
    with pytest.raises(PacketError):
        own().answer(signed(0)[:-1], HERE, NOW, NOW, 64)
    longer = signed(0) + Tlv(1, b"noise").encode()
    assert len(own().answer(longer, HERE, NOW, NOW, 64)) == len(longer)


def test_replays_are_refused_and_late_packets_are_not() -> None:
    reflection = own()
    assert [sequence_of(reflection, signed(i, NOW + i)) for i in (0, 1, 5, 3)] == [0, 1, 2, 3]
    for i in (0, 1, 5, 3):
        with pytest.raises(ReplayedError) as refused:
            sequence_of(reflection, signed(i, NOW + i))
        assert refused.value.counter == "replayed"
    assert [sequence_of(reflection, signed(i, NOW + i)) for i in (2, 4, 6_000)] == [4, 5, 6]
    with pytest.raises(ReplayedError):
        sequence_of(reflection, signed(5, NOW + 5))  # behind the window


@given(st.lists(st.integers(0, 3_000), max_size=60))
def test_no_request_is_answered_twice(order: list[int]) -> None:
    reflection = own()
    answered = set()
    for i in order:
        try:
            reply = reflection.answer(signed(i, NOW + i), HERE, NOW, NOW, 64)
        except ReplayedError:
            continue
        assert i not in answered
        answered.add(i)
        assert read_reply(reply, KEY).sender_sequence == i
    assert answered or not order


@pytest.mark.parametrize("newest", [3, 6_000])
def test_a_restart_is_known_by_its_younger_stamps(newest: int) -> None:
    reflection = own()
    for i in (0, newest):
        sequence_of(reflection, signed(i, NOW + i))
    assert [sequence_of(reflection, signed(i, NOW + 50_000 + i)) for i in (0, 1)] == [0, 1]
    with pytest.raises(ReplayedError):
        sequence_of(reflection, signed(0, NOW))


def test_a_quiet_session_may_restart_with_older_stamps_too() -> None:
    reflection = own()
    sequence_of(reflection, signed(9))
    with pytest.raises(ReplayedError):
        sequence_of(reflection, signed(9, NOW - 3_600_000_000), at_us=NOW + 9_000_000)
    assert sequence_of(reflection, signed(9, NOW - 3_600_000_000), at_us=NOW + 11_000_000) == 0


def test_nobody_else_turns_an_authenticated_sessions_counter() -> None:
    reflection = own()
    assert sequence_of(reflection, plain(0, SSID)) == 0  # before a key came
    assert sequence_of(reflection, signed(0)) == 0
    with pytest.raises(UnauthenticatedError) as refused:
        sequence_of(reflection, plain(1, SSID))
    assert refused.value.counter == "unauthenticated"
    assert sequence_of(reflection, signed(1)) == 1
    assert sequence_of(reflection, plain(1, SSID), at_us=NOW + 11_000_000) == 0  # its owner has lost the key


def test_a_closed_reflector_answers_the_authenticated_alone() -> None:
    reflection = own(closed=True)
    with pytest.raises(UnauthenticatedError):
        sequence_of(reflection, plain(0))
    assert sequence_of(reflection, signed(0)) == 0


# --- extensions -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", [None, KEY], ids=["unauthenticated", "authenticated"])
def test_follow_up_tells_when_the_previous_reply_left(key: Key | None) -> None:
    reflection = own()
    request = Request(SSID, key, (FollowUp(),))
    replies = []
    for i in range(4):
        sent_us = NOW + i * 1_000
        packet = request.encode(i, micros_to_ntp(sent_us), 1)
        assert len(packet) == request.size
        replies.append(read_reply(reflection.answer(packet, HERE, sent_us + 100, sent_us + 120, 64), key))
        if i < 2:
            reflection.transmitted(HERE, SSID, sent_us + 133)  # the kernel's stamp
        elif i == 2:
            reflection.transmitted(HERE, SSID, sent_us + 999, sequence=1)  # too late: that one is not the last
    assert replies[0].follow_up is None
    assert [one.follow_up for one in replies[1:]] == [(0, NOW + 133), (1, NOW + 1_133), (2, NOW + 2_120)]
    assert followed_up(replies[0], replies[1]) == NOW + 133
    assert followed_up(replies[0], replies[2]) is None
    assert followed_up(replace(replies[0], t2_us=NOW + 134), replies[1]) is None  # left before it came: not believed


def test_a_stamp_for_an_unknown_session_is_nothing() -> None:
    reflection = Reflection()
    reflection.transmitted(HERE, 5, NOW)
    assert reflection.sessions == 0


def test_timestamp_information_says_how_stamps_are_made() -> None:
    reflection = Reflection()
    reflection.stamping = TimestampInformation(tlv.SYNC_NTP, tlv.HARDWARE, tlv.SYNC_NTP, tlv.SOFTWARE)
    reply = read_reply(
        reflection.answer(Request(5, None, (TimestampInformation(),)).encode(0, 1, 1), HERE, NOW, NOW, 64)
    )
    assert reply.extensions.timestamp_information == reflection.stamping


@pytest.mark.parametrize(("wanted", "refused"), [(0, 0), (46, 1)])
def test_class_of_service_is_reported_and_not_granted(wanted: int, refused: int) -> None:
    packet = Request(5, None, (ClassOfService(wanted),)).encode(0, 1, 1)
    reply = read_reply(Reflection().answer(packet, HERE, NOW, NOW, 64, 46 << 2 | 1))
    assert reply.extensions.class_of_service == ClassOfService(wanted, 46, 1, refused)
    unreadable = read_reply(Reflection().answer(packet, HERE, NOW, NOW, 64))
    assert unreadable.extensions.unrecognized == (tlv.CLASS_OF_SERVICE,)


def test_direct_measurement_counts_real_packets_where_there_is_a_counter() -> None:
    packet = Request(5, None, (DirectMeasurement(100),)).encode(0, 1, 1)
    counting = Reflection(flow_of={HERE[0]: Flow(97, 1 << 32 | 55)}.get)
    reply = read_reply(counting.answer(packet, HERE, NOW, NOW, 64))
    assert reply.extensions.direct_measurement == DirectMeasurement(100, 97, 55)
    for reflection, address in ((counting, ("192.0.2.2", 1)), (Reflection(), HERE)):
        reply = read_reply(reflection.answer(packet, address, NOW, NOW, 64))
        assert reply.extensions.unrecognized == (tlv.DIRECT_MEASUREMENT,)


def test_tlvs_may_be_protected_in_unauthenticated_mode() -> None:
    request = Request(SSID, KEY, (FollowUp(), TimestampInformation()), authenticated=False)
    reflection = own()
    packet = request.encode(0, 1, 1)
    assert packet[:BASE_SIZE] == pack_request(0, 1, 1, SSID)
    reply = read_reply(reflection.answer(packet, HERE, NOW, NOW, 64), KEY, authenticated=False)
    assert not reply.extensions.integrity_failed
    assert reply.extensions.timestamp_information == reflection.stamping
    failed = read_reply(Reflection().answer(packet, HERE, NOW, NOW, 64), KEY, authenticated=False)
    assert failed.extensions.integrity_failed and failed.ttl == 64


# --- the sender's side of it ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("t3_us", "clamped"), [(-1, True), (0, False), (30, False), (5_000_001, True)])
def test_impossible_residence_is_clamped_and_flagged(t3_us: int, clamped: bool) -> None:
    packet = reflect(plain(0), 0, micros_to_ntp(NOW), micros_to_ntp(NOW + t3_us), 1, 64)
    reply = read_reply(packet)
    assert (reply.clamped, reply.residence_us) == (clamped, 0 if clamped else t3_us)
    assert (reply.t1_us, reply.t2_us) == (NOW, NOW)


def test_a_sender_with_a_key_takes_nothing_unauthenticated() -> None:
    with pytest.raises(PacketError):
        read_reply(Reflection().answer(plain(0), HERE, NOW, NOW, 64), KEY)
    with pytest.raises(WrongKeyError):
        read_reply(own().answer(signed(0), HERE, NOW, NOW, 64), STRANGER)


def test_ptp_stamps_of_a_foreign_reflector_are_read() -> None:
    estimate = ErrorEstimate(1, 0, ptp=True).encode()
    stamp = (NOW // 1_000_000 << 32) | 7_000
    reply = read_reply(ReflectorPacket(1, stamp, estimate, 5, stamp, 0, micros_to_ntp(NOW), 1, 64).encode())
    assert (reply.t1_us, reply.t2_us, reply.t3_us) == (NOW, NOW + 7, NOW + 7)


@given(st.binary(max_size=250), st.booleans())
def test_reading_any_bytes_raises_nothing_else(packet: bytes, with_key: bool) -> None:
    try:
        reply = read_reply(packet, KEY if with_key else None)
    except PacketError:
        return
    assert reply.t3_us >= reply.t2_us
