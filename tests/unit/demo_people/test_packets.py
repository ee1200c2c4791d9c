"""The media packet format: what goes in comes out, and nothing but PacketError ever comes of broken bytes."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.demo.packets import (
    Audio,
    Bye,
    Hello,
    Message,
    MoveTo,
    PacketError,
    Refused,
    Welcome,
    answered,
    decode,
    encode,
    parse_url,
    stamped,
)

ids = st.from_regex(r"[a-z0-9][a-z0-9-]{0,62}", fullmatch=True)
texts = st.text(max_size=200)
u32 = st.integers(0, 2**32 - 1)
hosts = st.tuples(*[st.integers(0, 255)] * 4).map(lambda parts: ".".join(map(str, parts)))
audio = st.builds(
    Audio,
    session=ids,
    agent=ids,
    sequence=u32,
    sent_us=st.integers(0, 2**64 - 1),
    answer=st.booleans(),
    heard=u32,
    memory=u32,
    reply_to=st.tuples(hosts, st.integers(0, 65_535)),
    payload=st.binary(max_size=1_200),
)
control = st.one_of(
    st.builds(Hello, ids, texts),
    st.builds(Welcome, ids, texts),
    st.builds(Refused, ids, texts),
    st.builds(MoveTo, ids, texts, texts, texts),
    st.builds(Bye, ids, texts),
)


@pytest.mark.slow
@given(message=st.one_of(audio, control))
def test_every_message_survives_the_wire(message: Message) -> None:
    assert decode(encode(message)) == message


@given(data=st.binary(max_size=300))
def test_random_bytes_raise_nothing_but_packet_error(data: bytes) -> None:
    with pytest.raises(PacketError):
        decode(b"XX" + data)  # wrong magic
    for prefix in (b"TM\x01\x01", b"TM\x01\x02", b"TM\x01\x03", b"TM\x01\x06", b""):
        with contextlib.suppress(PacketError):
            decode(prefix + data)


@given(message=st.one_of(audio, control), data=st.data())
def test_a_message_cut_short_or_with_bytes_after_its_end_is_refused(message: Message, data: st.DataObject) -> None:
    raw = encode(message)
    with pytest.raises(PacketError):
        decode(raw[: data.draw(st.integers(0, len(raw) - 1))])
    with pytest.raises(PacketError):
        decode(raw + b"\x00")


@pytest.mark.parametrize(
    ("raw", "rule"),
    [
        (b"", "shorter than a header"),
        (b"TM\x02\x01" + bytes(40), "version"),
        (b"TM\x01\x63", "unknown kind"),
        (b"TM\x01\x03" + b"\x00\x01A" + b"\x00\x00", "not an id"),
        (b"TM\x01\x03" + b"\x00\x01a" + b"\x00\x01\xff", "UTF-8"),
        (b"TM\x01\x03" + b"\x00\x01a" + b"\xff\xff", "longer than"),
    ],
)
def test_refusals_name_the_rule(raw: bytes, rule: str) -> None:
    with pytest.raises(PacketError, match=rule):
        decode(raw)


def test_limits_hold_when_encoding() -> None:
    with pytest.raises(PacketError, match="1200"):
        encode(Audio("s", "a", 1, 1, payload=bytes(1_201)))
    with pytest.raises(PacketError, match="63"):
        encode(Audio("s" * 64, "a", 1, 1))
    with pytest.raises(PacketError, match="1024"):
        encode(Hello("s", "t" * 1_025))
    with pytest.raises(PacketError, match="IPv4"):
        encode(Audio("s", "a", 1, 1, reply_to=("localhost", 1)))


def test_edge_and_agent_add_their_part_and_keep_the_rest() -> None:
    question = Audio("s", "a", 7, 99, payload=b"sound")
    passed_on = stamped(question, ("127.2.0.1", 7423), question.agent)
    answer = answered(passed_on, heard=5, memory=77)
    assert (answer.sequence, answer.sent_us, answer.payload) == (7, 99, b"sound")
    assert (answer.answer, answer.heard, answer.memory, answer.reply_to) == (True, 5, 77, ("127.2.0.1", 7423))


@pytest.mark.parametrize(
    "url", ["", "udp://", "http://1.2.3.4:5", "udp://1.2.3.4", "udp://h:0", "udp://h:70000", "udp://h:x"]
)
def test_bad_media_urls_are_refused(url: str) -> None:
    with pytest.raises(PacketError):
        parse_url(url)


def test_a_media_url_is_host_and_port() -> None:
    assert parse_url("udp://127.2.0.9:7423") == ("127.2.0.9", 7423)
