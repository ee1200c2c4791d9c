"""From a cloud's refusal, as HTTP tells it, to a typed error: one table for all adapters.

What a status means is the same everywhere; what clouds say with the wrong status ("out of host capacity" as a 500, a
quota as a 400 or 403) is told apart by the words and codes that each adapter lists.
"""

from __future__ import annotations

import base64
import functools
import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Concatenate, ParamSpec, Protocol, TypeVar

from providers.base import (
    AuthFailed,
    CloudError,
    Conflict,
    ConsoleHealth,
    NotFound,
    OutOfCapacity,
    QuotaExceeded,
    RateLimited,
    Refused,
    Transient,
)

P = ParamSpec("P")
R = TypeVar("R")
_RETRY_AFTER_S = 5.0  # where the cloud does not say: a few of its usual one-second windows
_LONGEST_RETRY_AFTER_S = 3600.0  # a cloud that says "tomorrow" is asked again within the hour
_SECRET_LENGTH = 8  # shorter lines of a script hold no token, and would spoil every text
_CREDENTIALS = re.compile(r"(?i)(\bBearer |\bsignature=\"?)[^\s\",;]+")  # of headers; some are made by the SDKs
_BEFORE_SENDING = frozenset({"NewConnectionError", "ConnectTimeout", "ConnectTimeoutError", "NameResolutionError"})
_MISSHAPEN = (LookupError, TypeError, AttributeError, ValueError)
_READING = ("regions", "sizes", "quota", "get", "list", "console_health")


class _Named(Protocol):
    name: str


N = TypeVar("N", bound=_Named)


def understood(method: Callable[Concatenate[N, P], R]) -> Callable[Concatenate[N, P], R]:
    """Make an answer that is not shaped as documented (a proxy's page, a field that went away) a typed error."""

    @functools.wraps(method)
    def wrapper(self: N, /, *args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return method(self, *args, **kwargs)
        except _MISSHAPEN as error:
            operation = method.__name__
            raise Transient(self.name, operation, _misshapen(error), operation not in _READING) from None

    return wrapper


def health(question: Callable[[], object]) -> ConsoleHealth:
    """Return what the answer to the cheapest question says about a cloud's control API."""
    try:
        question()
    except AuthFailed as error:
        return ConsoleHealth(True, False, str(error))
    except CloudError as error:
        return ConsoleHealth(False, False, str(error))
    except _MISSHAPEN as error:
        return ConsoleHealth(False, False, _misshapen(error))
    return ConsoleHealth(True, True)


def _misshapen(error: Exception) -> str:
    return f"the answer is not as documented: {type(error).__name__}: {error}"


@dataclass(frozen=True, slots=True)
class Words:
    """How one cloud says what HTTP has no status for: parts of its codes and texts, in lower case."""

    capacity: tuple[str, ...]
    quota: tuple[str, ...]
    rate: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer that was no success: the cloud's code and text, and what it said about trying again."""

    status: int
    text: str
    headers: Mapping[str, str]


def typed(provider: str, operation: str, refusal: Refusal, words: Words, secrets: Iterable[str] = ()) -> CloudError:
    """Return the error that a refusal means."""
    text = scrubbed(f"[{refusal.status}] {refusal.text}", secrets)
    said = refusal.text.lower()
    if any(word in said for word in words.quota):
        return QuotaExceeded(provider, operation, text)
    if any(word in said for word in words.capacity):
        return OutOfCapacity(provider, operation, text)
    if refusal.status == 429 or any(word in said for word in words.rate):
        return RateLimited(provider, operation, text, retry_after_s(refusal.headers))
    if refusal.status in (401, 403):
        return AuthFailed(provider, operation, text)
    if refusal.status == 404:
        return NotFound(provider, operation, text)
    if refusal.status in (409, 412):
        return Conflict(provider, operation, text)
    if refusal.status >= 500 or refusal.status in (408, 425):
        return Transient(provider, operation, text, operation not in _READING)
    return Refused(provider, operation, text)


def unanswered(provider: str, operation: str, error: Exception, sent: bool, secrets: Iterable[str] = ()) -> Transient:
    """Return the error for a request without an answer; ``sent`` is false when it cannot have reached the cloud."""
    text = scrubbed(f"{type(error).__name__}: {error}", secrets)
    return Transient(provider, operation, text, sent and operation not in _READING)


def retry_after_s(headers: Mapping[str, str]) -> float:
    """Return what ``Retry-After`` says, in seconds or as a date (RFC 9110, 10.2.3)."""
    value = next((v for k, v in headers.items() if k.lower() == "retry-after"), "")
    try:
        wait_s = float(value)
    except ValueError:
        try:
            wait_s = parsedate_to_datetime(value).timestamp() - time.time()
        except ValueError:
            return _RETRY_AFTER_S
    return min(max(wait_s, 0.0), _LONGEST_RETRY_AFTER_S) if wait_s == wait_s else _RETRY_AFTER_S


def scrubbed(text: str, secrets: Iterable[str]) -> str:
    """Return a text without the secrets that a cloud or a library may have repeated in it."""
    for secret in secrets:
        if secret:
            text = text.replace(secret, "***")
    return _CREDENTIALS.sub(r"\1***", text)


def forms(user_data: str) -> tuple[str, ...]:
    """Return the forms in which a cloud may repeat a start-up script: encoded, and line by line."""
    if not user_data:
        return ()
    lines = [line.strip() for line in user_data.splitlines()]
    return (base64.b64encode(user_data.encode()).decode(), *(line for line in lines if len(line) >= _SECRET_LENGTH))


def never_sent(error: BaseException) -> bool:
    """Tell whether a library's error (of requests, urllib3 and what wraps them) came before any byte was sent."""
    names, todo = set(), [error]
    while todo:
        one = todo.pop()
        if type(one).__name__ in names:
            continue
        names.add(type(one).__name__)
        inner = (one.__cause__, one.__context__, getattr(one, "reason", None), getattr(one, "inner_exception", None))
        todo += [e for e in (*inner, *one.args) if isinstance(e, BaseException)]
    return bool(names & _BEFORE_SENDING)
