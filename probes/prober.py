"""The data path of one node: sender, reflector and relay, following a plan. Knows nothing of the control plane.

One timer serves all peers and paths: it fires when the next probe is due or the next answer is overdue, sends, judges
and sets itself again. Replies, probes of others and relayed packets arrive in socket callbacks.

Being woken costs more than what is then done. While no path is in use and nobody is probed more often than every
:data:`LAZY_FROM_US`, answers are therefore left in their sockets, with the kernel's stamps, until the timer fires; and
as long as all is well it fires for an overdue answer up to :data:`LAZY_US` later, when a probe may be due anyway. Who
has just answered a probe of somebody else is awake already, and does then what the timer would fire for soon.
"""

from __future__ import annotations

import asyncio
import calendar
import ipaddress
import logging
import random
import secrets
import socket
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import fields
from typing import Any

from probes.budget import Allowance
from probes.checks import Checks
from probes.clock import Clock
from probes.detect import Verdict
from probes.evidence import Alarms, Evidence, Watch
from probes.hot import Envelopes, HotPaths
from probes.reflex import Reflex
from probes.relay import Keyring, Relay, neighbours_of
from probes.schedule import Schedule
from probes.sockets import Alarm, ProbeSender, Reflector, Target, monotonic_us, open_udp, stamping
from probes.stamp import AUTHENTICATED_SIZE, BASE_SIZE, Flows, Key
from probes.summary import Row, Summary
from probes.wire import PlanPeer, ProbePlan, ReportRows

log = logging.getLogger("probes.prober")

NOTE_US = 5_000_000  # how often the schedule is told how uncertain each peer's round trip is
IP_BYTES = 28  # IPv4 and UDP headers; the budget counts what a provider bills
FOLLOW_UP_US = 500_000  # who is probed so often is asked for Follow-Up Telemetry: the next reply corrects this one
FOLLOW_UP_BYTES, MAC_TLV_BYTES = 20, 20
PEER_BYTES = AUTHENTICATED_SIZE + FOLLOW_UP_BYTES + MAC_TLV_BYTES + IP_BYTES
PATH_BYTES = 110 + IP_BYTES  # the longest envelope with IPv4 addresses
MAX_TICK_US = 5_000  # slots are served on this grid: agents of one process wake up together, a third less CPU
LAZY_FROM_US = 500_000
SOON_US = 20_000  # less than what a peer probed once a second may then be early, half a sixteenth
LAZY_US = 50_000  # a twentieth of the usual interval between probes, and half of what a detector takes for a stall
_SSIDS = 1 << 16


class Prober:
    """Probes by the plan it follows; ``ports`` are probe, reflector and relay: 0 is any free one, no relay ``None``.

    ``confirm_ports`` are further source ports; what the probes say goes to ``reflex``, and ``on_alarm`` is called when
    something is to be told at once.
    """

    def __init__(
        self,
        bind_host: str,
        ports: tuple[int, int, int | None],
        clock: Clock,
        rng: random.Random,
        relay_delivers: frozenset[int],
        *,
        relay_open: bool = False,
        confirm_ports: Sequence[int] = (),
        reflex: Reflex | None = None,
        on_alarm: Callable[[], None] = lambda: None,
    ) -> None:
        probe_port, reflector_port, relay_port = ports
        self._loop = asyncio.get_running_loop()
        self.reflex = reflex or Reflex("")
        self._on_alarm = on_alarm
        self._alarms = 0
        self.media = Flows()
        self.evidence = Evidence(self.reflex, self._alarmed, 1 + len(confirm_ports))
        with ExitStack() as opened:
            self.keyring = Keyring()
            envelopes = Envelopes(self.keyring)
            sources = [_open(opened, bind_host, port) for port in (probe_port, *confirm_ports)]
            self.sender = ProbeSender(
                sources, clock, unwrap=envelopes.unwrap, on_answer=self._answered, on_drained=self._drained
            )
            opened.callback(self.sender.close)
            self.reflector = Reflector(
                open_udp(bind_host, reflector_port), clock, self._count_reflected, on_drained=self._awake,
                flow_of=self.media.of,
            )  # fmt: skip
            opened.callback(self.reflector.close)
            self.relay = (
                None if relay_port is None else (self._relay_on(bind_host, relay_port, relay_delivers, relay_open))
            )
            opened.pop_all()
        self.stamping = stamping(socket.AF_INET6 if ":" in bind_host else socket.AF_INET)
        self._schedule = Schedule(rng)
        self._summary = Summary()
        self._targets: dict[tuple[str, str], Target] = {}
        self._ssids: dict[object, int] = {}  # of a (peer, transport), or of a path
        self._taken_ssids: set[int] = set()
        self._keyed: dict[tuple[str, int], set[int]] = {}  # session ids of authenticated peers, by address
        self._next_ssid = secrets.randbelow(_SSIDS)  # new at every start: reflectors may remember the last one
        self._rows_of_host: dict[str, Row | None] = {}  # None: several peers share the address
        self._unresolved: tuple[str, ...] = ()
        self._tick_us = MAX_TICK_US
        self._seldom = True  # nobody is probed often
        self.allowance = Allowance(monotonic_us())
        self._note_us = 0
        self._validity_us = 0  # of the plan, from when it was issued or confirmed
        self._judged: dict[tuple[str, str], Verdict] = {}  # since the last report
        self.hot = HotPaths(self.reflex, self.evidence, envelopes, rng, self._ssid, self._retarget)
        self.checks = Checks(envelopes.along, rng, lambda name: self._ssid(("check", name)))
        self._alarm = Alarm(self._fire)
        self._awaiting = False  # whether the alarm was set for an answer that may come before it
        self._lazy = False  # whether answers wait for the alarm
        self._rings_us = 0  # when the alarm fires
        self._closed = False
        self._arm()  # routes from disk may be in use before there is anybody to probe

    def _relay_on(self, host: str, port: int, media_ports: frozenset[int], is_open: bool) -> Relay:
        delivers = media_ports | {self.reflector.address[1]}
        return Relay(open_udp(host, port), delivers, open=is_open, keyring=self.keyring, media=self.media,
                     media_ports=media_ports)  # fmt: skip

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
        peers = [peer for peer in plan.peers if peer.node != plan.node]
        hosts = dict.fromkeys([*(peer.host for peer in peers), *(relay.host for relay in plan.relays)])
        addresses = {host: await self._resolve(host) for host in hosts}
        self._unresolved = tuple(host for host, address in addresses.items() if address is None)
        for host in self._unresolved:
            log.warning("%s: cannot resolve %s; its probes wait", plan.node, host)
        reachable = [(peer, address) for peer in peers if (address := addresses[peer.host]) is not None]
        self._summary.timeout_us = plan.timeout_us
        self._summary.retain({(peer.node, peer.transport) for peer, _ in reachable})
        known = self._targets.keys() | self.hot.targets.keys() | {("check", name) for name in self.checks.targets}
        self._ssids = {key: ssid for key, ssid in self._ssids.items() if key in known}
        self._taken_ssids = set(self._ssids.values())
        self._keyed = {}
        self._targets = {(peer.node, peer.transport): self._target(peer, address) for peer, address in reachable}
        self._rows_of_host = {}
        for target in self._targets.values():
            host = target.address[0]
            self._rows_of_host[host] = None if host in self._rows_of_host else target.row
        self.evidence.follow([peer for peer, _ in reachable], plan.timeout_us)
        if plan.own_key:
            self.reflector.trust(bytes.fromhex(plan.own_key), map(bytes.fromhex, plan.own_keys_also))
        self.reflector.refuse(target.address for target in self._targets.values())
        neighbours = neighbours_of(plan, addresses)
        self.keyring.install(plan.node, plan.own_key, neighbours, plan.own_keys_also)
        self.hot.follow(plan.timeout_us)
        self.checks.follow(plan.checks, plan.timeout_us, monotonic_us())
        self._retarget()
        if self.relay is not None:
            self.relay.allow((neighbour.host, neighbour.port) for neighbour in neighbours)
        self._tick_us = min([MAX_TICK_US, *(peer.interval_us // 8 for peer, _ in reachable)])
        self._seldom = all(peer.interval_us >= LAZY_FROM_US for peer, _ in reachable)
        now_us = monotonic_us()
        self._validity_us = max(0, plan.expires_at_us - plan.issued_at_us)
        self.allowance.follow(plan.budget, now_us)
        self._month()
        size = max(map(_size, self._targets.values()), default=BASE_SIZE + IP_BYTES)
        self._schedule.per_s = per_s = self.allowance.regular_per_s(size)
        asked_per_s = sum(1_000_000 / peer.interval_us for peer in peers)
        if asked_per_s > per_s:
            log.warning("%s: the plan asks for %d probes/s; the budget bears %d", plan.node, asked_per_s, per_s)
        expires_us = now_us + self._validity_us if self._validity_us else None
        self._schedule.replace([peer for peer, _ in reachable], now_us, plan.floor_interval_us, expires_us)
        self._arm()

    def confirm_plan(self) -> None:
        """The control plane has said that the plan is still the newest."""
        if self._validity_us:
            self._schedule.confirmed(monotonic_us() + self._validity_us)

    def count_media(self, watch: Watch, received: int, sent: int) -> None:
        """Count packets of real media that a media server had from a peer, or over a path, and sent there."""
        if watch.peer is not None:
            target = self._targets.get((watch.peer.node, watch.peer.transport))
            host = target.address[0] if target is not None else ""
        else:
            host = watch.path[-1][0] if watch.path else ""
        self.media.told(host, received=received, sent=sent)

    def take_media(self, watch: Watch, answers: int, rtt_us: int | None) -> None:
        """Take round trips of real media as answered probes, and save those that they make needless."""
        self.evidence.passive(watch, answers, rtt_us, monotonic_us())
        if watch.peer is not None:
            self._schedule.covered((watch.peer.node, watch.peer.transport), watch.passive_until_us)

    def _month(self) -> None:
        """Tell the allowance which month it is, by the wall clock, and how much of it is left."""
        now = time.gmtime()
        ends_s = calendar.timegm((now.tm_year + now.tm_mon // 12, now.tm_mon % 12 + 1, 1, 0, 0, 0))
        self.allowance.calendar(now.tm_year * 12 + now.tm_mon, (ends_s - calendar.timegm(now)) * 1_000_000)

    def end_interval(self) -> ReportRows:
        """Rows of what was closed since the last call, and of peers about which the detectors changed their mind."""
        self._month()
        if self._lazy:
            self.sender.read()
        now_us = monotonic_us()
        if now_us >= self._note_us:
            self._note_us = now_us + NOTE_US
            self._note_round_trips()
        rows = self._summary.close(now_us)
        judged, self._judged = self._judged, {}
        seen = set(zip(rows.peer, rows.transport, strict=True))
        quiet = [_quiet_row(*key) for key in judged if key not in seen and key in self._targets]
        columns = [column + more for column, more in zip(_columns(rows), _columns(_rows_of(quiet)), strict=True)]
        watches = self.evidence.peers()
        states = [
            int(watch.detector.verdict) if (watch := watches.get(key)) is not None else 0
            for key in zip(columns[0], columns[1], strict=True)
        ]
        return ReportRows(**dict(zip(_COLUMNS, columns, strict=True)), state=tuple(states))

    def _note_round_trips(self) -> None:
        """Tell the schedule when each peer answered last, and how much its round trip varies."""
        for key, watch in self.evidence.peers().items():
            trip = watch.round_trip
            if watch.heard_us is not None and trip.srtt_us:
                self._schedule.note(key, watch.heard_us, trip.variation_us * 1_000_000 // trip.srtt_us)

    def take_alarms(self) -> Alarms:
        """Routes that changed, and peers about which the detectors changed their mind, since the last call."""
        taken = self.evidence.take()
        self._judged.update(taken.judged)
        return taken

    def counters(self) -> Counter[str]:
        """Everything counted since the start, named by where it happened."""
        found = Counter({
            "schedule.skipped": self._schedule.skipped,
            "summary.strays": self._summary.strays,
            "summary.clock_steps": self._summary.clock_steps,
            "summary.followed_up": self._summary.followed_up,
            "summary.residences_refused": self._summary.residences_refused,
            "stamping.arrivals": int(self.stamping.arrivals),  # as the self-test found: 1 if the kernel stamps them
            "stamping.departures": int(self.stamping.departures),
            "stamping.noise_ns": self.stamping.noise_ns,
        })  # fmt: skip
        found.update({f"paths.{name}": count for name, count in self.hot.counters.items()})
        found.update({f"verdicts.{verdict.name.lower()}": count for verdict, count in self.evidence.verdicts.items()})
        found.update({f"reflex.{name}": count for name, count in self.reflex.counters.items()})
        for name, part in (("sender", self.sender), ("reflector", self.reflector), ("relay", self.relay)):
            if part is not None:
                found.update({f"{name}.{key}": count for key, count in part.counters.items()})
        return found

    def budget_json(self) -> dict[str, object]:
        """What may be sent, and what had to stay or was saved."""
        month = self.allowance.state()
        return {
            "routine_probes_per_s": self._schedule.per_s,
            "month_sent_bytes": month.sent_bytes,
            "refused": self.allowance.refused,
            "probes_saved_by_media": self._schedule.suppressed + self.hot.counters["suppressed"],
        }

    def close(self) -> None:
        """Stop probing, answering and relaying; once is enough, twice does no harm."""
        if self._closed:
            return
        self._closed = True
        self._alarm.close()
        for part in (self.sender, self.reflector, self.relay):
            if part is not None:
                part.close()

    def _target(self, peer: PlanPeer, address: str) -> Target:
        key = (peer.node, peer.transport)
        row, where = self._summary.row(*key), (address, peer.reflector_port)
        follow_up = peer.interval_us <= FOLLOW_UP_US
        if not peer.key:
            return Target(row, where, self._ssid(key), follow_up=follow_up)
        first = peer.key_id << 4  # the reflector knows by the upper bits whose key it is
        taken = self._keyed.setdefault(where, set())
        free = [ssid for ssid in range(max(1, first), first + 16) if ssid not in taken]
        taken.add(free[0])  # a peer has at most a handful of transports
        made, before = Key.of_hex(peer.key), self._targets.get(key)
        former = None if before is None else before.former if before.key == made else before.key
        return Target(row, where, free[0], key=made, former=former, follow_up=follow_up)

    def _ssid(self, key: object) -> int:
        """The STAMP session id of a row or a path: never 0, its own for as long as it lives."""
        if key not in self._ssids:
            while self._next_ssid == 0 or self._next_ssid in self._taken_ssids:  # fewer rows than ids: one is free
                self._next_ssid = (self._next_ssid + 1) % _SSIDS
            self._ssids[key] = self._next_ssid
            self._taken_ssids.add(self._next_ssid)
        return self._ssids[key]

    def _retarget(self) -> None:
        """The peers or the paths have changed: tell the sender whose replies it may expect."""
        tried = {("check", name) for name in self.checks.targets}
        used = self._targets.keys() | self.hot.targets.keys() | tried
        for key in [key for key in self._ssids if key not in used]:
            self._taken_ssids.discard(self._ssids.pop(key))
        self.sender.replace([*self._targets.values(), *self.hot.targets.values(), *self.checks.targets.values()])

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
        if self._closed:
            return
        next_us, slot_us, overdue_us = self.hot.next_at(), self._schedule.next_at(), self.evidence.next_at()
        next_us = min(at for at in (next_us, slot_us, self.checks.next_at()) if at is not None)
        if overdue_us is not None and self._lazy and self.evidence.calm:
            overdue_us += LAZY_US
        self._awaiting = overdue_us is not None and overdue_us < next_us
        if overdue_us is not None and overdue_us < next_us:
            next_us = overdue_us
        self._rings_us = next_us + -next_us % self._tick_us
        self._alarm.set(self._rings_us)

    def _drained(self) -> None:
        """Answers came: what the alarm was set for may not be overdue any more."""
        if self._awaiting and not self._lazy:
            self._arm()

    def _alarmed(self) -> None:
        self._alarms += 1
        self._on_alarm()

    def _awake(self) -> bool:
        """Somebody's probe was answered: do what the alarm would fire for soon; True: nothing of the loop's."""
        if not self._lazy or self._rings_us > monotonic_us() + SOON_US:
            return True
        return self._fire(awake=True)

    def _fire(self, *, awake: bool = False) -> bool:
        """Do what is due; whether nothing of the event loop's was touched: nobody had to be told anything."""
        now_us, told = monotonic_us(), (self._alarms, self.reflex.changes)
        try:
            if self._lazy:
                self.sender.read()
            self._probe_peers(now_us, awake=awake)
            self.hot.due(now_us, self.sender, lambda: self.allowance.take(now_us, PATH_BYTES))
            self.checks.due(now_us, self.sender, lambda: self.allowance.take(now_us, PATH_BYTES))
            for watch, count in self.evidence.due(now_us):
                self._confirm(watch, count, now_us)
        finally:
            self._look()
            self._arm()  # whatever goes wrong with one probe, the next is sent
        return told == (self._alarms, self.reflex.changes)

    def _look(self) -> None:
        """Decide whether answers may wait."""
        lazy = self._seldom and not self.hot.targets
        if lazy != self._lazy:
            self._lazy = lazy
            self.sender.attend(not lazy)

    def _probe_peers(self, now_us: int, *, awake: bool) -> None:
        due = [(peer.node, peer.transport) for peer in self._schedule.due(now_us, awake=awake)]
        targets = [self._targets[key] for key in due]
        paid = [target for target in targets if self.allowance.take(now_us, _size(target))]
        watches = self.evidence.peers()
        for target, sequence in zip(paid, self.sender.send_all(paid) if paid else (), strict=True):
            if sequence is not None:
                watch = watches[target.row.peer, target.row.transport]
                self.evidence.sent(watch, sequence, now_us, target.last_port)

    def _confirm(self, watch: Watch, count: int, now_us: int) -> None:
        for _ in range(count):
            if not self.allowance.take(now_us, PATH_BYTES if watch.peer is None else PEER_BYTES, confirm=True):
                return
            port = watch.detector.confirm_port()
            if watch.peer is None:
                self.hot.send(watch, self.sender, port, now_us)
                continue
            target = self._targets.get((watch.peer.node, watch.peer.transport))
            sequence = None if target is None else self.sender.send(target, port)
            if sequence is not None:
                self.evidence.sent(watch, sequence, now_us, port)

    def _answered(self, target: Target, sequence: int, rtt_us: int, now_us: int) -> None:
        row = target.row
        if self._targets.get((row.peer, row.transport)) is target:
            watch = self.evidence.peer(row.peer, row.transport)
        else:
            watch = self.hot.watch_of(target)
        if watch is not None:
            self.evidence.answered(watch, sequence, rtt_us, now_us)


def _size(target: Target) -> int:
    size = (BASE_SIZE if target.key is None else AUTHENTICATED_SIZE) + IP_BYTES
    if target.follow_up:
        size += FOLLOW_UP_BYTES if target.key is None else FOLLOW_UP_BYTES + MAC_TLV_BYTES
    return size


def _open(opened: ExitStack, host: str, port: int) -> socket.socket:
    sock = open_udp(host, port)
    opened.callback(sock.close)
    return sock


_COLUMNS = tuple(field.name for field in fields(ReportRows) if field.name != "state")


def _columns(rows: ReportRows) -> list[tuple[Any, ...]]:
    return [getattr(rows, name) for name in _COLUMNS]


def _rows_of(rows: Sequence[tuple[object, ...]]) -> ReportRows:
    return ReportRows(*zip(*rows, strict=True)) if rows else ReportRows()


def _quiet_row(peer: str, transport: str) -> tuple[object, ...]:
    """A row in which nothing was closed: it is there for its state."""
    return (peer, transport, 0, 0, 0, 0, 0, -1, 0, 0, -1, 0, 0, (), (), ())
