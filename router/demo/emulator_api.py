"""The emulator's own small HTTP API, on 127.0.0.1 only: see the network, break it, heal it, put users on it.

=========================  ===========================================================================================
``GET /state``             world, data centers, faults, users, counters, accuracy of the emulation
``POST /faults``           ``{target | link, kind, value?, direction?, for_s?}`` (``faults.py``) -> 201 with its ``id``
``DELETE /faults[/{id}]``  heal all faults, or one
``PUT /users/{id}``        ``{latitude, longitude}`` -> ``{id, real_host, standin_host, port}``
``DELETE /users/{id}``     take the user off the network
=========================  ===========================================================================================

Errors are RFC 9457 ``application/problem+json`` with ``code``, ``field``, ``rule`` and ``limit``. Web pages of other
sites are refused (by ``Origin``, and by ``Host`` against rebound names): anybody's browser can reach a loopback port.
"""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Callable, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from urllib.parse import urlsplit

from router.core.errors import InputRejected, TendrilError, Unavailable
from router.core.model import ID_PATTERN, ID_REGEX
from router.demo.faults import FaultRequest, parse_fault
from router.demo.network import COUNTERS, Emulator
from router.demo.standins import address_taken

MAX_BODY = 16_384
IDLE_TIMEOUT_S = 30
LOCAL_NAMES = ("127.0.0.1", "localhost")
STATUS = {
    "unknown_fault": HTTPStatus.NOT_FOUND,
    "unknown_user": HTTPStatus.NOT_FOUND,
    "unknown_path": HTTPStatus.NOT_FOUND,
    "method_not_allowed": HTTPStatus.METHOD_NOT_ALLOWED,
    "too_many_faults": HTTPStatus.CONFLICT,
    "too_many_users": HTTPStatus.CONFLICT,
    "body_too_large": HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    "length_required": HTTPStatus.LENGTH_REQUIRED,
    "bad_json": HTTPStatus.BAD_REQUEST,
    "foreign_origin": HTTPStatus.FORBIDDEN,
}
JsonObject = dict[str, object]
Answer = tuple[HTTPStatus, JsonObject]


class EmulatorApi:
    """Serves the API from a thread of its own while the context is open; ``url`` says where."""

    def __init__(self, emulator: Emulator, port: int) -> None:
        class Handler(_Handler):
            calls = _Calls(emulator)

        try:
            self._server = _Server(("127.0.0.1", port), Handler)
        except OSError as error:
            raise address_taken(f"127.0.0.1:{port}", error) from error
        self._thread = threading.Thread(target=self._server.serve_forever, name="emulator-api", daemon=True)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> EmulatorApi:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False  # an idle keep-alive connection must not hold up the end


class _Calls:
    """One method per call of the API: plain data in, status and plain data out."""

    def __init__(self, emulator: Emulator) -> None:
        self._emulator = emulator

    def state(self) -> Answer:
        return HTTPStatus.OK, self._emulator.call(self._state)

    def post_fault(self, body: object) -> Answer:
        request = parse_fault(body)
        name, hit = self._emulator.call(lambda: self._emulator.add_fault(request))
        return HTTPStatus.CREATED, _fault(name, request, request.for_s) | {"legs": hit}

    def delete_faults(self) -> Answer:
        def heal() -> list[str]:
            names = list(self._emulator.legs.faults)
            for name in names:
                self._emulator.remove_fault(name)
            return names

        return HTTPStatus.OK, {"healed": self._emulator.call(heal)}

    def delete_fault(self, name: str) -> Answer:
        self._emulator.call(lambda: self._emulator.remove_fault(name))
        return HTTPStatus.OK, {"healed": [name]}

    def put_user(self, name: str, body: object) -> Answer:
        if not ID_REGEX.match(name):
            rule = f"must match {ID_PATTERN}"
            raise InputRejected("bad_user", f"id {rule}", field="id", rule=rule, limit=63)
        latitude, longitude = _position(body)
        real, standin = self._emulator.call(lambda: self._emulator.put_user(name, latitude, longitude))
        place: JsonObject = {"id": name, "real_host": real, "standin_host": standin, "port": self._emulator.user_port}
        return HTTPStatus.OK, place

    def delete_user(self, name: str) -> Answer:
        self._emulator.call(lambda: self._emulator.remove_user(name))
        return HTTPStatus.OK, {"removed": [name]}

    def _state(self) -> JsonObject:
        emulator, world, now = self._emulator, self._emulator.world, time.monotonic()
        heals_at = emulator.heals_at
        faults = [
            _fault(name, request, max(heals_at[name] - now, 0.0) if name in heals_at else None)
            for name, request in emulator.legs.faults.items()
        ]
        users = [
            {"id": name, "latitude": latitude, "longitude": longitude, "port": emulator.user_port}
            | dict(zip(("real_host", "standin_host"), emulator.user_hosts(endpoint), strict=True))
            for name, (endpoint, latitude, longitude) in emulator.users.items()
        ]
        return {
            "world": world.name,
            "uptime_s": round(now - emulator.started_at, 3),
            "links": world.links,
            "data_centers": [
                {
                    "id": dc.id,
                    "provider": dc.provider,
                    "region": dc.region,
                    "roles": dc.roles,
                    "latitude": dc.latitude,
                    "longitude": dc.longitude,
                    "nodes": [{"id": n.id, "real_host": n.real_host, "standin_host": n.standin_host} for n in dc.nodes],
                }
                for dc in world.data_centers
            ],
            "faults": faults,
            "users": users,
            "counters": dict(zip(COUNTERS, emulator.counts, strict=True)) | {"in_flight": emulator.in_flight},
            "accuracy": _accuracy(emulator.lateness_us()),
        }


class _Handler(BaseHTTPRequestHandler):
    """HTTP/1.1 around :class:`_Calls`."""

    calls: _Calls
    protocol_version = "HTTP/1.1"
    timeout = IDLE_TIMEOUT_S
    wbufsize = -1  # header and body in one segment: two would wait 40 ms for each other (Nagle, delayed ACK)

    def do_GET(self) -> None:
        self._serve("GET")

    def do_POST(self) -> None:
        self._serve("POST")

    def do_PUT(self) -> None:
        self._serve("PUT")

    def do_DELETE(self) -> None:
        self._serve("DELETE")

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: the demo's terminal belongs to the launcher."""

    def _serve(self, method: str) -> None:
        try:
            status, answer = self._dispatch(method)
            kind = "application/json"
        except TendrilError as error:
            status, answer = _problem(error)
            kind = "application/problem+json"
        payload = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(payload)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(payload)

    def _dispatch(self, method: str) -> Answer:
        body = self._body()
        self._refuse_foreign()
        parts = urlsplit(self.path).path.strip("/").split("/")
        calls = self._methods(parts, body)
        if not calls:
            raise InputRejected("unknown_path", f"there is nothing at {self.path[:200]}", field="path")
        if method not in calls:
            rule = f"must be one of {', '.join(calls)}"
            raise InputRejected("method_not_allowed", f"method {rule}", field="method", rule=rule)
        return calls[method]()

    def _methods(self, parts: list[str], body: bytes) -> Mapping[str, Callable[[], Answer]]:
        calls = self.calls
        match parts:
            case ["state"]:
                return {"GET": calls.state}
            case ["faults"]:
                return {"POST": lambda: calls.post_fault(_parsed(body)), "DELETE": calls.delete_faults}
            case ["faults", name]:
                return {"DELETE": lambda: calls.delete_fault(name)}
            case ["users", name]:
                return {
                    "PUT": lambda: calls.put_user(name, _parsed(body)),
                    "DELETE": lambda: calls.delete_user(name),
                }
            case _:
                return {}

    def _body(self) -> bytes:
        self.close_connection = (
            True  # unless the body was taken whole, the next request would start in the middle of it
        )
        if "Transfer-Encoding" in self.headers:
            raise InputRejected("length_required", "a body needs a Content-Length", field="Content-Length")
        text = self.headers.get("Content-Length", "0")
        if not (text.isascii() and text.isdigit()):
            raise InputRejected("length_required", "Content-Length must be a number", field="Content-Length")
        if len(text) > 9 or int(text) > MAX_BODY:
            rule = f"must have at most {MAX_BODY} bytes"
            raise InputRejected("body_too_large", f"body {rule}", field="body", rule=rule, limit=MAX_BODY)
        body = self.rfile.read(int(text))
        self.close_connection = (
            self.headers.get("Connection", "").lower() == "close" or self.request_version < "HTTP/1.1"
        )
        return body

    def _refuse_foreign(self) -> None:
        host = urlsplit(f"//{self.headers.get('Host', '127.0.0.1')}").hostname
        origin = self.headers.get("Origin")
        if host not in LOCAL_NAMES or (origin is not None and urlsplit(origin).hostname not in LOCAL_NAMES):
            rule = f"must be one of {', '.join(LOCAL_NAMES)}"
            raise InputRejected("foreign_origin", f"Host and Origin {rule}", field="Origin", rule=rule)


def _parsed(body: bytes) -> object:
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:  # also UnicodeDecodeError, and ten thousand brackets
        raise InputRejected("bad_json", f"body must be JSON: {error}", field="body", rule="must be JSON") from error


def _position(body: object) -> tuple[float, float]:
    if not isinstance(body, dict):
        raise _bad_user("body", "must be a JSON object")
    for key in body:
        if key not in ("latitude", "longitude"):
            raise _bad_user(str(key)[:80], "is not a known field (known: latitude, longitude)")
    return _degrees(body, "latitude", 90), _degrees(body, "longitude", 180)


def _degrees(body: JsonObject, field: str, limit: int) -> float:
    value = body.get(field)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise _bad_user(field, "must be a number of degrees", limit)
    if not -limit <= value <= limit:
        raise _bad_user(field, f"must be between -{limit} and {limit} degrees", limit)
    return float(value)


def _bad_user(field: str, rule: str, limit: int | None = None) -> InputRejected:
    return InputRejected("bad_user", f"{field}: {rule}", field=field, rule=rule, limit=limit)


def _fault(name: str, request: FaultRequest, heals_in_s: float | None) -> JsonObject:
    target = None if request.target is None else ",".join(f"{k}={v}" for k, v in request.target.items())
    return {
        "id": name,
        "target": target,
        "link": None if request.link is None else list(request.link),
        "kind": request.kind.value,
        "value": request.value or None,
        "direction": request.direction.value,
        "heals_in_s": None if heals_in_s is None else round(heals_in_s, 3),
    }


def _accuracy(lateness_us: list[float]) -> JsonObject:
    """How late the last packets left; negative is early."""
    if not lateness_us:
        return {"samples": 0, "p50_us": None, "p90_us": None, "p99_us": None, "max_us": None}
    last = len(lateness_us) - 1
    quantiles = {"p50_us": 0.5, "p90_us": 0.9, "p99_us": 0.99, "max_us": 1.0}
    return {"samples": last + 1} | {name: round(lateness_us[int(q * last)], 1) for name, q in quantiles.items()}


def _problem(error: TendrilError) -> Answer:
    status = HTTPStatus.SERVICE_UNAVAILABLE if isinstance(error, Unavailable) else HTTPStatus.UNPROCESSABLE_ENTITY
    status = STATUS.get(error.code, status)
    details = {"field": error.field, "rule": error.rule, "limit": error.limit, "override": error.override}
    problem: JsonObject = {
        "type": "about:blank",
        "title": status.phrase,
        "status": int(status),
        "code": error.code,
        "detail": error.message,
    }
    return status, problem | {name: value for name, value in details.items() if value is not None}
