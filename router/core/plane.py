"""The control plane as a state machine: ``handle(input, now) -> effects``, ``view``, ``next_wakeup``.

Synchronous and pure: no clock, no randomness, no I/O. The shell calls ``handle`` for one input at a time and carries
out what comes back; readers take ``view``, which is immutable. The pipeline inside: reports go to the estimator and the
health book. What takes long is done elsewhere, from frozen inputs: a tick asks for a survey, ``Surveyed`` brings the
next link table, a ``Solve`` effect asks for routes, ``Solved`` brings the next route table, decided by the switching
rule, and a new generation is published.

Before each solve ``brake`` is asked whether there is enough evidence to move routes at all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, assert_never

from probes.wire import PlanVantage, ProbePlan
from router.core.attention import Attention, Pairs, attention, differs, is_due
from router.core.blame import Case
from router.core.blame.desk import BlameDesk
from router.core.brake import Brake
from router.core.capacity import Buying
from router.core.capacity.desk import CapacityDesk, Shopping
from router.core.checkpoint import copied
from router.core.clients import Census
from router.core.clients.desk import ClientDesk
from router.core.committed import changes_plans, counted, followed, hurries, same_graph
from router.core.demand import DemandBook
from router.core.doubts import doubted
from router.core.drain import Calendar, DrainBook, Outcome, dials, on_tick
from router.core.errors import InputRejected
from router.core.estimate import Estimator
from router.core.health import HealthBook
from router.core.load import Damping, LoadBook
from router.core.messages import (
    AppendRouteChanges,
    Beaconed,
    Booted,
    Change,
    ClientsFitFailed,
    ClientsFitted,
    Climbed,
    Committed,
    CountersLoaded,
    DrainChanged,
    Effect,
    Input,
    Judged,
    JudgeFailed,
    KeepHistory,
    LaunchChanged,
    MakeSurvey,
    Moved,
    Observed,
    Optimised,
    OptimiseFailed,
    PlansChanged,
    Priced,
    RampChanged,
    Record,
    Reported,
    ResourcesChanged,
    RoutesPublished,
    SessionsChanged,
    Solve,
    Solved,
    SolveFailed,
    StockTaken,
    Surveyed,
    SurveyFailed,
    Tick,
)
from router.core.model import (
    Counters,
    DataCenterId,
    Drain,
    DrainId,
    Event,
    Inventory,
    Micros,
    NodeId,
    Ramp,
)
from router.core.ramp import MachineBook, RampBook, World, plan_checks
from router.core.reflexes import ReflexBook
from router.core.rollup import ClosedBucket, RollUp
from router.core.solve import Question, RouteLog, Switcher
from router.core.survey import Window
from router.core.tables import Dial, FreshRow, Health, NodeStatus, RouteTable, View
from router.core.topology import probe_plan
from router.core.vantage import Vantages, assign

GENERATION_BITS = 32  # below the epoch; together they stay under 2^53, which JavaScript reads exactly
FRESH_KEPT = 16  # reports of a data center between two link tables: one or two of each of its nodes
SOLVE_GAP_US = 50_000  # events close together share one solve
PATIENT_GAP_US = 500_000  # so do changes that nobody waits for: a fleet that is being written is solved twice a second


class ControlPlane:
    """All mutable state of the core; private to it."""

    def __init__(
        self,
        damping: Damping | None = None,
        calendar: Calendar | None = None,
        vantages: Vantages | None = None,
        buying: Buying | None = None,
    ) -> None:
        self._now: Micros = 0
        self._epoch = 0
        self._count = 0
        self._plan_count = 0
        self._inventory_count = 0
        self._booted_at: Micros = 0
        self._inventory = Inventory()
        self._estimator = Estimator(self._inventory)
        self._health = HealthBook(self._inventory)
        self._counters = Counters()
        self._drains: dict[DrainId, Drain] = {}
        self._ramps = RampBook()
        self._drain_dials: tuple[tuple[DataCenterId, Dial], ...] = ()
        self._nodes: dict[NodeId, NodeStatus] = {}
        self._reflexes = ReflexBook()
        self._table: RouteTable | None = None
        self._links, self._potential = self._estimator.table(0)
        self._evidence = self._estimator.history.evidence()  # of the moment of ``_links``
        self._window: Window | None = None  # what the outstanding survey is made of
        self._survey_count = 0
        self._gap_us = SOLVE_GAP_US  # from the last solve to the one that is wanted
        self._outdated = False  # that survey is of an inventory that is no more
        self._pending: Question | None = None
        self._wanted = False
        self._solved_at: Micros = 0
        self._wake: Micros | None = None
        self._brake = Brake()
        self._failure = ""
        self._demand = DemandBook()
        self._drain_book = DrainBook()
        self._calendar = calendar or Calendar()
        self._vantages = vantages or Vantages()
        self._asked: Mapping[NodeId, tuple[PlanVantage, ...]] = {}
        self._view: View | None = None
        self._base: View | None = None  # the last one, while nothing but reports came in since
        self._bucket_at: Micros = 0
        self._rolled = RollUp()
        self._route_log = RouteLog()
        self._switcher = Switcher()
        self._load = LoadBook(damping)
        self._attention: Attention | None = None  # of the probe plans
        self._attended_at: Micros = 0
        self._suspected: Pairs = ()  # at that time
        self._fresh: dict[int, tuple[FreshRow, ...]] = {}
        self._refused: dict[str, int] = {}
        self._clients = ClientDesk()
        self._capacity = CapacityDesk(buying)
        self._machines = MachineBook()
        self._blame = BlameDesk(self._inventory)

    # --- the contract with the shell ---------------------------------------------------------------------------------

    def handle(self, event: Input, now: Micros) -> list[Effect]:
        """Take one input; returns effects in the order in which they are to be carried out."""
        self._now = max(self._now, now)
        self._base = (self._view or self._base) if type(event) is Reported and not self._ramps.tried else None
        self._view = None
        match event:
            case Reported():
                return self._reported(event)
            case Tick():
                return self._tick(event.job)
            case Beaconed() | ClientsFitted() | ClientsFitFailed():
                return self._clients.take(event, self._inventory, self._now)
            case StockTaken() | Priced() | Optimised() | OptimiseFailed():
                return self._capacity.take(event, self._inventory, self._links, self._now) + self._proven(event)
            case Surveyed() | SurveyFailed() | Solved() | SolveFailed():
                return self._answered(event)
            case Observed() | Climbed() | Moved():
                return self._saw(event)
            case Judged() | JudgeFailed():
                return self._blame.answered(event, self._unreliable, self._now) + self._attend()
            case Committed():
                return self._committed(event.changes)
            case CountersLoaded():
                self._counters = event.counters
                if event.flows is not None:
                    self._load.count(event.flows)
                return []
            case Booted():
                return self._booted(event)
            case _:
                assert_never(event)

    def _saw(self, event: Observed | Climbed | Moved) -> list[Effect]:
        if isinstance(event, Moved):
            return self._moved(event)
        if isinstance(event, Observed):
            self._blame.observed(event, self._now)
            for one in event.outcomes:
                self._health.complain(one.edge, one.setup_failed, self._now)
        else:
            self._ramps.observe(event, self._now)
            self._machines.observe(event.samples, self._now)
        return []

    def _proven(self, event: Input) -> list[Effect]:
        """What bought machines that are canaries ask for whenever agents were counted."""
        if not isinstance(event, StockTaken):
            return []
        places = self._capacity.board.places
        return self._machines.drive(self._capacity.launches, places, event, self._blame.blame, self._now)

    @property
    def view(self) -> View:
        """Everything readers may see, immutable."""
        if self._view is None and self._base is not None:
            self._view = replace(self._base, now=self._now, **self._heard())
        elif self._view is None:
            self._view = View(
                now=self._now,
                epoch=self._epoch,
                inventory=self._inventory,
                links=self._links,
                routes=self._table,
                health=self._health.current,
                inventory_count=self._inventory_count,
                plan_version=self.plan_version,
                counters=self._counters,
                drains=dict(self._drains),
                ramps=dict(self._ramps.ramps),
                climbs=self._ramps.climbs(),
                dials=self._ramps.turned(self._drain_dials, self._inventory),
                lanes=self._ramps.lanes(),
                clients=self._clients.book.table,
                capacity=self._capacity.board,
                launches=self._capacity.launches,
                proofs=self._machines.proofs,
                blame=self._blame.blame,
                outcomes=self._blame.table,
                moved=self._blame.moved,
                flows=self._load.flows,
                demand=self._demand.current,
                progress=self._drain_book.progress,
                bad_at=dict(self._drain_book.bad_at),
                **self._heard(),
            )
        return self._view

    def _heard(self) -> dict[str, Any]:
        """The parts of a View that a report changes; with reports alone between two Views nothing else differs."""
        refused = {**self._estimator.refused, **self._clients.book.refused, **self._refused}
        return {"nodes": dict(self._nodes), "fresh": dict(self._fresh), "refused": refused}

    @property
    def inventory(self) -> Inventory:
        """That of the View, without making one."""
        return self._inventory

    def checkpoint(self) -> ControlPlane:
        """The state as it is now, for somebody to write down while this one goes on."""
        twin: ControlPlane = copied(self)
        return twin

    def next_wakeup(self) -> Micros | None:
        """When to send ``Tick("wake")`` at the latest; ``None`` if the periodic jobs are enough."""
        return self._wake

    @property
    def pending_question(self) -> Question | None:
        """What the outstanding ``Solve`` is about."""
        return self._pending

    @property
    def pending_window(self) -> Window | None:
        """What the outstanding ``MakeSurvey`` is about."""
        return self._window

    @property
    def pending_census(self) -> Census | None:
        """What the outstanding ``FitClients`` is about."""
        return self._clients.pending

    @property
    def pending_shopping(self) -> Shopping | None:
        """What the outstanding ``Optimise`` is about."""
        return self._capacity.pending

    @property
    def pending_case(self) -> Case | None:
        """What the outstanding ``JudgeFault`` is about."""
        return self._blame.pending

    @property
    def _unreliable(self) -> str:
        """Why nobody must be blamed now; empty when nothing speaks against it."""
        return "most data centers lose packets at once" if self._health.frozen else ""

    @property
    def plan_version(self) -> int:
        """Version of all probe plans; rises across restarts because the epoch does."""
        return (self._epoch << GENERATION_BITS) | self._plan_count

    def plan(self, node: NodeId, now: Micros) -> ProbePlan:
        """The probe plan of a node. Raises ``unknown_node``."""
        if node not in self._inventory.nodes:
            raise InputRejected("unknown_node", f"there is no node {node}", field="id")
        found = probe_plan(self._inventory, node, self.plan_version, now, self._attention)
        checks = plan_checks(self._inventory, self._health.current, self._ramps.tried, node)
        vantage = self._asked.get(node, ())
        return replace(found, checks=checks, vantage=vantage, contact=self._vantages.contact if vantage else "")

    # --- hard state --------------------------------------------------------------------------------------------------

    def _booted(self, event: Booted) -> list[Effect]:
        self._epoch = event.epoch
        self._booted_at = self._attended_at = self._now
        self._counters = event.counters
        self._load.count(event.flows)
        self._drains = {d.id: d for d in event.drains}
        self._drain_dials = tuple(dials(event.drains))
        for ramp in event.ramps:
            self._ramps.put(ramp, self._now)
        self._capacity.booted(event.launches)
        for launch in event.launches:
            self._machines.put(launch, self._now)
        if event.last_table is not None:
            # The saved table may be some generations behind what was served last: its old number would go back.
            self._table = replace(event.last_table, generation=self._next_generation())
        self._replace_inventory(event.inventory)
        text = "no saved routes" if event.last_table is None else "serving saved routes, marked stale"
        return [self._record("control_plane.started", "control-plane", f"epoch {event.epoch}; {text}")]

    def _committed(self, changes: tuple[Change, ...]) -> list[Effect]:
        effects: list[Effect] = []
        for change in changes:
            match change:
                case ResourcesChanged():
                    effects += self._resources(change)
                case SessionsChanged():
                    self._demand.count(change.sessions)
                    self._capacity.count(change.began)
                    self._counters = counted(self._counters, change)
                case DrainChanged():
                    self._drains[change.drain.id] = change.drain
                    self._drain_dials = tuple(dials(self._drains.values()))
                case RampChanged():
                    effects += self._climbed(change.ramp)
                case LaunchChanged():
                    self._machines.put(change.launch, self._now)
                    effects += self._capacity.put(change.launch, self._now)
                case _:
                    assert_never(change)
        return effects

    def _climbed(self, ramp: Ramp) -> list[Effect]:
        """Take a step of a ramp; who is to be tried by robots is in the probe plans."""
        before = self._ramps.tried
        self._ramps.put(ramp, self._now)
        return [] if self._ramps.tried == before else self._replan()

    def _replan(self) -> list[Effect]:
        self._plan_count += 1
        return [PlansChanged(tuple(self._inventory.nodes))]

    def _resources(self, change: ResourcesChanged) -> list[Effect]:
        before = self._inventory
        self._replace_inventory(followed(before, change))
        effects = self._replan() if changes_plans(change) else []
        return effects + self._want_solve(SOLVE_GAP_US if hurries(before, change) else PATIENT_GAP_US)

    def _replace_inventory(self, inventory: Inventory) -> None:
        before, self._inventory = self._inventory, inventory
        self._inventory_count += 1
        self._asked = assign(inventory, self._vantages.targets)
        if same_graph(before, inventory):
            self._estimator.follow(inventory)
        else:
            estimator = Estimator(inventory)
            estimator.adopt(self._estimator)
            self._estimator = estimator
            self._links, self._potential = self._estimator.table(self._now)
            self._evidence, self._outdated = self._estimator.history.evidence(), True
            self._fresh.clear()
        if tuple(before.data_centers) != tuple(inventory.data_centers):
            health = HealthBook(inventory)
            health.adopt(self._health)
            self._health = health
        self._blame.book.adopt(inventory)
        self._nodes = {node: status for node, status in self._nodes.items() if node in inventory.nodes}

    # --- measurement -------------------------------------------------------------------------------------------------

    def _reported(self, event: Reported) -> list[Effect]:
        report = event.report
        node = NodeId(report.node)
        held = self._nodes.get(node)
        if held is not None and held.boot == report.boot and report.sequence <= held.sequence:
            self._refused["duplicate"] = self._refused.get("duplicate", 0) + 1
            return []  # or an old report that came late; its probes are already counted or superseded
        evidence = self._estimator.observe(report, self._now)
        if evidence is None:
            return []
        if evidence.fresh is not None:
            newest = (*self._fresh.get(evidence.source, ()), evidence.fresh)
            self._fresh[evidence.source] = newest[-FRESH_KEPT:]
        self._health.observe(evidence, self._now)
        self._blame.reported(report, self._now)
        self._ramps.reported(report, World(self._inventory, self._health.current, self._links), self._now)
        self._rolled.observe(report, self._inventory)
        doubts = doubted(held.doubts if held is not None and held.boot == report.boot else {}, report.rows)
        self._nodes[node] = NodeStatus(self._now, report.plan_version, report.boot, report.sequence, doubts)
        return [*self._reflexes.hear(node, report.reflexes, self._now)]

    def _tick(self, job: str) -> list[Effect]:
        match job:
            case "health":
                return self._judge_health()
            case "routes":
                self._load.update(self._inventory, self._table, self._now)
                return self._want_survey()
            case "wake":
                return self._solve_if_due()
            case "blame":
                return self._blame.tick(self._now)
            case "drains":
                return self._drive_drains()
            case "ramps":
                return self._ramps.drive(self.view, self._now)
            case "rollup":
                return self._roll_up()
            case "clients":
                return self._clients.tick(self._inventory, self._now)
            case _:
                raise ValueError(f"the core knows no job {job}")

    def _want_survey(self) -> list[Effect]:
        if self._window is not None:
            return []  # the last one is not even done
        self._survey_count += 1
        self._outdated = False
        self._window = self._estimator.window(self._survey_count, self._now)
        return [MakeSurvey(self._window)]

    def _answered(self, event: Surveyed | SurveyFailed | Solved | SolveFailed) -> list[Effect]:
        """A worker has done what it was asked to, or could not."""
        match event:
            case Surveyed():
                return self._surveyed(event)
            case SurveyFailed():
                return self._survey_failed(event)
            case Solved():
                return self._solved(event)
            case SolveFailed():
                return self._solve_failed(event)

    def _surveyed(self, event: Surveyed) -> list[Effect]:
        found = event.survey
        if self._window is None or found.number != self._window.number:
            return []
        self._window = None
        if self._outdated:
            return self._want_survey()
        self._estimator.settle(found)
        self._links, self._potential, self._evidence = found.links, found.potential_us, found.evidence
        newer = {source: tuple(row for row in rows if row.at > found.at) for source, rows in self._fresh.items()}
        self._fresh = {source: rows for source, rows in newer.items() if rows}
        return self._want_solve()

    def _survey_failed(self, event: SurveyFailed) -> list[Effect]:
        if self._window is None or event.number != self._window.number:
            return []
        self._window = None
        told, self._failure = self._failure, event.error
        return [] if told == event.error else [self._record("survey.failed", "control-plane", event.error)]

    def _judge_health(self) -> list[Effect]:
        was_frozen = self._health.frozen
        changes = self._health.evaluate(self._now)
        effects: list[Effect] = []
        if self._health.frozen and not was_frozen:
            text = "most data centers lose packets at once; nothing is declared down, the fault is more likely ours"
            effects.append(self._record("health.frozen", "control-plane", text))
        for dc, before, after in changes:
            text = f"{before.state.value} -> {after.state.value}" + (f": {after.reason}" if after.reason else "")
            effects.append(self._record(f"data_center.{after.state.value}", dc, text))
        if any(Health.DOWN in (before.state, after.state) for _, before, after in changes):
            effects += self._want_solve()
        return effects

    def _roll_up(self) -> list[Effect]:
        bucket_at, self._bucket_at = self._bucket_at or self._booted_at, self._now
        seconds = max(1, (self._now - bucket_at) // 1_000_000)
        rows: list[Effect] = [KeepHistory(ClosedBucket(bucket_at, seconds, self._links, self._rolled))]
        self._rolled = RollUp()
        omitted = self._route_log.turn()
        if omitted:
            text = f"{omitted} more route changes within {seconds} s than history lists"
            rows.append(self._record("routes.storm", "control-plane", text))
        return rows

    # --- solving -----------------------------------------------------------------------------------------------------

    def _want_solve(self, gap_us: int = SOLVE_GAP_US) -> list[Effect]:
        self._gap_us = min(gap_us, self._gap_us) if self._wanted else gap_us
        self._wanted = True
        return self._solve_if_due()

    def _solve_if_due(self) -> list[Effect]:
        if not self._wanted or self._pending is not None:
            return []
        due = self._solved_at + self._gap_us
        if self._now < due:
            self._wake = due
            return []
        self._wake = None
        held = self._brake.look(self._table, self._links, self._estimator, self._booted_at, self._now)
        if held is not None:
            return [self._record("routes.frozen", "control-plane", held)] if held else []
        self._wanted = False
        self._solved_at = self._now
        self._pending = Question(
            generation=self._next_generation(),
            at=self._now,
            inventory=self._inventory,
            inventory_count=self._inventory_count,
            links=self._links,
            potential_us=self._potential,
            health=self._health.current,
            evidence=self._evidence,
            load=self._load.price(self._inventory),
            previous=self._table,
            switcher=self._switcher,
            log=self._route_log.frozen(),
        )
        return [Solve(self._pending)]

    def _next_generation(self) -> int:
        self._count += 1
        return (self._epoch << GENERATION_BITS) | self._count

    def _solved(self, event: Solved) -> list[Effect]:
        answer = event.answer
        if self._pending is None or answer.generation != self._pending.generation:
            return []  # late answer to a question nobody asks any more
        self._pending, self._failure = None, ""
        self._table, self._switcher = answer.table, answer.switcher
        self._route_log.take(answer.noted)
        effects: list[Effect] = [RoutesPublished(self._table.generation, answer.changed_pairs)]
        if answer.noted.changes:
            effects.append(AppendRouteChanges(answer.noted.changes))
        return effects + self._attend() + self._solve_if_due()

    def _attend(self) -> list[Effect]:
        """Make the probe plans anew when other links deserve the probes; not often."""
        if self._table is None or not is_due(self._now - self._attended_at, self._suspected, self._blame.wanted):
            return []
        self._attended_at, self._suspected = self._now, self._blame.wanted
        newest = attention(self._inventory, self._load.flows, self._table, self._now, self._suspected)
        if not differs(self._attention, newest):
            return []
        self._attention = newest
        return self._replan()

    def _solve_failed(self, event: SolveFailed) -> list[Effect]:
        if self._pending is None or event.generation != self._pending.generation:
            return []
        self._pending = None
        self._wanted = True
        self._wake = self._now + 1_000_000
        told, self._failure = self._failure, event.error
        return [] if told == event.error else [self._record("solve.failed", "control-plane", event.error)]

    # --- drains ------------------------------------------------------------------------------------------------------

    def _drive_drains(self) -> list[Effect]:
        self._demand.observe(self._counters.sessions, self._now)
        self._drain_book.note_health(self.view, self._now)
        self._drain_book.measure(self.view, self._now)
        self._view = None
        return on_tick(self._drain_book, self.view, self._calendar, self._now)

    def _moved(self, event: Moved) -> list[Effect]:
        # The counters have followed each move's commit; the count in here was read beside them and may be older.
        place = event.data_center if event.node is None else event.node
        self._blame.note_moved(self._inventory, event)
        if not self._drain_book.note_move(place, Outcome(event.moved, event.failed, event.remaining, event.under_way)):
            return []
        text = f"{event.moved} moved, {event.failed} could not, {event.remaining} remain"
        return [self._record("sessions.moved", place, text)]

    def _record(self, kind: str, subject: str, reason: str) -> Record:
        return Record(Event(self._now, kind, subject, reason=reason))
