"""The provider's calls: what is repeated, what is not, and how long a silent control plane is waited for."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from tests.terraform.conftest import PROVIDER

# Run by the provider's own interpreter: its packages are not in this environment.
ASK = """
import json, sys
from tendril_terraform import client
client.PAUSES_S = (0.0, 0.0)
url, timeout_s, repeat = sys.argv[1], float(sys.argv[2]), sys.argv[3] == "repeat"
asked = client.Client(url, "a-key", timeout_s)
try:
    print(json.dumps(asked.call("POST", "/v1/things", {"a": 1}, {"Idempotency-Key": "k"}, repeat=repeat)))
except (client.Refused, client.Unreachable) as error:
    print(json.dumps([type(error).__name__, getattr(error, "code", ""), str(error)]))
"""


class Stub(ThreadingHTTPServer):
    """Answers what it is told to, in order; ``None`` hangs up without an answer, ``...`` never answers."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.answers: list[Any] = []
        self.keys: list[str | None] = []
        self.over = threading.Event()

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.server_address[1]}"


class Answers(BaseHTTPRequestHandler):
    """One request."""

    server: Stub

    def do_POST(self) -> None:
        """Do as told."""
        self.rfile.read(int(self.headers["Content-Length"]))
        self.server.keys.append(self.headers["Idempotency-Key"])
        told = self.server.answers.pop(0)
        if told is None:
            self.close_connection = True
            return
        if told is ...:
            self.server.over.wait(30)
            return
        status, body = told
        raw = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def stub() -> Iterator[Stub]:
    """A server that runs."""
    with Stub() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.over.set()
        server.shutdown()


def asked(url: str, timeout_s: float = 30, repeat: bool = True) -> Any:
    """What one call came to."""
    argv = [str(PROVIDER.with_name("python")), "-c", ASK, url, str(timeout_s), "repeat" if repeat else "once"]
    return json.loads(subprocess.run(argv, capture_output=True, text=True, check=True, timeout=60).stdout)


DOWN = (503, {"code": "store_unavailable", "detail": "the database is away"})


def test_a_lost_answer_and_a_503_are_asked_again_with_the_same_key(stub: Stub) -> None:
    stub.answers = [None, DOWN, (200, {"id": "one"})]
    assert asked(stub.url) == {"id": "one"}
    assert stub.keys == ["k", "k", "k"]


def test_what_may_not_be_done_twice_is_not_asked_again(stub: Stub) -> None:
    stub.answers = [DOWN]
    assert asked(stub.url, repeat=False)[:2] == ["Refused", "store_unavailable"]
    stub.answers = [None]
    assert asked(stub.url, repeat=False)[0] == "Unreachable"
    assert len(stub.keys) == 2


def test_a_refusal_is_final(stub: Stub) -> None:
    stub.answers = [(409, {"code": "in_use", "detail": "still used"})]
    assert asked(stub.url) == ["Refused", "in_use", "still used"]
    stub.answers = [(502, "<html>")]
    assert asked(stub.url) == ["Refused", "", 'HTTP 502: "<html>"']


def test_a_silent_or_absent_control_plane_is_given_up(stub: Stub) -> None:
    stub.answers = [...] * 3
    kind, _, said = asked(stub.url, timeout_s=0.05)
    assert kind == "Unreachable" and stub.url in said and len(stub.keys) == 3
    stub.shutdown()
    stub.server_close()
    kind, _, said = asked(stub.url)
    assert kind == "Unreachable" and "ConnectionRefusedError" in said
