"""Keys, scopes and session tokens: who may do what, checked in memory on every request.

A key is the text ``tk_<id>_<secret>``: the id finds the record, the secret proves it. Only a BLAKE2b-256 hash of the
secret is kept. The secret has 256 random bits, so a fast hash is right: there is nothing to guess, and no salt or slow
function would add anything but latency. Comparison takes the same time whether the id exists or not.

Scopes form a ladder, ``viewer`` < ``media`` < ``operator`` < ``admin``; each includes the lower ones. ``agent:<node>``
stands beside the ladder: it may act for that node and for nothing else, and no other scope may act as a node.

A session token is ``<session>.<epoch>.<expires_at>.<mac>`` with HMAC-SHA-256 over the first three parts. Every resume
issues epoch + 1, so that an older token is fenced by the database, not by a list of revoked tokens.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache

from router.core.errors import InputRejected
from router.core.model import ID_PATTERN, ID_REGEX, DataCenterId, KeyId, Micros, NodeId, SessionId

SCOPES = ("viewer", "media", "operator", "admin")
AGENT_PREFIX = "agent:"

_KEY_TEXT = re.compile(r"tk_([0-9a-f]{12})_([A-Za-z0-9_-]{43})")
_ID = ID_PATTERN[1:-1]
_TOKEN_TEXT = re.compile(rf"({_ID}(?:/{_ID})?)\.([0-9]{{1,15}})\.([0-9]{{1,18}})\.([A-Za-z0-9_-]{{43}})")
MOST_PROVEN = 10_000  # proofs that are remembered
_NOBODY = bytes(32)  # compared when the id is unknown, so that guessing ids cannot be timed


@dataclass(frozen=True, slots=True)
class Key:
    """The stored half of a key; ``hash`` is BLAKE2b-256 of the secret."""

    id: KeyId
    scope: str
    name: str
    hash: bytes
    created_at: Micros
    revoked_at: Micros | None = None


@dataclass(frozen=True, slots=True)
class JoinToken:
    """The stored half of a join token; ``seed`` is there while a caller may ask for the same token again."""

    hash: bytes
    data_center: DataCenterId
    created_at: Micros
    expires_at: Micros
    used_at: Micros | None = None
    used_by: NodeId | None = None  # used by nobody: revoked
    seed: bytes | None = None

    @property
    def id(self) -> str:
        """A public name: the first 96 bits of the hash, from which nobody finds the secret."""
        return f"jt-{self.hash[:12].hex()}"


@dataclass(frozen=True, slots=True)
class SessionToken:
    """What a session token says once its signature and age are checked."""

    session: SessionId
    epoch: int
    expires_at: Micros


def join_token_text(secret: bytes, data_center: str, seed: bytes) -> str:
    """The text of a join token; the same seed gives the same text."""
    mac = hmac.digest(secret, b"join-token|" + data_center.encode() + b"|" + seed, "sha256")
    return f"tj_{data_center}_{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"


def join_token_hash(text: str) -> bytes:
    """What is kept of a join token's text."""
    return hashlib.blake2b(text.encode(), digest_size=32).digest()


def mint_key(scope: str, name: str, now: Micros) -> tuple[Key, str]:
    """Make a new key: its record, and the text that is shown once. Raises ``scope_invalid``."""
    check_scope(scope)
    id = KeyId(secrets.token_hex(6))
    secret = secrets.token_urlsafe(32)
    return Key(id, scope, name, _hash(secret), now), f"tk_{id}_{secret}"


def adopt_key(text: str, scope: str, name: str, now: Micros) -> Key:
    """Make the record of a key whose text was chosen elsewhere (``TENDRIL_ADMIN_KEY``). Raises ``key_invalid``."""
    check_scope(scope)
    found = _KEY_TEXT.fullmatch(text)
    if found is None:
        rule = "tk_<12 lower-case hex digits>_<43 characters of base64url>"
        raise InputRejected("key_invalid", f"a key looks like {rule}", field="key", rule=rule)
    return Key(KeyId(found[1]), scope, name, _hash(found[2]), now)


def check_scope(scope: str) -> None:
    """Raise ``scope_invalid`` unless ``scope`` is a rung of the ladder or ``agent:<node>``."""
    node = scope.removeprefix(AGENT_PREFIX)
    if scope not in SCOPES and (node == scope or not ID_REGEX.fullmatch(node)):
        rule = f"one of {', '.join(SCOPES)}, or {AGENT_PREFIX}<node>"
        raise InputRejected("scope_invalid", f"{scope!r} is not a scope: {rule}", field="scope", rule=rule)


def scope_allows(held: str, needed: str) -> bool:
    """Whether a key of scope ``held`` may do what needs ``needed``."""
    if held in SCOPES and needed in SCOPES:
        return SCOPES.index(held) >= SCOPES.index(needed)
    return held == needed and needed.startswith(AGENT_PREFIX)


class KeyRing:
    """All keys in memory; a change swaps one dict, so readers in other threads see the old ring or the new one."""

    def __init__(self, keys: Iterable[Key] = ()) -> None:
        self._keys: dict[str, Key] = {key.id: key for key in keys}
        self._proven: tuple[object, dict[bytes, Key]] = (self._keys, {})

    @property
    def edition(self) -> object:
        """Another object after every change: a key that was good in this one is good as long as it is this one."""
        return self._keys

    def verify(self, text: str) -> Key | None:
        """Return the live key that ``text`` proves, or None."""
        found = _KEY_TEXT.fullmatch(text)
        if found is None:
            return None
        key = self._keys.get(found[1])
        right = hmac.compare_digest(_hash(found[2]), _NOBODY if key is None else key.hash)
        return key if right and key is not None and key.revoked_at is None else None

    def proven(self, proof: bytes) -> Key | None:
        """The key that these very bytes proved before, unless the ring has changed since."""
        edition, proven = self._proven
        return proven.get(proof) if edition is self._keys else None

    def remember(self, proof: bytes, key: Key) -> None:
        """Take these bytes for proof of a key that was verified just now, until the ring changes."""
        edition, proven = self._proven
        if edition is not self._keys or len(proven) >= MOST_PROVEN:
            self._proven = self._keys, {}
        self._proven[1][proof] = key

    def get(self, id: str) -> Key | None:
        """Return the live key of this id, whose bearer was proven otherwise; None if there is none any more."""
        key = self._keys.get(id)
        return key if key is not None and key.revoked_at is None else None

    def add(self, key: Key) -> None:
        """Take in a new key, or the newer record of a known one."""
        self._keys = {**self._keys, key.id: key}

    def replace(self, key: Key) -> None:
        """Take in a key and forget all others of its scope, as joining does with the keys of a node."""
        self._keys = {**{id: other for id, other in self._keys.items() if other.scope != key.scope}, key.id: key}

    def revoke(self, id: str) -> None:
        """Make a key worthless from now on; unknown ids are worthless already."""
        self._keys = {other: key for other, key in self._keys.items() if other != id}


def revoked(key: Key, now: Micros) -> Key:
    """Return the record of a key that is revoked; the first revocation counts."""
    return key if key.revoked_at is not None else replace(key, revoked_at=now)


def sign_session_token(secret: bytes, session: str, epoch: int, expires_at: Micros) -> str:
    """Make the token that lets its bearer resume ``session`` while ``epoch`` is the newest."""
    body = f"{session}.{epoch}.{expires_at}"
    return f"{body}.{_mac(secret, body)}"


def read_session_token(secret: bytes, token: str, now: Micros) -> SessionToken:
    """Check a session token's signature and age. Raises ``token_invalid`` or ``token_expired``."""
    found = _TOKEN_TEXT.fullmatch(token)
    if found is None or not hmac.compare_digest(_mac(secret, token.rpartition(".")[0]), found[4]):
        raise InputRejected("token_invalid", "this is not a session token of this control plane", field="token")
    expires_at = int(found[3])
    if expires_at <= now:
        late_s = (now - expires_at) // 1_000_000
        message = f"the session token expired {late_s} s ago; start a new session"
        raise InputRejected("token_expired", message, field="token", limit=expires_at)
    return SessionToken(SessionId(found[1]), int(found[2]), expires_at)


def _hash(secret: str) -> bytes:
    return hashlib.blake2b(secret.encode(), digest_size=32).digest()


def _mac(secret: bytes, body: str) -> str:
    signer = _signer(secret).copy()  # hmac.digest would let go of the interpreter, and wait to get it back
    signer.update(body.encode())
    return base64.urlsafe_b64encode(signer.digest()).rstrip(b"=").decode()


@lru_cache(maxsize=8)
def _signer(secret: bytes) -> hmac.HMAC:
    return hmac.new(secret, digestmod="sha256")
