"""One simulated control plane in one simulated world: effects on virtual time, invariants after each input."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from random import Random
from typing import Protocol

import numpy as np

from probes.wire import ProbeReport
from router.core import drain as drains
from router.core.digest import fold
from router.core.messages import (
    AnnounceLaunches,
    AppendRouteChanges,
    Booted,
    Change,
    ClientsFitted,
    Committed,
    DriveLaunch,
    Effect,
    FitClients,
    Input,
    Judged,
    JudgeFault,
    KeepHistory,
    MakeSurvey,
    OpenAgents,
    Optimise,
    Optimised,
    PlansChanged,
    Record,
    Reported,
    RoutesPublished,
    ShowDrains,
    ShowRamps,
    Solve,
    Solved,
    SolveFailed,
    StepLaunch,
    Surveyed,
    Tick,
)
from router.core.model import (
    DataCenterId,
    DrainId,
    DrainMode,
    Event,
    Micros,
    PoolId,
    Selector,
    TrafficClass,
)
from router.core.plane import ControlPlane
from router.core.tables import DIRECT, Context, RouteTable
from router.jobs import JOBS
from router.sim.actions import Action, Operator
from router.sim.agents import SimAgent
from router.sim.clouds import Bought, Provision, SimClouds
from router.sim.engine import START, Engine, stream
from router.sim.faults import Fault, FaultPlayer, Kind
from router.sim.invariants import Invariants
from router.sim.mail import Mail
from router.sim.rows import Rows
from router.sim.session_rules import SessionRules
from router.sim.users import Crowd, Users
from router.sim.wishes import COMMIT_US, Wishes
from router.sim.world import World
from router.solver import optimum

SURVEY_US = 4_000  # how long the worker takes for a link table
SAVE_US = 5_000_000  # between two saves of the route table
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
        *,
        actions: tuple[Action, ...] = (),
        crowd: Crowd | None = None,
        provision: Provision | None = None,
    ) -> None:
        self.world = world
        self.engine = Engine(START)
        self.plane = plane or ControlPlane()
        self.rows = Rows(world.inventory)
        self.up = True
        self.digest = b""
        self.events: list[Event] = []
        self.moves: list[Move] = []
        self.published = 0
        self.inputs = 0
        self.counts: Counter[str] = Counter()
        self.violations: list[str] = []
        self.on_published: list[Callable[[], None]] = []
        self.on_fault: list[Callable[[Fault], None]] = []
        self.rules = SessionRules(self.rows, self._break)
        self.operator = Operator(self)
        self._wishes = Wishes(self)
        self._invariants = Invariants()
        self._recorder = recorder
        self._wake: Micros | None = None
        self._incarnation = 0  # of the control plane's process: what an earlier one began comes to nothing
        self._drains: dict[str, list[DrainId]] = {}
        self._saved: RouteTable | None = None
        self.table: RouteTable | None = None  # what nodes follow: the last one that was published
        self.faults = FaultPlayer(self.engine, world, self.busiest_relay, self._fault_begins, self._fault_ends)
        self._mail = Mail(self.engine, world.inventory, self.faults, stream(seed, "mail"), self._deliver, self.counts)
        self.submit(Booted(1, world.inventory, self.rows.counters()))
        for job in JOBS:
            if job.core:
                self.engine.every(int(job.period_s * 1e6), lambda name=job.name: self.submit(Tick(name)))  # type: ignore[misc]
        for number in range(1, len(world.slices)):
            self.engine.at(START + number * world.slice_us, lambda k=number: world.turn(k))  # type: ignore[misc]
        for fault in faults:
            self.faults.plan(fault, START)
        self.operator.plan(actions, START)
        self._start_agents(seed)
        self.engine.every(SAVE_US, self._save)
        self.clouds = None if provision is None else SimClouds(self, provision)
        self.users = None if crowd is None else Users(self, crowd, seed)

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

    @property
    def answers(self) -> bool:
        """Whether the control plane can be asked for anything that must be written."""
        return self.up and self.rows.reachable

    def submit(self, event: Input) -> None:
        """Hand one input to the core and carry out what it wants; nobody hears it while the control plane is down."""
        if not self.up:
            return
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

    def commit(self, changes: tuple[Change, ...]) -> None:
        """Tell the core what was written."""
        if changes:
            self.world.inventory = self.rows.inventory
            self.submit(Committed(changes))

    def note_unserved(self, pool: PoolId, edge: DataCenterId) -> None:
        """A session found no agent; it is demand all the same."""
        if self.clouds is not None:
            self.clouds.unserved[pool, edge] = self.clouds.unserved.get((pool, edge), 0) + 1

    def drain(self, data_center: DataCenterId, mode: DrainMode = DrainMode.HARD) -> DrainId:
        """Open a drain as an operator would."""
        request = drains.DrainRequest(Selector(data_center=data_center), mode, reason="simulated")
        return self.operator.open(request).id

    def undo(self, drain: DrainId) -> None:
        """Undo a drain."""
        self.operator.step(drain, "undo")

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
            self._later(at - self.engine.now, lambda: self.submit(Tick("wake")))

    def _later(self, delay_us: int, action: Callable[[], None]) -> None:
        """Let this process of the control plane do something later, if it still runs then."""
        mine = self._incarnation
        self.engine.at(self.engine.now + delay_us, lambda: action() if mine == self._incarnation else None)

    def _deliver(self, report: ProbeReport) -> None:
        self.submit(Reported(report))

    def _execute(self, effect: Effect) -> None:
        match effect:
            case MakeSurvey():
                self._survey(effect)
            case FitClients():
                model = effect.census.fit()
                self._later(SURVEY_US, lambda: self.submit(ClientsFitted(model)))
            case JudgeFault():
                judgement = effect.case.judged()
                self._later(SURVEY_US, lambda: self.submit(Judged(judgement)))
            case Solve():
                self._solve(effect)
            case RoutesPublished():
                self._note_published()
            case Record():
                self.events.append(effect.event)
            case PlansChanged():
                for id, agent in self.agents.items():
                    if id in self.rows.inventory.nodes:
                        agent.replace_plan(self.plane.plan(id, self.engine.now))
            case Optimise() | AnnounceLaunches() | DriveLaunch() | StepLaunch() | OpenAgents():
                self._about_capacity(effect)
            case ShowDrains() | ShowRamps() | KeepHistory() | AppendRouteChanges():
                pass  # for people
            case _:
                wish = effect
                self._later(self._wishes.delay_us(wish), lambda: self._wishes.carry_out(wish))

    def _survey(self, effect: MakeSurvey) -> None:
        survey = effect.window.survey()
        self._later(SURVEY_US, lambda: self.submit(Surveyed(survey)))

    def _about_capacity(self, effect: Optimise | Bought) -> None:
        if isinstance(effect, Optimise):
            answer = Optimised(effect.shopping.number, optimum(effect.shopping.asked.linear))
            self._later(SOLVE_US, lambda: self.submit(answer))
        elif self.clouds is not None:
            clouds = self.clouds
            self._later(COMMIT_US, lambda: clouds.carry_out(effect))

    def _solve(self, effect: Solve) -> None:
        asked = effect.question.generation
        try:
            answer = effect.question.answer()
        except (ValueError, ArithmeticError) as error:  # the shell would say the same
            text = f"{type(error).__name__}: {error}"
            self._break(f"generation {asked} could not be solved: {text}")
            failed = SolveFailed(asked, text)
            self._later(SOLVE_US, lambda: self.submit(failed))
            return
        slow = self.faults.active_of(Kind.SLOW_SOLVER)
        delay_us = SOLVE_US + max((round(f.number("delay_s") * 1e6) for f in slow), default=0)
        patience_us = min((round(f.number("give_up_s") * 1e6) for f in slow if f.number("give_up_s")), default=0)
        if patience_us and patience_us < delay_us:
            given_up = SolveFailed(asked, f"no answer within {patience_us / 1e6:g} s")
            self._later(patience_us, lambda: self.submit(given_up))
        for again in range(max((round(f.number("answers")) for f in slow), default=1)):
            self._later(delay_us + again * SOLVE_US, lambda: self.submit(Solved(answer)))

    def _note_published(self) -> None:
        self.published += 1
        before, self.table = self.table, self.plane.view.routes
        now = self.table
        if before is not None and now is not None and before.snapshot.data_centers == now.snapshot.data_centers:
            b, c = before.snapshot.contexts.index(JUDGED), now.snapshot.contexts.index(JUDGED)
            both = before.reachable[b] & now.reachable[c]
            changed = both & (before.relays[b] != now.relays[c]).any(axis=-1)
            self.moves += [Move(self.engine.now, u, v) for u, v in np.argwhere(changed).tolist()]
        for listen in self.on_published:
            listen()

    def _fault_begins(self, fault: Fault) -> None:
        self.counts[f"faults_{fault.kind.value}"] += 1
        match fault.kind:
            case Kind.DRAIN:
                mode = DrainMode(fault.what or DrainMode.HARD)
                self._drains[fault.id] = [self.drain(dc, mode) for dc in self.faults.targets[fault.id]]
            case Kind.STORE_OUTAGE:
                self.rows.reachable = False
            case Kind.RESTART:
                self.up = False
                self._incarnation += 1
        for listen in self.on_fault:
            listen(fault)

    def _fault_ends(self, fault: Fault) -> None:
        for id in self._drains.pop(fault.id, []):
            self.undo(id)
        if fault.kind is Kind.STORE_OUTAGE:
            self.rows.reachable = not self.faults.active_of(Kind.STORE_OUTAGE)
        if not self.up and not self.faults.active_of(Kind.RESTART):
            self._boot_again()

    def _save(self) -> None:
        if self.answers:
            self._saved = self.plane.view.routes

    def _boot_again(self) -> None:
        """A new process starts from the rows and the last route table that was saved."""
        if not self.rows.reachable:
            self.engine.at(self.engine.now + 1_000_000, self._boot_again)
            return
        rows, saved = self.rows, self._saved
        rows.epoch += 1
        self.up, self.plane, self._wake = True, ControlPlane(), None
        table = None if saved is None else replace(saved, stale=True, regret=None)
        drained, ramped = tuple(rows.drains.values()), tuple(rows.ramps.values())
        self.submit(Booted(rows.epoch, rows.inventory, rows.counters(), drained, table, rows.flows(), ramped))
        for id, agent in self.agents.items():
            if id in rows.inventory.nodes:
                agent.replace_plan(self.plane.plan(id, self.engine.now))
        if self.users is not None:
            self.users.upkeep.restarted()
