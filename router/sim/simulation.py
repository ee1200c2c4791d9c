"""One simulated control plane in one simulated world: effects on virtual time, invariants after each input."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from random import Random
from typing import Protocol

import numpy as np

from probes.wire import ProbeReport
from router.core import drain as drains
from router.core.digest import fold
from router.core.messages import (
    AdvanceDrain,
    Booted,
    ClientsFitted,
    Committed,
    DrainChanged,
    Effect,
    FinishDrain,
    FitClients,
    Input,
    MakeSurvey,
    Moved,
    MoveSessions,
    PlansChanged,
    Record,
    Reported,
    ResourcesChanged,
    RoutesPublished,
    Solve,
    Solved,
    SolveFailed,
    Surveyed,
    Tick,
)
from router.core.model import (
    Counters,
    DataCenterId,
    Drain,
    DrainId,
    DrainMode,
    Event,
    Intent,
    Micros,
    Selector,
    TrafficClass,
)
from router.core.plane import ControlPlane
from router.core.tables import DIRECT, Context, RouteTable
from router.jobs import JOBS
from router.sim.agents import SimAgent
from router.sim.engine import START, Engine, stream
from router.sim.faults import Fault, FaultPlayer, Kind
from router.sim.invariants import Invariants
from router.sim.mail import Mail
from router.sim.world import World

SURVEY_US = 4_000  # how long the worker takes for a link table
SOLVE_US = 8_000  # how long the worker takes when nothing is wrong with it
JUDGED = Context(TrafficClass.VOICE)  # the routes that expectations are about


class Recorder(Protocol):
    """What keeps the inputs for a replay; ``runtime.recorder.FlightRecorder`` is one."""

    def record(self, plane: ControlPlane, event: Input, now: Micros, effects: list[Effect]) -> None:
        """Note one handled input and what it led to."""


@dataclass(frozen=True, slots=True)
class Move:
    """The path in force of an ordered pair of vertices became another one (never: its first one)."""

    at: Micros
    source: int
    target: int


class Simulation:
    """Drives a core; ``violations`` collects every broken invariant with its time."""

    def __init__(
        self,
        world: World,
        seed: int,
        plane: ControlPlane | None = None,
        faults: Iterable[Fault] = (),
        recorder: Recorder | None = None,
    ) -> None:
        self.world = world
        self.engine = Engine(START)
        self.plane = plane or ControlPlane()
        self.digest = b""
        self.events: list[Event] = []
        self.moves: list[Move] = []
        self.published = 0
        self.inputs = 0
        self.counts: Counter[str] = Counter()
        self.violations: list[str] = []
        self.on_published: list[Callable[[], None]] = []
        self.on_fault: list[Callable[[Fault], None]] = []
        self._invariants = Invariants()
        self._recorder = recorder
        self._wake: Micros | None = None
        self._drains: dict[str, list[DrainId]] = {}
        self._seen: RouteTable | None = None
        self.faults = FaultPlayer(self.engine, world, self.busiest_relay, self._fault_begins, self._fault_ends)
        self._mail = Mail(self.engine, world.inventory, self.faults, stream(seed, "mail"), self._deliver, self.counts)
        self.submit(Booted(1, world.inventory, Counters()))
        for job in JOBS:
            if job.core:
                self.engine.every(int(job.period_s * 1e6), lambda name=job.name: self.submit(Tick(name)))  # type: ignore[misc]
        for number in range(1, len(world.slices)):
            self.engine.at(START + number * world.slice_us, lambda k=number: world.turn(k))  # type: ignore[misc]
        for fault in faults:
            self.faults.plan(fault, START)
        self._start_agents(seed)

    def _start_agents(self, seed: int) -> None:
        def rng(name: str) -> Random:
            return stream(seed, f"agent/{name}")

        self.agents = {
            node.id: SimAgent(self.engine, self.world, node, rng(node.id), self._mail.send)
            for node in self.world.inventory.nodes.values()
        }
        for agent in self.agents.values():
            agent.peers = self.agents
        for id, agent in self.agents.items():
            agent.start(self.plane.plan(id, self.engine.now))

    # --- what scenarios and tests do ---------------------------------------------------------------------------------

    def run(self, seconds: float) -> None:
        """Let virtual time pass."""
        self.engine.run_until(self.engine.now + int(seconds * 1e6))

    def submit(self, event: Input) -> None:
        """Hand one input to the core and carry out what it wants."""
        self.inputs += 1
        before, pending = self.plane.view, self.plane.pending_question
        awaited = None if pending is None else pending.generation
        late = isinstance(event, Solved) and event.answer.generation != awaited
        self.counts["late_answers"] += late
        effects = self.plane.handle(event, self.engine.now)
        self.digest = fold(self.digest, effects, self.plane.view)
        if self._recorder is not None and not late:  # a replay solves by itself and asks nothing twice
            self._recorder.record(self.plane, event, self.engine.now, effects)
        for effect in effects:
            self._execute(effect)
        for text in self._invariants.check(event, awaited, before, self.plane.view):
            self._break(text)
        self._wake_up()

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

    def paths(self) -> dict[tuple[int, int], tuple[int, ...]]:
        """Vertices of the path in force of every ordered pair that has one, ends included, in the judged context."""
        table = self.plane.view.routes
        if table is None:
            return {}
        c = table.snapshot.contexts.index(JUDGED)
        pairs = np.argwhere(table.reachable[c]).tolist()
        return {(u, v): (u, *(int(k) for k in table.relays[c, u, v] if k != DIRECT), v) for u, v in pairs if u != v}

    def busiest_relay(self) -> DataCenterId | None:
        """The data center over which most paths in force relay, the first of several; ``None`` if all are direct."""
        relays = Counter(k for path in self.paths().values() for k in path[1:-1])
        if not relays:
            return None
        return tuple(self.plane.view.inventory.data_centers)[min(relays, key=lambda k: (-relays[k], k))]

    # --- inside ------------------------------------------------------------------------------------------------------

    def _break(self, text: str) -> None:
        self.violations.append(f"{(self.engine.now - START) / 1e6:.3f} s: {text}")

    def _wake_up(self) -> None:
        at = self.plane.next_wakeup()
        if at is not None and at != self._wake:
            self._wake = at
            self.engine.at(at, lambda: self.submit(Tick("wake")))

    def _commit_intents(self, intents: Mapping[DataCenterId, Intent], drain: Drain) -> None:
        centers = self.plane.view.inventory.data_centers
        changed = tuple(replace(centers[dc], intent=i, revision=centers[dc].revision + 1) for dc, i in intents.items())
        self.submit(Committed((ResourcesChanged(changed), DrainChanged(drain))))

    def _deliver(self, report: ProbeReport) -> None:
        self.submit(Reported(report))

    def _execute(self, effect: Effect) -> None:
        match effect:
            case MakeSurvey():
                self._survey(effect)
            case FitClients():
                model = effect.census.fit()
                self.engine.at(self.engine.now + SURVEY_US, lambda: self.submit(ClientsFitted(model)))
            case Solve():
                self._solve(effect)
            case RoutesPublished():
                self._note_published()
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

    def _survey(self, effect: MakeSurvey) -> None:
        survey = effect.window.survey()
        self.engine.at(self.engine.now + SURVEY_US, lambda: self.submit(Surveyed(survey)))

    def _solve(self, effect: Solve) -> None:
        asked = effect.question.generation
        try:
            answer = effect.question.answer()
        except (ValueError, ArithmeticError) as error:  # the shell would say the same
            text = f"{type(error).__name__}: {error}"
            self._break(f"generation {asked} could not be solved: {text}")
            failed = SolveFailed(asked, text)
            self.engine.at(self.engine.now + SOLVE_US, lambda: self.submit(failed))
            return
        slow = self.faults.active_of(Kind.SLOW_SOLVER)
        delay_us = SOLVE_US + max((round(f.number("delay_s") * 1e6) for f in slow), default=0)
        patience_us = min((round(f.number("give_up_s") * 1e6) for f in slow if f.number("give_up_s")), default=0)
        if patience_us and patience_us < delay_us:
            given_up = SolveFailed(asked, f"no answer within {patience_us / 1e6:g} s")
            self.engine.at(self.engine.now + patience_us, lambda: self.submit(given_up))
        for again in range(max((round(f.number("answers")) for f in slow), default=1)):
            self.engine.at(self.engine.now + delay_us + again * SOLVE_US, lambda: self.submit(Solved(answer)))

    def _note_published(self) -> None:
        self.published += 1
        before, self._seen = self._seen, self.plane.view.routes
        now = self._seen
        if before is not None and now is not None and before.snapshot.data_centers == now.snapshot.data_centers:
            b, c = before.snapshot.contexts.index(JUDGED), now.snapshot.contexts.index(JUDGED)
            both = before.reachable[b] & now.reachable[c]
            changed = both & (before.relays[b] != now.relays[c]).any(axis=-1)
            self.moves += [Move(self.engine.now, u, v) for u, v in np.argwhere(changed).tolist()]
        for listen in self.on_published:
            listen()

    def _fault_begins(self, fault: Fault) -> None:
        self.counts[f"faults_{fault.kind.value}"] += 1
        if fault.kind is Kind.DRAIN:
            mode = DrainMode(fault.what or DrainMode.HARD)
            self._drains[fault.id] = [self.drain(dc, mode) for dc in self.faults.targets[fault.id]]
        for listen in self.on_fault:
            listen(fault)

    def _fault_ends(self, fault: Fault) -> None:
        for id in self._drains.pop(fault.id, []):
            self.undo(id)
