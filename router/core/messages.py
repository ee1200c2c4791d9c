"""The complete vocabulary into and out of the core: inputs and effects as plain frozen data.

Inputs are everything that can happen to the control plane, so a recording of ``(now, input)`` is a recording of the
control plane. Effects are everything it can want from the outside world; the shell (or the simulator) carries them out
and brings results back as inputs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from probes.wire import ProbeReport
from router.core.model import (
    Client,
    Counters,
    DataCenterId,
    Drain,
    DrainId,
    Event,
    Flow,
    Inventory,
    Micros,
    NodeId,
    PoolId,
    Ramp,
    RampId,
    RampKind,
    Resource,
    TrafficClass,
)
from router.core.tables import RouteTable

if TYPE_CHECKING:
    from router.core.blame.infer import Case, Judgement
    from router.core.blame.outcomes import Outcome
    from router.core.capacity.desk import Shopping
    from router.core.capacity.linear import Solution
    from router.core.capacity.machines import Launch, LaunchId, NodeStock
    from router.core.clients.tomography import Census, Tomography
    from router.core.drain.plan import DrainRequest
    from router.core.pools import Places
    from router.core.rollup import ClosedBucket
    from router.core.solve.question import Answer, Question
    from router.core.survey import Survey, Window

# --- what a commit changed -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ResourcesChanged:
    """Resources as they now are in the database, and ``(collection, id)`` of those that are gone; one transaction."""

    upserts: tuple[Resource, ...] = ()
    deletes: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class SessionsChanged:
    """Differences in live sessions per edge and in idle and busy agents per pool and data center."""

    sessions: Mapping[DataCenterId, int] = field(default_factory=dict)
    idle: Mapping[tuple[PoolId, DataCenterId], int] = field(default_factory=dict)
    busy: Mapping[tuple[PoolId, DataCenterId], int] = field(default_factory=dict)
    began: Mapping[tuple[PoolId, DataCenterId], int] = field(default_factory=dict)  # sessions, by pool and edge
    idle_on: Mapping[NodeId, int] = field(default_factory=dict)  # places of agents by their machine, as above
    held_on: Mapping[NodeId, int] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return any((self.sessions, self.idle, self.busy, self.began, self.idle_on, self.held_on))


@dataclass(frozen=True, slots=True)
class DrainChanged:
    """A drain as it now is in the database."""

    drain: Drain


@dataclass(frozen=True, slots=True)
class RampChanged:
    """A ramp as it now is in the database."""

    ramp: Ramp


@dataclass(frozen=True, slots=True)
class LaunchChanged:
    """A launch as it now is in the database."""

    launch: Launch


Change = ResourcesChanged | SessionsChanged | DrainChanged | RampChanged | LaunchChanged

# --- inputs ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Booted:
    """First input of every run: hard state from the database and, if there is one, the last route table (stale)."""

    epoch: int
    inventory: Inventory
    counters: Counters
    drains: tuple[Drain, ...] = ()
    last_table: RouteTable | None = None
    flows: Mapping[Flow, int] = field(default_factory=dict)
    ramps: tuple[Ramp, ...] = ()
    launches: tuple[Launch, ...] = ()


@dataclass(frozen=True, slots=True)
class Reported:
    """A decoded probe report whose sender is authenticated as ``report.node``."""

    report: ProbeReport


@dataclass(frozen=True, slots=True)
class Beacon:
    """A round trip between a client and an edge; of the client no more is said than is kept."""

    client: Client
    data_center: DataCenterId
    rtt_us: int
    witness: str  # who says so: an API key's id and how it measured
    loss_ppm: int | None = None
    jitter_us: int | None = None


@dataclass(frozen=True, slots=True)
class Beaconed:
    """Real users, sessions or vantage probes measured their way to edges."""

    beacons: tuple[Beacon, ...]


@dataclass(frozen=True, slots=True)
class ClientsFitted:
    """A worker learned from all client networks; dropped if nobody waits for it."""

    model: Tomography


@dataclass(frozen=True, slots=True)
class ClientsFitFailed:
    """A worker could not learn; what was learned before stays."""

    number: int
    error: str


@dataclass(frozen=True, slots=True)
class Committed:
    """Hard state changed; what is named here is already durable."""

    changes: tuple[Change, ...]


@dataclass(frozen=True, slots=True)
class CountersLoaded:
    """Absolute counters from the database; heals any drift of the differences, and is what the flows come from."""

    counters: Counters
    flows: Mapping[Flow, int] | None = None  # live sessions with an agent; None: as they were counted last


@dataclass(frozen=True, slots=True)
class Observed:
    """What became of sessions: set up or not, good or bad, with everything that is known of what they cross."""

    outcomes: tuple[Outcome, ...]


@dataclass(frozen=True, slots=True)
class Judged:
    """A worker found out who is at fault; dropped if nobody waits for it."""

    judgement: Judgement


@dataclass(frozen=True, slots=True)
class JudgeFailed:
    """A worker could not judge; verdicts stay as they are until their leases end."""

    number: int
    error: str


@dataclass(frozen=True, slots=True)
class Surveyed:
    """A worker made a link table; dropped if the inventory changed meanwhile."""

    survey: Survey


@dataclass(frozen=True, slots=True)
class SurveyFailed:
    """A worker could not finish; the last link table stays, and ages."""

    number: int
    error: str


@dataclass(frozen=True, slots=True)
class Solved:
    """A worker finished a solve; dropped if a newer one was asked for and answered meanwhile."""

    answer: Answer


@dataclass(frozen=True, slots=True)
class SolveFailed:
    """A worker could not finish; the last good table stays in force."""

    generation: int
    error: str


@dataclass(frozen=True, slots=True)
class Moved:
    """How a ``MoveSessions`` effect went: moved, left behind for now, and how many remain to be told."""

    data_center: DataCenterId
    moved: int
    failed: int
    remaining: int
    node: NodeId | None = None  # the one machine they left, if it was one
    under_way: int = 0  # who was on the way before this round and had not arrived


@dataclass(frozen=True, slots=True)
class Sample:
    """What one session of a ramp's canary or control arm showed since the last time; None: nothing new."""

    data_center: DataCenterId  # whose ramp
    canary: bool  # False: of the control arm
    group: str  # client network and country
    begun: bool = False
    settled: bool = False  # enough is known of it for a verdict; true once per session
    set_up: bool | None = None
    setup_us: int | None = None
    rtt_us: int | None = None
    loss_ppm: int | None = None
    dropped: bool | None = None
    machine: LaunchId | None = None  # whose ramp if not the data center's: that of a bought machine in it
    version: str = ""  # whose ramp if not the data center's: ``pool@version``


@dataclass(frozen=True, slots=True)
class Robot:
    """How one robot fared on its way through a data center that takes no users yet."""

    data_center: DataCenterId
    errand: str  # what it was to try, see ``ramp.errands``
    passed: bool
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Climbed:
    """What sessions and robots showed of the data centers that are on a ramp."""

    samples: tuple[Sample, ...] = ()
    robots: tuple[Robot, ...] = ()


@dataclass(frozen=True, slots=True)
class StockTaken:
    """Agents as the database has them, who waits for one, and who found none since the last count."""

    places: tuple[Places, ...]
    queued: Mapping[tuple[PoolId, DataCenterId], int] = field(default_factory=dict)  # by pool and edge
    unserved: Mapping[tuple[PoolId, DataCenterId], int] = field(default_factory=dict)
    nodes: Mapping[NodeId, NodeStock] = field(default_factory=dict)  # agents on machines that were bought


@dataclass(frozen=True, slots=True)
class Priced:
    """What providers say of offers: the price of a machine, and how many more we may have; absent: not told."""

    price_uusd_h: Mapping[tuple[str, DataCenterId, str], int] = field(default_factory=dict)
    free: Mapping[tuple[str, DataCenterId, str], int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Optimised:
    """A worker solved a programme of where to buy; dropped if nobody waits for it."""

    number: int
    solution: Solution


@dataclass(frozen=True, slots=True)
class OptimiseFailed:
    """A worker could not solve it; the next best offers are taken instead."""

    number: int
    error: str


@dataclass(frozen=True, slots=True)
class Tick:
    """A periodic job is due; the names are those of ``router.jobs``."""

    job: str


Input = (
    Booted
    | Reported
    | Beaconed
    | ClientsFitted
    | ClientsFitFailed
    | Committed
    | CountersLoaded
    | Observed
    | Judged
    | JudgeFailed
    | Surveyed
    | SurveyFailed
    | Solved
    | SolveFailed
    | Moved
    | Climbed
    | StockTaken
    | Priced
    | Optimised
    | OptimiseFailed
    | Tick
)

# --- effects ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class MakeSurvey:
    """Make a link table off the event loop; answer with ``Surveyed`` or ``SurveyFailed``."""

    window: Window


@dataclass(frozen=True, slots=True)
class FitClients:
    """Learn from all client networks off the event loop; answer with ``ClientsFitted`` or ``ClientsFitFailed``."""

    census: Census


@dataclass(frozen=True, slots=True)
class JudgeFault:
    """Find out who is at fault off the event loop; answer with ``Judged`` or ``JudgeFailed``."""

    case: Case


@dataclass(frozen=True, slots=True)
class Solve:
    """Compute the next routes off the event loop; answer with ``Solved`` or ``SolveFailed``."""

    question: Question


@dataclass(frozen=True, slots=True)
class RoutesPublished:
    """A new generation is in force; wake those who watch, and save the table."""

    generation: int
    changed_pairs: int


@dataclass(frozen=True, slots=True)
class MoveSessions:
    """Move up to ``limit`` live sessions off an edge, each to a place decided on the View; answer with ``Moved``."""

    data_center: DataCenterId
    limit: int
    reason: str
    node: NodeId | None = None  # only those on this machine; they may go to another one of the same data center


@dataclass(frozen=True, slots=True)
class CutAgents:
    """The agents of a data center, or of one machine of it, lose the sessions that they still hold."""

    data_center: DataCenterId
    reason: str
    node: NodeId | None = None


@dataclass(frozen=True, slots=True)
class ShowDrains:
    """Show those who watch how far these drains have come."""

    drains: tuple[DrainId, ...]


@dataclass(frozen=True, slots=True)
class ShowRamps:
    """Show those who watch how far these ramps have come."""

    ramps: tuple[RampId, ...]


@dataclass(frozen=True, slots=True)
class FinishDrain:
    """A drain has nothing left to move: commit ``drained`` for it and its targets."""

    drain: DrainId


@dataclass(frozen=True, slots=True)
class AdvanceDrain:
    """Time has come for a step of ``drain.TRANSITIONS``: decide on it again on the View and commit."""

    drain: DrainId
    step: str
    outcome: str = ""  # of a practice that ends


@dataclass(frozen=True, slots=True)
class OpenDrain:
    """Blame or the calendar wants a drain: decide on it again on the View and commit."""

    request: DrainRequest


@dataclass(frozen=True, slots=True)
class OpenRamp:
    """A data center has to earn its users from now on: decide on it again on the View and commit."""

    data_center: DataCenterId
    kind: RampKind
    reason: str


@dataclass(frozen=True, slots=True)
class AdvanceRamp:
    """The evidence asks for a step of ``ramp.TRANSITIONS``: decide on it again on the View and commit."""

    ramp: RampId
    revision: int  # of the ramp that the evidence is about
    step: str
    reason: str
    exposed: int


@dataclass(frozen=True, slots=True)
class Optimise:
    """Solve a programme of where to buy off the event loop; answer with ``Optimised`` or ``OptimiseFailed``."""

    shopping: Shopping


@dataclass(frozen=True, slots=True)
class AnnounceLaunches:
    """Machines are to be bought: commit them under ids of their own; nobody is asked before that."""

    drafts: tuple[Launch, ...]


@dataclass(frozen=True, slots=True)
class DriveLaunch:
    """Ask the provider what the state of a launch asks for: to launch, how it is, to take it back."""

    launch: Launch


@dataclass(frozen=True, slots=True)
class StepLaunch:
    """A step of ``capacity.machines.TRANSITIONS`` that needs no provider: decide on it again and commit."""

    launch: LaunchId
    revision: int
    step: str
    reason: str


@dataclass(frozen=True, slots=True)
class OpenAgents:
    """So many agents of a bought machine that is a canary may take sessions from now on; the others are cordoned."""

    launch: LaunchId
    revision: int
    agents: int


@dataclass(frozen=True, slots=True)
class KeepHistory:
    """Add up what a closed time bucket counted, off the event loop, and keep its rows."""

    bucket: ClosedBucket


@dataclass(frozen=True, slots=True)
class AppendHistory:
    """One roll-up row per source: all links from ``data_center`` over a closed time bucket, packed.

    Not an effect but what ``KeepHistory`` comes to.

    ``columns`` maps a name to little-endian int64 bytes of shape ``[transport, to]`` in the order of ``data_centers``:
    estimates as of the end of the bucket (``forward_us``, ``jitter_us``), and what the bucket's reports counted
    (``sent``, ``lost``, ``rtt_min_us``), ``UNKNOWN`` (-1) where there is nothing. ``rtt_sketch`` is such a column of
    lengths, followed by that many numbers per link: its merged sketch of round trips, see ``rollup.unpack_sketch``.
    """

    bucket_at: Micros
    bucket_s: int
    data_center: DataCenterId
    data_centers: tuple[DataCenterId, ...]
    transports: tuple[str, ...]
    columns: Mapping[str, bytes]


@dataclass(frozen=True, slots=True)
class RouteChange:
    """The path in force of an ordered pair became another one; ``None`` where there is no path."""

    at: Micros
    generation: int
    traffic_class: TrafficClass
    source: DataCenterId
    target: DataCenterId
    from_path: tuple[DataCenterId, ...] | None
    to_path: tuple[DataCenterId, ...] | None


@dataclass(frozen=True, slots=True)
class AppendRouteChanges:
    """Keep for history which routes a new generation changed; see ``solve.changes`` for which are listed."""

    changes: tuple[RouteChange, ...]


@dataclass(frozen=True, slots=True)
class PlansChanged:
    """Probe plans of these nodes must be made again (their version went up)."""

    nodes: tuple[NodeId, ...]


@dataclass(frozen=True, slots=True)
class Record:
    """Write an event to the audit trail and the live stream."""

    event: Event


Effect = (
    MakeSurvey
    | FitClients
    | JudgeFault
    | Solve
    | RoutesPublished
    | MoveSessions
    | CutAgents
    | OpenDrain
    | ShowDrains
    | ShowRamps
    | FinishDrain
    | AdvanceDrain
    | OpenRamp
    | AdvanceRamp
    | Optimise
    | AnnounceLaunches
    | DriveLaunch
    | StepLaunch
    | OpenAgents
    | KeepHistory
    | AppendRouteChanges
    | PlansChanged
    | Record
)
