"""Time on the wire: NTP's 64 bits, truncated PTPv2, and the error estimate that says which of the two it is. PURE.

Time is integer microseconds since the Unix epoch. NTP's 64 bits count 2^-32 s since 1900, modulo 2^32 s; as in RFC 4330
a set top bit means 1968-2036 and a clear one 2036-2104. Both conversions round to nearest, so microseconds survive the
round trip exactly and the error of a foreign stamp is at most half a microsecond.
"""

from __future__ import annotations

from dataclasses import dataclass

_NTP_UNIX_SECONDS = 2_208_988_800  # 1900-01-01 to 1970-01-01
_ERA_SECONDS = 1 << 32
_SECONDS_MASK = _ERA_SECONDS - 1
_HALF_ERA = 1 << 63  # of a 64-bit stamp: below it lies the era that starts in 2036
_SECOND_US = 1_000_000
_EPOCH_US = _NTP_UNIX_SECONDS * _SECOND_US
_PTP_FLAG = 0x4000  # Z bit of the error estimate


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


def stamps_to_micros(received: int, sent: int, error_estimate: int) -> tuple[int, int]:
    """T2 and T3 of a reply, as :func:`stamp_to_micros` of each; what every reply goes through."""
    if error_estimate & _PTP_FLAG or received < _HALF_ERA or sent < _HALF_ERA:
        return stamp_to_micros(received, error_estimate), stamp_to_micros(sent, error_estimate)
    t2_us = ((received * _SECOND_US + 0x80000000) >> 32) - _EPOCH_US
    if sent == received:
        return t2_us, t2_us
    return t2_us, ((sent * _SECOND_US + 0x80000000) >> 32) - _EPOCH_US


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
