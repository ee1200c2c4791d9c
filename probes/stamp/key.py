"""The shared secret of two nodes and the HMAC made with it: SHA-256, cut to 128 bits (RFC 8762, 4.4). PURE.

HMAC hashes the key's two paddings first (RFC 2104). Both beginnings are hashed once per key and copied per packet,
which takes a third of the time of ``hmac.digest``; a test compares the two.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hashlib import _Hash

MAC_SIZE = 16
MIN_KEY_SIZE = 16  # below 128 bits the key would be weaker than the HMAC
MAX_KEY_SIZE = 64  # one block of SHA-256; longer ones would have to be hashed first and gain nothing
_INNER, _OUTER = bytes(i ^ 0x36 for i in range(256)), bytes(i ^ 0x5C for i in range(256))


@dataclass(frozen=True, slots=True)
class Key:
    """A shared secret; its representation never shows it."""

    secret: bytes = field(repr=False)
    _inner: _Hash = field(init=False, repr=False, compare=False)
    _outer: _Hash = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not MIN_KEY_SIZE <= len(self.secret) <= MAX_KEY_SIZE:
            raise ValueError(f"a key has {MIN_KEY_SIZE} to {MAX_KEY_SIZE} bytes, this has {len(self.secret)}")
        block = self.secret.ljust(MAX_KEY_SIZE, b"\0")
        object.__setattr__(self, "_inner", hashlib.sha256(block.translate(_INNER)))
        object.__setattr__(self, "_outer", hashlib.sha256(block.translate(_OUTER)))

    @classmethod
    def of_hex(cls, text: str) -> Key:
        """A key from hexadecimal digits. Raises :class:`ValueError`, without the digits in it."""
        try:
            secret = bytes.fromhex(text)
        except ValueError:
            raise ValueError("a key is written in hexadecimal digits") from None
        return cls(secret)

    def mac(self, text: bytes) -> bytes:
        """Return the HMAC of a text."""
        inner, outer = self._inner.copy(), self._outer.copy()
        inner.update(text)
        outer.update(inner.digest())
        return outer.digest()[:MAC_SIZE]

    def fits(self, text: bytes, mac: bytes) -> bool:
        """Whether this is the HMAC of that text, in time that does not depend on how much of it is right."""
        return hmac.compare_digest(self.mac(text), mac)
