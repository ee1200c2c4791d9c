"""The voices of a run: sockets in every namespace, the C thread that talks on them, and what the streams say later.

Users and agents live beside the control plane, on its address; each edge lives in its node's namespace, and every
packet between them crosses that node's veth pair. The emulated WAN carries the agents' probes and not these voices: an
emulator in Python cannot carry fifty thousand packets a second, and what a move does to a voice does not depend on the
distance.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct
import subprocess
import tempfile
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from router.core.errors import Unavailable
from router.demo.fleet_of_world import EDGE_PORT
from router.demo.namespaces import Lab

SOURCE = Path(__file__).with_name("_media.c")
INTERVAL_MS = 20
LATEST_MS = 256  # of the table of lateness; what is later counts there
ROOM_BYTES = 4 << 20  # of each socket of edges and hubs: a pause of this process must not lose anything
HUB_PORT = 7424
USER, EDGE = 0, 1
_SO_RCVBUFFORCE = 33
_F_SETPIPE_SZ = 1031
_LETTER = struct.Struct("=BxHi4s2s2x")
_SOCKADDR = struct.Struct("=H2s4s8x")

Address = tuple[str, int]
Letter = Callable[[int, int, bytes, Address], None]  # USER or EDGE, which, the packet, from where

_TABLES = (
    ("user_fd", "i4"), ("edge_fd", "i4"), ("hub_fd", "i4"), ("user_at", "u1"), ("edge_at", "u1"), ("hub_at", "u1"),
    ("talking", "u1"), ("user_edge", "i4"), ("leg_agent", "i4"), ("agent_hub", "i4"), ("agent_flow", "i4"),
    ("agent_memory", "u4"), ("serving", "i4"), ("answer_edge", "i4"), ("heard_up", "u4"), ("up_next", "u4"),
    ("down_next", "u4"), ("up_sent", "u4"), ("up_arrived", "u4"), ("down_sent", "u4"), ("down_arrived", "u4"),
    ("leg_heard", "u4"), ("heard", "u4"), ("heard_edge", "i4"), ("heard_agent", "i4"), ("heard_memory", "u4"),
    ("changes", "u4"), ("late", "u4"),
)  # fmt: skip
_NUMBERS = ("flows", "edges", "agents", "hubs", "numbers", "pipe_fd", "stop")
_COUNTS = ("skipped", "strangers", "unsent")


class _World(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_int32) for name in _NUMBERS),
        *((name, ctypes.c_uint64) for name in _COUNTS),
        *((name, ctypes.c_void_p) for name, _ in _TABLES),
    ]


class Voices:
    """All flows of a run; ``tables`` are shared with the thread that talks."""

    def __init__(self, lab: Lab, nodes: Sequence[int], flows: int, agent_hubs: Sequence[int], seconds: int) -> None:
        self.flows, self.edges, self.numbers = flows, len(nodes), seconds * 1_000 // INTERVAL_MS
        hubs = max(agent_hubs) + 1
        self._library = _compiled()
        self._users = [_socket(lab.control_host, 0) for _ in range(flows)]
        self._hubs = [_socket(lab.control_host, HUB_PORT + 100 + hub) for hub in range(hubs)]
        self._edges = []
        for node in nodes:
            with lab.entered(node):
                self._edges.append(_socket(f"198.19.{lab.number}.{node + 1}", EDGE_PORT))
        self.hub_addresses = [f"{host}:{port}" for host, port in (sock.getsockname() for sock in self._hubs)]
        self._edge_at: list[Address] = [sock.getsockname() for sock in self._edges]
        self._reader, self._writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        with suppress(OSError):
            fcntl.fcntl(self._writer, _F_SETPIPE_SZ, 1 << 20)
        self.tables = self._make_tables(len(agent_hubs), agent_hubs)
        self._shared = _World(flows, self.edges, len(agent_hubs), hubs, self.numbers, self._writer, 0, 0, 0, 0)
        for name, table in self.tables.items():
            setattr(self._shared, name, table.ctypes.data)
        self._library.media_start()
        self._thread = threading.Thread(
            target=self._library.media_run, args=(ctypes.byref(self._shared),), name="voices", daemon=True
        )
        self._thread.start()

    def _make_tables(self, agents: int, agent_hubs: Sequence[int]) -> dict[str, NDArray[Any]]:
        legs, records = self.edges * self.flows, self.flows * self.numbers
        sizes = {
            "leg_agent": legs,
            "leg_heard": legs,
            "agent_hub": agents,
            "agent_flow": agents,
            "agent_memory": agents,
            "late": LATEST_MS,
        }
        sizes |= dict.fromkeys(("up_sent", "up_arrived", "down_sent", "down_arrived"), records)
        tables = {name: np.zeros(sizes.get(name, self.flows), dtype=kind) for name, kind in _TABLES}
        for name in ("user_edge", "leg_agent", "agent_flow", "serving", "answer_edge", "heard_edge", "heard_agent"):
            tables[name].fill(-1)
        tables["agent_hub"][:] = agent_hubs
        tables["agent_memory"][:] = np.arange(1, agents + 1, dtype=np.uint32) * 2_654_435_761
        for name, sockets in (("user", self._users), ("edge", self._edges), ("hub", self._hubs)):
            tables[f"{name}_fd"] = np.array([sock.fileno() for sock in sockets], dtype="i4")
            tables[f"{name}_at"] = np.frombuffer(
                b"".join(_sockaddr(sock.getsockname()) for sock in sockets), dtype="u1"
            ).copy()
        return tables

    def close(self) -> None:
        """Fall silent and free all ports."""
        self._shared.stop = 1
        self._thread.join(10)
        for sock in (*self._users, *self._edges, *self._hubs):
            sock.close()
        for descriptor in (self._reader, self._writer):
            os.close(descriptor)

    @property
    def letters_fd(self) -> int:
        """Readable when letters wait for :meth:`read_letters`."""
        return self._reader

    @property
    def accounts(self) -> dict[str, int]:
        """What went wrong besides: pauses of the sender in microseconds, packets for flows that were not there."""
        return {"sender_skipped_us": self._shared.skipped, "strangers": self._shared.strangers,
                "unsent": self._shared.unsent}  # fmt: skip

    @property
    def late_p99_ms(self) -> int:
        """So late, at most, were 99 % of all packets so far sent: the voices' own fault, and no figure of ours."""
        counts = self.tables["late"].cumsum()
        return int(np.searchsorted(counts, 0.99 * counts[-1]))

    def now_us(self) -> int:
        """Time as the records have it."""
        return int(self._library.media_now())

    def edge_address(self, edge: int) -> Address:
        """Where users reach an edge."""
        return self._edge_at[edge]

    def say_to_edge(self, flow: int, edge: int, packet: bytes) -> None:
        """Send a user's letter."""
        with suppress(OSError):  # a cut line, or a full one: lost, as packets are
            self._users[flow].sendto(packet, self._edge_at[edge])

    def say_to_user(self, edge: int, packet: bytes, user: Address) -> None:
        """Send an edge's letter."""
        with suppress(OSError):
            self._edges[edge].sendto(packet, user)

    def read_letters(self, take: Letter) -> None:
        """Hand over everything that waits."""
        with suppress(BlockingIOError):
            while data := os.read(self._reader, 1 << 16):
                at = 0
                while at < len(data):
                    if (
                        len(data) - at < _LETTER.size
                        or len(data) - at - _LETTER.size < _LETTER.unpack_from(data, at)[1]
                    ):
                        data, at = data[at:] + os.read(self._reader, 1 << 16), 0
                        continue
                    who, size, index, host, port = _LETTER.unpack_from(data, at)
                    at += _LETTER.size + size
                    sender = (socket.inet_ntoa(host), int.from_bytes(port, "big"))
                    take(who, index, data[at - size : at], sender)

    def start(self, flow: int, edge: int) -> None:
        """A flow talks through an edge from now on."""
        self.tables["heard"][flow] = self.now_us()
        self.tables["user_edge"][flow] = edge
        self.tables["talking"][flow] = 1

    def carry(self, edge: int, flow: int, agent: int) -> None:
        """An edge passes a flow on to an agent, or no longer (-1)."""
        self.tables["leg_heard"][edge * self.flows + flow] = self.now_us()
        self.tables["leg_agent"][edge * self.flows + flow] = agent

    def gaps_ms(self, direction: str, from_us: int, to_us: int) -> NDArray[np.int64]:
        """Of every flow: the longest run of packets sent in a span of time that never arrived, as time."""
        sent = self.tables[f"{direction}_sent"].reshape(self.flows, self.numbers)
        arrived = self.tables[f"{direction}_arrived"].reshape(self.flows, self.numbers)
        return np.array([longest_run(sent[i], arrived[i], from_us, to_us) for i in range(self.flows)]) * INTERVAL_MS

    def sent_in(self, direction: str, from_us: int, to_us: int) -> tuple[int, int]:
        """Packets sent in a span of time, and those of them that arrived."""
        sent = self.tables[f"{direction}_sent"]
        span = (sent >= from_us) & (sent < to_us)
        return int(span.sum()), int((span & (self.tables[f"{direction}_arrived"] > 0)).sum())


def longest_run(sent: NDArray[np.uint32], arrived: NDArray[np.uint32], from_us: int, to_us: int) -> int:
    """The longest run of numbers sent in a span of time of which none arrived."""
    missing = arrived[(sent >= from_us) & (sent < to_us)] == 0
    edges = np.flatnonzero(np.diff(np.concatenate(([0], missing.astype(np.int8), [0]))))
    return int((edges[1::2] - edges[::2]).max(initial=0))


def _socket(host: str, port: int) -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    made.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, ROOM_BYTES)
    made.bind((host, port))
    return made


def _sockaddr(address: Address) -> bytes:
    return _SOCKADDR.pack(socket.AF_INET, address[1].to_bytes(2, "big"), socket.inet_aton(address[0]))


def _compiled() -> ctypes.CDLL:
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "media.so"
        command = ["cc", "-O2", "-shared", "-fPIC", "-o", str(library), str(SOURCE)]
        try:
            subprocess.run(command, check=True, capture_output=True, text=True)
        except FileNotFoundError as error:
            raise Unavailable("no_compiler", "the voices of the benchmark need a C compiler called cc") from error
        except subprocess.CalledProcessError as error:
            raise Unavailable("no_voices", f"the voices cannot be compiled: {error.stderr.strip()}") from error
        loaded = ctypes.CDLL(str(library))
    loaded.media_now.restype = ctypes.c_uint64
    return loaded
