"""A small fleet whose faults are told as rules: which probes and which sessions are bad, in exact proportion."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache

import numpy as np

from router.core.blame import BlameBook, Outcome
from router.core.model import DataCenter, DataCenterId, Inventory, Node, NodeId, Provider, ProviderId, Region, RegionId
from router.core.verdicts import Verdict

SECOND = 1_000_000
PROVIDERS, REGIONS = ("azure", "gcp", "oracle", "vultr"), ("fra", "iad", "sin")
GROUPS, HUBS = ("as1", "as2", "as3", "as4", "as5"), ("azure-fra", "gcp-iad", "oracle-sin")
PEOPLE = 4  # of every client network at every node and hub

ProbeRule = Callable[[str, str], float]  # (source node, peer node) -> share that is lost
SessionRule = Callable[[str, str, str], float]  # (edge node, client network, hub) -> share that is bad


def place_of(node: str) -> str:
    return node.rsplit("-", 1)[0]


def provider_of(node: str) -> str:
    return node.split("-")[0]


@cache
def fleet() -> Inventory:
    """Two nodes in each of twelve data centers, and a second data center of gcp in Frankfurt."""
    places = sorted([*(f"{p}-{r}" for p in PROVIDERS for r in REGIONS), "gcp-fra2"])
    region = {dc: dc.split("-")[1].rstrip("2") for dc in places}
    return Inventory(
        providers={ProviderId(p): Provider(ProviderId(p), p.capitalize()) for p in PROVIDERS},
        regions={RegionId(r): Region(RegionId(r), r.upper()) for r in REGIONS},
        data_centers={
            DataCenterId(dc): DataCenter(DataCenterId(dc), ProviderId(dc.split("-")[0]), RegionId(region[dc]))
            for dc in places
        },
        nodes={NodeId(f"{dc}-n{k}"): Node(NodeId(f"{dc}-n{k}"), DataCenterId(dc)) for dc in places for k in (1, 2)},
    )


@dataclass
class Story:
    """A book and what happens to it; ``reverse`` tells the same in another order."""

    reverse: bool = False
    book: BlameBook = field(default_factory=lambda: BlameBook(fleet()))
    now_s: int = 1_000
    silent: frozenset[str] = frozenset()  # data centers whose nodes report nothing
    said: list[tuple[int, Verdict]] = field(default_factory=list)
    ended: list[tuple[int, Verdict]] = field(default_factory=list)
    _owed: dict[object, float] = field(default_factory=dict)

    def live(self, seconds: int, probes: ProbeRule | None = None, sessions: SessionRule | None = None) -> Story:
        """Let time pass under rules; without any, all is well."""
        for _ in range(seconds):
            self.now_s += 1
            self._tell(probes or (lambda *_: 0.0), sessions or (lambda *_: 0.0))
            case = self.book.case(self.now)
            if case is not None:
                began, ended = self.book.settle(case.judged(), self.now)
                self.said += [(self.now_s, v) for v in began]
                self.ended += [(self.now_s, v) for v in ended]
        return self

    @property
    def now(self) -> int:
        return self.now_s * SECOND

    @property
    def names(self) -> list[str]:
        """What is surely blamed now."""
        return sorted(v.component.name for v in self.book.current.sure())

    def _tell(self, probes: ProbeRule, sessions: SessionRule) -> None:
        inventory = fleet()
        nodes = [node for node in inventory.nodes if place_of(node) not in self.silent]
        for node in reversed(nodes) if self.reverse else nodes:
            peers = _peers(node)
            peers = peers[::-1] if self.reverse else peers
            lost = np.array([self._take((node, p), probes(node, p), 1) for p in peers])
            sent = np.ones(len(peers), np.int64)
            trips = np.where(sent > lost, 20_000, -1)
            self.book.observe_probes(node, tuple(peers), sent, sent - lost, trips, self.now)
        told = [
            Outcome(DataCenterId(place_of(n)), NodeId(n), g, DataCenterId(h), good=PEOPLE - bad, bad=bad)
            for n in inventory.nodes
            for g in GROUPS
            for h in HUBS
            for bad in [self._take((n, g, h), sessions(n, g, h), PEOPLE)]
        ]
        self.book.observe_outcomes(reversed(told) if self.reverse else told, self.now)

    def _take(self, key: object, share: float, of: int) -> int:
        """Whole numbers that add up to the share over time; different keys begin at different points."""
        if share == 0:
            return 0
        start = (sum(map(ord, str(key))) % 97) / 97
        owed = self._owed.get(key, start) + share * of
        self._owed[key] = owed - int(owed)
        return int(owed)


@cache
def _peers(node: str) -> list[NodeId]:
    home, number = place_of(node), node[-1]
    others = [NodeId(f"{dc}-n{number}") for dc in fleet().data_centers if dc != home]
    return [*others, NodeId(f"{home}-n{3 - int(number)}")]


def touches(*parts: str) -> ProbeRule:
    """All probes from or to nodes whose names begin so are lost."""
    return share_of(1.0, *parts)


def share_of(share: float, *parts: str) -> ProbeRule:
    def rule(a: str, b: str) -> float:
        outside = place_of(a) != place_of(b)
        return share if outside and any(x.startswith(parts) for x in (a, b)) else 0.0

    return rule


def on_edges(share: float, *parts: str) -> SessionRule:
    return lambda node, _group, _hub: share if node.startswith(parts) else 0.0


def across(share: float, *parts: str) -> SessionRule:
    """Sessions whose edge or hub is there."""
    return lambda node, _group, hub: share if node.startswith(parts) or f"{hub}-".startswith(parts) else 0.0


def either(*rules: ProbeRule) -> ProbeRule:
    return lambda a, b: max(rule(a, b) for rule in rules)


def either_session(*rules: SessionRule) -> SessionRule:
    return lambda n, g, h: max(rule(n, g, h) for rule in rules)


def kinds(found: Sequence[tuple[int, Verdict]]) -> list[str]:
    return [v.component.name for _, v in found]
