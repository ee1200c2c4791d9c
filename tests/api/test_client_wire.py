"""The typed client against servers that misbehave: every way of getting no usable answer is told apart."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from router.client import ApiProblem, Client, ServerEvent, Unreachable, from_env, parse_events
from router.core.errors import InputRejected

Answer = tuple[int, str, str]


class Canned(ThreadingHTTPServer):
    """Answers by path, and keeps what it was asked."""

    daemon_threads = True

    def __init__(self, answers: dict[str, Answer]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers = answers
        self.asked: list[tuple[str, str, dict[str, str], str]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Canned

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0)).decode()
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.asked.append((self.command, self.path, headers, body))
        status, kind, text = self.server.answers[self.path]
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(text.encode())))
        self.end_headers()
        self.wfile.write(text.encode())

    do_GET = do_POST = do_PUT = do_DELETE = _answer

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@contextmanager
def canned(answers: dict[str, Answer]) -> Iterator[Canned]:
    server = Canned(answers)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def ok(document: object) -> Answer:
    return 200, "application/json", json.dumps(document)


def test_a_problem_document_becomes_an_error_with_all_its_parts() -> None:
    document = {
        "type": "urn:tendril:problem:sessions_live", "title": "Conflict", "status": 409, "detail": "12 sessions live",
        "code": "sessions_live", "field": "id", "rule": "no live sessions", "limit": 12, "override": "drain it first",
    }  # fmt: skip
    answers = {"/v1/data-centers/a": (409, "application/problem+json", json.dumps(document))}
    with canned(answers) as server, Client(server.url) as client, pytest.raises(ApiProblem) as caught:
        client.delete("data-centers", "a")
    error = caught.value
    assert (error.status, error.code, error.message) == (409, "sessions_live", "12 sessions live")
    assert (error.field, error.rule, error.limit, error.override) == ("id", "no live sessions", 12, "drain it first")


@pytest.mark.parametrize(
    ("status", "kind", "text", "code", "message"),
    [
        (502, "text/html", "<h1>Bad Gateway</h1>", "http_502", "HTTP 502 Bad Gateway"),
        (500, "application/json", "[1]", "http_500", "HTTP 500 Internal Server Error"),
        (403, "application/problem+json", '{"title": "Forbidden"}', "http_403", "Forbidden"),
    ],
)
def test_an_error_of_something_in_between_is_told_by_its_status(
    status: int, kind: str, text: str, code: str, message: str
) -> None:
    answers = {"/v1/health": (status, kind, text)}
    with canned(answers) as server, Client(server.url) as client, pytest.raises(ApiProblem) as caught:
        client.health()
    assert (caught.value.code, caught.value.message) == (code, message)


@pytest.mark.parametrize("text", ["<html>", "[]", "null"])
def test_what_is_no_control_plane_is_unreachable(text: str) -> None:
    answers = {"/v1/health": (200, "text/html", text)}
    told = pytest.raises(Unreachable, match="is not a Tendril control plane")
    with canned(answers) as server, Client(server.url) as client, told:
        client.health()


def test_nobody_listening_is_unreachable() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: connections are refused
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with Client(url) as client, pytest.raises(Unreachable, match="no control plane answers"):
            client.health()


def test_silence_is_unreachable_in_time() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()  # the kernel accepts; nobody answers
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with Client(url, timeout_s=0.2) as client, pytest.raises(Unreachable, match="did not answer in time"):
            client.health()


def test_keys_ids_and_filters_travel_as_they_should() -> None:
    answers = {
        "/v1/sessions/a%2Fb": ok({"id": "a/b"}),
        "/v1/links?from=x": ok({"items": [], "next": None}),
        "/v1/sessions": ok({"id": "s"}),
        "/v1/pools/p": ok({"id": "p"}),
    }
    with canned(answers) as server, Client(server.url + "/", "tk_1_secret") as client:
        client.session("a/b")
        client.links(source="x")
        client.start_session({"client": {}}, idempotency_key="once")
        client.put("pools", "p", {"class": "agent"}, if_match=7)
        asked = server.asked
    assert [(method, path) for method, path, _, _ in asked] == [
        ("GET", "/v1/sessions/a%2Fb"), ("GET", "/v1/links?from=x"), ("POST", "/v1/sessions"), ("PUT", "/v1/pools/p"),
    ]  # fmt: skip
    assert {headers["authorization"] for _, _, headers, _ in asked} == {"Bearer tk_1_secret"}
    assert asked[2][2]["idempotency-key"] == "once"
    assert json.loads(asked[2][3]) == {"client": {}}
    assert asked[3][2]["if-match"] == '"7"'


def test_collections_are_followed_to_their_end() -> None:
    answers = {
        "/v1/pools": ok({"items": [{"id": "a"}], "next": "a"}),
        "/v1/pools?after=a": ok({"items": [{"id": "b"}], "next": None}),
        "/v1/sessions?limit=3": ok({"items": [{"id": "s1"}, {"id": "s2"}], "next": "s2"}),
        "/v1/sessions?limit=1&after=s2": ok({"items": [{"id": "s3"}], "next": "s3"}),
    }
    with canned(answers) as server, Client(server.url) as client:
        assert [pool["id"] for pool in client.resources("pools")] == ["a", "b"]
        assert [session["id"] for session in client.sessions(limit=3)] == ["s1", "s2", "s3"]


def test_a_stream_is_read_event_by_event() -> None:
    text = ': heartbeat\n\nevent: hello\nid: 7\ndata: {"generation":\ndata: 1}\n\nevent: event\ndata: {"kind": "x"}\n\n'
    with canned({"/v1/stream": (200, "text/event-stream", text)}) as server, Client(server.url) as client:
        found = list(client.stream(last_id="6"))
        headers = server.asked[0][2]
    assert found == [ServerEvent("hello", {"generation": 1}, "7"), ServerEvent("event", {"kind": "x"}, "7")]
    assert headers["last-event-id"] == "6"


def test_a_refused_stream_is_a_problem() -> None:
    document = json.dumps({"code": "key_missing", "detail": "this call needs a key"})
    answers = {"/v1/stream": (401, "application/problem+json", document)}
    with canned(answers) as server, Client(server.url) as client, pytest.raises(ApiProblem, match="needs a key"):
        list(client.stream())


def test_an_unfinished_event_is_not_given_out() -> None:
    assert list(parse_events(["event: hello", 'data: {"generation": 1}'])) == []
    assert list(parse_events(["event: hello", "", 'data: {"a": 1}', ""])) == [ServerEvent("message", {"a": 1}, None)]


@pytest.mark.parametrize(
    ("url", "sent"),
    [
        ("http://127.0.0.1:7400", "Bearer tk_file"),
        ("http://localhost:7400", "Bearer tk_file"),
        ("http://[::1]:7400", "Bearer tk_file"),
        ("http://10.0.0.7:7400", None),
        ("http://control.example:7400", None),
        ("http://localhost.example:7400", None),
    ],
)
def test_the_key_of_this_machine_is_shown_to_this_machine_alone(tmp_path: Path, url: str, sent: str | None) -> None:
    file = tmp_path / "admin.key"
    file.write_text("tk_file\n", encoding="ascii")
    with from_env(url, environ={}, key_file=file) as client:
        assert client.authorization == sent


def test_arguments_win_over_environment_and_environment_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "admin.key"
    file.write_text("tk_file", encoding="ascii")
    env = {"TENDRIL_URL": "http://127.0.0.2:1", "TENDRIL_KEY": "tk_env"}
    with from_env(environ=env, key_file=file) as client:
        assert (client.url, client.authorization) == ("http://127.0.0.2:1", "Bearer tk_env")
    with from_env("http://127.0.0.3:1", "tk_argument", environ=env, key_file=file) as client:
        assert (client.url, client.authorization) == ("http://127.0.0.3:1", "Bearer tk_argument")
    with from_env(environ={}, key_file=tmp_path / "none") as client:
        assert (client.url, client.authorization) == ("http://127.0.0.1:7400", None)


def test_a_key_that_would_break_the_header_is_refused() -> None:
    with pytest.raises(InputRejected, match="printable ASCII"):
        Client("http://127.0.0.1:1", "a\r\nX-Evil: 1")
