"""STAMP (RFC 8762) with optional extensions (RFC 8972): codec, sender's half and reflector, without sockets. PURE.

* :mod:`probes.stamp.packet`: base packets, unauthenticated (44 bytes) and authenticated (112), and the hot path;
* :mod:`probes.stamp.tlv`: the TLVs behind them;
* :mod:`probes.stamp.exchange`: requests with TLVs and keys, replies read and verified;
* :mod:`probes.stamp.reflection`: the stateful reflector;
* :mod:`probes.stamp.ntp`, :mod:`probes.stamp.key`, :mod:`probes.stamp.errors`: time, HMAC, refusals.

What is spoken on the wire: ``docs/reference/stamp.md``.
"""

from probes.stamp.errors import (
    FromReflectorError,
    PacketError,
    ReplayedError,
    TooLongError,
    UnauthenticatedError,
    WrongKeyError,
)
from probes.stamp.exchange import MAX_RESIDENCE_US, Reply, Request, followed_up, read_reply
from probes.stamp.flows import Flow, Flows
from probes.stamp.key import MAC_SIZE, Key
from probes.stamp.ntp import ErrorEstimate, micros_to_ntp, ntp_to_micros, ptp_to_micros, stamp_to_micros
from probes.stamp.packet import (
    AUTHENTICATED_SIZE,
    BASE_SIZE,
    MIN_REQUEST_SIZE,
    TTL,
    UNREADABLE_TTL,
    ReflectorPacket,
    SenderPacket,
    pack_request,
    reflect,
    request_ssid,
    serial_distance,
    sign_reply,
    sign_request,
    unpack_reply,
    verify_reply,
)
from probes.stamp.reflection import Reflection
from probes.stamp.tlv import (
    ClassOfService,
    DirectMeasurement,
    Extensions,
    ExtraPadding,
    FollowUp,
    TimestampInformation,
    Tlv,
)

__all__ = [
    "AUTHENTICATED_SIZE",
    "BASE_SIZE",
    "MAC_SIZE",
    "MAX_RESIDENCE_US",
    "MIN_REQUEST_SIZE",
    "TTL",
    "UNREADABLE_TTL",
    "ClassOfService",
    "DirectMeasurement",
    "ErrorEstimate",
    "Extensions",
    "ExtraPadding",
    "Flow",
    "Flows",
    "FollowUp",
    "FromReflectorError",
    "Key",
    "PacketError",
    "Reflection",
    "ReflectorPacket",
    "ReplayedError",
    "Reply",
    "Request",
    "SenderPacket",
    "TimestampInformation",
    "Tlv",
    "TooLongError",
    "UnauthenticatedError",
    "WrongKeyError",
    "followed_up",
    "micros_to_ntp",
    "ntp_to_micros",
    "pack_request",
    "ptp_to_micros",
    "read_reply",
    "reflect",
    "request_ssid",
    "serial_distance",
    "sign_reply",
    "sign_request",
    "stamp_to_micros",
    "unpack_reply",
    "verify_reply",
]
