"""Delivery of webhooks: what the store's outbox holds is signed, posted, tried again.

A message is delivered at least once: its row goes only after the receiver has answered 2xx, so a control plane that
dies in between sends it again, under the same ``webhook-id``. Signatures are those of the Standard Webhooks
specification (https://www.standardwebhooks.com), symmetric scheme ``v1``: HMAC-SHA-256 over ``id.timestamp.body``.

Who may define webhooks must not thereby reach our own network: a receiver's name is resolved here, addresses that are
not public are refused unless the operator allowed their network, the connection goes to the very address that was
checked, and redirects are not followed. Of an answer nothing but its status is kept.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import random
import secrets
import ssl
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any
from urllib.parse import urlsplit

import httpx
import structlog

import router
from router.core.errors import InputRejected
from router.core.model import Micros, Webhook, WebhookId
from router.schemas.units import rfc3339
from router.store import Store
from router.store.commit import Commit
from router.store.webhooks import Claim, Message, Sent, Turn

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
log = structlog.get_logger("tendril.outbox")

FIRST_RETRY_US = 1_000_000
LONGEST_RETRY_US = 8 * 3600 * 1_000_000
ATTEMPTS = 11  # four times as long from one to the next: the last is about 22 hours after the first
LONGEST_RETRY_AFTER_US = 3600 * 1_000_000  # a receiver may ask for this much patience
AT_ONCE = 16  # messages of one webhook under way
READ_BYTES = 16_384  # of an answer, so that the connection can be used again
_DICE = random.SystemRandom()
LARGEST_BODY = 20_000  # bytes, as the specification recommends; the details of a larger event are left out
PREFIX = "whsec_"
# Addresses that carry another one inside: a public form of a private address is private.
_6TO4, _NAT64 = ip_network("2002::/16"), ip_network("64:ff9b::/96")


@dataclass(frozen=True, slots=True)
class OutboxOptions:
    """Judgements that operators may change."""

    timeout_s: float = 10.0  # of one attempt, from the name to the answer
    allowed: tuple[Network, ...] = ()  # networks besides the public ones, and without TLS
    disable_after_us: int = 48 * 3600 * 1_000_000


@dataclass(slots=True)
class OutboxCounts:
    """What telemetry shows of deliveries."""

    delivered: int = 0
    failed: int = 0
    given_up: int = 0


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of one attempt; ``error`` is empty when the receiver took the message."""

    error: str
    status: int | None = None
    retry_after_us: int = 0


class Forbidden(Exception):
    """A receiver that may not be called; the message says why."""


def mint_secret() -> str:
    """Make a secret for signing: 32 random bytes."""
    return PREFIX + base64.b64encode(secrets.token_bytes(32)).decode()


def signature(secret: str, id: str, timestamp: int, body: bytes) -> str:
    """Sign one message (Standard Webhooks, symmetric scheme)."""
    key = base64.b64decode(secret.removeprefix(PREFIX))
    signed = hmac.new(key, f"{id}.{timestamp}.".encode() + body, hashlib.sha256)
    return "v1," + base64.b64encode(signed.digest()).decode()


def body_of(message: Message) -> bytes:
    """The JSON text of a message."""
    event = message.event
    assert event is not None
    data = {
        "number": message.number, "subject": event.subject, "actor": event.actor, "reason": event.reason,
        "detail": dict(event.detail),
    }  # fmt: skip
    whole = {"type": event.kind, "timestamp": rfc3339(event.at), "data": data}
    text = json.dumps(whole, ensure_ascii=False, separators=(",", ":")).encode()
    if len(text) <= LARGEST_BODY:
        return text
    cut = {**data, "reason": event.reason[:1_000], "detail": {}, "cut": True}
    return json.dumps({**whole, "data": cut}, ensure_ascii=False, separators=(",", ":")).encode()


def retry_at(attempts: int, answer: Answer, now: Micros) -> Micros | None:
    """When a message that was tried so often, this time included, is tried again; None: never."""
    if attempts >= ATTEMPTS:
        return None
    wait = min(LONGEST_RETRY_US, FIRST_RETRY_US << min(40, 2 * (attempts - 1)))
    return now + max(int(wait * _spread()), answer.retry_after_us)


def _spread() -> float:
    """Keeps receivers that came back from being asked by everybody at the same moment."""
    return _DICE.uniform(0.8, 1.2)


def refuse_url(url: str, allowed: Sequence[Network]) -> None:
    """Refuse what can be seen to be wrong without resolving a name. Raises ``invalid_field``."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if not host or parts.scheme not in ("http", "https") or port == 0 or parts.username is not None or parts.fragment:
        rule = "https://HOST[:PORT]/PATH without user and fragment"
        raise InputRejected("invalid_field", f"url must be {rule}", field="url", rule=rule)
    try:
        found: list[Address] = [ip_address(host)]
    except ValueError:
        found = []
    try:
        if found:
            _permitted(found, parts.scheme, allowed)
    except Forbidden as error:
        rule = "a public address, or one of TENDRIL_WEBHOOK_ALLOW_NETWORKS"
        raise InputRejected("webhook_address", str(error), field="url", rule=rule, override=None) from error


def _inner(address: Address) -> Address:
    """The address that counts: the one inside, where one carries another."""
    if isinstance(address, IPv4Address):
        return address
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address in _6TO4:
        return IPv4Address((int(address) >> 80) & 0xFFFF_FFFF)
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    return address.teredo[1] if address.teredo is not None else address


def _permitted(found: Sequence[Address], scheme: str, allowed: Sequence[Network]) -> Address:
    """The first address that may be called. Raises :class:`Forbidden`."""
    for address in found:
        real = _inner(address)
        if any(real.version == network.version and real in network for network in allowed):
            return address
        if scheme == "https" and real.is_global and not real.is_multicast:
            return address
    if any(_inner(address).is_global for address in found):
        raise Forbidden("a receiver on the Internet must be called by https")
    raise Forbidden("the address is private, local or reserved, and no network that the operator allowed")


@cache
def _trust() -> ssl.SSLContext:
    return ssl.create_default_context()  # reads all certificates of the system, which takes 40 ms


class Outbox:
    """Delivers what waits; ``commit`` and ``read`` are the runtime's."""

    def __init__(
        self,
        commit: Callable[[Callable[[Store], Commit[Any]]], Awaitable[Any]],
        read: Callable[[Callable[[Store], tuple[WebhookId, ...]]], Awaitable[tuple[WebhookId, ...]]],
        now: Callable[[], Micros],
        options: OutboxOptions,
    ) -> None:
        self.options = options
        self.counts = OutboxCounts()
        self._commit = commit
        self._read = read
        self._now = now
        self._holder = secrets.token_hex(8)
        self._lease_us = int(2 * options.timeout_s * 1_000_000)
        self._trust = _trust()
        self._under_way: dict[WebhookId, asyncio.Task[None]] = {}
        self._closed = False

    @property
    def holder(self) -> str:
        """Under which name this control plane claims webhooks."""
        return self._holder

    async def tend(self) -> None:
        """Begin to deliver wherever something is due."""
        due = await self._read(lambda store: store.webhooks.due(self._now()))
        for id in due:
            if id not in self._under_way and not self._closed:
                self._under_way[id] = asyncio.create_task(self._deliver(id))

    async def close(self) -> None:
        """Let what is under way end."""
        self._closed = True
        await asyncio.gather(*self._under_way.values(), return_exceptions=True)
        await self._commit(lambda store: store.webhooks.let_go(self._holder))

    async def _deliver(self, id: WebhookId) -> None:
        try:
            sent: tuple[Sent, ...] = ()
            async with self._client() as client:
                while (turn := await self._turn(id, sent)) is not None:
                    if self._closed:
                        break
                    sent = tuple(await asyncio.gather(*(self._send(client, turn, one) for one in turn.messages)))
        except Exception:  # the claim runs out, and the messages are still there
            log.exception("webhook_failed", webhook=id)
        finally:
            del self._under_way[id]

    async def _turn(self, id: WebhookId, sent: tuple[Sent, ...]) -> Turn | None:
        spread = int(_spread() * 1_000_000)
        claim = Claim(self._holder, self._lease_us, AT_ONCE, self.options.disable_after_us, spread)
        turn: Turn | None = await self._commit(lambda store: store.webhooks.turn(id, sent, claim, self._now()))
        return turn

    async def _send(self, client: httpx.AsyncClient, turn: Turn, message: Message) -> Sent:
        if message.event is None:
            self.counts.given_up += 1
            return Sent(message, "the event was forgotten before it could be told")
        number = f"msg_{message.number}"
        answer = await self._post(client, turn.webhook.url, turn.secrets, number, body_of(message))
        if not answer.error:
            self.counts.delivered += 1
            return Sent(message)
        self.counts.failed += 1
        at = retry_at(message.attempts + 1, answer, self._now())
        self.counts.given_up += at is None
        return Sent(message, answer.error, at, gone=answer.status == httpx.codes.GONE)

    async def test(self, webhook: Webhook) -> Answer:
        """Post one message that tells of nothing, and say what came of it."""
        number = f"msg_test_{secrets.token_hex(8)}"
        whole = {"type": "webhook.test", "timestamp": rfc3339(self._now()), "data": {"subject": webhook.id}}
        async with self._client() as client:
            return await self._post(client, webhook.url, (webhook.secret,), number, json.dumps(whole).encode())

    def _client(self) -> httpx.AsyncClient:
        """A client for one receiver: a connection checked for one name must not carry messages for another."""
        limits = httpx.Limits(max_connections=AT_ONCE, max_keepalive_connections=AT_ONCE)
        return httpx.AsyncClient(
            verify=self._trust, trust_env=False, follow_redirects=False, timeout=None, limits=limits
        )

    async def _post(self, client: httpx.AsyncClient, url: str, keys: Sequence[str], number: str, body: bytes) -> Answer:
        """One attempt."""
        at_s = self._now() // 1_000_000
        headers = {
            "content-type": "application/json",
            "user-agent": f"Tendril/{router.__version__}",
            "webhook-id": number,
            "webhook-timestamp": str(at_s),
            "webhook-signature": " ".join(signature(key, number, at_s, body) for key in keys),
        }
        try:
            async with asyncio.timeout(self.options.timeout_s):
                return await self._exchange(client, url, headers, body)
        except TimeoutError:
            return Answer(f"no answer within {self.options.timeout_s:g} s")
        except Forbidden as error:
            return Answer(str(error))
        except (httpx.HTTPError, httpx.InvalidURL, OSError, UnicodeError) as error:
            return Answer(f"{type(error).__name__}: cannot be reached")

    async def _exchange(self, client: httpx.AsyncClient, url: str, headers: dict[str, str], body: bytes) -> Answer:
        parts = urlsplit(url)
        host = parts.hostname or ""
        port = parts.port or (443 if parts.scheme == "https" else 80)
        known = await asyncio.get_running_loop().getaddrinfo(host, port, type=1, proto=6)
        address = _permitted([ip_address(place[4][0]) for place in known], parts.scheme, self.options.allowed)
        pinned = httpx.URL(url).copy_with(host=str(address))
        named = {**headers, "host": parts.netloc}
        told = {"sni_hostname": host}
        async with client.stream("POST", pinned, content=body, headers=named, extensions=told) as response:
            read = 0
            async for piece in response.aiter_raw():
                read += len(piece)
                if read > READ_BYTES:
                    break
            if response.is_success:
                return Answer("", response.status_code)
            rule = " (redirects are not followed)" if response.is_redirect else ""
            wait = response.headers.get("retry-after", "")
            patience = min(LONGEST_RETRY_AFTER_US, int(wait) * 1_000_000) if wait.isdecimal() and len(wait) < 9 else 0
            return Answer(f"answered {response.status_code}{rule}", response.status_code, patience)
