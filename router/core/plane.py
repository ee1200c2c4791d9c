"""The control plane as a state machine: ``handle(input, now) -> effects``, ``view``, ``next_wakeup``.

Synchronous and pure: no clock, no randomness, no I/O. The shell calls ``handle`` for one input at a time and carries
out what comes back; readers take ``view``, which is immutable. The pipeline inside: reports go to the estimator and the
health book; ticks turn them into a link table, a snapshot and a ``Solve`` effect; ``Solved`` comes back, the switching
rule makes the next route table, and a new generation is published.

Before each solve ``brake`` is asked whether there is enough evidence to move routes at all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TypeVar, assert_never

import numpy as np

from probes.wire import ProbePlan
from router.core.brake import Brake
from router.core.drain import drive
from router.core.errors import InputRejected
from router.core.estimate import Estimator
from router.core.health import HealthBook
from router.core.load import Damping, LoadBook
from router.core.messages import (
    AppendHistory,
    AppendRouteChanges,
    Booted,
    Change,
    Committed,
    CountersLoaded,
    DrainChanged,
    Effect,
    Input,
    Moved,
    PlansChanged,
    Record,
    Reported,
    ResourcesChanged,
    RoutesPublished,
    SessionsChanged,
    Solve,
    Solved,
    SolveFailed,
    Tick,
)
from router.core.model import (
    KINDS,
    Counters,
    DataCenter,
    DataCenterId,
    Drain,
    DrainId,
    DrainState,
    Event,
    Inventory,
    Link,
    Micros,
    Node,
    NodeId,
    kind_of,
)
from router.core.rollup import RollUp
from router.core.solve import RouteLog, Switcher
from router.core.tables import FreshRow, GraphSnapshot, Health, NodeStatus, RouteTable, View
from router.core.topology import probe_plan, snapshot

GENERATION_BITS = 32  # below the epoch; together they stay under 2^53, which JavaScript reads exactly
FRESH_KEPT = 16  # reports of a data center between two link tables: one or two of each of its nodes
SOLVE_GAP_US = 50_000  # events close together share one solve
HISTORY_COLUMNS = ("forward_us", "jitter_us")  # of the estimates; the rest is counted in ``rollup``

K = TypeVar("K")


class ControlPlane:
    """All mutable state of the core; private to it."""

    def __init__(self, damping: Damping | None = None) -> None:
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
        self._nodes: dict[NodeId, NodeStatus] = {}
        self._table: RouteTable | None = None
        self._links, self._potential = self._estimator.table(0)
        self._pending: GraphSnapshot | None = None
        self._wanted = False
        self._solved_at: Micros = 0
        self._wake: Micros | None = None
        self._brake = Brake()
        self._failure = ""
        self._expired: set[DrainId] = set()
        self._moves_told: dict[DataCenterId, tuple[int, int, int]] = {}
        self._view: View | None = None
        self._bucket_at: Micros = 0
        self._rolled = RollUp()
        self._route_log = RouteLog()
        self._switcher = Switcher()
        self._load = LoadBook(damping)
        self._fresh: dict[int, tuple[FreshRow, ...]] = {}
        self._refused: dict[str, int] = {}

    # --- the contract with the shell ---------------------------------------------------------------------------------

    def handle(self, event: Input, now: Micros) -> list[Effect]:
        """Take one input; returns effects in the order in which they are to be carried out."""
        self._now = max(self._now, now)
        self._view = None
        match event:
            case Reported():
                return self._reported(event)
            case Tick():
                return self._tick(event.job)
            case Solved():
                return self._solved(event)
            case SolveFailed():
                return self._solve_failed(event)
            case Committed():
                return self._committed(event.changes)
            case CountersLoaded():
                self._counters = event.counters
                self._load.count(event.flows)
                return []
            case Moved():
                return self._moved(event)
            case Booted():
                return self._booted(event)
            case _:
                assert_never(event)

    @property
    def view(self) -> View:
        """Everything readers may see, immutable."""
        if self._view is None:
            self._view = View(
                now=self._now,
                epoch=self._epoch,
                inventory=self._inventory,
                links=self._links,
                routes=self._table,
                health=self._health.current,
                inventory_count=self._inventory_count,
                plan_version=self.plan_version,
                nodes=dict(self._nodes),
                counters=self._counters,
                drains=dict(self._drains),
                fresh=dict(self._fresh),
                refused={**self._estimator.refused, **self._refused},
            )
        return self._view

    def next_wakeup(self) -> Micros | None:
        """When to send ``Tick("wake")`` at the latest; ``None`` if the periodic jobs are enough."""
        return self._wake

    @property
    def pending_snapshot(self) -> GraphSnapshot | None:
        """What the outstanding ``Solve`` is about."""
        return self._pending

    @property
    def plan_version(self) -> int:
        """Version of all probe plans; rises across restarts because the epoch does."""
        return (self._epoch << GENERATION_BITS) | self._plan_count

    def plan(self, node: NodeId, now: Micros) -> ProbePlan:
        """The probe plan of a node. Raises ``unknown_node``."""
        if node not in self._inventory.nodes:
            raise InputRejected("unknown_node", f"there is no node {node}", field="id")
        return probe_plan(self._inventory, node, self.plan_version, now)

    # --- hard state --------------------------------------------------------------------------------------------------

    def _booted(self, event: Booted) -> list[Effect]:
        self._epoch = event.epoch
        self._booted_at = self._now
        self._counters = event.counters
        self._load.count(event.flows)
        self._drains = {d.id: d for d in event.drains}
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
                    self._counters = Counters(
                        sessions=_added(self._counters.sessions, change.sessions),
                        idle=_added(self._counters.idle, change.idle),
                        busy=_added(self._counters.busy, change.busy),
                    )
                case DrainChanged():
                    self._drains[change.drain.id] = change.drain
                case _:
                    assert_never(change)
        return effects

    def _resources(self, change: ResourcesChanged) -> list[Effect]:
        before = self._inventory
        collections = {kind: dict(getattr(before, _attribute(kind))) for kind in KINDS}
        for resource in change.upserts:
            collections[kind_of(resource)][resource.id] = resource
        for kind, id in change.deletes:
            collections[kind].pop(id, None)
        ordered = {_attribute(kind): dict(sorted(items.items())) for kind, items in collections.items()}
        self._replace_inventory(Inventory(**ordered))
        effects: list[Effect] = []
        touched = any(isinstance(r, DataCenter | Node | Link) for r in change.upserts)
        if touched or any(kind in ("data-centers", "nodes", "links") for kind, _ in change.deletes):
            self._plan_count += 1
            effects.append(PlansChanged(tuple(self._inventory.nodes)))
        return effects + self._want_solve()

    def _replace_inventory(self, inventory: Inventory) -> None:
        before, self._inventory = self._inventory, inventory
        self._inventory_count += 1
        same_graph = (
            tuple(before.data_centers) == tuple(inventory.data_centers)
            and before.transports == inventory.transports
            and _places(before) == _places(inventory)
        )
        estimator = Estimator(inventory, self._estimator if same_graph else None)
        estimator.adopt(self._estimator)
        self._estimator = estimator
        if tuple(before.data_centers) != tuple(inventory.data_centers):
            health = HealthBook(inventory)
            health.adopt(self._health)
            self._health = health
        self._nodes = {node: status for node, status in self._nodes.items() if node in inventory.nodes}
        self._links, self._potential = self._estimator.table(self._now)
        self._fresh.clear()

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
        self._rolled.observe(report, self._inventory)
        self._nodes[node] = NodeStatus(self._now, report.plan_version, report.boot, report.sequence)
        return []

    def _tick(self, job: str) -> list[Effect]:
        match job:
            case "health":
                return self._judge_health()
            case "routes":
                self._links, self._potential = self._estimator.table(self._now)
                self._fresh.clear()
                self._load.update(self._inventory, self._table, self._now)
                return self._want_solve()
            case "wake":
                return self._solve_if_due()
            case "drains":
                return self._drive_drains()
            case "rollup":
                return self._roll_up()
            case _:
                raise ValueError(f"the core knows no job {job}")

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
        links, rows = self._links, list[Effect]()
        seconds = max(1, (self._now - bucket_at) // 1_000_000)
        for i, dc in enumerate(links.data_centers):
            columns = {
                name: np.ascontiguousarray(getattr(links, name)[:, i, :], dtype="<i8").tobytes()
                for name in HISTORY_COLUMNS
            }
            columns |= self._rolled.columns(dc, links.data_centers, links.transports)
            rows.append(AppendHistory(bucket_at, seconds, dc, links.data_centers, links.transports, columns))
        self._rolled.clear()
        omitted = self._route_log.turn()
        if omitted:
            text = f"{omitted} more route changes within {seconds} s than history lists"
            rows.append(self._record("routes.storm", "control-plane", text))
        return rows

    # --- solving -----------------------------------------------------------------------------------------------------

    def _want_solve(self) -> list[Effect]:
        self._wanted = True
        return self._solve_if_due()

    def _solve_if_due(self) -> list[Effect]:
        if not self._wanted or self._pending is not None:
            return []
        due = self._solved_at + SOLVE_GAP_US
        if self._now < due:
            self._wake = due
            return []
        self._wake = None
        held = self._brake.look(self._table, self._links, self._estimator, self._booted_at, self._now)
        if held is not None:
            return [self._record("routes.frozen", "control-plane", held)] if held else []
        self._wanted = False
        self._solved_at = self._now
        generation = self._next_generation()
        self._pending = snapshot(
            self._inventory,
            self._links,
            self._potential,
            self._health.current,
            generation,
            self._inventory_count,
            self._now,
            self._estimator.history.evidence(),
            self._load.price(self._inventory),
        )
        return [Solve(self._pending)]

    def _next_generation(self) -> int:
        self._count += 1
        return (self._epoch << GENERATION_BITS) | self._count

    def _solved(self, event: Solved) -> list[Effect]:
        pending = self._pending
        if pending is None or event.candidate.generation != pending.generation:
            return []  # late answer to a question nobody asks any more
        self._pending, self._failure = None, ""
        previous = self._table
        self._table, changed = self._switcher.adopt(previous, pending, event.candidate, self._now)
        effects: list[Effect] = [RoutesPublished(self._table.generation, changed)]
        listed = self._route_log.note(previous, self._table)
        if listed:
            effects.append(AppendRouteChanges(listed))
        return effects + self._solve_if_due()

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
        effects: list[Effect] = []
        for drain in sorted(self._drains.values(), key=lambda d: d.id):
            over = drain.expires_at is not None and self._now >= drain.expires_at
            if over and drain.state is not DrainState.UNDONE and drain.id not in self._expired:
                self._expired.add(drain.id)
                text = f"was to be over by now and is {drain.state.value}; undo it, or its targets stay out of use"
                effects.append(self._record("drain.expired", drain.id, text))
            effects += drive(drain, self._counters.sessions, self._now)
        return effects

    def _moved(self, event: Moved) -> list[Effect]:
        # The counters have followed each move's commit; the count in here was read beside them and may be older.
        outcome = (event.moved, event.failed, event.remaining)
        told, self._moves_told[event.data_center] = self._moves_told.get(event.data_center), outcome
        if not event.moved and (not event.failed or outcome == told):
            return []
        text = f"{event.moved} moved, {event.failed} could not, {event.remaining} remain"
        return [self._record("sessions.moved", event.data_center, text)]

    def _record(self, kind: str, subject: str, reason: str) -> Record:
        return Record(Event(self._now, kind, subject, reason=reason))


def _attribute(kind: str) -> str:
    return kind.replace("-", "_")


def _places(inventory: Inventory) -> list[tuple[DataCenterId, float | None, float | None]]:
    return [(dc.id, dc.latitude, dc.longitude) for dc in inventory.data_centers.values()]


def _added(held: Mapping[K, int], difference: Mapping[K, int]) -> Mapping[K, int]:
    """Sum of two counters without zeros."""
    total = dict(held)
    for key, count in difference.items():
        total[key] = total.get(key, 0) + count
    return {key: count for key, count in total.items() if count}
