"""Calls of the control plane's HTTP API on the standard library: a connection per thread, retries, typed refusals."""

from __future__ import annotations

import http.client
import json
import os
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

DEFAULT_URL = "http://127.0.0.1:7400"
PAUSES_S = (
    0.1,
    0.2,
    0.5,
    1.0,
    2.0,
    4.0,
    8.0,
)  # between tries; a control plane restarts in less


class Refused(Exception):
    """The control plane said no: its problem document."""

    def __init__(self, status: int, document: Mapping[str, Any]) -> None:
        super().__init__(str(document.get("detail") or document.get("title") or status))
        self.status = status
        self.code = str(document.get("code", ""))
        self.field = document.get("field")
        self.rule = document.get("rule")
        self.limit = document.get("limit")
        self.override = document.get("override")
        self.document = document


class Unreachable(Exception):
    """Nobody answered, or not in time; what was asked may or may not have been done."""


@dataclass
class Client:
    """One control plane; safe to use from many threads."""

    url: str
    key: str
    timeout_s: float = 30.0
    stopping: Callable[[], bool] = lambda: False
    _local: threading.local = field(default_factory=threading.local)

    def get(self, path: str, **query: Any) -> Any:
        """GET; ``None`` where there is nothing of that name."""
        asked = f"{path}?{urlencode(query)}" if query else path
        try:
            return self.call("GET", asked)
        except Refused as refusal:
            if refusal.status == http.client.NOT_FOUND and refusal.code.startswith("unknown_"):
                return None
            raise

    def pages(self, path: str) -> list[dict[str, Any]]:
        """Every item of a collection."""
        items: list[dict[str, Any]] = []
        after: str | None = None
        while True:
            page = self.call("GET", path if after is None else f"{path}?{urlencode({'after': after})}")
            items += page["items"]
            after = page["next"]
            if after is None:
                return items

    def call(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None, *, repeat: bool = True
    ) -> Any:
        """One call; ``repeat`` only where doing it twice is doing it once. Raises ``Refused``, ``Unreachable``."""
        for pause_s in (*PAUSES_S, None):
            try:
                return self._once(method, path, body, headers or {})
            except Refused as refusal:
                if refusal.status != http.client.SERVICE_UNAVAILABLE or pause_s is None or not repeat:
                    raise
            except (OSError, http.client.HTTPException) as error:
                self._hang_up()
                refused = isinstance(error, ConnectionRefusedError)
                if pause_s is None or not (repeat or refused):
                    raise Unreachable(f"{self.url} does not answer: {type(error).__name__}: {error}") from error
            if self.stopping():
                raise Unreachable(f"{self.url} does not answer, and Terraform asked to stop")
            time.sleep(pause_s)
        raise AssertionError("unreachable")

    def _once(self, method: str, path: str, body: Any, headers: Mapping[str, str]) -> Any:
        sent = {"Authorization": f"Bearer {self.key}", "Accept": "application/json", **headers}
        data = None
        if body is not None:
            data, sent["Content-Type"] = json.dumps(body).encode(), "application/json"
        connection = self._connection()
        connection.request(method, urlsplit(self.url).path.rstrip("/") + path, data, sent)
        answer = connection.getresponse()
        raw = answer.read()
        if answer.status >= http.client.BAD_REQUEST:
            raise Refused(answer.status, _document(answer.status, raw))
        return json.loads(raw) if raw else None

    def _connection(self) -> http.client.HTTPConnection:
        kept = getattr(self._local, "connection", None)
        if kept is None:
            parts = urlsplit(self.url)
            host, port = parts.hostname or "", parts.port
            if parts.scheme == "https":
                trust = ssl.create_default_context()
                kept = http.client.HTTPSConnection(host, port, timeout=self.timeout_s, context=trust)
            else:
                kept = http.client.HTTPConnection(host, port, timeout=self.timeout_s)
            self._local.connection = kept
        return kept

    def _hang_up(self) -> None:
        kept = getattr(self._local, "connection", None)
        if kept is not None:
            kept.close()
            self._local.connection = None


def _document(status: int, raw: bytes) -> Mapping[str, Any]:
    try:
        found = json.loads(raw)
    except ValueError:
        found = None
    plain = {"detail": f"HTTP {status}: {raw[:200].decode(errors='replace')}", "code": ""}
    return found if isinstance(found, dict) else plain


def segment(text: str) -> str:
    """Text as one part of a path."""
    return quote(str(text), safe="")


def from_env(name: str, given: str | None, default: str = "") -> str:
    """What is configured, else the environment variable, else the default."""
    return given or os.environ.get(name) or default
