"""The dashboard's session: a signed cookie that stands for a key, and the token that proves a request came from it.

Signing in trades a key for a cookie ``<key>.<nonce>.<begun>.<expires>.<mac>`` with HMAC-SHA-256 under the control
plane's secret, so the key itself is neither kept in the browser nor sent again. It is HttpOnly and SameSite=Strict.
Every replica can check it, and revoking the key ends all its sessions at once. A session lasts ``SESSION_S`` after it
was last renewed (``GET /v1/sign-in``, which the dashboard asks every few minutes) and never longer than ``LONGEST_S``:
an on-call week, after which somebody must show the key again.

Against requests that another site forges: what changes something must carry ``X-Tendril-CSRF`` with the session's own
token, a second MAC over its nonce. Only a page of this origin can read that token, from ``/v1/sign-in``.
"""

from __future__ import annotations

import base64
import hmac
import re
import secrets
from dataclasses import dataclass, field, replace

from starlette.requests import Request
from starlette.responses import Response

from router.core.errors import InputRejected
from router.core.model import Micros

COOKIE = "tendril_session"
CSRF_HEADER = "X-Tendril-CSRF"
SESSION_S = 12 * 3_600
LONGEST_S = 7 * 86_400
SECOND_US = 1_000_000
MOST_ENDED = 10_000  # remembered until they expire; more people than ever sign out of one control plane in 12 h

_COOKIE_TEXT = re.compile(r"([0-9a-f]{12})\.([A-Za-z0-9_-]{22})\.([0-9]{1,18})\.([0-9]{1,18})\.([A-Za-z0-9_-]{43})")


@dataclass(frozen=True, slots=True)
class BrowserSession:
    """Somebody who is signed in: by which key, since when, until when."""

    key_id: str
    nonce: str
    begun_at: Micros
    expires_at: Micros

    def renewed(self, now: Micros) -> BrowserSession:
        """The same session with a new expiry."""
        return replace(self, expires_at=min(now + SESSION_S * SECOND_US, self.begun_at + LONGEST_S * SECOND_US))


@dataclass(slots=True)
class SignedOut:
    """Sessions that ended before they expired; each replica remembers those that were ended at it."""

    _until: dict[str, Micros] = field(default_factory=dict)

    def add(self, session: BrowserSession, now: Micros) -> None:
        """Refuse this session's cookies from now on."""
        kept = {nonce: until for nonce, until in self._until.items() if until > now}
        while len(kept) >= MOST_ENDED:
            del kept[next(iter(kept))]
        self._until = kept | {session.nonce: session.begun_at + LONGEST_S * SECOND_US}

    def __contains__(self, session: BrowserSession) -> bool:
        return session.nonce in self._until


def begin(key_id: str, now: Micros) -> BrowserSession:
    """Start a session for whoever showed this key."""
    return BrowserSession(key_id, secrets.token_urlsafe(16), now, now + SESSION_S * SECOND_US)


def cookie_text(secret: bytes, session: BrowserSession) -> str:
    """The cookie's value."""
    body = f"{session.key_id}.{session.nonce}.{session.begun_at}.{session.expires_at}"
    return f"{body}.{_mac(secret, 'browser', body)}"


def csrf_token(secret: bytes, session: BrowserSession) -> str:
    """What requests of this session carry in ``X-Tendril-CSRF``."""
    return _mac(secret, "csrf", f"{session.key_id}.{session.nonce}")


def read_cookie(secret: bytes, text: str, now: Micros) -> BrowserSession:
    """Check a cookie's signature and age. Raises ``sign_in_invalid`` or ``sign_in_expired``."""
    found = _COOKIE_TEXT.fullmatch(text)
    if found is None or not hmac.compare_digest(_mac(secret, "browser", text.rpartition(".")[0]), found[5]):
        message = "this is not a sign-in of this control plane; sign in again"
        raise InputRejected("sign_in_invalid", message, field="Cookie", rule="made by POST /v1/sign-in")
    session = BrowserSession(found[1], found[2], int(found[3]), int(found[4]))
    if session.expires_at <= now:
        late_s = (now - session.expires_at) // SECOND_US
        message = f"the sign-in expired {late_s} s ago; sign in again"
        raise InputRejected("sign_in_expired", message, field="Cookie", rule="lasts 12 h", limit=SESSION_S)
    return session


def insist_on_csrf(secret: bytes, session: BrowserSession, given: str | None) -> None:
    """Refuse a change that may be another site's doing. Raises ``csrf_header_missing`` or ``csrf_token_wrong``."""
    rule = "the csrf_token that /v1/sign-in gave"
    if given is None:
        message = f"a request authenticated by cookie changes things only with the header {CSRF_HEADER}"
        raise InputRejected("csrf_header_missing", message, field=CSRF_HEADER, rule=rule)
    if not hmac.compare_digest(given.encode("latin-1", "replace"), csrf_token(secret, session).encode()):
        message = f"{CSRF_HEADER} is not the token of this sign-in"
        raise InputRejected("csrf_token_wrong", message, field=CSRF_HEADER, rule=rule)


def set_cookie(request: Request, response: Response, text: str, max_age_s: int) -> None:
    """Give the browser its cookie; over TLS it never comes back without."""
    secure = request.url.scheme == "https"
    response.set_cookie(COOKIE, text, max_age_s, path="/", secure=secure, httponly=True, samesite="strict")


def clear_cookie(response: Response) -> None:
    """Tell the browser to forget the cookie."""
    response.delete_cookie(COOKIE, path="/", httponly=True, samesite="strict")


def _mac(secret: bytes, purpose: str, body: str) -> str:
    digest = hmac.digest(secret, f"{purpose}:{body}".encode(), "sha256")
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
