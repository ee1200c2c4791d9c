"""Faults as data: what can go wrong in a simulated world, whom it hits, and what several faults make of one link.

``KINDS`` is the table: every kind of fault with the numbers it takes, their limits and their defaults. The scenario
reader checks against it, the reference page is tested against it, and :class:`FaultPlayer` plays it.

Whom. A fault on the network hits links: those that leave (``out``), enter (``in``) or do either (``both``) of the data
centers that a selector such as ``provider=gcp`` or ``data_center=gcp-fra1`` matches, or one ``link: [from, to]``
(``out`` is that direction, ``in`` its reverse). A partition cuts only the links between those inside and those outside.
A fault on clocks or reports hits the nodes that the selector matches (``node=gcp-fra1-0`` too). ``busiest-relay``
stands for the data center over which most paths in force relay at the moment when the fault starts.

Composition on one link: any cut swallows everything, delays and jitters add, losses are independent
(``1 - (1 - p)(1 - q)``), of gray failures the worse share counts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from router.core.errors import InputRejected
from router.core.model import DataCenter, DataCenterId, Inventory, Micros, NodeId
from router.sim.engine import Engine
from router.sim.world import Pair, World

RAMP_TICK_US = 250_000  # a ramp is a staircase this fine
BUSIEST = "busiest-relay"
SELECTOR_KEYS = ("provider", "region", "data_center", "node")
DAY_S = 86_400.0


class Direction(StrEnum):
    """Which way packets must go to be hit; see the module docstring."""

    IN = "in"
    OUT = "out"
    BOTH = "both"


class Kind(StrEnum):
    """What happens."""

    OUTAGE = "outage"
    STEP = "step"
    BROWNOUT = "brownout"
    PARTITION = "partition"
    ASYMMETRY = "asymmetry"
    GRAY = "gray"
    CLOCK_STEP = "clock-step"
    CLOCK_DRIFT = "clock-drift"
    SLOW_SOLVER = "slow-solver"
    REPORTS = "reports"
    DRAIN = "drain"
    GRAY_NODE = "gray-node"
    ISOLATION = "isolation"
    STORE_OUTAGE = "store-outage"
    RESTART = "restart"
    RUSH = "rush"


class Hits(StrEnum):
    """What a kind of fault is aimed at."""

    LINKS = "links"
    NODES = "nodes"
    TARGETS = "data centers"
    NOTHING = "the control plane"


@dataclass(frozen=True, slots=True)
class Number:
    """A number that a fault takes; ``default`` None: it must be given."""

    low: float
    high: float
    default: float | None = None


@dataclass(frozen=True, slots=True)
class KindRule:
    """What a kind takes beside ``id``, ``at_s`` and ``for_s``; ``what`` are the words that its ``what`` may be."""

    hits: Hits
    about: str
    numbers: Mapping[str, Number] = field(default_factory=dict)
    what: tuple[str, ...] = ()


SHARE = {"share_percent": Number(0, 100)}
REPORT_FAULTS = ("lost", "duplicate", "replay", "delay", "reorder", "unknown-peer", "malformed", "absurd")
KINDS: Mapping[Kind, KindRule] = {
    Kind.OUTAGE: KindRule(Hits.LINKS, "every packet is lost"),
    Kind.STEP: KindRule(Hits.LINKS, "the delay jumps", {"delay_ms": Number(-1_000, 30_000)}),
    Kind.BROWNOUT: KindRule(
        Hits.LINKS,
        "delay, jitter and loss rise over a ramp",
        {
            "delay_ms": Number(0, 30_000, 0),
            "jitter_ms": Number(0, 5_000, 0),
            "loss_percent": Number(0, 100, 0),
            "ramp_s": Number(0, 3_600, 5),
        },
    ),
    Kind.PARTITION: KindRule(Hits.LINKS, "links between inside and outside are cut"),
    Kind.ASYMMETRY: KindRule(
        Hits.LINKS,
        "delay moves from one direction to the other; the round trip stays",
        {"shift_ms": Number(-1_000, 1_000)},
    ),
    Kind.GRAY: KindRule(
        Hits.LINKS,
        "a share of packets or of flows is lost, the rest is well",
        {"share_percent": Number(0, 100)},
        ("packets", "flows"),
    ),
    Kind.CLOCK_STEP: KindRule(
        Hits.NODES, "the clock jumps, and back when the fault ends", {"step_ms": Number(-1e12, 1e12)}
    ),
    Kind.CLOCK_DRIFT: KindRule(Hits.NODES, "the clock runs at another speed", {"drift_ppm": Number(-500, 500)}),
    Kind.SLOW_SOLVER: KindRule(
        Hits.NOTHING,
        "solves answer late; after give_up_s the solve is called failed and its answer still comes; may come twice",
        {"delay_s": Number(0, 3_600), "give_up_s": Number(0, 3_600, 0), "answers": Number(1, 5, 1)},
    ),
    Kind.REPORTS: KindRule(
        Hits.NODES,
        "reports are lost, repeated, late, out of order, or nonsense",
        {"share_percent": Number(0, 100, 100), "delay_s": Number(0, 3_600, 5)},
        REPORT_FAULTS,
    ),
    Kind.DRAIN: KindRule(Hits.TARGETS, "an operator drains, and undoes it when the fault ends", {}, ("hard", "soft")),
    Kind.GRAY_NODE: KindRule(
        Hits.NODES, "nodes answer probes and accept users, and carry nothing for a share of them", SHARE
    ),
    Kind.ISOLATION: KindRule(
        Hits.TARGETS, "data centers wrongly believe that they are cut off: they report all probes lost, take nobody new"
    ),
    Kind.STORE_OUTAGE: KindRule(Hits.NOTHING, "the database is away: nothing can be written or read"),
    Kind.RUSH: KindRule(
        Hits.NOTHING,
        "sessions begin so many times as often, rising over a ramp; needs users",
        {"factor": Number(0, 100), "ramp_s": Number(0, 3_600, 300)},
    ),
    Kind.RESTART: KindRule(Hits.NOTHING, "the control plane dies, and a new process starts when the fault ends"),
}


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault with its times relative to the start; at most one of ``target`` and ``link`` is given."""

    id: str
    kind: Kind
    at_us: int
    for_us: int | None = None  # None: for the rest of the run
    target: Mapping[str, str] | str | None = None  # parts of a selector, or BUSIEST
    link: tuple[str, str] | None = None
    peer: Mapping[str, str] | None = None  # only links between target and these
    direction: Direction = Direction.BOTH
    numbers: Mapping[str, float] = field(default_factory=dict)
    what: str = ""

    def number(self, name: str) -> float:
        """One of the kind's numbers, or its default."""
        given = self.numbers.get(name)
        fallback = KINDS[self.kind].numbers[name].default
        return given if given is not None else fallback or 0.0


def members(inventory: Inventory, selector: Mapping[str, str]) -> tuple[DataCenterId, ...]:
    """Data centers that a selector matches, in id order; one with a ``node`` matches that node's."""
    return tuple(dc.id for dc in inventory.data_centers.values() if _matches(inventory, dc, selector))


def nodes_hit(inventory: Inventory, selector: Mapping[str, str]) -> tuple[NodeId, ...]:
    """Nodes that a selector matches, in id order."""
    inside = members(inventory, selector)
    named = selector.get("node")
    return tuple(n.id for n in inventory.nodes.values() if n.data_center in inside and named in (None, n.id))


def links_hit(fault: Fault, inside: Iterable[DataCenterId], world: World) -> tuple[Pair, ...]:
    """Directed links that a fault on the network hits; ``inside`` are the data centers of its target."""
    pairs = world.slices[0] if world.slices else world.delay_us
    if fault.link is not None:
        there = (DataCenterId(fault.link[0]), DataCenterId(fault.link[1]))
        back = (there[1], there[0])
        wanted = {Direction.OUT: (there,), Direction.IN: (back,), Direction.BOTH: (there, back)}[fault.direction]
        return tuple(pair for pair in wanted if pair in pairs)
    chosen = dict.fromkeys(inside)
    out, into = fault.direction is not Direction.IN, fault.direction is not Direction.OUT
    hit = [(a, b) for a, b in pairs if (out and a in chosen) or (into and b in chosen)]
    if fault.peer is not None:
        others = dict.fromkeys(members(world.inventory, fault.peer))
        hit = [(a, b) for a, b in hit if (a in chosen and b in others) or (b in chosen and a in others)]
    if fault.kind is Kind.PARTITION:
        hit = [(a, b) for a, b in hit if (a in chosen) != (b in chosen)]
    return tuple(hit)


def check(fault: Fault, inventory: Inventory) -> None:
    """Raise ``bad_scenario`` if a fault names what the world does not have."""
    if fault.link is not None:
        for i, end in enumerate(fault.link):
            if DataCenterId(end) not in inventory.data_centers:
                raise rejected(f"faults.{fault.id}.link[{i}]", f"{end} is not a data center of this world")
    if isinstance(fault.target, Mapping) and not nodes_hit(inventory, fault.target):
        text = ",".join(f"{key}={value}" for key, value in fault.target.items())
        raise rejected(f"faults.{fault.id}.target", f"{text} matches nothing in this world")
    if fault.peer is not None and not members(inventory, fault.peer):
        raise rejected(f"faults.{fault.id}.peer", "matches nothing in this world")


def rejected(field: str, rule: str, limit: float | None = None) -> InputRejected:
    """The error of everything that is wrong with a scenario."""
    return InputRejected("bad_scenario", f"{field}: {rule}", field=field, rule=rule, limit=limit)


def _matches(inventory: Inventory, dc: DataCenter, selector: Mapping[str, str]) -> bool:
    facts = {"provider": dc.provider, "region": dc.region, "data_center": dc.id}
    node = selector.get("node")
    if node is not None and (NodeId(node) not in inventory.nodes or inventory.nodes[NodeId(node)].data_center != dc.id):
        return False
    return all(facts[key] == value for key, value in selector.items() if key != "node")


class FaultPlayer:
    """Starts and ends faults on virtual time; ``hit`` and ``active`` say what is going on.

    ``busiest`` answers who ``busiest-relay`` is now; ``started`` and ``ended`` are called for every fault, so that the
    simulation can do what does not happen in the network.
    """

    def __init__(
        self,
        engine: Engine,
        world: World,
        busiest: Callable[[], DataCenterId | None],
        started: Callable[[Fault], None],
        ended: Callable[[Fault], None],
    ) -> None:
        self._engine = engine
        self._world = world
        self._busiest = busiest
        self._started = started
        self._ended = ended
        self.active: dict[str, Fault] = {}
        self.since: dict[str, Micros] = {}
        self.until: dict[str, Micros] = {}  # of those that are over
        self.targets: dict[str, tuple[DataCenterId, ...]] = {}  # data centers, by fault, also of those that are over
        self.hit: dict[str, tuple[Pair, ...]] = {}  # likewise links

    def plan(self, fault: Fault, start: Micros) -> None:
        """Let a fault happen. Raises ``bad_scenario`` if it names what the world does not have."""
        check(fault, self._world.inventory)
        self._engine.at(start + fault.at_us, lambda: self._begin(fault))
        if fault.for_us is not None:
            self._engine.at(start + fault.at_us + fault.for_us, lambda: self._end(fault))

    def active_of(self, kind: Kind) -> tuple[Fault, ...]:
        """Faults of a kind that are going on, in order of their start."""
        return tuple(fault for fault in self.active.values() if fault.kind is kind)

    def dark(self, data_center: DataCenterId) -> bool:
        """Whether an outage of a data center as a whole is going on: its users cannot reach it either."""
        return any(
            fault.link is None and fault.peer is None and fault.direction is Direction.BOTH
            and data_center in self.targets[fault.id]
            for fault in self.active_of(Kind.OUTAGE)
        )  # fmt: skip

    def rush(self) -> float:
        """How many times as often as usual sessions begin now."""
        found = [1 + (f.number("factor") - 1) * self._grown(f) for f in self.active_of(Kind.RUSH)]
        return math.prod(found)

    def isolated(self, data_center: DataCenterId) -> bool:
        """Whether a data center believes that it is cut off."""
        return any(data_center in self.targets[fault.id] for fault in self.active_of(Kind.ISOLATION))

    def nodes(self, fault: Fault) -> tuple[NodeId, ...]:
        """Nodes that a fault hits."""
        if isinstance(fault.target, Mapping):
            return nodes_hit(self._world.inventory, fault.target)
        inside = dict.fromkeys(self.targets.get(fault.id, ()))
        nodes = self._world.inventory.nodes.values()
        return tuple(n.id for n in nodes if fault.target is None or n.data_center in inside)

    def _begin(self, fault: Fault) -> None:
        inventory = self._world.inventory
        if fault.target == BUSIEST:
            found = self._busiest()
            self.targets[fault.id] = () if found is None else (found,)
        elif isinstance(fault.target, Mapping):
            self.targets[fault.id] = members(inventory, fault.target)
        else:
            self.targets[fault.id] = tuple(DataCenterId(end) for end in fault.link or ())
        if KINDS[fault.kind].hits is Hits.LINKS:
            self.hit[fault.id] = links_hit(fault, self.targets[fault.id], self._world)
        self.active[fault.id] = fault
        self.since[fault.id] = self._engine.now
        self._ramp(fault)
        self._clocks(fault, begins=True)
        self._started(fault)

    def _end(self, fault: Fault) -> None:
        if self.active.pop(fault.id, None) is None:
            return
        self.until[fault.id] = self._engine.now
        self._compose()
        self._clocks(fault, begins=False)
        self._ended(fault)

    def _ramp(self, fault: Fault) -> None:
        if fault.id not in self.active:
            return
        self._compose()
        if fault.kind is Kind.BROWNOUT and self._grown(fault) < 1.0:
            self._engine.at(self._engine.now + RAMP_TICK_US, lambda: self._ramp(fault))

    def _grown(self, fault: Fault) -> float:
        ramp_us = fault.number("ramp_s") * 1e6
        return min(1.0, (self._engine.now - self.since[fault.id]) / ramp_us) if ramp_us else 1.0

    def _compose(self) -> None:
        """Write what all active faults together do into the world."""
        world = self._world
        for effect in (world.extra_us, world.extra_jitter_us, world.cut, world.lossy, world.gray):
            effect.clear()
        for fault in self.active.values():
            if KINDS[fault.kind].hits is Hits.LINKS:
                self._impair(fault)

    def _impair(self, fault: Fault) -> None:
        world, hit = self._world, self.hit[fault.id]
        match fault.kind:
            case Kind.OUTAGE | Kind.PARTITION:
                world.cut.update(dict.fromkeys(hit, True))
            case Kind.STEP:
                _add(world.extra_us, hit, fault.number("delay_ms") * 1_000)
            case Kind.ASYMMETRY:
                inside, shift_us = dict.fromkeys(self.targets[fault.id]), fault.number("shift_ms") * 1_000
                first = None if fault.link is None else fault.link[0]
                for a, b in hit:
                    leaves = a == first if first is not None else a in inside
                    _add(world.extra_us, ((a, b),), shift_us if leaves else -shift_us)
            case Kind.GRAY if fault.what == "flows":
                for pair in hit:
                    world.gray[pair] = max(world.gray.get(pair, 0.0), fault.number("share_percent") / 100)
            case Kind.GRAY:
                self._lose(hit, fault.number("share_percent") / 100)
            case _:
                grown = self._grown(fault)
                _add(world.extra_us, hit, fault.number("delay_ms") * 1_000 * grown)
                _add(world.extra_jitter_us, hit, fault.number("jitter_ms") * 1_000 * grown)
                self._lose(hit, fault.number("loss_percent") / 100 * grown)

    def _lose(self, hit: tuple[Pair, ...], share: float) -> None:
        for pair in hit:
            survive = 1.0 - self._world.lossy.get(pair, self._world.loss)
            self._world.lossy[pair] = 1.0 - survive * (1.0 - share)

    def _clocks(self, fault: Fault, begins: bool) -> None:
        now = self._engine.now
        if fault.kind is Kind.CLOCK_STEP:
            step_us = round(fault.number("step_ms") * 1_000) * (1 if begins else -1)
            for node in self.nodes(fault):
                self._world.set_clock(node, now, step_us=step_us)
        if fault.kind is Kind.CLOCK_DRIFT:
            for node in self.nodes(fault):
                self._world.set_clock(node, now, skew_ppm=round(fault.number("drift_ppm")) if begins else 0)


def _add(effect: dict[Pair, int], hit: Iterable[Pair], amount: float) -> None:
    for pair in hit:
        effect[pair] = effect.get(pair, 0) + round(amount)
