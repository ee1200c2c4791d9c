"""Why a packet is refused: one class per cause, each with the name of the counter it belongs in. PURE."""

from __future__ import annotations


class PacketError(ValueError):
    """Bytes that are not the STAMP packet they should be; ``counter`` names the cause for statistics."""

    counter = "malformed"


class TooLongError(PacketError):
    """A packet longer than any that is sent; it may have arrived cut off."""

    counter = "too_long"


class WrongKeyError(PacketError):
    """An authenticated packet whose HMAC does not fit the key it names."""

    counter = "wrong_key"


class UnauthenticatedError(PacketError):
    """An unauthenticated packet where only authenticated ones are answered."""

    counter = "unauthenticated"


class ReplayedError(PacketError):
    """An authenticated request that has been answered before, or is older than what has been answered since."""

    counter = "replayed"


class FromReflectorError(PacketError):
    """A packet from a reflector: a reply gone astray or forged, whose answer could go round for ever."""

    counter = "from_reflector"
