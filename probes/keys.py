"""How nodes prove to each other who they are, without knowing each other's keys. PURE.

Every node has a key of its own, which only it and the control plane know. Who may send to a node gets from the control
plane a key derived from that node's own key and a key id; the receiver derives it again when it sees the id. So a
leaked key opens one direction of one pair, and a receiver needs no list of senders. A key id is 12 bits of a hash of
the sender's name: senders whose ids collide at one receiver share a key there, which costs a little of that separation
and nothing else.
"""

from __future__ import annotations

import hashlib
import hmac

KEY_BYTES = 32


def own_key(secret: bytes, node: str) -> bytes:
    """The key of a node: HMAC-SHA-256 of its name under the control plane's secret."""
    return hmac.digest(secret, b"tendril node key\0" + node.encode(), "sha256")


def key_id(sender: str) -> int:
    """The 12-bit id under which a sender is known to everybody."""
    return int.from_bytes(hashlib.sha256(sender.encode()).digest()[:2], "big") >> 4


def derive(receivers_key: bytes, identity: int) -> bytes:
    """The key that the sender with this id and the receiver share."""
    return hmac.digest(receivers_key, b"tendril pair key\0" + identity.to_bytes(2, "big"), "sha256")
