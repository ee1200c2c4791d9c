"""One keep-alive HTTP connection with as little client as there can be: what is measured is the server."""

from __future__ import annotations

import json
import socket
from typing import Any

GET, POST = "GET", "POST"


class Refused(Exception):
    """An answer that is no success."""


def request(method: str, path: str, key: str, body: bytes = b"") -> bytes:
    """The bytes of one request."""
    head = f"{method} {path} HTTP/1.1\r\nHost: tendril\r\nAuthorization: Bearer {key}\r\n"
    if method == POST:
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"\r\n" + body


def length_of(head: bytes) -> int:
    """Length of the body that follows a head, which must be that of a success. Raises ``Refused``."""
    status, _, rest = head.partition(b"\r\n")
    if not status.startswith(b"HTTP/1.1 2"):
        raise Refused(head.decode())
    for line in rest.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    raise Refused(f"no content-length: {head.decode()}")


class Connection:
    """Blocking, one request at a time."""

    def __init__(self, port: int, timeout_s: float = 30.0) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout_s)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def call(self, request: bytes) -> bytes:
        """Send one request, return the body of its answer. Raises ``Refused``."""
        self._socket.sendall(request)
        data = self._socket.recv(65_536)
        while (end := data.find(b"\r\n\r\n")) < 0:
            data += self._more()
        wanted = end + 4 + length_of(data[:end])
        while len(data) < wanted:
            data += self._more()
        return data[end + 4 :]

    def json(self, method: str, path: str, key: str, body: object = None) -> Any:
        """The same, in JSON."""
        sent = b"" if body is None else json.dumps(body).encode()
        return json.loads(self.call(request(method, path, key, sent)))

    def close(self) -> None:
        """Hang up."""
        self._socket.close()

    def _more(self) -> bytes:
        data = self._socket.recv(1 << 20)
        if not data:
            raise Refused("the server hung up")
        return data
