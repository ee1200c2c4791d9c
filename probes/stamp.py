"""STAMP packets (RFC 8762, with the session id of RFC 8972): encode, decode, reflect, and NTP time. PURE.

Unauthenticated base packets are 44 bytes, big-endian. What follows them (TLVs, RFC 8972) is carried as opaque bytes: a
reflector that knows no TLV returns them unchanged, U flag included, which is what the RFC asks for. The authenticated
layout (112 bytes) would be a second pair of ``struct`` layouts beside ``_SENDER`` and ``_REFLECTOR``; nothing else here
depends on offsets.

=========  ======================================  =====================================================
offset     sender                                  reflector
=========  ======================================  =====================================================
0   (4)    sequence                                sequence (own counter when stateful)
4   (8)    timestamp T1                            timestamp T3
12  (2)    error estimate                          error estimate
14  (2)    SSID                                    SSID, copied
16  (28)   must be zero                            T2 (8), sender sequence (4), T1 (8), sender error
                                                   estimate (2), zero (2), sender TTL (1), zero (3)
44  (..)   TLVs                                    TLVs
=========  ======================================  =====================================================

Lengths: a reply is exactly as long as its request, never longer, so a reflector amplifies nothing. TWAMP Light senders
may send as few as 14 bytes; the missing ones count as zero and the reply is cut to the length of the request.

Time is integer microseconds since the Unix epoch. NTP's 64 bits count 2^-32 s since 1900, modulo 2^32 s; as in RFC 4330
a set top bit means 1968-2036 and a clear one 2036-2104. Both conversions round to nearest, so microseconds survive the
round trip exactly and the error of a foreign stamp is at most half a microsecond.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

BASE_SIZE = 44  # unauthenticated base packet, both directions
MIN_REQUEST_SIZE = 14  # sequence, timestamp, error estimate: all that TWAMP Light's smallest sender packet has
TTL = 255  # TWAMP's and STAMP's rule; the TTL seen by the reflector then counts the hops
UNREADABLE_TTL = 255  # what a reflector writes when it cannot read the TTL

_SENDER = struct.Struct(">IQHH28x")
_REFLECTOR = struct.Struct(">IQHHQIQH2xB3x")
_REQUEST = struct.Struct(">IQHH")

_NTP_UNIX_SECONDS = 2_208_988_800  # 1900-01-01 to 1970-01-01
_ERA_SECONDS = 1 << 32
_SECONDS_MASK = _ERA_SECONDS - 1
_HALF_ERA = 1 << 63  # of a 64-bit stamp: below it lies the era that starts in 2036
_SECOND_US = 1_000_000
_PTP_FLAG = 0x4000  # Z bit of the error estimate


class PacketError(ValueError):
    """Bytes that are not the STAMP packet they should be."""


def micros_to_ntp(micros: int) -> int:
    """64-bit NTP timestamp of microseconds since the Unix epoch, rounded to the nearest 2^-32 s."""
    seconds, rest = divmod(micros, _SECOND_US)
    return (((seconds + _NTP_UNIX_SECONDS) & _SECONDS_MASK) << 32) + ((rest << 32) + 500_000) // _SECOND_US


def ntp_to_micros(ntp: int) -> int:
    """Microseconds since the Unix epoch of a 64-bit NTP timestamp between 1968 and 2104, rounded to nearest."""
    if ntp < _HALF_ERA:
        ntp += 1 << 64
    return ((ntp * _SECOND_US + 0x80000000) >> 32) - _NTP_UNIX_SECONDS * _SECOND_US


def ptp_to_micros(stamp: int) -> int:
    """Microseconds of a truncated PTPv2 timestamp (32 bits of seconds since 1970, 32 bits of nanoseconds)."""
    return (stamp >> 32) * _SECOND_US + ((stamp & _SECONDS_MASK) + 500) // 1_000


def stamp_to_micros(stamp: int, error_estimate: int) -> int:
    """Microseconds of a timestamp in the format that the Z bit of its error estimate names."""
    return ptp_to_micros(stamp) if error_estimate & _PTP_FLAG else ntp_to_micros(stamp)


@dataclass(frozen=True, slots=True)
class ErrorEstimate:
    """How far a stamp may be off: ``multiplier * 2**scale * 2**-32`` s (RFC 4656, 4.1.2); multiplier 0 is invalid."""

    multiplier: int
    scale: int
    synchronized: bool = False  # S: set from an external source of UTC
    ptp: bool = False  # Z: stamps are truncated PTPv2 instead of NTP

    @classmethod
    def of_micros(cls, error_us: int, *, synchronized: bool = False) -> ErrorEstimate:
        """Smallest estimate that is not below ``error_us``."""
        units = max(1, -(-(error_us << 32) // _SECOND_US))
        scale = max(0, (units - 1).bit_length() - 8)
        multiplier = -(-units >> scale)
        if multiplier > 255:
            scale, multiplier = scale + 1, -(-units >> (scale + 1))
        return cls(multiplier, scale, synchronized)

    @classmethod
    def decode(cls, raw: int) -> ErrorEstimate:
        """Read the 16-bit field."""
        return cls(raw & 0xFF, (raw >> 8) & 0x3F, bool(raw & 0x8000), bool(raw & _PTP_FLAG))

    def encode(self) -> int:
        """Return the 16-bit field."""
        return (self.synchronized << 15) | (self.ptp << 14) | (self.scale << 8) | self.multiplier

    @property
    def error_us(self) -> float:
        """The estimate in microseconds."""
        return self.multiplier * _SECOND_US * 2.0 ** (self.scale - 32)


@dataclass(frozen=True, slots=True)
class SenderPacket:
    """What a Session-Sender transmits; ``timestamp`` is the raw 64-bit field."""

    sequence: int
    timestamp: int
    error_estimate: int
    ssid: int = 0
    tlvs: bytes = b""

    def encode(self) -> bytes:
        """Return the bytes on the wire."""
        return _SENDER.pack(self.sequence, self.timestamp, self.error_estimate, self.ssid) + self.tlvs

    @classmethod
    def decode(cls, packet: bytes) -> SenderPacket:
        """Read a request of any legal length. Raises :class:`PacketError`."""
        sequence, timestamp, error_estimate, ssid = _REQUEST.unpack_from(_padded(packet))
        return cls(sequence, timestamp, error_estimate, ssid, packet[BASE_SIZE:])


@dataclass(frozen=True, slots=True)
class ReflectorPacket:
    """What a Session-Reflector answers; timestamps are the raw 64-bit fields."""

    sequence: int
    timestamp: int  # T3
    error_estimate: int
    ssid: int
    receive_timestamp: int  # T2
    sender_sequence: int
    sender_timestamp: int  # T1, copied bit for bit
    sender_error_estimate: int
    sender_ttl: int
    tlvs: bytes = b""

    def encode(self) -> bytes:
        """Return the bytes on the wire."""
        base = _REFLECTOR.pack(self.sequence, self.timestamp, self.error_estimate, self.ssid, self.receive_timestamp,
                               self.sender_sequence, self.sender_timestamp, self.sender_error_estimate,
                               self.sender_ttl)  # fmt: skip
        return base + self.tlvs

    @classmethod
    def decode(cls, packet: bytes) -> ReflectorPacket:
        """Read a full reply. Raises :class:`PacketError`."""
        return cls(*unpack_reply(packet), packet[BASE_SIZE:])


# --- the hot path: the same layouts without objects ------------------------------------------------------------------


def pack_request(sequence: int, timestamp: int, error_estimate: int, ssid: int) -> bytes:
    """Return a 44-byte sender packet."""
    return _SENDER.pack(sequence, timestamp, error_estimate, ssid)


def unpack_reply(packet: bytes) -> tuple[int, int, int, int, int, int, int, int, int]:
    """Fields of a reflector packet in the order of :class:`ReflectorPacket`. Raises :class:`PacketError`."""
    if len(packet) < BASE_SIZE:
        raise PacketError(f"a reply has at least {BASE_SIZE} bytes, this has {len(packet)}")
    reply: tuple[int, int, int, int, int, int, int, int, int] = _REFLECTOR.unpack_from(packet)
    if not (reply[2] & 0xFF and reply[7] & 0xFF):
        raise PacketError("an error estimate with multiplier 0 is invalid")
    return reply


def request_ssid(request: bytes) -> int:
    """Check a request and return its session id (0 in one too short to have it). Raises :class:`PacketError`."""
    if len(request) < MIN_REQUEST_SIZE:
        raise PacketError(f"a request has at least {MIN_REQUEST_SIZE} bytes, this has {len(request)}")
    if not request[13]:
        raise PacketError("an error estimate with multiplier 0 is invalid")
    return (request[14] << 8) | request[15] if len(request) >= 16 else 0


def reflect(request: bytes, sequence: int, received: int, transmitted: int, error_estimate: int, ttl: int) -> bytes:
    """Answer to a checked request, of the same length; ``received`` is T2 and ``transmitted`` T3, both raw stamps."""
    size = len(request)
    base = request if size >= BASE_SIZE else _padded(request)
    sender_sequence, sender_timestamp, sender_error_estimate, ssid = _REQUEST.unpack_from(base)
    reply = _REFLECTOR.pack(sequence, transmitted, error_estimate, ssid, received, sender_sequence, sender_timestamp,
                            sender_error_estimate, ttl)  # fmt: skip
    if size == BASE_SIZE:
        return reply
    return reply + request[BASE_SIZE:] if size > BASE_SIZE else reply[:size]


def _padded(request: bytes) -> bytes:
    if len(request) < MIN_REQUEST_SIZE:
        raise PacketError(f"a request has at least {MIN_REQUEST_SIZE} bytes, this has {len(request)}")
    return request.ljust(BASE_SIZE, b"\0")
