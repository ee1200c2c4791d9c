"""The tunnel: how a media server hands its packets to the relay of its own node, and gets answers back.

The server sends datagrams to a loopback UDP port or a Unix socket, each with the routing context, the data center it is
for, the port there and a flow number of the server's own choosing. The tunnel asks for the way, numbers the packet and
sends it: along the path in force, and while that one is suspect along the next one too, in the same instant. The far
end's relay delivers the first copy of each and drops the other. Bytes and examples: ``docs/reference/relay.md``.

    tunnel = Tunnel(relay, way, bind=("127.0.0.1", 7428), unix_path=Path("/run/tendril/tunnel.sock"))

``way(context, data_center)`` returns the paths to send along now: none, one, or two while the first is suspect. A path
is ``((host, port), …)`` of relays, the destination's last, as a reaction plan has it. It is called once per packet, so
it should be a look-up. An answer of the service there comes back along the way its request took, without asking; a
server whose best way back may be another one answers through its own tunnel instead.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import socket
import stat
import struct
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path as FilePath
from typing import Final

from probes.relay.forward import MAX_DATAGRAM, MAX_DRAIN, Relay
from probes.relay.packet import MAX_PAYLOAD, Address, RelayError

log = logging.getLogger("probes.relay")

INGRESS: Final = struct.Struct(">HBBIHBB")  # magic, version, kind, flow, port, length of context, of data center
INGRESS_MAGIC = 0x5454  # "TT"
INGRESS_VERSION = 1
SEND, ANSWERED = 1, 2  # kinds
MAX_FLOWS = 4_096  # the longest unused one goes first
TUNNEL_PORT = 7428
MAX_UNIX_PATH = 107  # sun_path of Linux, with its closing zero

Client = Address | str  # who sent a datagram: a loopback address, or the path of a Unix socket
PathKey = tuple[Address, ...]
Way = Callable[[str, str], Sequence[PathKey]]


class TunnelError(ValueError):
    """Bytes that are not an ingress datagram, or a tunnel that may not be opened."""


def pack_send(context: str, data_center: str, port: int, flow: int, payload: bytes) -> bytes:
    """The datagram with which a media server hands a payload to the tunnel. Raises :class:`TunnelError`."""
    about, target = context.encode(), data_center.encode()
    if not (about and target and len(about) < 256 and len(target) < 256):
        raise TunnelError("context and data center have 1 to 255 bytes each")
    if not 1 <= port <= 65_535 or not 0 <= flow < 1 << 32 or len(payload) > MAX_PAYLOAD:
        raise TunnelError(f"port 1 to 65535, flow below 2^32, at most {MAX_PAYLOAD} bytes of payload")
    head = INGRESS.pack(INGRESS_MAGIC, INGRESS_VERSION, SEND, flow, port, len(about), len(target))
    return head + about + target + payload


def unpack_answer(datagram: bytes) -> tuple[int, int, bytes]:
    """Flow, port and payload of an answer. Raises :class:`TunnelError`."""
    if len(datagram) < INGRESS.size:
        raise TunnelError("too short")
    magic, version, kind, flow, port, about, target = INGRESS.unpack_from(datagram)
    if (magic, version, kind, about, target) != (INGRESS_MAGIC, INGRESS_VERSION, ANSWERED, 0, 0):
        raise TunnelError("not an answer")
    return flow, port, datagram[INGRESS.size :]


class _Flow:
    """One client's flow: its number on the wire, and how many packets it has had."""

    __slots__ = ("client", "local", "number", "port", "sock", "wire")

    def __init__(self, wire: int, sock: socket.socket, client: Client, local: int, port: int) -> None:
        self.wire = wire
        self.sock = sock
        self.client = client
        self.local = local
        self.port = port
        self.number = 0


class Tunnel:
    """Takes payloads from local media servers, sends them along the way in force, and returns the answers."""

    def __init__(
        self,
        relay: Relay,
        way: Way,
        *,
        bind: Address | None = ("127.0.0.1", TUNNEL_PORT),
        unix_path: FilePath | None = None,
    ) -> None:
        self.counters: Counter[str] = Counter()
        self._relay = relay
        self._way = way
        self._origin = secrets.randbits(32)  # flows of before a restart are other flows
        self._next_flow = 1
        self._flows: dict[tuple[Client, int, int], _Flow] = {}  # least recently used first
        self._of_wire: dict[int, _Flow] = {}
        self._names: dict[bytes, tuple[str, str]] = {}
        self._loop = asyncio.get_running_loop()
        self._sockets: list[socket.socket] = []
        self._unix_path = unix_path
        try:
            if bind is not None:
                self._sockets.append(_udp(bind))
            if unix_path is not None and len(os.fsencode(unix_path)) > MAX_UNIX_PATH:
                log.warning("no Unix socket for the tunnel: the path %s is too long", unix_path)
            elif unix_path is not None:
                self._sockets.append(_unix(unix_path))
        except OSError:
            self.close()
            raise
        for sock in self._sockets:
            self._loop.add_reader(sock, self._drain, sock)
        relay.on_answer = self._answer

    @property
    def address(self) -> Address | None:
        """The UDP address it listens on, if it does."""
        found = [sock.getsockname()[:2] for sock in self._sockets if sock.family != socket.AF_UNIX]
        return found[0] if found else None

    @property
    def flows(self) -> int:
        """Flows that answers can be brought to."""
        return len(self._flows)

    def close(self) -> None:
        """Stop reading and close the sockets."""
        self._relay.on_answer = None
        for sock in self._sockets:
            self._loop.remove_reader(sock)
            sock.close()
            if sock.family == socket.AF_UNIX and self._unix_path is not None:
                self._unix_path.unlink(missing_ok=True)
        self._sockets = []

    def _drain(self, sock: socket.socket) -> None:
        for _ in range(MAX_DRAIN):
            try:
                datagram, client = sock.recvfrom(MAX_DATAGRAM + 1)
            except BlockingIOError:
                return
            except OSError:  # a client that has gone
                self.counters["receive_errors"] += 1
                continue
            if refusal := self._take(datagram, client, sock):
                self.counters[refusal] += 1

    def _take(self, datagram: bytes, client: Client, sock: socket.socket) -> str:
        """Handle one datagram; returns why it was refused, or ""."""
        if len(datagram) < INGRESS.size:
            return "malformed"
        magic, version, kind, local, port, about, target = INGRESS.unpack_from(datagram)
        start = INGRESS.size + about + target
        if magic != INGRESS_MAGIC or version != INGRESS_VERSION or kind != SEND:
            return "malformed"
        if not (port and about and target) or len(datagram) < start:
            return "malformed"
        if len(datagram) - start > MAX_PAYLOAD:
            return "too_long"
        names = self._named(datagram[INGRESS.size : start], about)
        if names is None:
            return "malformed"
        paths = self._way(*names)
        if not paths:
            return "no_route"
        return self._send(paths, self._flow(sock, client, local, port), datagram[start:])

    def _send(self, paths: Sequence[PathKey], flow: _Flow, payload: bytes) -> str:
        numbered = (self._origin, flow.wire, flow.number)
        flow.number = (flow.number + 1) & 0xFFFFFFFF
        sent = 0
        to: set[bytes] = set()
        for hops in paths:
            try:
                path = self._relay.keyring.path(hops)
            except RelayError:
                self.counters["no_key"] += 1
                continue
            if self._relay.start(path, flow.port, payload, numbered):
                sent += 1
                to.add(path.end)
        for host in sorted(to):
            self._relay.media.carried(host, sent=1)
        if sent:
            self.counters["sent"] += 1
            self.counters["copies"] += sent - 1
        return "" if sent else "unsent"

    def _named(self, text: bytes, about: int) -> tuple[str, str] | None:
        key = bytes([about]) + text
        names = self._names.get(key)
        if names is None:
            try:
                names = text[:about].decode(), text[about:].decode()
            except UnicodeDecodeError:
                return None
            if len(self._names) >= MAX_FLOWS:
                self._names.clear()
            self._names[key] = names
        return names

    def _flow(self, sock: socket.socket, client: Client, local: int, port: int) -> _Flow:
        key = (client, local, port)
        flow = self._flows.pop(key, None)
        if flow is None:
            if len(self._flows) >= MAX_FLOWS:
                gone = self._flows.pop(next(iter(self._flows)))
                del self._of_wire[gone.wire]
            flow = self._of_wire[self._next_flow] = _Flow(self._next_flow, sock, client, local, port)
            self._next_flow = self._next_flow % 0xFFFFFFFF + 1  # never 0, which would mean: not numbered
        self._flows[key] = flow
        return flow

    def _answer(self, origin: int, wire: int, payload: bytes) -> bool:
        flow = self._of_wire.get(wire)
        if flow is None or origin != self._origin:
            return False
        head = INGRESS.pack(INGRESS_MAGIC, INGRESS_VERSION, ANSWERED, flow.local, flow.port, 0, 0)
        try:
            flow.sock.sendto(head + payload, flow.client)
        except (OSError, TypeError):  # a Unix client without a path of its own cannot be answered
            self.counters["unanswered"] += 1
        else:
            self.counters["answered"] += 1
        return True


def _udp(bind: Address) -> socket.socket:
    if not (bind[0].startswith("127.") or bind[0] == "::1"):
        raise TunnelError(f"the tunnel serves its own node: it listens on a loopback address, not on {bind[0]}")
    sock = socket.socket(socket.AF_INET6 if ":" in bind[0] else socket.AF_INET, socket.SOCK_DGRAM)
    return _bound(sock, bind)


def _unix(path: FilePath) -> socket.socket:
    if path.is_socket():  # of an agent that was killed; a live one holds its state folder
        path.unlink()
    sock = _bound(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM), str(path))
    path.chmod(stat.S_IRUSR | stat.S_IWUSR | stat.S_IRGRP | stat.S_IWGRP)
    return sock


def _bound(sock: socket.socket, address: Address | str) -> socket.socket:
    try:
        sock.setblocking(False)
        sock.bind(address)
    except OSError:
        sock.close()
        raise
    return sock
