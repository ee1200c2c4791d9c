"""Delivery without a database: signatures, back-off, and which addresses may be called."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest
import standardwebhooks

from router.core.errors import InputRejected
from router.core.model import Event
from router.outbox import (
    ATTEMPTS,
    LARGEST_BODY,
    Answer,
    Forbidden,
    _permitted,
    body_of,
    mint_secret,
    refuse_url,
    retry_at,
    signature,
)
from router.store.webhooks import Message

SECOND = 1_000_000
FAILED = Answer("answered 500", 500)


def message(**detail: str) -> Message:
    event = Event(1_700_000_000_000_000, "session.ended", "s-1", "key:x", "it is över", detail)
    return Message(1, 812, event, event.at, 0, event.at, "")


def test_the_reference_implementation_accepts_our_signature_and_no_other() -> None:
    secret, body = mint_secret(), body_of(message(a="b"))
    at_s = int(datetime.now(UTC).timestamp())
    headers = {"webhook-id": "msg_812", "webhook-timestamp": str(at_s)}
    good = {**headers, "webhook-signature": signature(secret, "msg_812", at_s, body)}
    assert standardwebhooks.Webhook(secret).verify(body, good)["data"]["number"] == 812
    for wrong in (
        signature(mint_secret(), "msg_812", at_s, body),
        signature(secret, "msg_813", at_s, body),
        signature(secret, "msg_812", at_s + 1, body),
        signature(secret, "msg_812", at_s, body + b" "),
    ):
        with pytest.raises(standardwebhooks.WebhookVerificationError):
            standardwebhooks.Webhook(secret).verify(body, {**headers, "webhook-signature": wrong})


def test_the_signature_of_the_specification_s_own_example() -> None:
    # https://github.com/standard-webhooks/standard-webhooks, test vector of its libraries
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    found = signature(secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert found == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_a_body_says_what_happened_and_is_never_large() -> None:
    assert json.loads(body_of(message(edge="linode-fra"))) == {
        "type": "session.ended",
        "timestamp": "2023-11-14T22:13:20.000000Z",
        "data": {
            "number": 812, "subject": "s-1", "actor": "key:x", "reason": "it is över", "detail": {"edge": "linode-fra"},
        },
    }  # fmt: skip
    large = body_of(message(**{f"k{n}": "x" * 500 for n in range(100)}))
    assert len(large) < LARGEST_BODY
    assert json.loads(large)["data"]["cut"] is True


def test_retries_are_further_and_further_apart_and_end() -> None:
    waits = [(at, retry_at(at, FAILED, 0)) for at in range(1, ATTEMPTS)]
    for attempt, found in waits:
        least = min(8 * 3600 * SECOND, SECOND * 4 ** (attempt - 1))
        assert found is not None
        assert least * 8 // 10 <= found <= least * 12 // 10 + 1
    assert retry_at(ATTEMPTS, FAILED, 0) is None
    assert len({retry_at(5, FAILED, 0) for _ in range(20)}) > 10  # not all at the same moment
    asked = retry_at(1, Answer("answered 429", 429, 90 * SECOND), 0)
    assert asked == 90 * SECOND


PUBLIC = ("93.184.216.34", "2606:2800:220:1::1", "64:ff9b::5db8:d822")
CLOSED = (
    "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1",
    "255.255.255.255", "::1", "::", "fe80::1", "fd00:ec2::254", "::ffff:127.0.0.1", "::ffff:169.254.169.254",
    "2002:7f00:1::", "2002:a9fe:a9fe::1", "64:ff9b::a9fe:a9fe", "64:ff9b::7f00:1", "ff02::1", "192.0.2.1", "198.18.0.1",
)  # fmt: skip


@pytest.mark.parametrize("text", PUBLIC)
def test_public_addresses_are_called_by_https(text: str) -> None:
    assert _permitted([ip_address(text)], "https", ()) == ip_address(text)
    with pytest.raises(Forbidden, match="https"):
        _permitted([ip_address(text)], "http", ())


@pytest.mark.parametrize("text", CLOSED)
def test_other_addresses_are_not_called_at_all(text: str) -> None:
    for scheme in ("http", "https"):
        with pytest.raises(Forbidden):
            _permitted([ip_address(text)], scheme, (ip_network("10.9.0.0/16"),))


def test_what_the_operator_allows_may_be_called_and_of_many_addresses_only_a_permitted_one() -> None:
    allowed = (ip_network("10.9.0.0/16"), ip_network("fd00::/16"))
    for text in ("10.9.1.1", "fd00::7", "::ffff:10.9.1.1"):
        assert _permitted([ip_address(text)], "http", allowed) == ip_address(text)
    mixed = [ip_address(text) for text in ("127.0.0.1", "169.254.169.254", "93.184.216.34")]
    assert str(_permitted(mixed, "https", ())) == "93.184.216.34"


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("https://user@example.org/", "invalid_field"),
        ("https://user:x@example.org/", "invalid_field"),
        ("https://example.org/#x", "invalid_field"),
        ("https://example.org:0/", "invalid_field"),
        ("https://example.org:99999/", "invalid_field"),
        ("https://[::1/", "invalid_field"),
        ("https:///x", "invalid_field"),
        ("ftp://example.org/", "invalid_field"),
        ("https://169.254.169.254/latest", "webhook_address"),
        ("https://[::ffff:10.0.0.1]/", "webhook_address"),
        ("http://93.184.216.34/", "webhook_address"),
    ],
)
def test_addresses_that_can_be_seen_to_be_wrong_are_refused_at_once(url: str, code: str) -> None:
    with pytest.raises(InputRejected) as refused:
        refuse_url(url, ())
    assert refused.value.code == code
    assert refused.value.field == "url"


def test_names_and_allowed_addresses_are_taken() -> None:
    refuse_url("https://example.org:8443/hooks?x=1", ())
    refuse_url("http://10.9.0.1/hooks", (ip_network("10.0.0.0/8"),))


def test_the_code_of_the_guide_verifies_a_message() -> None:
    guide = (Path(__file__).parents[2] / "docs/how-to/receive-webhooks.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", guide, re.S)
    known: dict[str, Any] = {}
    exec(code, known)
    secret, body, at_s = mint_secret(), body_of(message()), int(datetime.now(UTC).timestamp())
    good = f"{signature(mint_secret(), 'msg_1', at_s, body)} {signature(secret, 'msg_1', at_s, body)}"
    headers = {"webhook-id": "msg_1", "webhook-timestamp": str(at_s), "webhook-signature": good}
    known["verify"](secret, headers, body)
    for wrong in (
        {"webhook-id": "msg_2"},
        {"webhook-signature": good.split()[0]},
        {"webhook-timestamp": "1700000000"},
    ):
        with pytest.raises(ValueError, match=r"too old|not signed"):
            known["verify"](secret, headers | wrong, body)
