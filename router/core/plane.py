"""The control plane as a state machine: ``handle(input, now) -> effects``, ``view``, ``next_wakeup``.

Synchronous and pure: no clock, no randomness, no I/O. The shell calls ``handle`` for one input at a time and carries
out what comes back; readers take ``view``, which is immutable. The pipeline inside: reports go to the estimator and the
health book; ticks turn them into a link table, a snapshot and a ``Solve`` effect; ``Solved`` comes back, the switching
rule makes the next route table, and a new generation is published.

Two brakes. After a restart the saved table stays in force, marked stale, until measurements are back (*hold*). If most
agents fall silent at once nothing is solved and the last table ages: no data is not bad data (*freeze*).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TypeVar, assert_never

import numpy as np

from probes.wire import ProbePlan
from router.core.errors import InputRejected
from router.core.estimate import Estimator
from router.core.health import HealthBook
from router.core.messages import (
    AppendHistory,
    Booted,
    Change,
    Committed,
    CountersLoaded,
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
from router.core.solve import adopt
from router.core.tables import GraphSnapshot, Health, NodeStatus, RouteTable, View
from router.core.topology import probe_plan, snapshot

GENERATION_BITS = 32  # below the epoch; together they stay under 2^53, which JavaScript reads exactly
SOLVE_GAP_US = 50_000  # events close together share one solve
WARM_SHARE, WARM_AFTER_US = 0.9, 12_000_000  # when the hold after a restart ends
SILENT_US = 10_000_000
MOVE_LIMIT = 20  # sessions per data center and second; a receiver's set-up rate is the scarce thing
HISTORY_COLUMNS = ("rtt_us", "forward_us", "jitter_us", "loss_ppm", "samples")

K = TypeVar("K")


class ControlPlane:
    """All mutable state of the core; private to it."""

    def __init__(self) -> None:
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
        self._frozen = False
        self._view: View | None = None
        self._bucket_at: Micros = 0

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

    # --- measurement -------------------------------------------------------------------------------------------------

    def _reported(self, event: Reported) -> list[Effect]:
        report = event.report
        node = NodeId(report.node)
        held = self._nodes.get(node)
        if held is not None and held.boot == report.boot and report.sequence <= held.sequence:
            return []  # a duplicate or an old report that came late; its probes are already counted or superseded
        evidence = self._estimator.observe(report, self._now)
        if evidence is None:
            return []
        self._health.observe(evidence, self._now)
        self._nodes[node] = NodeStatus(self._now, report.plan_version, report.boot, report.sequence)
        return []

    def _tick(self, job: str) -> list[Effect]:
        match job:
            case "health":
                return self._judge_health()
            case "routes":
                self._links, self._potential = self._estimator.table(self._now)
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
        rows: list[Effect] = []
        for i, dc in enumerate(self._links.data_centers):
            columns = {
                name: np.ascontiguousarray(getattr(self._links, name)[:, i, :], dtype="<i8").tobytes()
                for name in HISTORY_COLUMNS
            }
            seconds = max(1, (self._now - bucket_at) // 1_000_000)
            links = self._links
            rows.append(AppendHistory(bucket_at, seconds, dc, links.data_centers, links.transports, columns))
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
        brake = self._brake()
        if brake is not None:
            return brake
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
        )
        return [Solve(self._pending)]

    def _next_generation(self) -> int:
        self._count += 1
        return (self._epoch << GENERATION_BITS) | self._count

    def _brake(self) -> list[Effect] | None:
        """Hold after a restart, freeze when most agents are silent; ``None`` when solving is fine."""
        warming = self._table is not None and self._table.stale and self._now - self._booted_at < WARM_AFTER_US
        if warming and self._estimator.known_share(self._now) < WARM_SHARE:
            return []
        talking, ever = self._estimator.node_count(self._now, SILENT_US)
        frozen = ever >= 2 and talking * 2 < ever
        entered, self._frozen = frozen and not self._frozen, frozen
        if entered:
            text = f"only {talking} of {ever} agents report; the last routes stay in force and age"
            return [self._record("routes.frozen", "control-plane", text)]
        return [] if frozen else None

    def _solved(self, event: Solved) -> list[Effect]:
        pending = self._pending
        if pending is None or event.candidate.generation != pending.generation:
            return []  # late answer to a question nobody asks any more
        self._pending = None
        self._table, changed = adopt(self._table, pending, event.candidate, self._now)
        return [RoutesPublished(self._table.generation, changed), *self._solve_if_due()]

    def _solve_failed(self, event: SolveFailed) -> list[Effect]:
        if self._pending is None or event.generation != self._pending.generation:
            return []
        self._pending = None
        self._wanted = True
        self._wake = self._now + 1_000_000
        return [self._record("solve.failed", "control-plane", event.error)]

    # --- drains ------------------------------------------------------------------------------------------------------

    def _drive_drains(self) -> list[Effect]:
        effects: list[Effect] = []
        for drain in sorted(self._drains.values(), key=lambda d: d.id):
            if drain.state not in (DrainState.MOVING, DrainState.BLEEDING):
                continue
            left = {dc: self._counters.sessions.get(dc, 0) for dc in drain.targets}
            if not any(left.values()):
                effects.append(FinishDrain(drain.id))
            elif drain.state is DrainState.MOVING:
                text = f"drain {drain.id}: {drain.reason}" if drain.reason else f"drain {drain.id}"
                effects += [MoveSessions(dc, MOVE_LIMIT, text) for dc, count in left.items() if count]
        return effects

    def _moved(self, event: Moved) -> list[Effect]:
        sessions = dict(self._counters.sessions)
        sessions[event.data_center] = event.remaining
        self._counters = Counters(sessions, self._counters.idle, self._counters.busy)
        if not event.moved and not event.failed:
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
