"""The HTTP of a fake cloud: requests in, answers out, faults in between.

Theory. A request goes through four steps: the description checks it, the schedule may choose a fault, the cloud
computes the answer (and changes its state), the description checks the answer. Faults before the effect (429, 500,
out of capacity, quota, a time-out) never reach the cloud; faults after it (a lost answer, a 500 or a time-out after the
work was done, a late effect) drop the answer or replace it. Nothing sleeps: a time-out holds the connection until the
client gives up.
"""

from __future__ import annotations

import json
import random
import select
import socket
import ssl
import sys
import threading
import urllib.parse
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Protocol

_HOLD_S = 60.0  # longer than the time limit of any client; a bound, never a wait


class Fault(StrEnum):
    """What can go wrong between a cloud and us."""

    RATE_LIMITED = "rate_limited"
    SERVER_ERROR = "server_error"
    TIMEOUT = "timeout"
    GARBLED = "garbled"
    OUT_OF_CAPACITY = "out_of_capacity"
    QUOTA = "quota"
    LOST_ANSWER = "lost_answer"
    ERROR_AFTER_EFFECT = "error_after_effect"
    TIMEOUT_AFTER_EFFECT = "timeout_after_effect"
    LATE_EFFECT = "late_effect"


ONLY_CREATING = frozenset({Fault.OUT_OF_CAPACITY, Fault.QUOTA, Fault.LATE_EFFECT})
ONLY_READING = frozenset({Fault.GARBLED})


@dataclass(frozen=True, slots=True)
class Request:
    """One request; header names are in lower case. ``target`` and ``raw`` are the bytes that a signature covers."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: Any
    target: str = ""
    raw: bytes = b""


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer; a body of ``None`` is an empty one."""

    status: int
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)


class Cloud(Protocol):
    """The behaviour of one cloud."""

    def answer(self, request: Request) -> Reply:
        """Do what is asked."""
        ...

    def creates(self, request: Request) -> bool:
        """Tell whether a request makes a machine."""
        ...

    def refusal(self, fault: Fault) -> Reply:
        """Say a fault (429, 500, capacity, quota) as this cloud says it."""
        ...

    def refused_later(self, request: Request, fault: Fault) -> Reply | None:
        """Accept a launch that will fail for want of capacity or quota, where this cloud says so only later."""
        ...

    def machines(self) -> tuple[str, ...]:
        """Return what is there and costs money, by id."""
        ...


class Description(Protocol):
    """What a cloud publishes about its API; each returns what is wrong."""

    def request_faults(self, request: Request) -> list[str]:
        """Check a request."""
        ...

    def reply_faults(self, request: Request, reply: Reply) -> list[str]:
        """Check an answer."""
        ...


Schedule = Callable[[Request, bool], Fault | None]


class Faults:
    """Faults by chance with a seed: of every million requests so many meet each fault."""

    def __init__(self, seed: int, per_million: Mapping[Fault, int]) -> None:
        self._random = random.Random(seed)
        self._per_million = dict(sorted(per_million.items()))
        self.enabled = True

    def __call__(self, request: Request, creates: bool) -> Fault | None:
        """Choose."""
        if not self.enabled:
            return None
        drawn = self._random.randrange(1_000_000)
        for fault, share in self._per_million.items():
            if drawn < share:
                return fault
            drawn -= share
        return None


class Script:
    """Faults in a given order: one for each request that makes a machine (or for each request), then none."""

    def __init__(self, *faults: Fault | None, creating: bool = True) -> None:
        self._left = list(faults)
        self._creating = creating

    def __call__(self, request: Request, creates: bool) -> Fault | None:
        """Choose."""
        return self._left.pop(0) if self._left and (creates or not self._creating) else None


def never(request: Request, creates: bool) -> Fault | None:
    """Choose no fault."""
    return None


class FakeCloud:
    """A cloud on a port of its own; use as a context manager."""

    def __init__(
        self,
        cloud: Cloud,
        schedule: Schedule = never,
        description: Description | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.cloud = cloud
        self.schedule = schedule
        self.violations: list[str] = []
        self.requests: Counter[str] = Counter()
        self.faults: Counter[Fault] = Counter()
        self._description = description
        self._late: list[Request] = []
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), _handler(self))
        self._scheme = "http" if tls is None else "https"
        if tls is not None:  # hands are shaken by the connection's own thread
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"{self._scheme}://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> FakeCloud:
        """Start."""
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Stop."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def settle(self) -> None:
        """Let every late effect happen."""
        with self._lock:
            self._take_effect()

    def serve(self, request: Request) -> tuple[Reply | None, bool]:
        """Return the answer (``None``: drop it) and whether to hold the connection first."""
        with self._lock:
            self.requests[request.method] += 1
            if self._description is not None:
                self.violations += self._description.request_faults(request)
            creates = self.cloud.creates(request)
            fault = self.schedule(request, creates)
            if (fault in ONLY_CREATING and not creates) or (fault in ONLY_READING and request.method != "GET"):
                fault = None
            if fault is None:
                return self._answer(request), False
            self.faults[fault] += 1
            return self._faulty(request, fault)

    def _faulty(self, request: Request, fault: Fault) -> tuple[Reply | None, bool]:
        if fault is Fault.TIMEOUT:
            return None, True
        if fault is Fault.GARBLED:
            return Reply(200, {"message": "you are now connected to the guest network"}), False
        if fault is Fault.LATE_EFFECT:
            self._late.append(request)
            return None, False
        if fault in (Fault.OUT_OF_CAPACITY, Fault.QUOTA):
            later = self.cloud.refused_later(request, fault)
            return self._checked(request, later or self.cloud.refusal(fault)), False
        if fault in (Fault.RATE_LIMITED, Fault.SERVER_ERROR):
            return self._checked(request, self.cloud.refusal(fault)), False
        self._answer(request)
        if fault is Fault.ERROR_AFTER_EFFECT:
            return self._checked(request, self.cloud.refusal(Fault.SERVER_ERROR)), False
        return None, fault is Fault.TIMEOUT_AFTER_EFFECT

    def _answer(self, request: Request) -> Reply:
        reply = self._checked(request, self.cloud.answer(request))
        if request.method != "GET" and len(self._late) > 3:  # so late that the client has come back in between
            self._take_effect()
        return reply

    def _take_effect(self) -> None:
        late, self._late = self._late, []
        for request in late:
            self.cloud.answer(request)

    def _checked(self, request: Request, reply: Reply) -> Reply:
        if self._description is not None:
            self.violations += self._description.reply_faults(request, reply)
        return reply


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of connections that a client has given up."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


def _handler(fake: FakeCloud) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing: requests hold credentials."""

        def _serve(self) -> None:
            url = urllib.parse.urlsplit(self.path)
            raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            request = Request(
                method=self.command,
                path=url.path,
                query=dict(urllib.parse.parse_qsl(url.query, keep_blank_values=True)),
                headers={k.lower(): v for k, v in self.headers.items()},
                body=_body(raw, self.headers.get("Content-Type") or ""),
                target=self.path,
                raw=raw,
            )
            reply, hold = fake.serve(request)
            if hold:
                _until_closed(self.connection)
            if reply is None:
                self.close_connection = True
                return
            body = b"" if reply.body is None else json.dumps(reply.body).encode()
            self.send_response_only(reply.status)
            for key, value in {"Content-Type": "application/json", **reply.headers}.items():
                self.send_header(key, value)
            if reply.status != 204:
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_PUT = do_DELETE = _serve

    return Handler


def _body(raw: bytes, kind: str) -> Any:
    if kind.startswith("application/x-www-form-urlencoded"):
        return dict(urllib.parse.parse_qsl(raw.decode(), keep_blank_values=True))
    return json.loads(raw) if raw else None


def _until_closed(connection: socket.socket) -> None:
    readable, _, _ = select.select([connection], [], [], _HOLD_S)
    if readable:
        connection.recv(1)
