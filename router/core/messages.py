"""The complete vocabulary into and out of the core: inputs and effects as plain frozen data.

Inputs are everything that can happen to the control plane, so a recording of ``(now, input)`` is a recording of the
control plane. Effects are everything it can want from the outside world; the shell (or the simulator) carries them out
and brings results back as inputs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from probes.wire import ProbeReport
from router.core.model import (
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
    Resource,
    TrafficClass,
)
from router.core.tables import Candidate, GraphSnapshot, RouteTable

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


@dataclass(frozen=True, slots=True)
class DrainChanged:
    """A drain as it now is in the database."""

    drain: Drain


Change = ResourcesChanged | SessionsChanged | DrainChanged

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


@dataclass(frozen=True, slots=True)
class Reported:
    """A decoded probe report whose sender is authenticated as ``report.node``."""

    report: ProbeReport


@dataclass(frozen=True, slots=True)
class Committed:
    """Hard state changed; what is named here is already durable."""

    changes: tuple[Change, ...]


@dataclass(frozen=True, slots=True)
class CountersLoaded:
    """Absolute counters from the database; heals any drift of the differences, and is what the flows come from."""

    counters: Counters
    flows: Mapping[Flow, int] = field(default_factory=dict)  # live sessions with an agent


@dataclass(frozen=True, slots=True)
class Solved:
    """A worker finished a solve; dropped if a newer one was asked for and answered meanwhile."""

    candidate: Candidate


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


@dataclass(frozen=True, slots=True)
class Tick:
    """A periodic job is due; the names are those of ``router.jobs``."""

    job: str


Input = Booted | Reported | Committed | CountersLoaded | Solved | SolveFailed | Moved | Tick

# --- effects ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Solve:
    """Compute the best paths of a snapshot off the event loop; answer with ``Solved`` or ``SolveFailed``."""

    snapshot: GraphSnapshot


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


@dataclass(frozen=True, slots=True)
class FinishDrain:
    """A drain has nothing left to move: commit ``drained`` for it and its targets."""

    drain: DrainId


@dataclass(frozen=True, slots=True)
class AdvanceDrain:
    """Time has come for a step of ``drain.TRANSITIONS``: decide on it again on the View and commit."""

    drain: DrainId
    step: str


@dataclass(frozen=True, slots=True)
class AppendHistory:
    """One roll-up row per source: all links from ``data_center`` over a closed time bucket, packed.

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
    Solve
    | RoutesPublished
    | MoveSessions
    | FinishDrain
    | AdvanceDrain
    | AppendHistory
    | AppendRouteChanges
    | PlansChanged
    | Record
)
