"""The Session-Sender's half: requests with TLVs and a key, replies read and verified. PURE.

Stamps of strangers are not to be trusted: some reflectors send T3 equal to T2 or before it. The time a reply spent in
the reflector is then taken as 0 and the reply says so (``clamped``); the same goes for one longer than a bound.

A request that asks for Follow-Up Telemetry learns in each reply when the *previous* one really left: that one's sample
can then be corrected by :func:`followed_up`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from probes.stamp import tlv
from probes.stamp.key import Key
from probes.stamp.ntp import stamp_to_micros
from probes.stamp.packet import (
    AUTHENTICATED_SIZE,
    BASE_SIZE,
    ReplyFields,
    pack_request,
    sign_request,
    unpack_reply,
    verify_reply,
)

MAX_RESIDENCE_US = 5_000_000  # a reflector that holds a packet longer than this is not believed


@dataclass(frozen=True, slots=True)
class Request:
    """What the requests of one session have in common; with a key they are authenticated unless told otherwise.

    In unauthenticated mode a key protects the TLVs alone. The HMAC TLV is added where the RFC wants one.
    """

    ssid: int
    key: Key | None = None
    extensions: tuple[tlv.Extension, ...] = ()
    authenticated: bool = True
    _tlvs: bytes = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_tlvs", tlv.encode(self.extensions))

    @property
    def signed(self) -> bool:
        """Whether it is of the authenticated layout."""
        return self.authenticated and self.key is not None

    @property
    def size(self) -> int:
        """How many bytes each request has."""
        return len(self.encode(0, 0, 1))

    def encode(self, sequence: int, timestamp: int, error_estimate: int) -> bytes:
        """Return one request; ``timestamp`` is raw."""
        if self.key is not None and self.authenticated:
            base = sign_request(self.key, sequence, timestamp, error_estimate, self.ssid)
        else:
            base = pack_request(sequence, timestamp, error_estimate, self.ssid)
        if not self._tlvs:
            return base
        if self.key is None or self._is_padding():
            return base + self._tlvs
        return base + tlv.seal(self._tlvs, self.key, sequence)

    def _is_padding(self) -> bool:
        return len(self.extensions) == 1 and isinstance(self.extensions[0], tlv.ExtraPadding)


@dataclass(frozen=True, slots=True)
class Reply:
    """A verified reply; times are microseconds since the Unix epoch on the clock of whoever stamped."""

    sequence: int  # the reflector's
    sender_sequence: int
    ssid: int
    t1_us: int
    t2_us: int
    t3_us: int  # never before T2
    ttl: int  # of the request when it arrived
    error_estimate: int  # the reflector's, raw
    clamped: bool  # T3 as sent lay before T2, or too long after it
    extensions: tlv.Extensions

    @property
    def residence_us(self) -> int:
        """Time between arrival and departure at the reflector."""
        return self.t3_us - self.t2_us

    @property
    def follow_up(self) -> tuple[int, int] | None:
        """Sequence of the previous reply and when it really left, in microseconds; ``None`` if not told."""
        found = self.extensions.follow_up
        if found is None or not found.timestamp:
            return None
        return found.sequence, stamp_to_micros(found.timestamp, self.error_estimate)


def read_reply(packet: bytes, key: Key | None = None, *, authenticated: bool = True) -> Reply:
    """Read a reply; with a key it must be authenticated unless told otherwise. Raises :class:`PacketError`."""
    signed = key is not None and authenticated
    fields: ReplyFields = verify_reply(key, packet) if key is not None and authenticated else unpack_reply(packet)
    sequence, t3, estimate, ssid, t2, sender_sequence, t1, sender_estimate, ttl = fields
    raw = packet[AUTHENTICATED_SIZE if signed else BASE_SIZE :]
    extensions = tlv.read(raw, key, sequence, signed=signed) if raw else tlv.Extensions()
    t2_us, t3_us = stamp_to_micros(t2, estimate), stamp_to_micros(t3, estimate)
    clamped = not 0 <= t3_us - t2_us <= MAX_RESIDENCE_US
    t1_us = stamp_to_micros(t1, sender_estimate)
    return Reply(sequence, sender_sequence, ssid, t1_us, t2_us, t2_us if clamped else t3_us, ttl, estimate, clamped,
                 extensions)  # fmt: skip


def followed_up(reply: Reply, later: Reply) -> int | None:
    """When ``reply`` really left, as a later one tells, if it is about that one and between T2 and its bound."""
    told = later.follow_up
    if told is None or told[0] != reply.sequence or later.ssid != reply.ssid:
        return None
    return told[1] if 0 <= told[1] - reply.t2_us <= MAX_RESIDENCE_US else None
