"""The node's own route API: HTTP/1.1 on a loopback address and a Unix socket, for the media server beside the agent.

It answers from the reaction plan and what the node itself sees, so it works with every controller dead. A few calls,
small and strict: one request per line of a table, bodies with a length, no chunked requests, no pipelining worth the
name, every size, count and time bounded. Whoever can reach the address may ask; it is loopback only, and requests whose
``Host`` is not this machine are refused, so that no web page can reach it by a name of its own (DNS rebinding).

Documented in ``docs/reference/agent.md``.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import logging
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

log = logging.getLogger("probes.local_api")

MAX_HEAD = 8_192  # bytes of request line and headers together
MAX_BODY = 65_536
MAX_CONNECTIONS = 64
MAX_WATCHERS = 16  # of those
IDLE_S = 30.0  # between requests of a connection, and for a request to be complete
WRITE_S = 10.0  # a reader that takes nothing for so long is dropped
HEARTBEAT_S = 5.0
MAX_UNIX_PATH = 107
STATUS = {
    200: "OK", 400: "Bad Request", 404: "Not Found", 405: "Method Not Allowed", 408: "Request Timeout",
    411: "Length Required", 413: "Content Too Large", 421: "Misdirected Request", 422: "Unprocessable Content",
    431: "Request Header Fields Too Large", 500: "Internal Server Error", 501: "Not Implemented",
    503: "Service Unavailable", 505: "HTTP Version Not Supported",
}  # fmt: skip
_ALWAYS_CHANGING = frozenset(("age_ms", "valid_until", "computed_at", "generation", "rtt_ms", "direct_rtt_ms"))
_TOKEN = frozenset(b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")


class LocalApiError(Exception):
    """The API cannot be opened; the message says why."""


class Problem(Exception):
    """A request that is refused: status, stable code, and what to do."""

    def __init__(self, status: int, code: str, detail: str, field: str = "", *, close: bool = False) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.field = field
        self.close = close  # what follows on the connection cannot be understood


@dataclass(frozen=True, slots=True)
class Request:
    """One request, checked."""

    method: str
    path: str
    query: Mapping[str, str]
    body: bytes


Handler = Callable[[Request, str], object]
"""Gets the request and the rest of its path; returns what is sent as JSON. Raises :class:`Problem`."""
Snapshot = Callable[[Request], Mapping[str, object]]
"""State of what a watcher follows: name -> value; checks the query. Raises :class:`Problem`."""


class LocalApi:
    """Serves ``calls``, by method and path prefix, and one stream."""

    def __init__(self, calls: Mapping[tuple[str, str], Handler], watch_path: str, snapshot: Snapshot) -> None:
        self.counters: Counter[str] = Counter()
        self._calls = calls
        self._watch_path = watch_path
        self._snapshot = snapshot
        self._servers: list[asyncio.Server] = []
        self._connections: set[asyncio.Task[None]] = set()
        self._watchers: set[asyncio.Event] = set()
        self._unix: Path | None = None

    async def listen(self, host: str, port: int, unix: Path | None) -> None:
        """Open the sockets. Raises :class:`LocalApiError`."""
        if not _is_loopback(host):
            raise LocalApiError(f"the local API serves its own node: {host} is not a loopback address")
        try:
            self._servers.append(await asyncio.start_server(self._serve, host, port, limit=MAX_HEAD))
            if unix is not None:
                await self._listen_unix(unix)
        except OSError as error:
            await self.close()
            raise LocalApiError(f"cannot serve the local API on {host} port {port}: {error.strerror}") from error

    async def _listen_unix(self, path: Path) -> None:
        if len(str(path).encode()) > MAX_UNIX_PATH:
            log.warning("no Unix socket for the local API: the path %s is too long", path)
            return
        if path.is_socket():  # of an agent that was killed; a live one of the same node holds the ports
            path.unlink()
        self._servers.append(await asyncio.start_unix_server(self._serve, path, limit=MAX_HEAD))
        path.chmod(0o660)
        self._unix = path

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens."""
        host, port = self._servers[0].sockets[0].getsockname()[:2]
        return str(host), int(port)

    def changed(self) -> None:
        """Tell the watchers to look again."""
        for event in self._watchers:
            event.set()

    async def close(self) -> None:
        """Stop serving; streams end."""
        for server in self._servers:
            server.close()
        for task in list(self._connections):
            task.cancel()
        if self._connections:
            await asyncio.wait(self._connections)
        self._servers = []
        if self._unix is not None:
            with suppress(OSError):
                self._unix.unlink()

    # --- connections -------------------------------------------------------------------------------------------------

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._connections.add(task)
        try:
            if len(self._connections) > MAX_CONNECTIONS:
                self.counters["refused_connections"] += 1
                problem = Problem(503, "too_many_connections", f"at most {MAX_CONNECTIONS} connections at a time")
                await self._write(writer, _problem(problem, keep=False))
                return
            while await self._one(reader, writer):
                pass
        except (ConnectionError, TimeoutError, asyncio.CancelledError):
            pass  # the other side went away, or is too slow, or we stop
        finally:
            if task is not None:
                self._connections.discard(task)
            writer.close()
            with suppress(ConnectionError, TimeoutError, asyncio.CancelledError):
                await asyncio.wait_for(writer.wait_closed(), 1.0)

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Serve one request; whether the connection may be used again."""
        try:
            async with asyncio.timeout(IDLE_S):
                read = await _read(reader)
            if read is None:
                return False
            request, keep = read
            self.counters["requests"] += 1
            if request.path == self._watch_path and request.method == "GET":
                await self._stream(request, writer)
                return False
            answer = self._answer(request, keep)
        except Problem as problem:
            self.counters["refused"] += 1
            keep = not problem.close
            answer = _problem(problem, keep=keep)
        except TimeoutError:
            return False
        await self._write(writer, answer)
        return keep

    def _answer(self, request: Request, keep: bool) -> bytes:
        allowed = set()
        for (method, prefix), handler in self._calls.items():
            fits = request.path.startswith(prefix) if prefix.endswith("/") else request.path == prefix
            if fits and method == request.method:
                return _reply(200, "application/json", self._call(handler, request, prefix), keep)
            if fits:
                allowed.add(method)
        if allowed:
            raise Problem(405, "method_not_allowed", f"use {', '.join(sorted(allowed))}")
        raise Problem(404, "not_found", f"there is nothing at {request.path}")

    def _call(self, handler: Handler, request: Request, prefix: str) -> bytes:
        try:
            return _json(handler(request, request.path.removeprefix(prefix)))
        except Problem:
            raise
        except Exception:
            log.exception("the local API failed at %s %s", request.method, request.path)
            self.counters["failed"] += 1
            raise Problem(500, "internal", "the agent failed to answer; its log says why") from None

    async def _write(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        writer.write(data)
        async with asyncio.timeout(WRITE_S):
            await writer.drain()

    # --- the stream --------------------------------------------------------------------------------------------------

    async def _stream(self, request: Request, writer: asyncio.StreamWriter) -> None:
        if len(self._watchers) >= MAX_WATCHERS:
            raise Problem(503, "too_many_watchers", f"at most {MAX_WATCHERS} watchers at a time")
        known = dict(self._snapshot(request))
        wake = asyncio.Event()
        self._watchers.add(wake)
        try:
            head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-store\r\n"
            await self._write(writer, head + b"connection: close\r\n\r\n" + _event("table", list(known.values())))
            while True:
                try:
                    async with asyncio.timeout(HEARTBEAT_S):
                        await wake.wait()
                except TimeoutError:
                    pass
                wake.clear()
                try:
                    now = dict(self._snapshot(request))
                except Problem:  # a newer plan does not know what is watched; asking again says so
                    return
                changed = [value for name, value in now.items() if _but_age(known.get(name)) != _but_age(value)]
                known = now
                await self._write(writer, _event("delta", changed) if changed else b": heartbeat\n\n")
        finally:
            self._watchers.discard(wake)


# --- HTTP ------------------------------------------------------------------------------------------------------------


async def _read(reader: asyncio.StreamReader) -> tuple[Request, bool] | None:
    """One request and whether the client wants to keep the connection; ``None`` at the end. Raises Problem."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        if not error.partial:
            return None
        raise Problem(400, "malformed_request", "the request ends in its head", close=True) from error
    except asyncio.LimitOverrunError as error:
        raise Problem(431, "head_too_large", f"at most {MAX_HEAD} bytes", close=True) from error
    method, target, minor, headers = _parse_head(head)
    _check_host(headers.get("host"))
    body = await _read_body(reader, method, headers)
    path, query = _parse_target(target)
    connection = headers.get("connection", "").lower()
    keep = "keep-alive" in connection if minor == 0 else "close" not in connection
    return Request(method, path, query, body), keep


def _parse_head(head: bytes) -> tuple[str, str, int, dict[str, str]]:
    lines = head[:-4].split(b"\r\n")
    parts = lines[0].split(b" ")
    if len(parts) != 3 or not parts[0] or not set(parts[0]) <= _TOKEN:
        raise Problem(400, "malformed_request", "the request line is not METHOD TARGET HTTP/1.1", close=True)
    if parts[2] not in (b"HTTP/1.0", b"HTTP/1.1"):
        raise Problem(505, "http_version", "HTTP/1.1 is spoken here", close=True)
    headers: dict[str, str] = {}
    for line in lines[1:]:
        name, colon, value = line.partition(b":")
        if not colon or not name or not set(name) <= _TOKEN or b"\n" in value or b"\r" in value or b"\0" in value:
            raise Problem(400, "malformed_request", "a header line is not NAME: VALUE", close=True)
        key = name.decode("ascii").lower()
        if key in headers:
            if key in ("host", "content-length", "transfer-encoding"):
                raise Problem(400, "malformed_request", f"{key} appears twice", close=True)
            headers[key] += ", " + value.strip().decode("latin-1")
        else:
            headers[key] = value.strip().decode("latin-1")
    if not parts[1].isascii() or any(byte <= 0x20 or byte == 0x7F for byte in parts[1]):
        raise Problem(400, "malformed_request", "the target is not printable ASCII", close=True)
    return parts[0].decode("ascii"), parts[1].decode("ascii"), int(parts[2][-1:]), headers


async def _read_body(reader: asyncio.StreamReader, method: str, headers: Mapping[str, str]) -> bytes:
    if "transfer-encoding" in headers:
        raise Problem(501, "transfer_encoding", "send the body with content-length", close=True)
    length = headers.get("content-length")
    if length is None:
        if method in ("POST", "PUT", "PATCH"):
            raise Problem(411, "length_required", "send the body with content-length", close=True)
        return b""
    if not (length.isascii() and length.isdigit()) or len(length) > 12:
        raise Problem(400, "malformed_request", "content-length is not a number", close=True)
    if int(length) > MAX_BODY:
        raise Problem(413, "body_too_large", f"at most {MAX_BODY} bytes", close=True)
    try:
        return await reader.readexactly(int(length))
    except asyncio.IncompleteReadError as error:
        raise Problem(400, "malformed_request", "the body is shorter than content-length", close=True) from error


def _parse_target(target: str) -> tuple[str, dict[str, str]]:
    if not target.startswith("/") or target.startswith("//"):
        raise Problem(400, "malformed_request", "the target is not a path", close=True)
    try:
        parts = urlsplit(target)
        pairs = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query), max_num_fields=16)
        path = unquote(parts.path, errors="strict")
    except ValueError as error:
        raise Problem(400, "malformed_request", "the target is not understood") from error
    query = dict(pairs)
    if len(query) != len(pairs):
        raise Problem(400, "malformed_request", "a query parameter appears twice")
    return path, query


def _check_host(host: str | None) -> None:
    """Take requests for this machine's own addresses only, whatever name led here."""
    if host is None:
        raise Problem(400, "host_missing", "send a Host header", "host", close=True)
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() and not host.endswith("]") else host
    if name.lower() != "localhost" and not _is_loopback(name.strip("[]")):
        raise Problem(421, "host_refused", "Host must be localhost or a loopback address", "host", close=True)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _reply(status: int, kind: str, body: bytes, keep: bool) -> bytes:
    head = (
        f"HTTP/1.1 {status} {STATUS[status]}\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n"
        f"cache-control: no-store\r\nconnection: {'keep-alive' if keep else 'close'}\r\n\r\n"
    )
    return head.encode() + body


def _problem(problem: Problem, *, keep: bool) -> bytes:
    """RFC 9457, as the control plane's."""
    record: dict[str, object] = {
        "type": "about:blank", "title": STATUS[problem.status], "status": problem.status, "code": problem.code,
        "detail": problem.detail,
    }  # fmt: skip
    if problem.field:
        record["field"] = problem.field
    return _reply(problem.status, "application/problem+json", _json(record), keep)


def _event(name: str, routes: list[object]) -> bytes:
    return f"event: {name}\ndata: ".encode() + _json({"routes": routes}) + b"\n\n"


def _but_age(value: object) -> object:
    """What makes a change: everything but ages and round trips, which always change."""
    if isinstance(value, Mapping):
        return {name: _but_age(item) for name, item in value.items() if name not in _ALWAYS_CHANGING}
    return [_but_age(item) for item in value] if isinstance(value, list) else value
