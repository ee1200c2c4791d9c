"""What users, media edges and AI agents of the demo world say to each other over UDP.

PURE: bytes in, frozen dataclasses out. Decoding is strict: wrong magic, an unknown kind, a length that does not fit, or
text that is no id raises :class:`PacketError`, which every handler counts and forgets; nothing else can be raised.

A talking user sends :class:`Audio` 20 times a second. The edge stamps its own address into ``reply_to`` and passes the
packet on; the AI agent answers with the same sequence and send time, adding who it is and what it remembers: ``memory``
is a number drawn when its memory of this session began and ``heard`` counts the packets it has heard since. A user that
sees the same agent, the same ``memory`` and a rising ``heard`` has therefore kept its agent *and* its agent's state.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass, fields, replace

MAGIC = b"TM"
VERSION = 1
MAX_ID = 63  # as everywhere in the contract
MAX_TEXT = 1_024  # tokens and URLs
MAX_PAYLOAD = 1_200  # fits one Ethernet frame together with every header, relayed twice
NOWHERE = ("0.0.0.0", 0)
_HEAD = struct.Struct("!2sBB")
_AUDIO = struct.Struct("!IQII4sHBBH")  # sequence, sent_us, heard, memory, reply host, reply port, three lengths
_LENGTH = struct.Struct("!H")
_ID = re.compile(rb"[a-z0-9][a-z0-9-]{0,62}\Z")

Address = tuple[str, int]


class PacketError(ValueError):
    """The bytes are not a packet of this format; the message names the rule that was broken."""


@dataclass(frozen=True, slots=True)
class Audio:
    """20 ms of sound on its way: from the user (``answer`` false) or back from the AI agent (``answer`` true)."""

    session: str
    agent: str
    sequence: int  # counts up by one per packet of this user and session
    sent_us: int  # the user's own monotonic clock
    answer: bool = False
    heard: int = 0  # packets of this session the agent has heard, this one included
    memory: int = 0  # drawn when the agent's memory of this session began
    reply_to: Address = NOWHERE  # the edge that passed the question on
    payload: bytes = b""


@dataclass(frozen=True, slots=True)
class Hello:
    """A user arrives at an edge and shows its session token."""

    session: str
    token: str


@dataclass(frozen=True, slots=True)
class Welcome:
    """The edge carries this session from now on."""

    session: str
    edge: str


@dataclass(frozen=True, slots=True)
class Refused:
    """The edge will not carry this session; ``code`` says why."""

    session: str
    code: str


@dataclass(frozen=True, slots=True)
class MoveTo:
    """The edge asks the user to arrive at another edge first, and to leave this one then."""

    session: str
    edge: str
    url: str
    token: str


@dataclass(frozen=True, slots=True)
class Bye:
    """The user leaves this edge; ``reason`` is ``moved`` when it talks through another one already, else ``ended``.

    From an edge to a user (``reason`` ``ended``): the session is over.
    """

    session: str
    reason: str


Control = Hello | Welcome | Refused | MoveTo | Bye
Message = Audio | Control
_QUESTION, _ANSWER = 1, 2
_CONTROL: dict[int, type[Control]] = {3: Hello, 4: Welcome, 5: Refused, 6: MoveTo, 7: Bye}
_KIND: dict[type[Control], int] = {cls: kind for kind, cls in _CONTROL.items()}
_TEXTS: dict[type[Control], tuple[str, ...]] = {cls: tuple(f.name for f in fields(cls)) for cls in _KIND}


def encode(message: Message) -> bytes:
    """Return the bytes of a message; texts beyond the limits are the caller's error (``PacketError``)."""
    if isinstance(message, Audio):
        return _encode_audio(message)
    parts = [_HEAD.pack(MAGIC, VERSION, _KIND[type(message)])]
    for name in _TEXTS[type(message)]:
        text = str(getattr(message, name)).encode()
        if len(text) > MAX_TEXT:
            raise PacketError(f"{name} is longer than {MAX_TEXT} bytes")
        parts += (_LENGTH.pack(len(text)), text)
    return b"".join(parts)


def decode(data: bytes) -> Message:
    """Return the message in ``data``. Raises :class:`PacketError`, and nothing else."""
    if len(data) < _HEAD.size:
        raise PacketError("shorter than a header")
    magic, version, kind = _HEAD.unpack_from(data)
    if magic != MAGIC or version != VERSION:
        raise PacketError("not a media packet of this version")
    if kind in (_QUESTION, _ANSWER):
        return _decode_audio(data, kind == _ANSWER)
    cls = _CONTROL.get(kind)
    if cls is None:
        raise PacketError(f"unknown kind {kind}")
    return cls(*_texts(data, len(_TEXTS[cls])))


def stamped(audio: Audio, reply_to: Address, agent: str) -> Audio:
    """Return a question as an edge passes it on: with the edge's own address, and the agent it knows of."""
    return replace(audio, reply_to=reply_to, agent=agent)


def answered(audio: Audio, heard: int, memory: int) -> Audio:
    """Return an agent's answer to a question."""
    return replace(audio, answer=True, heard=heard, memory=memory)


def parse_url(url: str) -> Address:
    """Return host and port of ``udp://host:port``. Raises :class:`PacketError`."""
    scheme, _, rest = url.partition("://")
    host, _, port = rest.rpartition(":")
    if scheme != "udp" or not host or not port.isdigit() or not 0 < int(port) < 65_536:
        raise PacketError(f"{url!r} is not udp://host:port")
    return host, int(port)


def _encode_audio(audio: Audio) -> bytes:
    session, agent = audio.session.encode(), audio.agent.encode()
    if len(session) > MAX_ID or len(agent) > MAX_ID or len(audio.payload) > MAX_PAYLOAD:
        raise PacketError(f"ids are at most {MAX_ID} bytes, a payload {MAX_PAYLOAD}")
    host, port = audio.reply_to
    body = _AUDIO.pack(
        audio.sequence, audio.sent_us, audio.heard, audio.memory, _packed_host(host), port,
        len(session), len(agent), len(audio.payload),
    )  # fmt: skip
    head = _HEAD.pack(MAGIC, VERSION, _ANSWER if audio.answer else _QUESTION)
    return b"".join((head, body, session, agent, audio.payload))


def _decode_audio(data: bytes, answer: bool) -> Audio:
    start = _HEAD.size + _AUDIO.size
    if len(data) < start:
        raise PacketError("shorter than an audio header")
    sequence, sent_us, heard, memory, host, port, n_session, n_agent, n_payload = _AUDIO.unpack_from(data, _HEAD.size)
    if n_payload > MAX_PAYLOAD or len(data) != start + n_session + n_agent + n_payload:
        raise PacketError("length does not fit the header")
    middle, end = start + n_session, start + n_session + n_agent
    session, agent = _identifier(data[start:middle], "session"), _identifier(data[middle:end], "agent")
    reply_to = (".".join(map(str, host)), port)
    return Audio(session, agent, sequence, sent_us, answer, heard, memory, reply_to, data[end:])


def _texts(data: bytes, count: int) -> list[str]:
    at, texts = _HEAD.size, []
    for i in range(count):
        if len(data) < at + _LENGTH.size:
            raise PacketError("ends in the middle of a text")
        (length,) = _LENGTH.unpack_from(data, at)
        at += _LENGTH.size
        if length > MAX_TEXT or len(data) < at + length:
            raise PacketError("a text is longer than its packet or the limit")
        texts.append(_identifier(data[at : at + length], "session") if i == 0 else _text(data[at : at + length]))
        at += length
    if at != len(data):
        raise PacketError("bytes after the end")
    return texts


def _identifier(raw: bytes, name: str) -> str:
    if not _ID.match(raw):
        raise PacketError(f"{name} is not an id")
    return raw.decode()


def _text(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise PacketError("text is not UTF-8") from error


def _packed_host(host: str) -> bytes:
    parts = host.split(".")
    if len(parts) != 4 or not all(part.isdigit() and int(part) < 256 for part in parts):
        raise PacketError(f"{host!r} is not an IPv4 address")
    return bytes(map(int, parts))
