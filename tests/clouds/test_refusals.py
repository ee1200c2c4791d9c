"""From HTTP to typed errors: what has no fake of its own."""

from __future__ import annotations

import sys
import time
from email.utils import formatdate

import pytest

from providers.adapters import open_provider
from providers.base import (
    AuthFailed,
    Conflict,
    NotConfigured,
    NotFound,
    Order,
    OutOfCapacity,
    QuotaExceeded,
    RateLimited,
    Refused,
    Transient,
)
from providers.labels import tags_from, words_of
from providers.refusals import Refusal, Words, never_sent, retry_after_s, typed

WORDS = Words(capacity=("out of host capacity",), quota=("limit reached",), rate=("slow down",))


@pytest.mark.parametrize("status, text, kind", [
    (500, "Out of host capacity.", OutOfCapacity),
    (400, "Account limit reached", QuotaExceeded),
    (403, "quota limit reached", QuotaExceeded),
    (503, "Slow down", RateLimited),
    (429, "", RateLimited),
    (401, "", AuthFailed),
    (403, "", AuthFailed),
    (404, "", NotFound),
    (409, "", Conflict),
    (408, "", Transient),
    (502, "<html>", Transient),
    (400, "", Refused),
    (422, "", Refused),
    (302, "", Refused),
])  # fmt: skip
def test_statuses(status: int, text: str, kind: type[Exception]) -> None:
    assert type(typed("x", "launch", Refusal(status, text, {}), WORDS)) is kind


@pytest.mark.parametrize("value, wait_s", [
    ("7", 7.0), ("0", 0.0), ("-3", 0.0), ("999999", 3600.0), ("nan", 5.0), ("soon", 5.0), ("", 5.0),
])  # fmt: skip
def test_retry_after(value: str, wait_s: float) -> None:
    assert retry_after_s({"Retry-After": value}) == wait_s
    assert retry_after_s({}) == 5.0


def test_retry_after_as_a_date() -> None:
    assert 3000 < retry_after_s({"retry-after": formatdate(time.time() + 3300, usegmt=True)}) <= 3300
    assert retry_after_s({"retry-after": formatdate(time.time() - 60, usegmt=True)}) == 0.0


def test_a_reading_call_leaves_nothing_unknown() -> None:
    for operation, unknown in (("launch", True), ("terminate", True), ("list", False), ("get", False)):
        error = typed("x", operation, Refusal(500, "", {}), WORDS)
        assert isinstance(error, Transient)
        assert error.outcome_unknown is unknown


def test_what_never_left() -> None:
    class NewConnectionError(Exception):
        pass

    wrapped = ConnectionError(RuntimeError("pool", NewConnectionError()))
    assert never_sent(wrapped)
    assert not never_sent(ConnectionError(RuntimeError("read timed out")))
    looped = RuntimeError()
    looped.__context__ = ValueError()
    looped.__context__.__context__ = looped
    assert not never_sent(looped)


def test_tags_as_words() -> None:
    assert tags_from(words_of({"launch": "k", "deployment": "d"})) == {"deployment": "d", "launch": "k"}
    assert tags_from(["managed_by:terraform", "plain", "a=b=c"]) == {"managed_by": "terraform", "a": "b=c"}


@pytest.mark.parametrize("change", [
    {"idempotency_key": "UPPER"}, {"idempotency_key": "k" * 33}, {"idempotency_key": ""}, {"region": "São Paulo"},
    {"tags": {"managed_by": "me"}}, {"tags": {"launch": "x"}}, {"tags": {"Pool": "x"}}, {"tags": {"pool": "x y"}},
])  # fmt: skip
def test_orders_that_some_cloud_could_not_take(change: dict[str, object]) -> None:
    good: dict[str, object] = {"idempotency_key": "k1", "region": "r", "cloud_region": "c", "size": "s"}
    assert Order(**good)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="must match"):
        Order(**(good | change))  # type: ignore[arg-type]


def test_a_missing_sdk_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "linode_api4", None)
    with pytest.raises(NotConfigured, match=r"pip install 'tendril\[linode\]'"):
        open_provider("linode", {"deployment": "d"}, {"LINODE_TOKEN": "x"})
