"""Vantage targets: round trips to machines in other people's networks, the ISP's side of an access leg.

They belong to somebody else, so manners come first, and are the agent's own: no address is asked more often than once
in ten seconds, whatever the plan says and however many targets share it; nobody on the opt-out list is ever asked;
every echo request carries a contact. What comes out is one row per target and reporting interval.
"""

from __future__ import annotations

import asyncio
import heapq
import secrets
import socket
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from random import Random
from statistics import median

from probes.sockets import monotonic_us
from probes.vantage.echo import MAX_TEXT, TOKEN_SIZE, EchoSocket, EchoUnavailableError
from probes.vantage.handshake import MAX_TIMEOUT_S, shake
from probes.wire import PlanVantage

MIN_INTERVAL_US = 10_000_000  # per address
MAX_TARGETS = 1_000  # 100 requests a second at the most
MAX_SAMPLES = 1_024  # per row; a row that is never taken must not grow
PREAMBLE = "tendril vantage probe"
_RESOLVE_AGAIN_US = 300_000_000

Network = IPv4Network | IPv6Network


def read_opt_out(text: str) -> tuple[Network, ...]:
    """Networks of an opt-out list: one address or CIDR a line, ``#`` begins a comment. Raises :class:`ValueError`."""
    networks: list[Network] = []
    for number, line in enumerate(text.splitlines(), 1):
        entry = line.partition("#")[0].strip()
        if entry:
            try:
                networks.append(ip_network(entry, strict=False))
            except ValueError as error:
                raise ValueError(f"line {number} of the opt-out list: {error}") from None
    return tuple(networks)


@dataclass(frozen=True, slots=True)
class VantageRow:
    """What became of the requests to one target since the last row."""

    target: str
    asn: int  # 0: not known
    country: str  # "": not known
    kind: str
    sent: int
    received: int
    rtt_min_us: int | None  # without an answer there is none
    rtt_median_us: int | None


def beacons(rows: Iterable[VantageRow], data_center: str) -> list[dict[str, object]]:
    """Rows as the body of ``POST /v1/beacons``; those without an answer or without a known network say nothing."""
    return [
        {
            "client": _client(row),
            "data_center": data_center,
            "rtt_ms": row.rtt_median_us / 1_000,
            "loss_pct": round(100 * (row.sent - row.received) / row.sent, 3),
            "source": "vantage",
        }
        for row in rows
        if row.rtt_median_us is not None and (row.asn or row.country)
    ]


def _client(row: VantageRow) -> Mapping[str, object]:
    return {name: value for name, value in (("asn", row.asn), ("country", row.country)) if value}


@dataclass(slots=True)
class _Tally:
    sent: int = 0
    received: int = 0
    samples: list[int] = field(default_factory=list)


class VantageProber:
    """Asks the targets of a plan; :meth:`run` it as a task. A target that fails in any way is lost, never fatal."""

    def __init__(
        self,
        *,
        bind_host: str = "",
        opt_out: Iterable[Network] = (),
        phase: Random | None = None,
        timeout_s: float = MAX_TIMEOUT_S,
    ) -> None:
        self.counters: Counter[str] = Counter()
        self._bind_host = "" if bind_host in ("0.0.0.0", "::") else bind_host
        self._opt_out = tuple(opt_out)
        self._phase = phase or Random(secrets.randbits(64))  # nosec: spreads load, keeps no secret
        self._timeout_s = timeout_s
        self._text = PREAMBLE.encode()
        self._targets: dict[str, PlanVantage] = {}
        self._due: list[tuple[int, str]] = []
        self._changed = asyncio.Event()
        self._tallies: dict[str, _Tally] = {}
        self._asked_us: dict[str, int] = {}  # by address
        self._addresses: dict[str, tuple[str, int]] = {}  # by host: address, when to look again
        self._sockets: dict[int, EchoSocket | None] = {}  # by family; None: not possible here
        self._tasks: set[asyncio.Task[None]] = set()

    def follow(self, targets: Sequence[PlanVantage], contact: str = "") -> None:
        """Ask these from now on. What is known of earlier targets is kept, the limits too."""
        self._text = (f"{PREAMBLE}; contact: {contact}" if contact else PREAMBLE).encode()[:MAX_TEXT]
        self.counters["targets_beyond_limit"] += max(0, len(targets) - MAX_TARGETS)
        wanted = {target.target: target for target in targets[:MAX_TARGETS]}
        if wanted == self._targets:
            return
        known, self._targets = self._targets, wanted
        self._due = [(due, name) for due, name in self._due if name in wanted]
        now_us = monotonic_us()
        for name, target in wanted.items():
            if name not in known:
                first_us = now_us + int(self._phase.random() * max(target.interval_us, MIN_INTERVAL_US))
                self._due.append((first_us, name))
        heapq.heapify(self._due)
        self._changed.set()

    def take_rows(self) -> list[VantageRow]:
        """What has been measured since the last call, in the order of the targets' names."""
        taken, self._tallies = self._tallies, {}
        rows = []
        for name, tally in sorted(taken.items()):
            target = self._targets.get(name)
            if target is None or not tally.sent:
                continue
            best, middle = (min(tally.samples), round(median(tally.samples))) if tally.samples else (None, None)
            rows.append(
                VantageRow(name, target.asn, target.country, target.kind, tally.sent, tally.received, best, middle)
            )
        return rows

    async def run(self) -> None:
        """Ask until cancelled."""
        try:
            while True:
                self._ask_due(monotonic_us())
                self._changed.clear()
                wait_s = (self._due[0][0] - monotonic_us()) / 1e6 if self._due else None
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._changed.wait(), None if wait_s is None else max(0.0, wait_s))
        finally:
            await self._close()

    async def _close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for sock in self._sockets.values():
            if sock is not None:
                sock.close()
        self._sockets.clear()

    def _ask_due(self, now_us: int) -> None:
        while self._due and self._due[0][0] <= now_us:
            _, name = heapq.heappop(self._due)
            target = self._targets[name]
            interval_us = max(target.interval_us, MIN_INTERVAL_US)
            jitter_us = int(interval_us * 0.1 * self._phase.random())  # never in step with others, never too early
            heapq.heappush(self._due, (now_us + interval_us + jitter_us, name))
            task = asyncio.create_task(self._ask(target))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _ask(self, target: PlanVantage) -> None:
        address = await self._resolve(target.host)
        if address is None or not self._permits(address):
            return
        try:
            rtt_us = await self._measure(target, address)
        except EchoUnavailableError:
            self.counters["echo_unavailable"] += 1
            return
        if target.target not in self._targets:
            return
        tally = self._tallies.setdefault(target.target, _Tally())
        tally.sent += 1
        if rtt_us is not None:
            tally.received += 1
            if len(tally.samples) < MAX_SAMPLES:
                tally.samples.append(rtt_us)

    def _permits(self, address: str) -> bool:
        """Whether an address may be asked now; if so it counts as asked."""
        parsed = ip_address(address)
        if any(_within(parsed, network) for network in self._opt_out):
            self.counters["opted_out"] += 1
            return False
        if parsed.is_multicast or parsed.is_unspecified or address == "255.255.255.255":
            self.counters["unusable"] += 1
            return False
        now_us = monotonic_us()
        if now_us - self._asked_us.get(address, -MIN_INTERVAL_US) < MIN_INTERVAL_US:
            self.counters["too_soon"] += 1
            return False
        self._asked_us = {one: at for one, at in self._asked_us.items() if now_us - at < MIN_INTERVAL_US}
        self._asked_us[address] = now_us
        return True

    async def _measure(self, target: PlanVantage, address: str) -> int | None:
        if target.kind == "tcp":
            answer = await shake(address, target.port, self._timeout_s, self._bind_host)
            return None if answer is None else answer.rtt_us
        sock = self._echo_socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
        return await sock.ask(address, self._text, self._timeout_s)

    def _echo_socket(self, family: int) -> EchoSocket:
        if family not in self._sockets:
            same = bool(self._bind_host) and (":" in self._bind_host) == (family == socket.AF_INET6)
            try:
                token = secrets.token_bytes(TOKEN_SIZE)
                self._sockets[family] = EchoSocket(family, token, self._bind_host if same else "")
            except OSError:
                self._sockets[family] = None
        sock = self._sockets[family]
        if sock is None:
            raise EchoUnavailableError
        return sock

    async def _resolve(self, host: str) -> str | None:
        now_us = monotonic_us()
        known = self._addresses.get(host)
        if known is not None and known[1] > now_us:
            return known[0]
        try:
            found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_DGRAM)
        except OSError:
            self.counters["unresolved"] += 1
            return None
        if len(self._addresses) >= 2 * MAX_TARGETS:
            self._addresses.clear()
        address = str(found[0][4][0]).partition("%")[0]
        self._addresses[host] = (address, now_us + _RESOLVE_AGAIN_US)
        return address


def _within(address: IPv4Address | IPv6Address, network: Network) -> bool:
    mapped = getattr(address, "ipv4_mapped", None)
    return address in network or (mapped is not None and mapped in network)
