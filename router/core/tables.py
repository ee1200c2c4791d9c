"""The arrays everyone shares: LinkTable, GraphSnapshot, RouteTable, and the View that holds them.

All are immutable by contract: the core builds new arrays and never writes into published ones (they are marked
read-only). Indexes are ``[transport, from, to]`` for estimates and ``[context, from, to]`` for routes; vertices are
data centers in id order, see :attr:`router.core.model.Inventory.index`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from router.core.model import (
    DEFAULT_TRANSPORT,
    Counters,
    DataCenterId,
    Drain,
    DrainId,
    Flow,
    Inventory,
    Micros,
    NodeId,
    PolicyId,
    PoolId,
    Ramp,
    RampId,
    TrafficClass,
)
from router.core.verdicts import Blame, Component

if TYPE_CHECKING:
    from router.core.blame.outcomes import OutcomeCount, OutcomeKey
    from router.core.capacity.board import CapacityBoard
    from router.core.capacity.machines import Launch, LaunchId, Proof
    from router.core.clients import ClientTable

I64 = NDArray[np.int64]
I32 = NDArray[np.int32]
I16 = NDArray[np.int16]
U8 = NDArray[np.uint8]
U64 = NDArray[np.uint64]
Bool = NDArray[np.bool_]
F64 = NDArray[np.float64]

UNKNOWN = -1  # in arrays of delays, jitters and losses that are never negative
NO_COST = np.int64(1) << 40  # "no such link"; far above any path, far below overflow when three are added
FALLEN = np.iinfo(np.int32).max  # in ``Evidence.ring``: no value in this bucket
DIRECT = -1  # in ``RouteTable.relays``: no (further) relay


class LinkState(IntEnum):
    """What measurement says about a directed link."""

    UNKNOWN = 0
    UP = 1
    DEGRADED = 2
    DOWN = 3


class Health(StrEnum):
    """What measurement says about a data center."""

    UNKNOWN = "unknown"
    UP = "up"
    DEGRADED = "degraded"
    DOWN = "down"


@dataclass(frozen=True, eq=False)
class LinkTable:
    """Estimates, all arrays ``[transport, from, to]``; ``UNKNOWN`` (-1) where nothing is known."""

    data_centers: tuple[DataCenterId, ...]
    transports: tuple[str, ...]
    rtt_us: I64  # windowed minimum of the round trip from -> to -> from over this transport
    forward_us: I64  # one-way delay from -> to: the middle of what physics and all measurements leave
    along_us: I64  # the same under one set of clock offsets for all links: what to add up along a path
    expected_us: I64  # one-way delay to expect next, from the history; NO_COST where nothing is known; may be negative
    error_us: I64  # half-width of the band that surely holds the true one-way delay
    raw_us: I64  # uncorrected one-way difference on the reference clocks; may be negative; valid where state != UNKNOWN
    jitter_us: I64  # median absolute delay variation, one way
    loss_ppm: I64  # lost / sent over about a minute, half of the round trip's
    certain_loss_ppm: I64  # the part of it that the metric prices: lower end of its confidence interval
    samples: I64  # in the current window
    last_at: I64  # time of the newest evidence, 0 if none
    state: U8  # LinkState


@dataclass(frozen=True, slots=True)
class Context:
    """One routing context: a traffic class under a policy (None: no policy)."""

    traffic_class: TrafficClass
    policy: PolicyId | None = None

    @property
    def name(self) -> str:
        """``voice`` or ``voice/eu-only``."""
        return self.traffic_class.value if self.policy is None else f"{self.traffic_class.value}/{self.policy}"


class HeldBack(IntEnum):
    """Why the solver's candidate is not in force; the rule that fired, in the order in which they are asked."""

    NOT = 0  # it is in force, or is not better
    ABSOLUTE = 1  # better, but by less than the absolute margin
    RELATIVE = 2  # better, but by less than the relative margin
    WINDOWS = 3  # the newest bucket does not agree with the average
    RISK = 4  # too likely to be worse than the direct path in the next bucket
    REGRET = 5  # better for so short a time that staying has not yet cost as much as a move
    DWELL = 6  # the pair changed its path lately; the wait doubles with every change
    HERD = 7  # too many pairs want to move onto the same relay, or off a loaded one, at once; see ``load_guard``


@dataclass(frozen=True, eq=False)
class Evidence:
    """One moment of the delays' history, immutable; arrays ``[transport, from, to]`` in microseconds."""

    bucket: int  # buckets closed so far
    ring: tuple[I32, ...]  # the last closed buckets, oldest first; FALLEN where there is no value
    latest: I64  # FALLEN where there is none
    since: I32  # number of the bucket from which on the present level holds
    noise: I64  # standard deviation of a bucket's delay around its level
    refresh: F64  # [vertex] probability that its measurements change in the next bucket


@dataclass(frozen=True, eq=False)
class LoadPrice:
    """What load adds to the metric of each hop, int64 ``[transport, from, to]`` microseconds; see ``core.load``."""

    smooth_us: I64  # damped; part of ``GraphSnapshot.cost``
    newest_us: I64  # what the newest load deserves
    move_share: float  # of the paths that leave one relay for load: how many may in one solve


@dataclass(frozen=True, eq=False)
class GraphSnapshot:
    """What one solve works on: integer costs in microseconds per context, the best transport already chosen per hop."""

    generation: int
    at: Micros
    data_centers: tuple[DataCenterId, ...]
    contexts: tuple[Context, ...]
    cost: I64  # [context, from, to], NO_COST where there is no usable link; may be negative
    transport: U8  # [context, from, to] index of the transport behind ``cost``
    may_relay: Bool  # [context, vertex]
    max_relays: I16  # [context]
    relay_cost_us: I64  # [context]
    inventory_count: int  # how many changes of the inventory this snapshot includes
    potential_us: I64  # [vertex] clock offset estimate; cost + potential[from] - potential[to] is what people may read
    transports: tuple[str, ...] = (DEFAULT_TRANSPORT,)  # names of the indexes in ``transport``
    evidence: Evidence | None = None  # None: nothing to judge a change by, and margins alone decide
    extra_us: I64 | None = None  # [context, from, to] part of ``cost`` that is not delay: jitter, loss, price, load
    load: LoadPrice | None = None  # None: nothing is loaded
    provider: I16 | None = None  # [vertex] number of its provider; None: not known, and no backups are looked for


@dataclass(frozen=True, eq=False)
class Candidate:
    """The solver's answer for one snapshot: exact best path per context and ordered pair."""

    generation: int
    at: Micros
    cost: I64  # [context, from, to] total incl. relay costs, NO_COST where unreachable
    relays: I16  # [context, from, to, MAX_RELAYS] vertex of each relay in order, DIRECT (-1) beyond the last
    spares: I16  # [context, from, to, SPARES] paths with at most one relay to choose backups from; see solve.backups


@dataclass(frozen=True, eq=False)
class RouteTable:
    """The routes in force; ``candidate`` is what the solver would choose now, the switching rule stands between."""

    generation: int
    computed_at: Micros
    snapshot: GraphSnapshot
    candidate: Candidate
    relays: I16  # [context, from, to, MAX_RELAYS]; meaningless where ``reachable`` is False
    reachable: Bool  # [context, from, to]
    cost: I64  # [context, from, to] of the path in force under the snapshot's costs
    since: I64  # [context, from, to] when the path in force was adopted
    challenger_since: I64  # [context, from, to] since when the candidate has been better but held back, 0 if it is not
    held_back: U8  # [context, from, to] HeldBack
    flaps: F64  # [context, from, to] changes of path lately, halved every FLAP_HALF_US
    risk_ppm: I32  # [context, from, to] how likely the candidate is worse than direct in the next bucket; -1 not asked
    stale: bool = False  # loaded from disk after a restart; nothing newer has been computed yet
    regret: I64 | None = None  # [context, from, to] what staying on the path has cost, see ``core.change``; not saved


@dataclass(frozen=True, slots=True)
class DataCenterHealth:
    """Measured health of one data center, with its evidence."""

    state: Health = Health.UNKNOWN
    since: Micros = 0
    evidence_at: Micros = 0  # newest evidence for or against
    vantages_ok: int = 0  # data centers that exchanged a packet with it in the evidence window
    vantages_lost: int = 0  # data centers that only lost packets
    reason: str = ""


@dataclass(frozen=True, eq=False)
class FreshRow:
    """What one report changed at once, ahead of the next link table: expected one-way delays both ways."""

    at: Micros
    transport: I64  # [row]
    source: int
    target: I64  # [row] vertex
    forward_us: I64  # [row] source -> target
    backward_us: I64  # [row]


@dataclass(frozen=True, slots=True)
class PeerEvidence:
    """What one report says about each other data center: packets that came back, packets that did not."""

    source: int
    target: I64  # [row] vertex
    received: I64  # [row]
    lost: I64  # [row]
    fresh: FreshRow | None = None


Doubts = Mapping[tuple[NodeId, str], int]
"""(peer, transport) -> 1 suspect, 2 down: what a probe agent itself thinks."""


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """What we know of a probe agent."""

    reported_at: Micros = 0
    plan_version: int = 0
    boot: str = ""
    sequence: int = -1  # of the newest report taken in
    doubts: Doubts = field(default_factory=dict)  # its own verdicts; who is not in it is up


@dataclass(frozen=True, slots=True)
class Dial:
    """How much of its users a data center may take as new sessions, and who says so."""

    share_ppm: int  # 0: nobody; absent from ``View.dials``: everybody
    cause: str


@dataclass(frozen=True, slots=True)
class Demand:
    """How many sessions there have been lately, from a soft history of the core; a restart forgets it."""

    history_s: int = 0  # how far back it goes
    sessions_p95: int = 0  # of all sessions together, per bucket the most seen
    life_s: int | None = None  # mean length of a session; None: too few began to say


@dataclass(frozen=True, slots=True)
class DrainProgress:
    """How far a drain has come; measured, not stored."""

    sessions_left: int
    agents_left: int  # held places of agents
    rate_per_s: float  # sessions that left per second, over about the last minute
    eta_s: int | None  # None: at this rate never
    blocked_by: tuple[str, ...] = ()
    before: Mapping[DataCenterId, OutcomeCount] = field(default_factory=dict)  # of its receivers, when it began


@dataclass(frozen=True, slots=True)
class Climb:
    """What a ramp has seen on its present rung, and what it waits for; soft, unlike the ramp itself."""

    exposed: int = 0  # sessions started there since the ramp began
    canary: Mapping[str, int] = field(default_factory=dict)  # counts of the arm
    control: Mapping[str, int] = field(default_factory=dict)
    e_value: float = 1.0  # of all tests together; what rolls back is told with it
    limit: float = 0.0
    worst: str = ""  # the test that speaks loudest
    robots: Mapping[str, tuple[int, int]] = field(default_factory=dict)  # errand -> tried, failed
    waits: tuple[str, ...] = ()
    held: bool = False  # takes nobody until those in flight have shown something


@dataclass(frozen=True, slots=True)
class Lane:
    """Agents of a pool whose version is on a ramp: they are taken for a share of the users, and for nobody else."""

    version: str
    share_ppm: int  # of users, by a hash, who get such an agent now
    rung_ppm: int  # the share of its rung, also while the ramp is held: the control arm stands beyond it


@dataclass(frozen=True, eq=False)
class View:
    """Everything a reader may see, immutable; swapped by one assignment in the runtime."""

    now: Micros
    epoch: int
    inventory: Inventory
    links: LinkTable
    routes: RouteTable | None
    health: tuple[DataCenterHealth, ...]  # in vertex order
    inventory_count: int = 0  # changes of the inventory so far in this run; compare with ``GraphSnapshot``
    plan_version: int = 0  # of the probe plans; rises with every change of the inventory
    nodes: Mapping[NodeId, NodeStatus] = field(default_factory=dict)
    counters: Counters = field(default_factory=Counters)
    drains: Mapping[DrainId, Drain] = field(default_factory=dict)
    ramps: Mapping[RampId, Ramp] = field(default_factory=dict)
    climbs: Mapping[RampId, Climb] = field(default_factory=dict)  # of the open ones
    dials: Mapping[DataCenterId, Dial] = field(default_factory=dict)  # data centers that take only a share of users
    lanes: Mapping[PoolId, tuple[Lane, ...]] = field(default_factory=dict)  # versions on ramps, oldest ramp first
    # What came in since ``links`` was made, by reporting vertex, newest last.
    fresh: Mapping[int, tuple[FreshRow, ...]] = field(default_factory=dict)
    clients: ClientTable | None = None  # what was measured of client networks; None: nothing yet
    outcomes: Mapping[OutcomeKey, OutcomeCount] = field(default_factory=dict)  # of sessions, faded, see core.blame
    blame: Blame = field(default_factory=Blame)  # who is at fault
    moved: Mapping[Component, int] = field(default_factory=dict)  # sessions moved off what is blamed, meanwhile
    flows: Mapping[Flow, int] = field(default_factory=dict)  # live sessions with an agent
    demand: Demand = field(default_factory=Demand)
    progress: Mapping[DrainId, DrainProgress] = field(default_factory=dict)  # of the drains under way
    capacity: CapacityBoard | None = None  # what there is, is expected and is bought, as of the last count
    launches: Mapping[LaunchId, Launch] = field(default_factory=dict)
    proofs: Mapping[LaunchId, Proof] = field(default_factory=dict)  # of bought machines that are canaries
    bad_at: Mapping[DataCenterId, Micros] = field(default_factory=dict)  # when each was last down or degraded
    refused: Mapping[str, int] = field(default_factory=dict)  # reports and rows that were left out so far, by reason

    @property
    def generation(self) -> int:
        """Generation of the routes in force; 0 before the first solve."""
        return 0 if self.routes is None else self.routes.generation
