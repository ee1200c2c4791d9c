"""The data path of one node: sender, reflector and relay, following a plan. Knows nothing of the control plane.

One timer serves all peers: it fires at the next slot of the schedule, sends what is due and sets itself again. Replies,
probes of others and relayed packets arrive in socket callbacks.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import random
import secrets
import socket
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace

from probes.clock import Clock
from probes.relay import Relay
from probes.schedule import Schedule
from probes.sockets import ProbeSender, Reflector, Target, monotonic_us, open_udp
from probes.summary import Row, Summary
from probes.wire import PlanPeer, ProbePlan, ReportRows

log = logging.getLogger("probes.prober")

MAX_PROBES_PER_S = 2_000  # the node's own cap, whatever a plan says; a plan beyond it is slowed down evenly
MAX_TICK_US = 5_000  # slots are served on this grid: agents of one process wake up together, a third less CPU
_SSIDS = 1 << 16


class Prober:
    """Probes by the plan it follows; ``ports`` are probe, reflector and relay: 0 is any free one, no relay ``None``."""

    def __init__(
        self,
        bind_host: str,
        ports: tuple[int, int, int | None],
        clock: Clock,
        rng: random.Random,
        relay_delivers: frozenset[int],
    ) -> None:
        probe_port, reflector_port, relay_port = ports
        self._loop = asyncio.get_running_loop()
        with ExitStack() as opened:
            self.sender = ProbeSender(open_udp(bind_host, probe_port), clock)
            opened.callback(self.sender.close)
            self.reflector = Reflector(open_udp(bind_host, reflector_port), clock, self._count_reflected)
            opened.callback(self.reflector.close)
            self.relay: Relay | None = None
            if relay_port is not None:
                delivers = relay_delivers | {self.reflector.address[1]}
                self.relay = Relay(open_udp(bind_host, relay_port), delivers)
            opened.pop_all()
        self._schedule = Schedule(rng)
        self._summary = Summary()
        self._targets: dict[tuple[str, str], Target] = {}
        self._ssids: dict[tuple[str, str], int] = {}
        self._taken_ssids: set[int] = set()
        self._next_ssid = secrets.randbelow(_SSIDS)  # new at every start: reflectors may remember the last one
        self._rows_of_host: dict[str, Row | None] = {}  # None: several peers share the address
        self._unresolved: tuple[str, ...] = ()
        self._tick_us = MAX_TICK_US
        self._timer: asyncio.TimerHandle | None = None

    @property
    def unresolved(self) -> tuple[str, ...]:
        """Hosts of the plan whose names did not resolve; following the plan again tries again."""
        return self._unresolved

    @property
    def open(self) -> int:
        """Probes that are neither answered nor counted as lost."""
        return self._summary.open

    async def follow(self, plan: ProbePlan) -> None:
        """Probe by this plan from now on; peers that stay keep their phase, their row and their sequence."""
        peers = _capped([peer for peer in plan.peers if peer.node != plan.node], plan.node)
        addresses = {host: await self._resolve(host) for host in {peer.host: None for peer in peers}}
        self._unresolved = tuple(host for host, address in addresses.items() if address is None)
        for host in self._unresolved:
            log.warning("%s: cannot resolve %s; its probes wait", plan.node, host)
        reachable = [(peer, address) for peer in peers if (address := addresses[peer.host]) is not None]
        self._summary.timeout_us = plan.timeout_us
        self._summary.retain({(peer.node, peer.transport) for peer, _ in reachable})
        self._ssids = {key: ssid for key, ssid in self._ssids.items() if self._summary.knows(key)}
        self._taken_ssids = set(self._ssids.values())
        self._targets = {(peer.node, peer.transport): self._target(peer, address) for peer, address in reachable}
        self._rows_of_host = {}
        for target in self._targets.values():
            host = target.address[0]
            self._rows_of_host[host] = None if host in self._rows_of_host else target.row
        self.sender.replace(self._targets.values())
        self.reflector.refuse(target.address for target in self._targets.values())
        if self.relay is not None:
            self.relay.allow((address, peer.relay_port) for peer, address in reachable)
        self._tick_us = min([MAX_TICK_US, *(peer.interval_us // 8 for peer, _ in reachable)])
        self._schedule.replace([peer for peer, _ in reachable], monotonic_us())
        self._arm()

    def end_interval(self) -> ReportRows:
        """Rows of what was closed since the last call."""
        return self._summary.close(monotonic_us())

    def counters(self) -> Counter[str]:
        """Everything counted since the start, named by where it happened."""
        found = Counter({
            "schedule.skipped": self._schedule.skipped,
            "summary.strays": self._summary.strays,
            "summary.clock_steps": self._summary.clock_steps,
            "summary.residences_refused": self._summary.residences_refused,
        })  # fmt: skip
        for name, part in (("sender", self.sender), ("reflector", self.reflector), ("relay", self.relay)):
            if part is not None:
                found.update({f"{name}.{key}": count for key, count in part.counters.items()})
        return found

    def close(self) -> None:
        """Stop probing, answering and relaying."""
        if self._timer is not None:
            self._timer.cancel()
        for part in (self.sender, self.reflector, self.relay):
            if part is not None:
                part.close()

    def _target(self, peer: PlanPeer, address: str) -> Target:
        key = (peer.node, peer.transport)
        return Target(self._summary.row(*key), (address, peer.reflector_port), self._ssid(key))

    def _ssid(self, key: tuple[str, str]) -> int:
        """The row's STAMP session id: never 0, its own for as long as the row lives."""
        if key not in self._ssids:
            while self._next_ssid == 0 or self._next_ssid in self._taken_ssids:  # fewer rows than ids: one is free
                self._next_ssid = (self._next_ssid + 1) % _SSIDS
            self._ssids[key] = self._next_ssid
            self._taken_ssids.add(self._next_ssid)
        return self._ssids[key]

    async def _resolve(self, host: str) -> str | None:
        """Numeric form of a host in the family that the sockets speak."""
        try:
            return str(ipaddress.ip_address(host))
        except ValueError:
            family = socket.AF_INET6 if ":" in self.sender.address[0] else socket.AF_INET
        try:
            found = await self._loop.getaddrinfo(host, None, family=family, type=socket.SOCK_DGRAM)
        except OSError:
            return None
        return str(found[0][4][0])

    def _count_reflected(self, host: str) -> None:
        row = self._rows_of_host.get(host)
        if row is not None:
            row.reflect()

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        next_us = self._schedule.next_at()
        if next_us is None:
            self._timer = None
            return
        next_us += -next_us % self._tick_us
        self._timer = self._loop.call_later(max(0, next_us - monotonic_us()) / 1e6, self._fire)

    def _fire(self) -> None:
        for peer in self._schedule.due(monotonic_us()):
            self.sender.send(self._targets[peer.node, peer.transport])
        self._arm()


def _capped(peers: Sequence[PlanPeer], node: str) -> Sequence[PlanPeer]:
    """The peers, all probed more slowly if the plan asks for more than the cap."""
    asked_per_s = sum(1_000_000 / peer.interval_us for peer in peers)
    if asked_per_s <= MAX_PROBES_PER_S:
        return peers
    log.warning("%s: the plan asks for %d probes/s, the cap is %d", node, asked_per_s, MAX_PROBES_PER_S)
    slower = asked_per_s / MAX_PROBES_PER_S
    return [replace(peer, interval_us=int(peer.interval_us * slower) + 1) for peer in peers]
