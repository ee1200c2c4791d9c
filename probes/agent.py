"""The probe agent of one node: joins, keeps its plan up to date, reports; the probing itself is ``probes.prober``.

Nothing the control plane does can stop the probing: without it the agent follows the last plan, which also lies on
disk, even past its expiry. A report that cannot be delivered is dropped, because the next one is better; retries back
off with jitter. What an operator must know (a refused key, a used-up join token, a control plane that is gone or back)
is logged once when it starts and once when it ends.
"""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from probes.backoff import Backoff
from probes.clock import Clock, ClockError
from probes.clock_file import ClockFile
from probes.local_api import LocalApi, LocalApiError
from probes.local_routes import LocalRoutes
from probes.prober import Prober
from probes.reactions import Reactions
from probes.reflex import Flip, Reflex, Way
from probes.relay import MEDIA_PORTS, Tunnel, TunnelError
from probes.sockets import Address, monotonic_us
from probes.state import Identity, StateDir, StateError
from probes.uplink import Refused, Unreachable, Uplink, token_digest
from probes.vantage import Network
from probes.vantage.errand import VantageErrand
from probes.wire import ProbePlan, ProbeReport, ReflexEvent, WireError
from probes.wire.report import MAX_REFLEXES

log = logging.getLogger("probes.agent")

EARLY_REPORT_S = 0.01  # from the first alarm to the report about it: a cause that hits one path often hits others
LEAST_REPORT_GAP_S = 0.1  # between reports
RESOLVE_AGAIN_US = 30_000_000  # for peers whose name did not resolve
KEYS_SPREAD = 10  # new keys are fetched up to a tenth of what the old ones lived later, not by everybody at once
KEEP_MONTH_S = 60.0  # between writings of what was sent this month
DEFAULT_INTERVAL_US = 1_000_000  # between reports before the first plan


@dataclass(frozen=True, slots=True)
class AgentConfig:
    """How one agent runs; ports may be 0 (any free one), ``relay_port`` is ``None`` when it does not relay."""

    node: str
    control_url: str
    state_dir: Path
    bind_host: str = "0.0.0.0"
    probe_port: int = 7420
    confirm_ports: tuple[int, ...] = ()  # further source ports, by which other parallel links are tried
    reflector_port: int = 7421
    relay_port: int | None = None
    join_token: str | None = None
    clock_offset_us: int = 0  # this and the next are injected clock errors, for the demo and for tests
    clock_skew_ppm: int = 0
    clock_file: Path | None = None  # the same from a file, and steps while it runs
    advertise_addresses: Mapping[str, str] = field(default_factory=dict)  # transport -> host others reach it at
    media_url: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    relay_delivers: frozenset[int] = MEDIA_PORTS  # besides the reflector's port
    local_api: Address | None = None  # loopback address and port; with it also a Unix socket in the state folder
    tunnel: Address | None = None  # a relay's ingress for the media server: likewise, with a Unix socket
    opt_out: tuple[Network, ...] = ()  # never asked as vantage targets
    relay_open: bool = False  # also take relayed packets that prove nothing, from addresses in the plan


class AgentError(Exception):
    """The agent cannot start or go on; the message says why and what to do."""


class ProbeAgent:
    """One node's agent; many may share an event loop and an HTTP client."""

    def __init__(
        self, config: AgentConfig, client: httpx.AsyncClient | None = None, rng: random.Random | None = None
    ) -> None:
        self.config = config
        self.plan: ProbePlan | None = None
        self.identity: Identity | None = None
        self.boot = secrets.token_hex(8)
        self._counters: Counter[str] = Counter()
        self._rng = rng or random.Random()
        self._client = client or httpx.AsyncClient()
        self._owns_client = client is None
        self._uplink = Uplink(self._client, config.control_url)
        self._clock = Clock(config.clock_offset_us, config.clock_skew_ppm, time.time_ns() // 1_000)
        self._prober: Prober | None = None
        self.reflex = Reflex(config.node)
        self._flips: deque[ReflexEvent] = deque(maxlen=MAX_REFLEXES)  # not yet told to the control plane
        self._alarm = asyncio.Event()
        self._joined = asyncio.Event()
        self._control: asyncio.Task[None] | None = None
        self._routing: asyncio.Task[None] | None = None
        self.local: LocalApi | None = None
        self.tunnel: Tunnel | None = None
        self._clock_watch: asyncio.Task[None] | None = None
        self._vantage_task: asyncio.Task[None] | None = None
        self._month_task: asyncio.Task[None] | None = None
        self._keyless = False  # whether the saved plan came without keys: it is fetched again, once
        self._keys_until_us: int | None = None  # monotonic; then the plan is fetched again
        self.vantage = VantageErrand(
            self._tell_beacons,
            (Refused, Unreachable),
            bind_host=config.bind_host,
            opt_out=config.opt_out,
            phase=self._rng,
        )
        self._backoff = Backoff(self._rng)
        self._sequence = 0
        self._stopped = False

    # --- life --------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Open the sockets, probe by the plan on disk if there is one, and begin talking to the control plane."""
        try:
            self._state = StateDir(self.config.state_dir)
            self.identity = self._state.load_identity(self.config.node)
        except StateError as error:
            raise AgentError(str(error)) from error
        if self.identity is None and not self.config.join_token:
            raise AgentError(f"node {self.config.node} has not joined, and no join token is given")
        self._follow_clock_file()
        config = self.config
        ports = (config.probe_port, config.reflector_port, config.relay_port)
        try:
            self._prober = Prober(
                config.bind_host,
                ports,
                self._clock,
                self._rng,
                config.relay_delivers,
                relay_open=config.relay_open,
                confirm_ports=config.confirm_ports,
                reflex=self.reflex,
                on_alarm=self._alarmed,
            )
        except OSError as error:
            raise AgentError(f"cannot listen on {config.bind_host}, ports {ports}: {error.strerror}") from error
        month = self._state.load_month()
        if month is not None:
            self._prober.allowance.restore(month)
        self.reactions = Reactions(config.node, self.reflex, self._uplink, self._state, Backoff(self._rng))
        self.reactions.on_flips = self._flipped
        self._may_rejoin = self._token_is_new()
        if not self._may_rejoin:
            self.reactions.boot()
        await self._follow_saved_plan(self._prober)
        self._open_tunnel(self._prober)
        await self._serve_locally()
        self._month_task = asyncio.create_task(self._keep_month(self._prober), name=f"month {config.node}")
        self._vantage_task = asyncio.create_task(self.vantage.run(), name=f"vantage {config.node}")
        self._vantage_task.add_done_callback(self._ended)
        self._routing = asyncio.create_task(self._route(), name=f"routes {config.node}")
        self._routing.add_done_callback(self._ended)
        self._control = asyncio.create_task(self._talk(self._prober), name=f"agent {config.node}")
        self._control.add_done_callback(self._ended)

    async def wait(self) -> None:
        """Return when the agent has been stopped. Raises :class:`AgentError` if it cannot go on."""
        if self._control is not None:
            await asyncio.wait([self._control])
            if not self._control.cancelled():
                self._control.result()

    async def stop(self) -> None:
        """Stop probing, answering and relaying, and close everything; stopping again does nothing."""
        if self._stopped:
            return
        self._stopped = True
        for task in (self._control, self._routing, self._vantage_task, self._month_task):
            if task is not None:
                task.cancel()
                await asyncio.wait([task])
        if self._clock_watch is not None:
            self._clock_watch.cancel()
        if self.local is not None:
            await self.local.close()
        if self.tunnel is not None:
            self.tunnel.close()
        if self._prober is not None:
            self._save_month(self._prober)
            self._prober.close()
        if self._owns_client:
            await self._client.aclose()

    def _open_tunnel(self, prober: Prober) -> None:
        config = self.config
        if config.tunnel is None or prober.relay is None:
            return
        unix_path = self._state.path / "tunnel.sock"
        try:
            self.tunnel = Tunnel(
                prober.relay,
                lambda context, target: self.way(context, target).paths(),
                bind=config.tunnel,
                unix_path=unix_path,
            )
        except (OSError, TunnelError) as error:
            prober.close()
            raise AgentError(f"cannot open the tunnel on {config.tunnel} and {unix_path}: {error}") from error

    async def _serve_locally(self) -> None:
        if self.config.local_api is None:
            return
        local = LocalRoutes(self).api()
        try:
            await local.listen(*self.config.local_api, self._state.path / "local.sock")
        except LocalApiError as error:
            log.error("%s: %s; measuring and relaying go on without it", self.config.node, error)
            return
        self.local = local
        self.reflex.on_change = local.changed

    def _follow_clock_file(self) -> None:
        path = self.config.clock_file
        if path is None:
            return
        file = ClockFile(path, self._clock)
        try:
            file.read()
        except (OSError, ClockError) as error:
            raise AgentError(f"cannot take the clock's error from {path}: {error}") from error
        self._clock_watch = asyncio.create_task(file.watch(), name=f"clock {self.config.node}")

    @property
    def prober(self) -> Prober:
        """The data path of a started agent."""
        if self._prober is None:
            raise AgentError("the agent has not been started")
        return self._prober

    @property
    def failures(self) -> int:
        """Reports in a row that did not reach the control plane."""
        return self._backoff.failures

    def counters(self) -> Counter[str]:
        """Everything counted since the start."""
        routes = {f"reaction_plan.{name}": count for name, count in self.reactions.counters.items()}
        if self.local is not None:
            routes |= {f"local_api.{name}": count for name, count in self.local.counters.items()}
        if self.tunnel is not None:
            routes |= {f"tunnel.{name}": count for name, count in self.tunnel.counters.items()}
        routes |= {f"vantage.{name}": count for name, count in self.vantage.counters().items()}
        return self._counters + Counter(routes) + self.prober.counters()

    def way(self, context: str, target: str) -> Way:
        """Where to send packets of a context to a data center now."""
        return self.reflex.way(context, target, monotonic_us())

    # --- routes ------------------------------------------------------------------------------------------------------

    async def _route(self) -> None:
        await self._joined.wait()
        if self.identity is not None:
            await self.reactions.run(self.identity, self._plan_version)

    def _alarmed(self) -> None:
        """The prober's detectors have something to tell: routes changed, or a peer is down."""
        self._flipped(self.prober.take_alarms().flips)
        self._alarm.set()

    def _flipped(self, flips: Sequence[Flip]) -> None:
        if self.reflex.plan is not None:
            self.prober.evidence.use(self.reflex.plan.triggers)
        now_us = self._clock.read(time.time_ns() // 1_000)
        for flip in flips:
            level = logging.INFO if flip.by_plan else logging.WARNING
            path = "nothing" if flip.after is None else " > ".join(flip.after.path)
            log.log(
                level, "%s: %s to %s goes along %s: %s", self.config.node, flip.context, flip.target, path, flip.cause
            )
            if not flip.by_plan:
                if len(self._flips) == MAX_REFLEXES:
                    self._counters["reflexes_forgotten"] += 1
                self._flips.append(flip.event(now_us))

    # --- control plane -----------------------------------------------------------------------------------------------

    async def _talk(self, prober: Prober) -> None:
        await self._join_if_needed(prober)
        interval_s = self._interval_us() / 1e6
        await asyncio.sleep(self._rng.uniform(0, interval_s))  # many agents start together; their reports should not
        closed_us, resolved_us = monotonic_us(), monotonic_us()
        next_s = time.monotonic()
        while True:
            if time.monotonic() >= next_s:
                next_s = max(next_s + self._interval_us() / 1e6, time.monotonic())
            await self._interval_ends(next_s, closed_us)
            now_us = monotonic_us()
            report = self._close_report(prober, min(now_us - closed_us, 3_600_000_000))
            closed_us = now_us
            if self._backoff.over():
                await self._deliver(prober, report)
            else:
                self._counters["reports_dropped"] += 1
            if prober.unresolved and self.plan is not None and now_us - resolved_us > RESOLVE_AGAIN_US:
                resolved_us = now_us
                await prober.follow(self.plan)

    async def _interval_ends(self, at_s: float, closed_us: int) -> None:
        """Wait for the end of the interval, or for something that should be reported before."""
        try:
            async with asyncio.timeout(max(0.0, at_s - time.monotonic())):
                await self._alarm.wait()
                since_s = (monotonic_us() - closed_us) / 1e6
                await asyncio.sleep(max(EARLY_REPORT_S, LEAST_REPORT_GAP_S - since_s))
        except TimeoutError:
            pass
        else:
            self._counters["reports_early"] += 1
        self._alarm.clear()

    def _token_is_new(self) -> bool:
        token = self.config.join_token
        return token is not None and (self.identity is None or self.identity.token_digest != token_digest(token))

    async def _join_if_needed(self, prober: Prober) -> None:
        await self._join(prober)
        self._joined.set()

    async def _join(self, prober: Prober) -> None:
        token = self.config.join_token
        if token is None or not self._may_rejoin:
            return
        while True:
            try:
                identity, plan = await self._uplink.join(token, self._describe(prober))
            except Refused as error:
                if self.identity is None:
                    raise AgentError(f"cannot join as {self.config.node}: {error}") from error
                log.error("%s: the join token is refused (%s); going on as before", self.config.node, error)
                self.reactions.boot()
                return
            except Unreachable as error:
                self._failed("join", error)
                await asyncio.sleep(self._backoff.wait_s())
                continue
            self._keep(identity)
            self.reactions.forget()
            self._succeeded()
            await self._adopt(prober, plan)
            return

    def _keep(self, identity: Identity) -> None:
        try:
            self._state.save_identity(identity)
        except OSError as error:
            raise AgentError(f"joined, but cannot keep the identity in {self._state.path}: {error}") from error
        self.identity = identity

    async def _deliver(self, prober: Prober, report: ProbeReport) -> None:
        """Report, and fetch the plan if the answer says that there is another one."""
        if self.identity is None:  # cannot be: joining comes first
            return
        try:
            wanted = await self._uplink.report(self.identity, report)
            self._counters["reports_delivered"] += 1
            told = set(report.reflexes)
            while self._flips and self._flips[0] in told:
                self._flips.popleft()
            prober.confirm_plan()
            if self.plan is None or wanted != self.plan.plan_version or self._keyless or self._keys_are_old():
                await self._adopt(prober, await self._uplink.plan(self.identity))
        except (Refused, Unreachable) as error:
            self._counters["reports_failed"] += 1
            self._failed("report", error)
        else:
            self._succeeded()

    async def _adopt(self, prober: Prober, plan: ProbePlan) -> None:
        self.plan, self._keyless = plan, False
        spread_us = self._rng.uniform(0, plan.keys_for_us / KEYS_SPREAD)
        self._keys_until_us = monotonic_us() + plan.keys_for_us + int(spread_us) if plan.keys_for_us else None
        await prober.follow(plan)
        self.vantage.follow(plan)
        await self._acknowledge(plan)
        try:
            self._state.save_plan(plan)
        except OSError as error:
            log.warning("%s: the plan cannot be kept on disk: %s", self.config.node, error)
        log.info("%s: plan %d with %d peers", self.config.node, plan.plan_version, len(plan.peers))

    async def _acknowledge(self, plan: ProbePlan) -> None:
        if self.identity is None:
            return
        generation = self.reflex.plan.generation if self.reactions.etag and self.reflex.plan is not None else 0
        try:
            await self._uplink.acknowledge(self.identity, plan.plan_version, generation, self.reactions.etag)
        except (Refused, Unreachable):
            self._counters["acknowledgements_failed"] += 1  # the next one says it all again

    def _keys_are_old(self) -> bool:
        """Whether the period of the plan's keys is over; both sides take them for another one."""
        return self._keys_until_us is not None and monotonic_us() >= self._keys_until_us

    def _plan_version(self) -> int:
        return self.plan.plan_version if self.plan is not None else 0

    async def _follow_saved_plan(self, prober: Prober) -> None:
        try:
            self.plan = self._state.load_plan(self.config.node)
        except WireError as error:
            log.warning("%s: %s; waiting for the control plane", self.config.node, error)
        if self.plan is not None:
            self._keyless = not self.plan.own_key
            self._keys_until_us = 0 if self.plan.keys_for_us else None  # how long it has lain there is not known
            await prober.follow(self.plan)
            self.vantage.follow(self.plan)

    async def _tell_beacons(self, rows: list[dict[str, object]]) -> None:
        if self.identity is None:
            raise Unreachable("the node has not joined")
        await self._uplink.beacons(self.identity, rows)

    async def _keep_month(self, prober: Prober) -> None:
        while True:
            await asyncio.sleep(KEEP_MONTH_S)
            self._save_month(prober)

    def _save_month(self, prober: Prober) -> None:
        try:
            self._state.save_month(prober.allowance.state())
        except OSError as error:
            if not self._counters["month_unsaved"]:
                log.warning("%s: what was sent this month cannot be kept on disk: %s", self.config.node, error)
            self._counters["month_unsaved"] += 1

    def _close_report(self, prober: Prober, interval_us: int) -> ProbeReport:
        self._sequence += 1
        self._flipped(prober.take_alarms().flips)
        return ProbeReport(
            node=self.config.node,
            boot=self.boot,
            sequence=self._sequence,
            plan_version=self._plan_version(),
            sent_at_us=self._clock.read(time.time_ns() // 1_000),
            interval_us=interval_us,
            rows=prober.end_interval(),
            reflexes=tuple(self._flips),
            checks=prober.checks.end_interval(monotonic_us()),
        )

    def _describe(self, prober: Prober) -> dict[str, object]:
        """The node record that joining hands over."""
        config = self.config
        addresses = dict(config.advertise_addresses) or {"internet": config.bind_host}
        labels = dict(config.labels)
        if config.bind_host not in ("0.0.0.0", "::", *addresses.values()):
            labels["bind_host"] = config.bind_host  # ``tendril agent once --as NODE`` binds it
        return {
            "id": config.node,
            "addresses": addresses,
            "reflector_port": prober.reflector.address[1],
            "relay_port": prober.relay.address[1] if prober.relay is not None else 0,
            "media_url": config.media_url,
            "labels": labels,
        }

    def _interval_us(self) -> int:
        return self.plan.report_interval_us if self.plan is not None else DEFAULT_INTERVAL_US

    def _ended(self, control: asyncio.Task[None]) -> None:
        if not control.cancelled() and (error := control.exception()) is not None:
            unexpected = None if isinstance(error, AgentError) else error
            log.error("%s: reports end, probing goes on: %s", self.config.node, error, exc_info=unexpected)

    def _failed(self, what: str, error: Exception) -> None:
        if not self._backoff.failures:
            level = logging.ERROR if isinstance(error, Refused) else logging.WARNING
            log.log(level, "%s: %s failed, going on by the last plan: %s", self.config.node, what, error)
        self._backoff.fail()

    def _succeeded(self) -> None:
        if self._backoff.failures:
            log.info("%s: the control plane is back after %d failures", self.config.node, self._backoff.failures)
        self._backoff.reset()
