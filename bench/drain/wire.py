"""HTTP to the control plane over connections that may be opened in a namespace, so that a cut cuts them too."""

from __future__ import annotations

import asyncio
import json
import socket
from contextlib import suppress
from typing import Any

from router.demo.control import Reply
from router.demo.namespaces import Lab

TIMEOUT_S = 3.0


class Wire:
    """A few connections with one key; calls wait for a free one."""

    def __init__(self, lab: Lab, port: int, key: str, node: int | None = None, connections: int = 1) -> None:
        self._lab, self._port, self._key, self._node = lab, port, key, node
        self._free: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter] | None] = asyncio.Queue()
        for _ in range(connections):
            self._free.put_nowait(None)

    async def call(self, method: str, path: str, body: object = None, **headers: str) -> Reply | None:
        """One call; ``None`` when nothing answered within three seconds, or the line broke."""
        connection = await self._free.get()
        try:
            async with asyncio.timeout(TIMEOUT_S):
                if connection is not None and _is_over(connection):
                    _close(connection)
                    connection = None
                connection = connection or await self._open()
                return await self._exchange(connection, method, path, body, headers)
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError):
            _close(connection)
            connection = None
            return None
        except asyncio.CancelledError:
            _close(connection)
            connection = None
            raise
        finally:
            self._free.put_nowait(connection)

    def close(self) -> None:
        """Close every connection that is not in use."""
        while not self._free.empty():
            _close(self._free.get_nowait())

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._node is None:
            sock = socket.socket()
        else:
            with self._lab.entered(self._node):
                sock = socket.socket()
        sock.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(sock, (self._lab.control_host, self._port))
            return await asyncio.open_connection(sock=sock)
        except BaseException:
            sock.close()
            raise

    async def _exchange(
        self,
        connection: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        method: str,
        path: str,
        body: object,
        headers: dict[str, str],
    ) -> Reply:
        reader, writer = connection
        content = b"" if body is None else json.dumps(body).encode()
        head = [f"{method} {path} HTTP/1.1", f"Host: {self._lab.control_host}", f"Authorization: Bearer {self._key}"]
        head += ["Content-Type: application/json", f"Content-Length: {len(content)}"]
        head += [f"{name}: {value}" for name, value in headers.items()]
        writer.write("\r\n".join([*head, "", ""]).encode() + content)
        await writer.drain()
        answer = await reader.readuntil(b"\r\n\r\n")
        status, fields = _read_head(answer)
        text = await reader.readexactly(int(fields.get("content-length", "0")))
        if fields.get("connection", "").lower() == "close":
            writer.close()
        return Reply(status, _parsed(text))


def _is_over(connection: tuple[asyncio.StreamReader, asyncio.StreamWriter]) -> bool:
    """Whether the other end has hung up meanwhile: after a restart none of the kept connections leads anywhere."""
    reader, writer = connection
    return writer.is_closing() or reader.at_eof() or reader.exception() is not None


def _close(connection: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None) -> None:
    if connection is not None:
        with suppress(OSError):
            connection[1].close()


def _read_head(head: bytes) -> tuple[int, dict[str, str]]:
    first, *rest = head.decode("latin-1").split("\r\n")
    fields = (line.partition(":") for line in rest if line)
    return int(first.split()[1]), {name.strip().lower(): value.strip() for name, _, value in fields}


def _parsed(text: bytes) -> dict[str, Any]:
    body = json.loads(text) if text else {}
    return body if isinstance(body, dict) else {"items": body}
