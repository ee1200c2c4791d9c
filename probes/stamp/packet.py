"""The base packets of RFC 8762 with the session id of RFC 8972, unauthenticated and authenticated. PURE.

Big-endian. What follows a base packet (TLVs, RFC 8972) is opaque here; :mod:`probes.stamp.tlv` reads it.

Unauthenticated, 44 bytes:

=========  ======================================  =====================================================
offset     sender                                  reflector
=========  ======================================  =====================================================
0   (4)    sequence                                sequence (own counter when stateful)
4   (8)    timestamp T1                            timestamp T3
12  (2)    error estimate                          error estimate
14  (2)    SSID                                    SSID, copied
16  (28)   must be zero                            T2 (8), sender sequence (4), T1 (8), sender error
                                                   estimate (2), zero (2), sender TTL (1), zero (3)
=========  ======================================  =====================================================

Authenticated, 112 bytes:

=========  ======================================  =====================================================
offset     sender                                  reflector
=========  ======================================  =====================================================
0   (4)    sequence                                sequence
4   (12)   must be zero                            must be zero
16  (8)    timestamp T1                            timestamp T3
24  (2)    error estimate                          error estimate
26  (2)    SSID                                    SSID, copied
28  (68)   must be zero                            zero (4), T2 (8), zero (8), sender sequence (4), zero (12),
                                                   T1 (8), sender error estimate (2), zero (6), sender TTL (1),
                                                   zero (15)
96  (16)   HMAC of bytes 0 to 95                   HMAC of bytes 0 to 95
=========  ======================================  =====================================================

Which of the two? The RFC leaves that to configuration. A reflector that serves both can see it: byte 13 is the
multiplier of an unauthenticated error estimate, which must not be 0, and lies in the zeros of an authenticated packet.

Lengths: a reply is exactly as long as its request, never longer, so a reflector amplifies nothing. TWAMP Light senders
may send as few as 14 bytes; the missing ones count as zero and the reply is cut to the length of the request.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from probes.stamp.errors import PacketError, WrongKeyError
from probes.stamp.key import MAC_SIZE, Key

BASE_SIZE = 44  # unauthenticated base packet, both directions
AUTHENTICATED_SIZE = 112  # authenticated base packet, both directions
MIN_REQUEST_SIZE = 14  # sequence, timestamp, error estimate: all that TWAMP Light's smallest sender packet has
TTL = 255  # TWAMP's and STAMP's rule; the TTL seen by the reflector then counts the hops
UNREADABLE_TTL = 255  # what a reflector writes when it cannot read the TTL
SERIAL_MASK = 0xFFFFFFFF

_SENDER = struct.Struct(">IQHH28x")
_REFLECTOR = struct.Struct(">IQHHQIQH2xB3x")
REQUEST = struct.Struct(">IQHH")
SIGNED_REQUEST = struct.Struct(">I12xQHH")  # of an authenticated packet
_SIGNED_SENDER = struct.Struct(">I12xQHH68x")
_SIGNED_REFLECTOR = struct.Struct(">I12xQHH4xQ8xI12xQH6xB15x")
_SIGNED_TEXT_SIZE = AUTHENTICATED_SIZE - MAC_SIZE

pack_sender = _SENDER.pack  # these three are the hot loops', without a call in between
pack_reflector = _REFLECTOR.pack
unpack_reflector = _REFLECTOR.unpack_from

ReplyFields = tuple[int, int, int, int, int, int, int, int, int]


def serial_distance(newer: int, older: int) -> int:
    """How far ``newer`` lies after ``older`` in serial-number arithmetic modulo 2^32 (RFC 1982); negative if before."""
    distance = (newer - older) & SERIAL_MASK
    return distance - (1 << 32) if distance >= 1 << 31 else distance


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
        return pack_request(self.sequence, self.timestamp, self.error_estimate, self.ssid) + self.tlvs

    def sign(self, key: Key) -> bytes:
        """Return the bytes on the wire in authenticated mode."""
        return sign_request(key, self.sequence, self.timestamp, self.error_estimate, self.ssid) + self.tlvs

    @classmethod
    def decode(cls, packet: bytes) -> SenderPacket:
        """Read a request of any legal length. Raises :class:`PacketError`."""
        sequence, timestamp, error_estimate, ssid = REQUEST.unpack_from(padded(packet))
        return cls(sequence, timestamp, error_estimate, ssid, packet[BASE_SIZE:])

    @classmethod
    def verify(cls, key: Key, packet: bytes) -> SenderPacket:
        """Read an authenticated request. Raises :class:`PacketError`."""
        check(key, packet)
        sequence, timestamp, error_estimate, ssid = SIGNED_REQUEST.unpack_from(packet)
        return cls(sequence, timestamp, error_estimate, ssid, packet[AUTHENTICATED_SIZE:])


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

    @property
    def fields(self) -> ReplyFields:
        """What the base packet holds, in the order of the wire."""
        return (self.sequence, self.timestamp, self.error_estimate, self.ssid, self.receive_timestamp,
                self.sender_sequence, self.sender_timestamp, self.sender_error_estimate, self.sender_ttl)  # fmt: skip

    def encode(self) -> bytes:
        """Return the bytes on the wire."""
        return _REFLECTOR.pack(*self.fields) + self.tlvs

    def sign(self, key: Key) -> bytes:
        """Return the bytes on the wire in authenticated mode."""
        return sign_reply(key, *self.fields) + self.tlvs

    @classmethod
    def decode(cls, packet: bytes) -> ReflectorPacket:
        """Read a full reply. Raises :class:`PacketError`."""
        return cls(*unpack_reply(packet), packet[BASE_SIZE:])

    @classmethod
    def verify(cls, key: Key, packet: bytes) -> ReflectorPacket:
        """Read an authenticated reply. Raises :class:`PacketError`."""
        return cls(*verify_reply(key, packet), packet[AUTHENTICATED_SIZE:])


# --- the hot path: the same layouts without objects ------------------------------------------------------------------


def pack_request(sequence: int, timestamp: int, error_estimate: int, ssid: int) -> bytes:
    """Return a 44-byte sender packet."""
    return _SENDER.pack(sequence, timestamp, error_estimate, ssid)


def sign_request(key: Key, sequence: int, timestamp: int, error_estimate: int, ssid: int) -> bytes:
    """Return a 112-byte authenticated sender packet."""
    text = _SIGNED_SENDER.pack(sequence, timestamp, error_estimate, ssid)
    return text + key.mac(text)


def sign_reply(key: Key, *fields: int) -> bytes:
    """Return a 112-byte authenticated reflector packet; the fields in the order of :class:`ReflectorPacket`."""
    text = _SIGNED_REFLECTOR.pack(*fields)
    return text + key.mac(text)


def unpack_reply(packet: bytes) -> ReplyFields:
    """Fields of a reflector packet in the order of :class:`ReflectorPacket`. Raises :class:`PacketError`."""
    if len(packet) < BASE_SIZE:
        raise PacketError(f"a reply has at least {BASE_SIZE} bytes, this has {len(packet)}")
    reply: ReplyFields = _REFLECTOR.unpack_from(packet)
    if not (reply[2] & 0xFF and reply[7] & 0xFF):
        raise PacketError("an error estimate with multiplier 0 is invalid")
    return reply


def verify_reply(key: Key, packet: bytes) -> ReplyFields:
    """Fields of an authenticated reflector packet, as :func:`unpack_reply`. Raises :class:`PacketError`."""
    check(key, packet)
    reply: ReplyFields = _SIGNED_REFLECTOR.unpack_from(packet)
    if not (reply[2] & 0xFF and reply[7] & 0xFF):
        raise PacketError("an error estimate with multiplier 0 is invalid")
    return reply


def check(key: Key, packet: bytes) -> None:
    """Verify the HMAC of an authenticated base packet, in constant time. Raises :class:`PacketError`."""
    if len(packet) < AUTHENTICATED_SIZE:
        raise PacketError(f"an authenticated packet has at least {AUTHENTICATED_SIZE} bytes, this has {len(packet)}")
    if not key.fits(packet[:_SIGNED_TEXT_SIZE], packet[_SIGNED_TEXT_SIZE:AUTHENTICATED_SIZE]):
        raise WrongKeyError("the HMAC does not fit the key")


def request_ssid(request: bytes) -> int:
    """Check a request and return its session id (0 in one too short to have it). Raises :class:`PacketError`."""
    if len(request) < MIN_REQUEST_SIZE:
        raise PacketError(f"a request has at least {MIN_REQUEST_SIZE} bytes, this has {len(request)}")
    if not request[13]:
        raise PacketError("an error estimate with multiplier 0 is invalid")
    return (request[14] << 8) | request[15] if len(request) >= 16 else 0


def reflect(request: bytes, sequence: int, received: int, transmitted: int, error_estimate: int, ttl: int) -> bytes:
    """Answer to a checked request, of the same length; ``received`` is T2 and ``transmitted`` T3, both raw stamps.

    Stateless as to sessions and ignorant of TLVs, which return unchanged; :class:`probes.stamp.Reflection` does more.
    """
    size = len(request)
    base = request if size >= BASE_SIZE else padded(request)
    sender_sequence, sender_timestamp, sender_error_estimate, ssid = REQUEST.unpack_from(base)
    reply = _REFLECTOR.pack(sequence, transmitted, error_estimate, ssid, received, sender_sequence, sender_timestamp,
                            sender_error_estimate, ttl)  # fmt: skip
    if size == BASE_SIZE:
        return reply
    return reply + request[BASE_SIZE:] if size > BASE_SIZE else reply[:size]


def padded(request: bytes) -> bytes:
    """A request with its missing bytes as zeros. Raises :class:`PacketError`."""
    if len(request) < MIN_REQUEST_SIZE:
        raise PacketError(f"a request has at least {MIN_REQUEST_SIZE} bytes, this has {len(request)}")
    return request.ljust(BASE_SIZE, b"\0")
