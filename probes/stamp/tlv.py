"""What may follow a base packet: the TLVs of RFC 8972, with the rules of order, integrity and malformed ones. PURE.

A TLV is flags (1), type (1), length of the value (2), value. Flags, from the top bit: U, the value was not understood
(a sender sets it, a reflector that understands clears it); M, malformed: this TLV and all behind it were only copied;
I, the HMAC TLV does not fit: nothing was read. The other five are zero.

======  =======================  =======  ===========================================================================
type    name                     value    contents
======  =======================  =======  ===========================================================================
1       extra padding            any      any; returned as it came
3       timestamp information    4        synchronisation source and method of T2, then of T3
4       class of service         4        DSCP wanted for the reply (6 bits), DSCP (6) and ECN (2) seen by the
                                          reflector, RP (2): 1 if the wanted one was not used; 16 bits of zeros
5       direct measurement       12       packets of the flow: sent by the sender, received and sent by the reflector
7       follow-up telemetry      16       sequence of the previous reply (4), when it really left (8), method (1), zeros
8       HMAC                     16       over the packet's sequence number and all TLVs before this one
======  =======================  =======  ===========================================================================

Order: only extra padding may follow the HMAC TLV; one in any other place fails like a wrong one. An authenticated
packet with TLVs must have an HMAC TLV unless it has nothing but one extra padding.

Bytes that are all zero are TWAMP Light's packet padding, not TLVs: they go back untouched.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from probes.stamp.key import MAC_SIZE, Key

EXTRA_PADDING, TIMESTAMP_INFORMATION, CLASS_OF_SERVICE, DIRECT_MEASUREMENT, FOLLOW_UP, HMAC = 1, 3, 4, 5, 7, 8
UNRECOGNIZED, MALFORMED, INTEGRITY_FAILED = 0x80, 0x40, 0x20  # the flags U, M and I
SIZES = {TIMESTAMP_INFORMATION: 4, CLASS_OF_SERVICE: 4, DIRECT_MEASUREMENT: 12, FOLLOW_UP: 16, HMAC: MAC_SIZE}
SYNC_NTP, SYNC_PTP, SYNC_SSU, SYNC_SATELLITE, SYNC_LOCAL = 1, 2, 3, 4, 5  # sources of synchronisation
HARDWARE, SOFTWARE, REMOTE = 1, 2, 3  # methods of stamping: the card, the local clock, a clock elsewhere

_HEADER = struct.Struct(">BBH")
_FOLLOW_UP = struct.Struct(">IQB3x")
_DIRECT = struct.Struct(">III")
_SEQUENCE = struct.Struct(">I")


@dataclass(frozen=True, slots=True)
class Tlv:
    """One TLV, its value not interpreted."""

    type: int
    value: bytes
    flags: int = UNRECOGNIZED  # as a sender transmits it

    def encode(self) -> bytes:
        """Return the bytes on the wire."""
        return _HEADER.pack(self.flags, self.type, len(self.value)) + self.value


@dataclass(frozen=True, slots=True)
class TimestampInformation:
    """How the reflector got its stamps: of a request on arrival (in) and of its reply on departure (out)."""

    sync_in: int = 0
    method_in: int = 0
    sync_out: int = 0
    method_out: int = 0

    def tlv(self) -> Tlv:
        """As a TLV."""
        return Tlv(TIMESTAMP_INFORMATION, bytes((self.sync_in, self.method_in, self.sync_out, self.method_out)))

    @classmethod
    def decode(cls, value: bytes) -> TimestampInformation:
        """Read a value of the right length."""
        return cls(*value)


@dataclass(frozen=True, slots=True)
class ClassOfService:
    """Which DSCP the reply should have, which DSCP and ECN the request arrived with, and whether the wish was met."""

    dscp_wanted: int
    dscp_seen: int = 0
    ecn_seen: int = 0
    refused: int = 0  # RP: 1 if the reply's DSCP is not the one wanted

    def tlv(self) -> Tlv:
        """As a TLV."""
        bits = (self.dscp_wanted << 10) | (self.dscp_seen << 4) | (self.ecn_seen << 2) | self.refused
        return Tlv(CLASS_OF_SERVICE, bits.to_bytes(2, "big") + b"\0\0")

    @classmethod
    def decode(cls, value: bytes) -> ClassOfService:
        """Read a value of the right length."""
        bits = int.from_bytes(value[:2], "big")
        return cls(bits >> 10, (bits >> 4) & 0x3F, (bits >> 2) & 3, bits & 3)


@dataclass(frozen=True, slots=True)
class DirectMeasurement:
    """Counters of the real traffic between the two, modulo 2^32: losses without a single probe."""

    sent: int
    received_there: int = 0
    sent_there: int = 0

    def tlv(self) -> Tlv:
        """As a TLV."""
        return Tlv(DIRECT_MEASUREMENT, _DIRECT.pack(self.sent, self.received_there, self.sent_there))

    @classmethod
    def decode(cls, value: bytes) -> DirectMeasurement:
        """Read a value of the right length."""
        return cls(*_DIRECT.unpack(value))


@dataclass(frozen=True, slots=True)
class FollowUp:
    """When the reply of that sequence number (the session's previous one) really left; zeros if there is none."""

    sequence: int = 0
    timestamp: int = 0  # raw, in the format of the reflector's error estimate
    method: int = 0

    def tlv(self) -> Tlv:
        """As a TLV."""
        return Tlv(FOLLOW_UP, _FOLLOW_UP.pack(self.sequence, self.timestamp, self.method))

    @classmethod
    def decode(cls, value: bytes) -> FollowUp:
        """Read a value of the right length."""
        return cls(*_FOLLOW_UP.unpack(value))


@dataclass(frozen=True, slots=True)
class ExtraPadding:
    """Bytes that make a packet longer; zeros unless given."""

    size: int
    fill: bytes = b""

    def tlv(self) -> Tlv:
        """As a TLV."""
        return Tlv(EXTRA_PADDING, self.fill.ljust(self.size, b"\0")[: self.size])


Extension = TimestampInformation | ClassOfService | DirectMeasurement | FollowUp | ExtraPadding | Tlv


def encode(extensions: Iterable[Extension]) -> bytes:
    """Return TLVs as a sender transmits them, U set; a :class:`Tlv` goes out with the flags it has."""
    return b"".join((one if isinstance(one, Tlv) else one.tlv()).encode() for one in extensions)


@dataclass(frozen=True, slots=True)
class Chain:
    """Where the TLVs lie in the bytes behind a base packet: (offset, type, end) of each well-formed one."""

    raw: bytes
    entries: tuple[tuple[int, int, int], ...]
    end: int  # of the last of them; what is left is malformed

    @classmethod
    def of(cls, raw: bytes) -> Chain:
        """Split up to the first malformed TLV: one longer than what is left, or not of its type's length."""
        entries: list[tuple[int, int, int]] = []
        offset, size = 0, len(raw)
        while size - offset >= _HEADER.size:
            _, kind, length = _HEADER.unpack_from(raw, offset)
            end = offset + _HEADER.size + length
            if end > size or SIZES.get(kind, length) != length:
                break
            entries.append((offset, kind, end))
            offset = end
        return cls(raw, tuple(entries), offset)

    @property
    def whole(self) -> bool:
        """Whether nothing in it is malformed."""
        return self.end == len(self.raw)

    def mac_offset(self) -> int | None:
        """Where the HMAC TLV is, -1 if it is where it must not be, ``None`` without one."""
        places = [i for i, (_, kind, _) in enumerate(self.entries) if kind == HMAC]
        if not places:
            return None
        if len(places) > 1 or any(kind != EXTRA_PADDING for _, kind, _ in self.entries[places[0] + 1 :]):
            return -1
        return self.entries[places[0]][0]

    def intact(self, key: Key | None, sequence: int, *, signed: bool) -> bool:
        """Whether the TLVs are vouched for, or need not be; ``signed``: in authenticated mode."""
        place = self.mac_offset()
        if place is None:
            only_padding = self.whole and [kind for _, kind, _ in self.entries] == [EXTRA_PADDING]
            return not signed or only_padding
        if place < 0 or key is None:
            return False
        value = place + _HEADER.size
        return key.fits(_SEQUENCE.pack(sequence) + self.raw[:place], self.raw[value : value + MAC_SIZE])


def seal(extensions: bytes, key: Key, sequence: int) -> bytes:
    """Return TLVs with an HMAC TLV behind them."""
    return extensions + Tlv(HMAC, key.mac(_SEQUENCE.pack(sequence) + extensions)).encode()


FOLLOW_UP_REQUEST = encode((FollowUp(),))
"""What asks for Follow-Up Telemetry, behind a base packet."""
_FOLLOWED_UP = struct.Struct(">BBHIQ4x")


def read_follow_up(raw: bytes) -> tuple[int, int]:
    """Number and raw stamp of the reply before, from the only TLV of an unauthenticated reply; (-1, 0) if untold."""
    if len(raw) != _FOLLOWED_UP.size:
        return -1, 0
    flags, kind, size, number, stamp = _FOLLOWED_UP.unpack(raw)
    told = not flags and kind == FOLLOW_UP and size == SIZES[FOLLOW_UP] and stamp
    return (number, stamp) if told else (-1, 0)


def answer(
    raw: bytes,
    fill: Callable[[int, bytes], bytes | None],
    key: Key | None,
    sequences: tuple[int, int],
    *,
    signed: bool,
) -> bytes:
    """What a reflector returns for the TLVs of a request; exactly as long.

    ``fill(type, value)`` gives the value to return, or ``None`` for a TLV it does not know; ``sequences`` are those of
    the request and of the reply, which the HMACs cover.
    """
    if not any(raw):
        return raw
    chain = Chain.of(raw)
    reply = bytearray(raw)
    intact = chain.intact(key, sequences[0], signed=signed)
    for offset, kind, end in chain.entries:
        value = raw[offset + _HEADER.size : end]
        filled = value if kind in (EXTRA_PADDING, HMAC) else fill(kind, value)
        flags = UNRECOGNIZED if filled is None else 0
        if not intact:
            flags |= INTEGRITY_FAILED
        elif filled is not None:
            reply[offset + _HEADER.size : end] = filled
        reply[offset] = flags
    if not chain.whole and len(raw) - chain.end >= _HEADER.size:
        reply[chain.end] = MALFORMED if intact else MALFORMED | INTEGRITY_FAILED
    place = chain.mac_offset()
    if intact and key is not None and place is not None:
        value_at = place + _HEADER.size
        reply[value_at : value_at + MAC_SIZE] = key.mac(_SEQUENCE.pack(sequences[1]) + bytes(reply[:place]))
    return bytes(reply)


@dataclass(frozen=True, slots=True)
class Extensions:
    """What a sender reads from the TLVs of a reply."""

    timestamp_information: TimestampInformation | None = None
    class_of_service: ClassOfService | None = None
    direct_measurement: DirectMeasurement | None = None
    follow_up: FollowUp | None = None
    unrecognized: tuple[int, ...] = ()  # types the reflector did not understand
    malformed: bool = False  # reading stopped early
    integrity_failed: bool = False  # nothing was read


_READERS: dict[int, tuple[str, Callable[[bytes], object]]] = {
    TIMESTAMP_INFORMATION: ("timestamp_information", TimestampInformation.decode),
    CLASS_OF_SERVICE: ("class_of_service", ClassOfService.decode),
    DIRECT_MEASUREMENT: ("direct_measurement", DirectMeasurement.decode),
    FOLLOW_UP: ("follow_up", FollowUp.decode),
}


def read(raw: bytes, key: Key | None, sequence: int, *, signed: bool) -> Extensions:
    """Read the TLVs of a reply whose sequence number is given. Never raises: what is wrong is said in the answer."""
    if not any(raw):
        return Extensions()
    chain = Chain.of(raw)
    if any(raw[offset] & INTEGRITY_FAILED for offset, _, _ in chain.entries):
        return Extensions(integrity_failed=True)
    if not chain.intact(key, sequence, signed=signed):
        return Extensions(integrity_failed=True)
    found: dict[str, object] = {}
    unrecognized: list[int] = []
    malformed = not chain.whole
    for offset, kind, end in chain.entries:
        if raw[offset] & MALFORMED:
            malformed = True
            break
        if raw[offset] & UNRECOGNIZED:
            unrecognized.append(kind)
        elif kind in _READERS:
            name, decode = _READERS[kind]
            found[name] = decode(raw[offset + _HEADER.size : end])
    return Extensions(**found, unrecognized=tuple(unrecognized), malformed=malformed)  # type: ignore[arg-type]
