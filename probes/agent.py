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
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from probes.clock import Clock
from probes.prober import Prober
from probes.relay import MEDIA_PORTS
from probes.sockets import monotonic_us
from probes.state import Identity, StateDir, StateError
from probes.uplink import Refused, Unreachable, Uplink, token_digest
from probes.wire import ProbePlan, ProbeReport, WireError

log = logging.getLogger("probes.agent")

FIRST_RETRY_S = 1.0
LAST_RETRY_S = 2.0  # a control plane that comes back hears from everybody within this time
RESOLVE_AGAIN_US = 30_000_000  # for peers whose name did not resolve
DEFAULT_INTERVAL_US = 1_000_000  # between reports before the first plan


@dataclass(frozen=True, slots=True)
class AgentConfig:
    """How one agent runs; ports may be 0 (any free one), ``relay_port`` is ``None`` when it does not relay."""

    node: str
    control_url: str
    state_dir: Path
    bind_host: str = "0.0.0.0"
    probe_port: int = 7420
    reflector_port: int = 7421
    relay_port: int | None = None
    join_token: str | None = None
    clock_offset_us: int = 0  # this and the next are injected clock errors, for the demo and for tests
    clock_skew_ppm: int = 0
    advertise_addresses: Mapping[str, str] = field(default_factory=dict)  # transport -> host others reach it at
    media_url: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    relay_delivers: frozenset[int] = MEDIA_PORTS  # besides the reflector's port


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
        self._control: asyncio.Task[None] | None = None
        self._backoff = Backoff(self._rng)
        self._sequence = 0

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
        config = self.config
        ports = (config.probe_port, config.reflector_port, config.relay_port)
        try:
            self._prober = Prober(config.bind_host, ports, self._clock, self._rng, config.relay_delivers)
        except OSError as error:
            raise AgentError(f"cannot listen on {config.bind_host}, ports {ports}: {error.strerror}") from error
        await self._follow_saved_plan(self._prober)
        self._control = asyncio.create_task(self._talk(self._prober), name=f"agent {config.node}")
        self._control.add_done_callback(self._ended)

    async def wait(self) -> None:
        """Return when the agent has been stopped. Raises :class:`AgentError` if it cannot go on."""
        if self._control is not None:
            await asyncio.wait([self._control])
            if not self._control.cancelled():
                self._control.result()

    async def stop(self) -> None:
        """Stop probing, answering and relaying, and close everything."""
        if self._control is not None:
            self._control.cancel()
            await asyncio.wait([self._control])
        if self._prober is not None:
            self._prober.close()
        if self._owns_client:
            await self._client.aclose()

    @property
    def prober(self) -> Prober:
        """The data path of a started agent."""
        if self._prober is None:
            raise AgentError("the agent has not been started")
        return self._prober

    def counters(self) -> Counter[str]:
        """Everything counted since the start."""
        return self._counters + self.prober.counters()

    # --- control plane -----------------------------------------------------------------------------------------------

    async def _talk(self, prober: Prober) -> None:
        await self._join_if_needed(prober)
        interval_s = self._interval_us() / 1e6
        await asyncio.sleep(self._rng.uniform(0, interval_s))  # many agents start together; their reports should not
        closed_us, resolved_us = monotonic_us(), monotonic_us()
        next_s = time.monotonic()
        while True:
            next_s = max(next_s + self._interval_us() / 1e6, time.monotonic())
            await asyncio.sleep(next_s - time.monotonic())
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

    async def _join_if_needed(self, prober: Prober) -> None:
        token = self.config.join_token
        if token is None or (self.identity is not None and self.identity.token_digest == token_digest(token)):
            return
        while True:
            try:
                identity, plan = await self._uplink.join(token, self._describe(prober))
            except Refused as error:
                if self.identity is None:
                    raise AgentError(f"cannot join as {self.config.node}: {error}") from error
                log.error("%s: the join token is refused (%s); going on as before", self.config.node, error)
                return
            except Unreachable as error:
                self._failed("join", error)
                await asyncio.sleep(self._backoff.wait_s())
                continue
            self._keep(identity)
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
            if self.plan is None or wanted != self.plan.plan_version:
                await self._adopt(prober, await self._uplink.plan(self.identity))
        except (Refused, Unreachable) as error:
            self._counters["reports_failed"] += 1
            self._failed("report", error)
        else:
            self._succeeded()

    async def _adopt(self, prober: Prober, plan: ProbePlan) -> None:
        self.plan = plan
        await prober.follow(plan)
        try:
            self._state.save_plan(plan)
        except OSError as error:
            log.warning("%s: the plan cannot be kept on disk: %s", self.config.node, error)
        log.info("%s: plan %d with %d peers", self.config.node, plan.plan_version, len(plan.peers))

    async def _follow_saved_plan(self, prober: Prober) -> None:
        try:
            self.plan = self._state.load_plan(self.config.node)
        except WireError as error:
            log.warning("%s: %s; waiting for the control plane", self.config.node, error)
        if self.plan is not None:
            await prober.follow(self.plan)

    def _close_report(self, prober: Prober, interval_us: int) -> ProbeReport:
        self._sequence += 1
        return ProbeReport(
            node=self.config.node,
            boot=self.boot,
            sequence=self._sequence,
            plan_version=self.plan.plan_version if self.plan is not None else 0,
            sent_at_us=self._clock.read(time.time_ns() // 1_000),
            interval_us=interval_us,
            rows=prober.end_interval(),
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


class Backoff:
    """When to try again: after twice as long each time, up to a limit, by chance up to half of it earlier."""

    def __init__(self, rng: random.Random, first_s: float = FIRST_RETRY_S, last_s: float = LAST_RETRY_S) -> None:
        self.failures = 0
        self._rng = rng
        self._first_s = first_s
        self._last_s = last_s
        self._again_s = 0.0

    def fail(self) -> None:
        """Note a failure."""
        delay_s = min(self._last_s, self._first_s * 2.0 ** min(self.failures, 16))
        self.failures += 1
        self._again_s = time.monotonic() + delay_s * self._rng.uniform(0.5, 1.0)

    def reset(self) -> None:
        """Note a success."""
        self.failures = 0
        self._again_s = 0.0

    def wait_s(self) -> float:
        """Seconds until the next try."""
        return max(0.0, self._again_s - time.monotonic())

    def over(self) -> bool:
        """Whether the next try may be made."""
        return self.wait_s() == 0.0
