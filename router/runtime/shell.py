"""The shell: one inbox, one writer, timers, and the execution of effects.

Only this module calls ``ControlPlane.handle``. Everything runs on one event loop, so the inbox needs no lock: an input
is handled the moment it is posted, unless another is being handled, then it queues. SQL runs in threads: one writer, so
that commits enter the inbox in the order in which they became durable, and a few readers.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import structlog
from apscheduler.schedulers.asyncio import AsyncIOScheduler

from probes.wire import ProbePlan
from router.access import KeyRing
from router.addresses import AddressBook
from router.core.capacity import Buying
from router.core.committed import merged
from router.core.drain import Calendar
from router.core.messages import (
    AdvanceDrain,
    AdvanceRamp,
    AnnounceLaunches,
    AppendRouteChanges,
    Booted,
    Change,
    Committed,
    CutAgents,
    DriveLaunch,
    Effect,
    FinishDrain,
    FitClients,
    Input,
    JudgeFault,
    KeepHistory,
    MakeSurvey,
    MoveSessions,
    OpenAgents,
    OpenDrain,
    OpenRamp,
    Optimise,
    PlansChanged,
    Record,
    RoutesPublished,
    SessionsChanged,
    ShowDrains,
    ShowRamps,
    Solve,
    Solved,
    StepLaunch,
    Tick,
)
from router.core.model import Inventory, Micros, NodeId
from router.core.plane import ControlPlane
from router.core.tables import View
from router.core.vantage import Vantages
from router.jobs import JOBS, Job
from router.outbox import Outbox, OutboxOptions
from router.runtime import moves, saved
from router.runtime.arms import Arms
from router.runtime.chronicle import Chronicle
from router.runtime.climbs import Climbs
from router.runtime.clouds import Clouds
from router.runtime.gathered import rebindings, sightings
from router.runtime.machines import Machines
from router.runtime.recorder import FlightRecorder
from router.runtime.recording import Recording
from router.runtime.recount import Recount
from router.runtime.rounds import Rounds
from router.runtime.stream import Stream, StreamHub, StreamItem, show
from router.runtime.turnstile import Turnstile
from router.runtime.upkeep import Upkeep
from router.runtime.waiting import WaitingRoom
from router.runtime.work import Work, outcome_of
from router.runtime.writer import Writer
from router.solver import Solver
from router.store import Store

if TYPE_CHECKING:
    from router.store import Commit

T = TypeVar("T")
log = structlog.get_logger("tendril.runtime")
HISTORY_KEPT_US = 24 * 3600 * 1_000_000
READERS = 4
FORGET_PAUSE_S = 0.1  # between transactions that delete what is old: starts of sessions go first


def system_clock() -> Callable[[], Micros]:
    """Microseconds since the epoch that never go back: the wall clock once, the monotonic clock from there on."""
    base = time.time_ns() // 1000 - time.monotonic_ns() // 1000
    return lambda: base + time.monotonic_ns() // 1000


@dataclass(frozen=True, slots=True)
class RuntimeOptions:
    """Judgements that operators may change."""

    flight_folder: Path | None = None
    flight_bytes: int = 64_000_000
    agent_suspect_us: int = 3_000_000  # an agent that sends no heartbeat for so long is not taken
    agent_silence_us: int = 10_000_000  # an agent that sends no heartbeat for so long is lost
    attach_lease_us: int = 30_000_000  # a session that was dispatched must be taken up by its user within this
    ended_kept_us: int = 7 * 86_400 * 1_000_000  # ended sessions and their trails are forgotten after so long
    patience_us: int = 60_000_000  # after a start no lease expires for so long: its holder must be heard first
    practice: Calendar = field(default_factory=Calendar)  # of drains
    vantages: Vantages = field(default_factory=Vantages)
    node_key_lifetime_us: int = 0  # how long nodes use one key; 0: for ever
    move_lease_us: int = 10_000_000  # a moved session must arrive at its new edge within this, or goes back
    webhooks: OutboxOptions = field(default_factory=OutboxOptions)
    buying: Buying = field(default_factory=Buying)


@dataclass(slots=True)
class RuntimeCounts:
    """What telemetry shows about the shell itself."""

    inputs: int = 0
    solves: int = 0
    solve_seconds: float = 0.0
    failures: int = 0


class Runtime:
    """The running control plane."""

    def __init__(
        self,
        store: Store,
        solver: Solver,
        options: RuntimeOptions | None = None,
        clock: Callable[[], Micros] | None = None,
        clouds: Clouds | None = None,
    ) -> None:
        self.store = store
        self.options = options or RuntimeOptions()
        self.keys = KeyRing(())
        self.secret = b""
        self.addresses = AddressBook()
        self.counts = RuntimeCounts()
        self._solver = solver
        self._clock = clock or system_clock()
        options = self.options
        self._plane = ControlPlane(calendar=options.practice, vantages=options.vantages, buying=options.buying)
        self._inbox: deque[Input] = deque()
        self._durable: list[Change] = []  # what commits have changed and the core has not heard yet
        self._handling = False
        self._ready = False
        self._hub = StreamHub()
        self._published: list[asyncio.Future[None]] = []
        self._settling: list[asyncio.Future[None]] = []
        self._plans: list[asyncio.Future[None]] = []
        self._tasks: set[asyncio.Task[Any]] = set()
        self.draining: set[str] = set()  # drains, data centers and nodes that something is being done about
        self._saved_generation = 0
        self._wake: asyncio.TimerHandle | None = None
        self._wake_at: Micros = 0
        self._recording: Recording | None = None
        self._recount = Recount(self)
        self._recounting: asyncio.Future[None] | None = None
        self._chronicle = Chronicle(lambda fn: self._write(lambda: fn(self.store)), self.read, self._hub)
        self.turnstile = Turnstile(self.commit, self.now)
        self.sightings = sightings(self.read)
        self.rebindings = rebindings(self.commit, self.now)
        self.rounds = Rounds(self.commit_later, self.read, self.now)
        self.outbox = Outbox(self.commit_later, self.read, self.now, self.options.webhooks)
        self.upkeep = Upkeep(self)
        self.waiting = WaitingRoom(self)
        self.climbs = Climbs(self)
        self.arms = Arms(self)
        self.machines = Machines(self, clouds)
        self._clouds = clouds
        self.unmovable: dict[str, set[str]] = {}  # per data center: sessions that could not move, tried last
        self._scheduler = AsyncIOScheduler(timezone="UTC")
        self._writer = Writer()
        self._reader = ThreadPoolExecutor(READERS, thread_name_prefix="store-reader")

    # --- life --------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Load hard state, boot the core, start the timers."""
        boot = await self._write(lambda: self.store.boot(self.now()))
        table = None
        if boot.table is not None:
            try:
                table = saved.load(boot.table)
            except saved.UnreadableTable as error:
                log.warning("saved_routes_unreadable", error=str(error))
        await self._chronicle.begin()
        await self.commit(lambda store: store.webhooks.let_go(None if not store.shared else self.outbox.holder))
        self.secret = boot.secret
        self.keys = KeyRing(boot.keys)
        if self.options.flight_folder is not None:
            recorder = FlightRecorder(self.options.flight_folder, self.options.flight_bytes)
            self._recording = Recording(recorder, self._note_failure)
        self._ready = True
        self.post(
            Booted(
                boot.epoch, boot.inventory, boot.counters, boot.drains, table, boot.flows, boot.ramps, boot.launches
            )
        )  # fmt: skip
        self._spawn(self.machines.price())
        for job in JOBS:
            self._scheduler.add_job(
                self._run_job, "interval", seconds=job.period_s, args=[job], coalesce=True, max_instances=1,
                misfire_grace_time=None,
            )  # fmt: skip
        self._scheduler.start()

    async def stop(self) -> None:
        """Stop the timers, finish what is under way, save the table."""
        self._ready = False
        if self._scheduler.running:
            self._scheduler.shutdown(wait=False)
        if self._wake is not None:
            self._wake.cancel()
        await self._guard(self.outbox.close())
        while self._tasks:  # what ends may start something more
            await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._wake is not None:
            self._wake.cancel()
        await self._guard(self._save_table())
        await self._guard(self._chronicle.write())
        if self._recording is not None:
            await asyncio.to_thread(self._recording.close)
        self._solver.close()
        if self._clouds is not None:
            await asyncio.to_thread(self._clouds.close)
        await asyncio.to_thread(self._writer.shutdown)
        self._reader.shutdown(wait=True)

    @property
    def ready(self) -> bool:
        """Whether hard state is loaded."""
        return self._ready

    @property
    def view(self) -> View:
        """Everything readers may see, immutable."""
        return self._plane.view

    @property
    def inventory(self) -> Inventory:
        """That of the View, without making one."""
        return self._plane.inventory

    @property
    def plan_version(self) -> int:
        """That of the View, without making one."""
        return self._plane.plan_version

    @property
    def inbox_depth(self) -> int:
        """Inputs that wait for the one being handled."""
        return len(self._inbox)

    def now(self) -> Micros:
        """Microseconds since the epoch; never goes back."""
        return self._clock()

    # --- inputs ------------------------------------------------------------------------------------------------------

    def post(self, event: Input) -> None:
        """Hand an input to the core; it is handled at once, or after the one that is being handled."""
        self.catch_up()  # what was durable before this was known must be known to the core before it
        self._inbox.append(event)
        self._work_off()

    def catch_up(self) -> None:
        """Let the core hear of all that is durable by now."""
        if self._durable:
            self._inbox.append(Committed(merged(self._durable)))
            self._durable.clear()
            self._work_off()

    def _work_off(self) -> None:
        if self._handling:
            return
        self._handling = True
        try:
            while self._inbox:
                event = self._inbox.popleft()
                try:
                    self._handle(event)
                except Exception:  # a defect of ours; the inputs behind it must not wait
                    self.counts.failures += 1
                    log.exception("input_failed", input=type(event).__name__)
        finally:
            self._handling = False

    async def submit(self, event: Input) -> None:
        """Like ``post``; when it returns, the core has handled the input."""
        self.post(event)

    def _handle(self, event: Input) -> None:
        now = self.now()
        self.counts.inputs += 1
        effects = self._plane.handle(event, now)
        if self._recording is not None:
            self._recording.note(self._plane, event, now, effects)
        for effect in effects:
            self._execute(effect)
        if self._settling and not self._solving:
            _wake_all(self._settling)
        self._arm_wakeup()

    def _note_failure(self) -> None:
        self.counts.failures += 1

    def _arm_wakeup(self) -> None:
        at = self._plane.next_wakeup()
        if self._wake is not None:
            if at == self._wake_at:
                return
            self._wake.cancel()
            self._wake = None
        if at is not None:
            delay_s = max(0, at - self.now()) / 1e6
            self._wake, self._wake_at = asyncio.get_running_loop().call_later(delay_s, self._awake), at

    def _awake(self) -> None:
        self._wake = None
        self.post(Tick("wake"))

    @property
    def _solving(self) -> bool:
        """Whether newer routes are being solved, or will be at a time that is set."""
        return self._plane.pending_question is not None or self._plane.next_wakeup() is not None

    def plan(self, node: NodeId) -> ProbePlan:
        """The probe plan of a node. Raises ``unknown_node``."""
        return self._plane.plan(node, self.now())

    # --- SQL ---------------------------------------------------------------------------------------------------------

    async def read(self, fn: Callable[[Store], T]) -> T:
        """Run a query in a reader thread."""
        return await self._in(self._reader, lambda: fn(self.store))

    async def commit(self, fn: Callable[[Store], Commit[T]]) -> T:
        """Run one transaction in the writer thread; when it returns, the core knows the change.

        Goes on when the caller is cancelled: what became durable must reach the core.
        """
        return await self._shielded(self._commit(fn, self._writer.first))

    async def commit_later(self, fn: Callable[[Store], Commit[T]]) -> T:
        """Like ``commit``, for heartbeats and upkeep: what users wait for goes first."""
        return await self._shielded(self._commit(fn, self._writer.later))

    async def _shielded(self, committing: Coroutine[object, object, T]) -> T:
        work = asyncio.ensure_future(committing)
        self._tasks.add(work)  # so that a stop waits for it
        work.add_done_callback(self._tasks.discard)
        return await asyncio.shield(work)

    async def _commit(self, fn: Callable[[Store], Commit[T]], lane: Executor) -> T:
        done = await self._in(lane, lambda: fn(self.store))
        if done.changes:
            self._durable += done.changes
            self._recount.note(done.changes)
            await asyncio.sleep(0)  # commits that are durable by now, too, are one input
            self.catch_up()
            if done.waiting and frees_agents(done.changes):
                self._spawn(self.waiting.deal_soon())
        if not self._chronicle.showing:
            self._spawn(self._show_commits())
        return done.result

    async def in_writer(self, fn: Callable[[], T]) -> T:
        """Run something in the writer thread: between two commits, with those before it durable and told in order."""
        return await self._write(fn)

    async def _write(self, fn: Callable[[], T]) -> T:
        return await self._in(self._writer.later, fn)

    async def _in(self, pool: Executor, fn: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(pool, fn)

    # --- waiting -----------------------------------------------------------------------------------------------------

    async def next_generation(self, after: int, timeout_s: float) -> View:
        """The View once its generation exceeds ``after``, or as it is when the time is over."""
        await self._wait(self._published, lambda: self.view.generation > after, timeout_s)
        return self.view

    async def next_plan(self, after: int, timeout_s: float) -> int:
        """The plan version once it exceeds ``after``, or as it is when the time is over."""
        await self._wait(self._plans, lambda: self._plane.plan_version > after, timeout_s)
        return self._plane.plan_version

    async def routes_settled(self, timeout_s: float = 2.0) -> None:
        """Wait until the routes in force were solved from the inventory as it is now, or nothing newer is being solved.

        The latter when no agent has reported since a restart, or all fell silent: the routes that are known stay.
        """
        wanted = self.view.inventory_count

        def settled() -> bool:
            table = self.view.routes
            fresh = table is not None and not table.stale and table.snapshot.inventory_count >= wanted
            return fresh or not self._solving

        await self._wait(self._settling, settled, timeout_s)

    async def _wait(self, waiters: list[asyncio.Future[None]], done: Callable[[], bool], timeout_s: float) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        while not done() and (left := deadline - loop.time()) > 0:
            future: asyncio.Future[None] = loop.create_future()
            waiters.append(future)
            try:
                await asyncio.wait_for(future, left)
            except TimeoutError:
                return
            finally:
                if future in waiters:
                    waiters.remove(future)

    def stream(self) -> Stream:
        """A new reader of the live stream; enter it to start listening."""
        return Stream(self._hub)

    # --- effects -----------------------------------------------------------------------------------------------------

    def _execute(self, effect: Effect) -> None:
        match effect:
            case MakeSurvey() | FitClients() | JudgeFault() | Solve() | Optimise():
                self._spawn(self._work(effect))
            case RoutesPublished():
                _wake_all(self._published)
                _wake_all(self._settling)
                data: dict[str, object] = {"generation": effect.generation, "changed_pairs": effect.changed_pairs}
                self._hub.publish(StreamItem("generation", data))
            case PlansChanged():
                _wake_all(self._plans)
            case Record():
                if self._chronicle.take(effect.event):
                    self._spawn(self._chronicle.flush())
            case ShowDrains() | ShowRamps():
                show(self._hub, self.view, effect)
            case MoveSessions() | CutAgents() | FinishDrain() | AdvanceDrain() | OpenDrain():
                moves.carry_out(self, effect)
            case OpenRamp() | AdvanceRamp():
                self.climbs.carry_out(effect)
            case AnnounceLaunches() | DriveLaunch() | StepLaunch() | OpenAgents():
                self.machines.carry_out(effect)
            case AppendRouteChanges():
                self._spawn(self._write(lambda: self.store.append_route_changes(effect.changes)))
            case KeepHistory():
                self._spawn(self._keep_history(effect))

    async def _work(self, effect: Work) -> None:
        started = time.perf_counter()
        outcome = await outcome_of(self._solver, effect)
        if isinstance(outcome, Solved):
            self.counts.solves += 1
            self.counts.solve_seconds += time.perf_counter() - started
        self.post(outcome)

    async def _show_commits(self) -> None:
        if await self._chronicle.show_soon():
            await self.outbox.tend()

    async def _keep_history(self, effect: KeepHistory) -> None:
        rows = await self._in(self._reader, effect.bucket.rows)  # not in the writer: commits would wait for it
        await self._write(lambda: self.store.append_history(rows))

    # --- periodic jobs -----------------------------------------------------------------------------------------------

    async def _run_job(self, job: Job) -> None:
        if not self._ready:
            return
        if job.core:
            self.post(Tick(job.name))
            return
        work: Mapping[str, Callable[[], Coroutine[object, object, object]]] = {
            "counters": self._recount.run,
            "agents": self._recount_shared,
            "expire": self.upkeep.run,
            "stock": self.machines.count,
            "prices": self.machines.price,
            "reap": self.machines.reap,
            "pools": self.waiting.tend,
            "webhooks": self.outbox.tend,
            "save_table": self._save_table,
            "forget_ended": self._forget_ended,
            "thin_history": self._thin_history,
        }
        await work[job.name]()

    async def _recount_shared(self) -> None:
        if self.store.shared:
            await self.recount_agents()

    async def _thin_history(self) -> None:
        await self._write(lambda: self.store.thin_history(self.now() - HISTORY_KEPT_US))

    async def _forget_ended(self) -> None:
        before = self.now() - self.options.ended_kept_us
        await self._write(lambda: self.store.launches.forget(before))
        while await self.commit_later(lambda store: store.forget_ended(before)):
            await asyncio.sleep(FORGET_PAUSE_S)

    async def recount_agents(self) -> None:
        """Bring the counters of agents up to date: somebody else may have taken some, or given them back."""
        if self._recounting is None:
            self._recounting = asyncio.ensure_future(self._recount_agents())
        await asyncio.shield(self._recounting)

    async def _recount_agents(self) -> None:
        try:
            await self._recount.agents()
        finally:
            self._recounting = None

    async def _save_table(self) -> None:
        table = self.view.routes
        if table is None or table.stale or table.generation == self._saved_generation:
            return
        self._saved_generation = table.generation
        data = await self._in(self._reader, lambda: saved.dump(table))  # not in the writer: commits would wait for it
        await self._write(lambda: self.store.save_table(data))
        if self._recording is not None:
            self._recording.flush(self.now())

    def _spawn(self, work: Coroutine[object, object, object]) -> None:
        task: asyncio.Task[None] = asyncio.ensure_future(self._guard(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def beside(self, work: Coroutine[object, object, object]) -> None:
        """Do something that nobody waits for; if it fails, that is logged and counted."""
        self._spawn(work)

    async def _guard(self, work: Coroutine[object, object, object]) -> None:
        """Background work that fails is logged and counted; the control plane goes on."""
        try:
            await work
        except Exception:
            self.counts.failures += 1
            log.exception("background_work_failed")


def frees_agents(changes: Sequence[Change]) -> bool:
    """Whether a place of an agent became free."""
    return any(isinstance(change, SessionsChanged) and any(n > 0 for n in change.idle.values()) for change in changes)


def _wake_all(waiters: list[asyncio.Future[None]]) -> None:
    for future in waiters:
        if not future.done():
            future.set_result(None)
    waiters.clear()
