"""How nodes prove to each other who they are, without knowing each other's keys. PURE.

Every node has a key of its own, which only it and the control plane know. Who may send to a node gets from the control
plane a key derived from that node's own key and a key id; the receiver derives it again when it sees the id. So a
leaked key opens one direction of one pair, and a receiver needs no list of senders. A key id is 12 bits of a hash of
the sender's name: senders whose ids collide at one receiver share a key there, which costs a little of that separation
and nothing else.

Rotation. Time is cut into periods, and a node's key is another one in each. Senders use the present period's key; a
receiver also takes those of the period before and of the next one (:func:`own_keys`), so that it does not matter who
has fetched its plan already, and a packet under way when keys change is taken.
"""

from __future__ import annotations

import hashlib
import hmac

KEY_BYTES = 32


def own_key(secret: bytes, node: str, period: int = 0) -> bytes:
    """The key of a node in a period: HMAC-SHA-256 of its name under the control plane's secret; 0: it never changes."""
    text = b"tendril node key\0" + node.encode()
    return hmac.digest(secret, text + b"\0" + period.to_bytes(8, "big") if period else text, "sha256")


def own_keys(secret: bytes, node: str, period: int) -> tuple[bytes, ...]:
    """The keys that a node takes: the present one, the one before, the next one."""
    if not period:
        return (own_key(secret, node),)
    return tuple(own_key(secret, node, one) for one in (period, period - 1, period + 1))


def period_at(now_us: int, lifetime_us: int) -> tuple[int, int]:
    """The period of a moment, and how long it still lasts; (0, 0) if keys never change."""
    if lifetime_us <= 0:
        return 0, 0
    return now_us // lifetime_us + 1, lifetime_us - now_us % lifetime_us


def key_id(sender: str) -> int:
    """The 12-bit id under which a sender is known to everybody."""
    return int.from_bytes(hashlib.sha256(sender.encode()).digest()[:2], "big") >> 4


def derive(receivers_key: bytes, identity: int) -> bytes:
    """The key that the sender with this id and the receiver share."""
    return hmac.digest(receivers_key, b"tendril pair key\0" + identity.to_bytes(2, "big"), "sha256")
