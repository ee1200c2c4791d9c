"""One simulated control plane in one simulated world: effects on virtual time, invariants after each input."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from probes.wire import ProbeReport
from router.core import drain as drains
from router.core.digest import fold
from router.core.messages import (
    AdvanceDrain,
    Booted,
    Committed,
    DrainChanged,
    Effect,
    FinishDrain,
    Input,
    Moved,
    MoveSessions,
    PlansChanged,
    Record,
    Reported,
    ResourcesChanged,
    RoutesPublished,
    Solve,
    Solved,
    Tick,
)
from router.core.model import Counters, DataCenterId, Drain, DrainId, DrainMode, Event, Intent, Micros, Selector
from router.core.plane import ControlPlane
from router.core.solve import solve
from router.core.tables import DIRECT
from router.jobs import JOBS
from router.sim.agents import SimAgent
from router.sim.engine import Engine, stream
from router.sim.world import World

START: Micros = 1_700_000_000_000_000  # any fixed moment; runs must not depend on the calendar
SOLVE_US = 8_000


class Simulation:
    """Drives a core; ``violations`` collects every broken invariant with its time."""

    def __init__(self, world: World, seed: int, plane: ControlPlane | None = None) -> None:
        self.world = world
        self.engine = Engine(START)
        self.plane = plane or ControlPlane()
        self.digest = b""
        self.events: list[Event] = []
        self.published = 0
        self.violations: list[str] = []
        self.inputs: list[tuple[Micros, Input]] = []
        self._generation = 0
        self._wake: Micros | None = None
        self.submit(Booted(1, world.inventory, Counters()))
        for job in JOBS:
            if job.core:
                self.engine.every(int(job.period_s * 1e6), lambda name=job.name: self.submit(Tick(name)))  # type: ignore[misc]
        self.agents = {
            node.id: SimAgent(self.engine, world, node, stream(seed, f"agent/{node.id}"), self._report)
            for node in world.inventory.nodes.values()
        }
        for agent in self.agents.values():
            agent.peers = self.agents
        for id, agent in self.agents.items():
            agent.start(self.plane.plan(id, self.engine.now))

    def run(self, seconds: float) -> None:
        """Let virtual time pass."""
        self.engine.run_until(self.engine.now + int(seconds * 1e6))

    def submit(self, event: Input) -> None:
        """Hand one input to the core and carry out what it wants."""
        self.inputs.append((self.engine.now, event))
        effects = self.plane.handle(event, self.engine.now)
        self.digest = fold(self.digest, effects, self.plane.view)
        for effect in effects:
            self._execute(effect)
        self._check()
        at = self.plane.next_wakeup()
        if at is not None and at != self._wake:
            self._wake = at
            self.engine.at(at, lambda: self.submit(Tick("wake")))

    def drain(self, data_center: DataCenterId, mode: DrainMode = DrainMode.HARD) -> DrainId:
        """Open a drain as an operator would."""
        view, now = self.plane.view, self.engine.now
        request = drains.DrainRequest(Selector(data_center=data_center), mode, reason="simulated")
        plan = drains.preflight(view, request, now)
        drain, intents = drains.open_drain(view, request, plan, DrainId(f"d-{len(view.drains) + 1}"), "sim", now)
        self._commit_intents(intents, drain)
        return drain.id

    def undo(self, drain: DrainId) -> None:
        """Undo a drain."""
        changed, intents = drains.undo(self.plane.view, drain, self.engine.now)
        self._commit_intents(intents, changed)

    def _commit_intents(self, intents: Mapping[DataCenterId, Intent], drain: Drain) -> None:
        centers = self.plane.view.inventory.data_centers
        changed = tuple(replace(centers[dc], intent=i, revision=centers[dc].revision + 1) for dc, i in intents.items())
        self.submit(Committed((ResourcesChanged(changed), DrainChanged(drain))))

    def _report(self, report: ProbeReport) -> None:
        self.submit(Reported(report))

    def _execute(self, effect: Effect) -> None:
        match effect:
            case Solve():
                candidate = solve(effect.snapshot)
                self.engine.at(self.engine.now + SOLVE_US, lambda: self.submit(Solved(candidate)))
            case RoutesPublished():
                self.published += 1
            case Record():
                self.events.append(effect.event)
            case MoveSessions():
                left = max(0, self.plane.view.counters.sessions.get(effect.data_center, 0) - effect.limit)
                done = Moved(effect.data_center, effect.limit, 0, left)
                self.engine.at(self.engine.now + 50_000, lambda: self.submit(done))
            case FinishDrain():
                drain, intents = drains.step(self.plane.view, effect.drain, "empty", self.engine.now)
                self.engine.at(self.engine.now + 5_000, lambda: self._commit_intents(intents, drain))
            case AdvanceDrain():
                changed, steps = drains.step(self.plane.view, effect.drain, effect.step, self.engine.now)
                self.engine.at(self.engine.now + 5_000, lambda: self._commit_intents(steps, changed))
            case PlansChanged():
                for id, agent in self.agents.items():
                    agent.replace_plan(self.plane.plan(id, self.engine.now))
            case _:
                pass  # history is for people

    def _check(self) -> None:
        """What must hold after every input."""
        view = self.plane.view
        if view.generation < self._generation:
            self.violations.append(f"{self.engine.now}: generation went back from {self._generation}")
        self._generation = view.generation
        table = view.routes
        if table is None or self.plane.pending_snapshot is not None:
            return
        settled = table.snapshot.inventory_count == view.inventory_count
        for c in range(len(table.snapshot.contexts)):
            used = set(table.relays[c][table.reachable[c]].ravel().tolist()) - {DIRECT}
            for k in sorted(used):
                dc = view.inventory.data_centers.get(table.snapshot.data_centers[k])
                if settled and dc is not None and not dc.intent.relays:
                    self.violations.append(
                        f"{self.engine.now}: a route in force relays over {dc.id}, {dc.intent.value}"
                    )
