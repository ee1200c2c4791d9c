"""Calls between the nodes of a world in namespaces, to measure what users would hear. Needs root.

Each call is two numbered streams, a packet of 20 ms each way, that go through the product: into the tunnel of the node
they start from, along the route in force (two ways at once while it is suspect), out of the relay of the other node,
which drops second copies. This process has a foot in every namespace, sends, listens and counts; ``GET /calls`` on a
port of 127.0.0.1 says what was heard. Calls are between the data centers that gain most by a relay.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import socket
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from struct import Struct
from typing import Any

import httpx

from probes.relay import TUNNEL_PORT, pack_send
from router.demo.answers import serve_one
from router.demo.fleet_of_world import EDGE_PORT
from router.demo.namespaces import Lab
from router.demo.streams import Stream, at_share
from router.demo.world import World, load

INTERVAL_US = 20_000
AUDIO_BYTES = 160  # 20 ms of Opus at 64 kbit/s
CONTEXT = "voice"
SOCKET_S = 2.0  # for a node's local API to answer
_PAYLOAD = Struct(">HI")  # stream, number


@dataclass
class Leg:
    """One direction of a call."""

    source: str  # data centers
    target: str
    stream: Stream = field(default_factory=lambda: Stream(INTERVAL_US))

    def summary(self, dropped: int | None) -> dict[str, object]:
        """What the listener heard; ``dropped`` are second copies that its relay kept from it."""
        heard = self.stream
        gaps = heard.gaps_ms()
        judged = heard.arrived + heard.lost
        return {
            "from": self.source,
            "to": self.target,
            "arrived": heard.arrived,
            "lost": heard.lost,
            "loss_pct": round(100 * heard.lost / judged, 3) if judged else None,
            "gaps": len(gaps),
            "gap_ms": {"p50": at_share(gaps, 0.5), "p99": at_share(gaps, 0.99), "longest": gaps[-1] if gaps else None},
            "copies_heard_twice": heard.again,
            "copies_dropped": dropped,
        }


def pairs(world: World, count: int) -> list[tuple[str, str]]:
    """Whom to let talk: pairs that save most by a relay, every data center in one call at most."""
    delay, size = world.delay_us, len(world.data_centers)

    def saved_us(pair: tuple[int, int]) -> float:
        a, b = pair
        direct = delay[a][b]
        over = [x + y for k in range(size) if (x := delay[a][k]) is not None and (y := delay[k][b]) is not None]
        return min(over, default=float("inf")) - (float("inf") if direct is None else direct)

    chosen: list[tuple[str, str]] = []
    taken: set[int] = set()
    for a, b in sorted(combinations(range(size), 2), key=lambda pair: (saved_us(pair), pair)):
        if len(chosen) < count and not taken & {a, b}:
            taken |= {a, b}
            chosen.append((world.data_centers[a].id, world.data_centers[b].id))
    return chosen


class Calls:
    """All calls of one world."""

    def __init__(self, world: World, lab: Lab, agents: Path, count: int) -> None:
        both = [way for pair in pairs(world, count) for way in (pair, pair[::-1])]
        self.legs = [Leg(*way) for way in both]
        nodes = {dc.id: dc.nodes[0] for dc in world.data_centers}
        self._agents = {name: agents / nodes[name].id / "local.sock" for name in {leg.target for leg in self.legs}}
        self._senders: list[socket.socket] = []
        self._loop = asyncio.get_running_loop()
        self._open: list[socket.socket] = []
        for leg in self.legs:
            with lab.entered(nodes[leg.source].index):
                sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
            with lab.entered(nodes[leg.target].index):
                receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
            receiver.bind((nodes[leg.target].real_host, EDGE_PORT))
            self._senders.append(sender)
            self._open += [sender, receiver]
            self._loop.add_reader(receiver, self._receive, receiver)

    async def run(self) -> None:
        """Talk until cancelled. Streams take turns, so that no two packets are due at once."""
        if not self.legs:
            return
        step_s, turn, next_s = INTERVAL_US / 1e6 / len(self.legs), 0, self._loop.time()
        while True:
            if (wait_s := next_s - self._loop.time()) > 0:
                await asyncio.sleep(wait_s)
            self._send(turn)
            turn, next_s = (turn + 1) % len(self.legs), max(next_s + step_s, self._loop.time() - INTERVAL_US / 1e6)

    def _send(self, turn: int) -> None:
        leg = self.legs[turn]
        payload = _PAYLOAD.pack(turn, leg.stream.send()).ljust(AUDIO_BYTES, b"\0")
        packet = pack_send(CONTEXT, leg.target, EDGE_PORT, turn, payload)
        with suppress(ConnectionRefusedError, BlockingIOError):  # an agent that is not there: lost, and counted as such
            self._senders[turn].sendto(packet, ("127.0.0.1", TUNNEL_PORT))

    def _receive(self, receiver: socket.socket) -> None:
        with suppress(BlockingIOError):
            while True:
                data = receiver.recv(2_048)
                if len(data) == AUDIO_BYTES:
                    turn, number = _PAYLOAD.unpack_from(data)
                    if turn < len(self.legs):
                        self.legs[turn].stream.hear(number)

    async def answer(self, method: str, path: str) -> tuple[bytes, object]:
        """``GET /calls``."""
        if (method, path) != ("GET", "/calls"):
            return b"404 Not Found", {"code": "unknown_path", "status": 404, "detail": f"there is no {method} {path}"}
        dropped = {name: await _copies_dropped(at) for name, at in self._agents.items()}
        return b"200 OK", {"calls": [leg.summary(dropped[leg.target]) for leg in self.legs]}

    def close(self) -> None:
        """Hang up."""
        for sock in self._open:
            self._loop.remove_reader(sock)
            sock.close()


async def _copies_dropped(local: Path) -> int | None:
    """Second copies that a node's relay has dropped, by its local API; ``None`` if it does not say."""
    try:
        async with httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(uds=str(local)), timeout=SOCKET_S) as client:
            told: dict[str, Any] = (await client.get("http://localhost/v1/status")).json()
        return int(told["counters"].get("relay.duplicates", 0))
    except (httpx.HTTPError, OSError, ValueError, KeyError):
        return None


async def _run(world: World, lab: Lab, agents: Path, count: int, port: int) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    calls = Calls(world, lab, agents, count)
    server = await asyncio.start_server(lambda r, w: serve_one(r, w, calls.answer), "127.0.0.1", port)
    talking = asyncio.create_task(calls.run())
    await stop.wait()
    talking.cancel()
    server.close()
    calls.close()


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line: ``python -m router.demo.calls --world FILE --lab N --agents FOLDER``."""
    parser = argparse.ArgumentParser(prog="python -m router.demo.calls", description="Talk between a world's nodes.")
    parser.add_argument("--world", type=Path, required=True)
    parser.add_argument("--lab", type=int, required=True, help="number of the namespaces")
    parser.add_argument("--agents", type=Path, required=True, help="folder with the agents' states")
    parser.add_argument("--calls", type=int, default=3)
    parser.add_argument("--port", type=int, required=True, help="TCP port on 127.0.0.1 for GET /calls")
    options = parser.parse_args(arguments)
    try:
        asyncio.run(_run(load(options.world), Lab(options.lab), options.agents, options.calls, options.port))
    except OSError as error:
        print(f"calls: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
