"""What stands in the way: beside the round trips of ``tendril agent once``, who answers what, and who does not.

For each node: does its reflector answer over UDP; if not, does the machine say that nothing listens there (an ICMP port
unreachable), or does a ping come back although UDP does not (something on the way drops it), or is there no sign of
life at all; and its relay, if it has one. A relay answers strangers only if it is started to do so, so its silence
means less than a refusal. For the control plane: does its TCP port take connections from here.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import urlsplit

from probes.sockets import Address
from probes.stamp import pack_request
from probes.vantage.echo import TOKEN_SIZE, EchoSocket
from probes.vantage.handshake import shake

AT_ONCE = 32  # nodes checked at the same time
TIMEOUT_S = 0.9


class Reach(StrEnum):
    """How a port reacts."""

    ANSWERS = "answers"
    CLOSED = "closed"  # the machine says that nothing listens there
    SILENT = "silent"
    UNKNOWN = "-"  # not tried: there is no such port


@dataclass(frozen=True, slots=True)
class Check:
    """What one node lets through."""

    udp: Reach
    relay: Reach
    ping_us: int | None = None  # of a node whose reflector does not answer
    pinged: bool = False

    def __str__(self) -> str:
        if self.udp is Reach.ANSWERS:
            return "ok" if self.relay in (Reach.ANSWERS, Reach.UNKNOWN) else f"ok, relay {self.relay}"
        if self.udp is Reach.CLOSED:
            return "no reflector listens"
        if self.ping_us is not None:
            return f"UDP blocked, ping {self.ping_us / 1_000:.2f} ms"
        return "no sign of life" if self.pinged else "UDP silent"


@dataclass(frozen=True, slots=True)
class Control:
    """Whether the control plane's port takes connections."""

    host: str
    port: int
    tcp: Reach
    rtt_us: int | None

    def __str__(self) -> str:
        took = "" if self.rtt_us is None else f" in {self.rtt_us / 1_000:.2f} ms"
        return f"TCP to {self.host} port {self.port} {_verb(self.tcp)}{took}"


def _verb(reach: Reach) -> str:
    return {Reach.CLOSED: "is refused", Reach.UNKNOWN: "is not possible, the name does not resolve"}.get(
        reach, {Reach.ANSWERS: "answers"}.get(reach, "is silent")
    )


async def check_control(url: str, bind_host: str = "") -> Control:
    """Connect to the host and port of a URL."""
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError:
        return Control(host, port, Reach.UNKNOWN, None)
    addresses = sorted({str(one[4][0]) for one in found}, key=lambda address: ":" in address)
    refused: int | None = None
    for address in addresses[:4]:  # one of several may be out of reach from here
        answer = await shake(address, port, TIMEOUT_S, bind_host if (":" in bind_host) == (":" in address) else "")
        if answer is not None and answer.accepted:
            return Control(host, port, Reach.ANSWERS, answer.rtt_us)
        refused = refused if answer is None else answer.rtt_us
    return Control(host, port, Reach.SILENT if refused is None else Reach.CLOSED, refused)


async def reach(address: Address, bind_host: str = "", timeout_s: float = TIMEOUT_S) -> Reach:
    """Send one STAMP request and see: an answer, an ICMP port unreachable, or nothing."""
    loop = asyncio.get_running_loop()
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        try:
            if bind_host and (":" in bind_host) == (":" in address[0]):
                sock.bind((bind_host, 0))
            sock.connect(address)  # a connected socket hears of ICMP errors
            sock.send(pack_request(0, 0, 1, 0))
            await asyncio.wait_for(loop.sock_recv(sock, 2_048), timeout_s)
        except ConnectionRefusedError:
            return Reach.CLOSED
        except (TimeoutError, OSError):
            return Reach.SILENT
    return Reach.ANSWERS


async def ping(hosts: Sequence[str], bind_host: str = "", timeout_s: float = TIMEOUT_S) -> dict[str, int | None]:
    """Round trip of an echo request to each numeric address; a host is missing where we may not ask."""
    sockets: dict[int, EchoSocket] = {}
    asked: dict[str, int | None] = {}
    waiting: list[Coroutine[object, object, int | None]] = []
    try:
        for host in hosts:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            if family not in sockets:
                own = bind_host if (":" in bind_host) == (":" in host) else ""
                sockets[family] = EchoSocket(family, os.urandom(TOKEN_SIZE), own)
            waiting.append(sockets[family].ask(host, b"tendril agent once", timeout_s))
        asked = dict(zip(hosts, await asyncio.gather(*waiting), strict=True))
    except OSError:  # no right to send echo requests, or no such family: then we do not know
        return asked
    finally:
        for one in waiting:
            one.close()  # those that were never begun
        for sock in sockets.values():
            sock.close()
    return asked


async def check_nodes(
    answered: dict[Address, bool], relays: dict[Address, tuple[int, bool]], bind_host: str = ""
) -> dict[Address, Check]:
    """Check nodes by the address of their reflector.

    ``answered`` says whose reflectors have answered probes already, ``relays`` the port of each relay (0 for none) and
    whether it has answered.
    """
    gate = asyncio.Semaphore(AT_ONCE)

    async def look(address: Address, known: bool) -> Reach:
        if known or not address[1]:
            return Reach.ANSWERS if known else Reach.UNKNOWN
        async with gate:
            return await reach(address, bind_host)

    nodes = list(answered)
    udp = await asyncio.gather(*(look(node, answered[node]) for node in nodes))
    relay = await asyncio.gather(*(look((node[0], relays[node][0]), relays[node][1]) for node in nodes))
    silent = sorted({node[0] for node, one in zip(nodes, udp, strict=True) if one is Reach.SILENT})
    pinged = await ping(silent, bind_host) if silent else {}
    return {
        node: Check(one, two, pinged.get(node[0]) if one is Reach.SILENT else None, node[0] in pinged)
        for node, one, two in zip(nodes, udp, relay, strict=True)
    }
