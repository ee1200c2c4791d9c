"""One climb on a virtual clock: the real ``core.ramp`` judges, the real hash decides who is in the share."""

from __future__ import annotations

import heapq
from bisect import bisect_left
from dataclasses import dataclass, field, replace

import numpy as np

from bench.canary.users import HOUR_S, Defect, Hour, Users
from router.core import ramp as ramps
from router.core.dial import CONTROL_SPAN_PPM
from router.core.messages import AdvanceRamp, Climbed, Robot, Sample
from router.core.model import (
    DataCenter,
    DataCenterId,
    Intent,
    Inventory,
    Micros,
    Node,
    NodeId,
    Pool,
    PoolId,
    ProviderId,
    Ramp,
    RampId,
    RampKind,
    RampState,
    RegionId,
    Role,
)
from router.core.ramp import CALLS, RampBook, errands
from router.core.tables import DataCenterHealth, Health, LinkState, LinkTable, NodeStatus, View

NEW = DataCenterId("new-1")
PLACES = tuple(DataCenterId(name) for name in ("a-1", "b-1", "c-1", "new-1"))
US = 1_000_000
TICK_S, IDLE_S = 10.0, 60.0
HEARD_S, SETUP_S = 12.0, 2.0
RELAYED = 0.4  # of sessions have their agent behind a relay
ROBOTS_PER_TICK = 20
LONGEST_HOURS = 24 * 14


@dataclass(slots=True)
class Outcome:
    """How a climb went."""

    state: RampState
    reason: str
    hours: float
    exposed: int = 0  # sessions that met the new data center
    sessions: int = 0  # of the whole catchment since the first of its users may meet it
    by_time: int = 0  # rungs that were passed by time for want of users
    steps: list[str] = field(default_factory=list)

    @property
    def share(self) -> float:
        """Of the catchment's sessions, those that met it."""
        return self.exposed / max(1, self.sessions)


def climb(seed: int, defect: Defect | None, rate_per_s: float) -> Outcome:
    """Let one data center climb until it serves, or is rolled back."""
    return _Climb(seed, defect, rate_per_s).run()


class _Climb:
    def __init__(self, seed: int, defect: Defect | None, rate_per_s: float) -> None:
        self._defect, self._rng = defect, np.random.default_rng([seed, 11])
        self._users, self._book, self._view = Users(seed, NEW, rate_per_s), RampBook(), _view()
        self._book.put(ramps.begin(RampKind.NEW, NEW, RampId("r-1"), "bench", "bench", 0), 0)
        self._later: list[tuple[float, int, Sample]] = []
        self._number = 0
        self._heard = True
        self._found = Outcome(RampState.REGISTERED, "", 0.0)

    @property
    def _ramp(self) -> Ramp:
        return self._book.ramps[RampId("r-1")]

    def run(self) -> Outcome:
        """Hour by hour."""
        for number in range(LONGEST_HOURS):
            self._hour(self._users.hour(number), number)
            if self._ramp.state in (RampState.SERVING, RampState.ROLLED_BACK):
                break
        found, ramp = self._found, self._ramp
        found.state, found.reason, found.hours = ramp.state, ramp.reason, ramp.since / US / HOUR_S
        return found

    def _hour(self, hour: Hour, number: int) -> None:
        i, at_s, places = 0, hour.at_s.tolist(), hour.position_ppm.tolist()
        for tick in range(int(HOUR_S / TICK_S)):
            until = number * HOUR_S + (tick + 1) * TICK_S
            end = bisect_left(at_s, until, i)
            for k in range(i, end):
                self._arrive(hour, k, places[k])
            i = end
            self._hear(until)
            self._drive(until)
            if not self._ramp.open or self._ramp.state is RampState.ROLLED_BACK:
                return

    def _arrive(self, hour: Hour, i: int, at: int) -> None:
        """A session goes to the new data center, is of its control arm, or is nobody's: as steering has it."""
        ramp = self._ramp
        self._found.sessions += ramp.share_ppm > 0
        if not ramp.share_ppm or at >= ramp.share_ppm + CONTROL_SPAN_PPM:
            return
        share = next(dial.share_ppm for dc, dial in self._book.claims(self._view.inventory) if dc == NEW)
        if at < share + CONTROL_SPAN_PPM:
            self._start(hour, i, at < share)

    def _start(self, hour: Hour, i: int, canary: bool) -> None:
        bad = self._defect if canary else None
        draw, at, group = self._rng.random(3), float(hour.at_s[i]), f"as{int(hour.group[i])}"
        fails = float(hour.fails[i]) + (bad.setup_failures if bad is not None else 0.0)
        if bad is not None and bad.relayed_only and draw[1] < RELAYED:
            fails = 1.0
        self._found.exposed += canary
        failed = bool(draw[0] < fails)
        setup_us = int(hour.setup_ms[i] * 1000)
        self._book.observe(Climbed((Sample(NEW, canary, group, begun=True),)), int(at * US))
        self._say(at + SETUP_S, Sample(NEW, canary, group, settled=failed, set_up=not failed, setup_us=setup_us))
        if failed:
            return
        rtt = float(hour.rtt_ms[i]) + (bad.rtt_ms if bad is not None else 0.0)
        loss = float(hour.loss_ppm[i]) + (bad.loss_ppm * self._rng.lognormal(-0.08, 0.4) if bad is not None else 0.0)
        self._say(
            at + HEARD_S, Sample(NEW, canary, group, settled=True, rtt_us=int(rtt * 1000), loss_ppm=int(min(1e6, loss)))
        )
        self._say(at + float(hour.length_s[i]), Sample(NEW, canary, group, dropped=bool(draw[2] < 0.005)))

    def _say(self, at_s: float, sample: Sample) -> None:
        self._number += 1
        heapq.heappush(self._later, (at_s, self._number, sample))

    def _hear(self, until_s: float) -> None:
        while self._later and self._later[0][0] < until_s:
            at, _, sample = heapq.heappop(self._later)
            self._book.observe(Climbed((sample,)), int(at * US))
            self._heard = True

    def _robots(self) -> None:
        if self._ramp.state is RampState.SYNTHETIC:
            wanted = errands(self._view.inventory, NEW)
            draws = self._rng.random(ROBOTS_PER_TICK)
            robots = tuple(self._robot(wanted[i % len(wanted)], float(draws[i])) for i in range(ROBOTS_PER_TICK))
            self._book.observe(Climbed(robots=robots), self._view.now)

    def _robot(self, errand: str, draw: float) -> Robot:
        bad, fails = self._defect, 0.002
        if bad is not None and bad.robots:
            fails += bad.setup_failures if errand in CALLS else 0.0  # a probe sets nothing up
            if bad.relayed_only and errand not in ("direct", "media"):
                fails = 1.0
        return Robot(NEW, errand, draw >= fails, "was not set up")

    def _drive(self, now_s: float) -> None:
        if self._ramp.share_ppm and not self._heard and now_s % IDLE_S:
            return  # nothing has changed, and what is waited for takes minutes
        self._heard = False
        now = Micros(int(now_s * US))
        self._view = replace(
            self._view, now=now, ramps=dict(self._book.ramps), nodes={NodeId("new-1-n"): NodeStatus(now)}
        )
        self._robots()
        for effect in self._book.drive(self._view, now):
            if isinstance(effect, AdvanceRamp):
                after, _ = ramps.step(self._view, effect.ramp, effect.step, effect.reason, now, effect.exposed)
                self._found.by_time += effect.reason.startswith("by time")
                self._found.steps.append(f"{now_s / HOUR_S:.1f} h {effect.step}: {effect.reason}")
                self._book.put(replace(after, revision=after.revision + 1), now)


def _view() -> View:
    """Four data centers that all see each other; the newest has the intent canary."""
    centers = {
        dc: DataCenter(
            dc, ProviderId("p"), RegionId("r"), (Role.EDGE,), intent=Intent.CANARY if dc == NEW else Intent.SERVING
        )
        for dc in PLACES
    }
    nodes = {node: Node(node, dc, relay_port=7) for dc, node in ((dc, NodeId(f"{dc}-n")) for dc in PLACES)}
    shape, n = (1, len(PLACES), len(PLACES)), len(PLACES)
    zero, up = np.zeros(shape, np.int64), np.full(shape, LinkState.UP, np.uint8)
    links = LinkTable(PLACES, ("internet",), zero, zero, zero, zero, zero, zero, zero, zero, zero, zero, zero, up)
    health = tuple(DataCenterHealth(Health.UP) for _ in range(n))
    pools = {PoolId("main"): Pool(PoolId("main"))}
    return View(0, 1, Inventory(data_centers=centers, nodes=nodes, pools=pools), links, None, health)
