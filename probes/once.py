"""One-shot measurement: round trip, jitter and loss to some targets now, directly or through relays.

The probes are those of the agent, sent from one socket; a path through relays puts a relay header before each packet
and ends at the target's reflector, so the figure is the whole path's, end to end, with plain STAMP at the far end.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

import httpx

from probes.clock import Clock
from probes.netcheck import Check, Control, check_control, check_nodes
from probes.relay import MAX_HOPS, RelayHeader, unwrap
from probes.sockets import Address, ProbeSender, Stamping, Target, monotonic_us, open_udp, stamping
from probes.summary import Summary

RELAY_PROBES = 3
CHECK_TIMEOUT_S = 0.9
TIMEOUT_S = 10.0  # for the control plane's answers
PAGE_LIMIT = 100  # pages of a collection; more is a server that repeats itself


class OnceError(Exception):
    """The measurement cannot be made; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where probes can go: a node as the control plane knows it, or a bare address."""

    node: str
    data_center: str
    host: str
    reflector_port: int
    relay_port: int = 0
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Result:
    """What became of the probes of one path; times in microseconds, ``None`` without a reply."""

    place: Place
    via: tuple[str, ...]
    sent: int
    received: int
    rtt_us: int | None  # median
    rtt_min_us: int | None
    jitter_us: int | None

    @property
    def loss_pct(self) -> float:
        """Share of probes without a reply in time."""
        return 100.0 * (self.sent - self.received) / self.sent if self.sent else 0.0


async def fetch_places(client: httpx.AsyncClient, url: str, key: str) -> list[Place]:
    """All nodes of the inventory, in id order. Raises :class:`OnceError`."""
    places: list[Place] = []
    cursor: str | None = None
    for _ in range(PAGE_LIMIT):
        try:
            answer = await client.get(
                url.rstrip("/") + "/v1/nodes",
                params={"after": cursor} if cursor else None,
                headers={"authorization": f"Bearer {key}"} if key else {},
                timeout=TIMEOUT_S,
            )
            page = answer.json()
        except (httpx.HTTPError, ValueError) as error:
            raise OnceError(f"{url} does not answer: {type(error).__name__}: {error}") from error
        if answer.status_code != 200:
            raise OnceError(f"{url} refuses the list of nodes: {answer.status_code} {page.get('detail', '')}")
        places.extend(place for item in page["items"] if (place := _place(item)) is not None)
        cursor = page.get("next")
        if not cursor:
            break
    return sorted(places, key=lambda place: place.node)


def _place(item: Mapping[str, object]) -> Place | None:
    """A node with an address; one without cannot be probed."""
    addresses, labels = item.get("addresses"), item.get("labels")
    if not isinstance(addresses, dict) or not addresses:
        return None
    host = addresses.get("internet") or addresses[min(addresses)]
    return Place(
        str(item["id"]),
        str(item["data_center"]),
        str(host),
        int(str(item.get("reflector_port") or 862)),
        int(str(item.get("relay_port") or 0)),
        labels if isinstance(labels, dict) else {},
    )


def find(places: Sequence[Place], name: str) -> Place:
    """Node of that id, first node of that data center, or a literal ``host:port``. Raises :class:`OnceError`."""
    for place in places:
        if name == place.node:
            return place
    for place in places:
        if name == place.data_center:
            return place
    host, colon, port = name.rpartition(":")
    if colon and port.isdigit() and 0 < int(port) < 65_536:
        return Place(name, name, host.strip("[]"), int(port))
    raise OnceError(f"{name} is neither a known node nor a data center with a node, nor HOST:PORT")


def nearest_candidates(places: Sequence[Place]) -> list[Place]:
    """One node per data center: the first in id order."""
    first: dict[str, Place] = {}
    for place in places:
        first.setdefault(place.data_center, place)
    return list(first.values())


async def measure(
    bind: Address,
    paths: Sequence[tuple[Place, tuple[Place, ...]]],
    *,
    count: int,
    interval_s: float,
    timeout_s: float = 1.0,
) -> list[Result]:
    """Probe every (target, relays on the way) ``count`` times, all paths in turn, and wait for the last answers.

    A target may be the last of its own relays: its reflector is then reached through its relay alone.
    """
    summary = Summary(int(timeout_s * 1e6))
    try:
        sock = open_udp(*bind)
    except OSError as error:
        raise OnceError(f"cannot send from {bind[0]} port {bind[1]}: {error.strerror}") from error
    sender = ProbeSender(sock, Clock(), unwrap=unwrap, keep_samples=True)
    try:
        first_ssid = random.randrange(1, 1 << 15)
        targets = [await _target(summary, first_ssid + i, place, via) for i, (place, via) in enumerate(paths)]
        sender.replace(targets)
        pause_s = interval_s / max(1, len(targets))
        for _ in range(count):
            for target in targets:
                sender.send(target)
                await asyncio.sleep(pause_s)
        deadline_us = monotonic_us() + int(timeout_s * 1e6)
        while summary.open and monotonic_us() < deadline_us:
            await asyncio.sleep(0.005)
    finally:
        sender.close()
    rows = summary.close(monotonic_us() + int(timeout_s * 1e6) + 1)
    row_of = {peer: i for i, peer in enumerate(rows.peer)}
    results = []
    for (place, via), target in zip(paths, targets, strict=True):
        i = row_of.get(target.row.peer)
        sent, jitter_us = (rows.sent[i], rows.jitter_us[i]) if i is not None else (0, -1)
        results.append(_result(place, via, sent, target.samples, jitter_us))
    return results


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What else a measurement found out, for whoever has to find the fault."""

    bind: Address
    at: str  # UTC
    stamps: Stamping
    checks: Mapping[str, Check]  # by node
    control: Control | None

    def lines(self) -> list[str]:
        """For people, below the table."""
        control = [f"control plane: {self.control}"] if self.control is not None else []
        port = f" port {self.bind[1]}" if self.bind[1] else ""
        return [f"measured {self.at} from {self.bind[0]}{port}", *control, f"stamps: {self.stamps}"]

    def json(self) -> dict[str, object]:
        """For programs, beside the results."""
        control = self.control
        return {
            "at": self.at,
            "from": {"host": self.bind[0], "port": self.bind[1]},
            "stamps": {
                "arrivals": self.stamps.arrivals,
                "departures": self.stamps.departures,
                "noise_us": self.stamps.noise_ns / 1_000,
            },
            "control": None
            if control is None
            else {"host": control.host, "port": control.port, "tcp": control.tcp, "rtt_ms": _ms(control.rtt_us)},
        }

    def check_json(self, node: str) -> dict[str, object]:
        """What is added to a node's result."""
        check = self.checks[node]
        return {"udp": check.udp, "relay": check.relay, "ping_ms": _ms(check.ping_us), "check": str(check)}


def _ms(value_us: int | None) -> float | None:
    return None if value_us is None else value_us / 1_000


async def look_around(bind: Address, targets: Sequence[Place], results: Sequence[Result], url: str) -> Surroundings:
    """Find out what is blocked, and how well this machine stamps."""
    direct = {result.place.node: result.received > 0 for result in results if not result.via}
    relays = [place for place in targets if place.relay_port]
    through = await measure(
        bind, [(place, (place,)) for place in relays], count=RELAY_PROBES, interval_s=0.05, timeout_s=CHECK_TIMEOUT_S
    )
    relayed = {result.place.node for result in through if result.received}
    where = {place.node: (await _resolve(place.host), place.reflector_port) for place in targets}
    host = "" if bind[0] in ("0.0.0.0", "::") else bind[0]
    answered = {where[place.node]: direct.get(place.node, False) for place in targets}
    ports = {where[place.node]: (place.relay_port, place.node in relayed) for place in targets}
    checks = await check_nodes(answered, ports, host)
    control = await check_control(url, host) if url else None
    at = time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime())
    return Surroundings(bind, at, stamping(), {name: checks[address] for name, address in where.items()}, control)


def _result(place: Place, via: Sequence[Place], sent: int, samples: Sequence[int], jitter_us: int) -> Result:
    relays = tuple(relay.node for relay in via)
    if not samples:
        return Result(place, relays, sent, 0, None, None, None)
    return Result(place, relays, sent, len(samples), round(median(samples)), min(samples), jitter_us)


async def _target(summary: Summary, ssid: int, place: Place, via: tuple[Place, ...]) -> Target:
    row = summary.row(str(ssid), "internet")
    host = await _resolve(place.host)
    if not via:
        return Target(row, (host, place.reflector_port), ssid)
    hops = [*via] if via[-1] == place else [*via, place]
    if len(hops) > MAX_HOPS:
        raise OnceError(f"a path has at most {MAX_HOPS} hops, target included; this has {len(hops)}")
    for hop in hops:
        if not hop.relay_port:
            raise OnceError(f"node {hop.node} does not relay; start its agent with --relay --relay-open")
    addresses = [(await _resolve(hop.host), hop.relay_port) for hop in hops]
    envelope = RelayHeader.wrap(addresses, place.reflector_port, b"")
    return Target(row, addresses[0], ssid, envelope)


async def _resolve(host: str) -> str:
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, None)
    except OSError as error:
        raise OnceError(f"cannot resolve {host}: {error.strerror}") from error
    return str(found[0][4][0])
