"""A node whose paths are cut again and again, on a virtual clock: real detectors, reflex and hot paths, no sockets.

The node stands at ``home`` and talks to ``z`` over one relay of each of three providers, or directly. Every link loses
packets one by one, and every direction of every link can be silenced. Media leaves every 20 ms along the way in force.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from heapq import heappop, heappush
from types import SimpleNamespace
from typing import Any

from probes.choice import PathKey
from probes.detect import Verdict
from probes.evidence import Evidence
from probes.hot import HotPaths
from probes.reflex import Reflex, Way
from probes.wire import PlanPeer, ReactionHops, ReactionPlan, ReactionRows, Triggers

MS, SECOND = 1_000, 1_000_000
RELAYS = ("amber", "beryl", "coral")
CENTERS = ("home", *RELAYS, "z")
ONE_WAY_US = {"amber": 54 * MS, "beryl": 62 * MS, "coral": 74 * MS, "": 105 * MS}  # to z over that relay, or directly
MEDIA_US, TICK_US, LOSS = 20 * MS, 5 * MS, 0.001
TRIGGERS = Triggers(50 * MS, 1, 5, 10 * MS, 6, 10, SECOND)

Link = tuple[str, str]


def plan() -> ReactionPlan:
    """Over amber, else beryl, else coral, else directly."""
    hops = CENTERS[1:]
    ways = [(name, "z") for name in RELAYS] + [("z",)]
    return ReactionPlan(
        node="n", data_center="home", generation=1, plan_version=1, computed_at_us=0, issued_at_us=0,
        degraded_at_us=15 * SECOND, triggers=TRIGGERS, contexts=("voice",), tables=(0,), data_centers=CENTERS,
        hops=ReactionHops(
            tuple(CENTERS.index(name) for name in hops), ("internet",) * 4,
            tuple(f"192.0.2.{CENTERS.index(name)}" for name in hops), (7422,) * 4,
            tuple(f"{name}-1" for name in hops), (7421,) * 4,
        ),
        paths=tuple(tuple(hops.index(name) for name in way) for way in ways),
        rows=ReactionRows((0,), (4,), ((0, 1, 2, 3),), ("ppp",), (90_000,)),
    )  # fmt: skip


def relay_of(key: PathKey) -> str:
    """The relay of a path, "" for the direct one."""
    return CENTERS[int(key[0][0].rsplit(".", 1)[1])] if len(key) > 1 else ""


@dataclass
class Media:
    """What became of each packet: when it was sent, and whether a copy arrived."""

    sent_us: list[int] = field(default_factory=list)
    arrived: list[bool] = field(default_factory=list)

    def gap_us(self, from_us: int, to_us: int) -> int:
        """The longest run of packets of which no copy arrived."""
        longest = run = 0
        for sent_us, arrived in zip(self.sent_us, self.arrived, strict=True):
            if from_us <= sent_us <= to_us:
                run = 0 if arrived else run + 1
                longest = max(longest, run)
        return longest * MEDIA_US


class World:
    """The node, the network around it and the clock."""

    def __init__(self, seed: int, *, loss: float = LOSS, others: int = 12) -> None:
        self.rng = random.Random(seed)
        self.now_us, self.loss = 10 * SECOND, loss
        self.stalled_until_us = 0  # nothing that is under way arrives before
        self.cut: set[Link] = set()
        self.media = Media()
        self.reflex = Reflex("n")
        self.evidence = Evidence(self.reflex, ports=4)
        envelopes: Any = SimpleNamespace(wrap=lambda choice, probe: probe)
        self._ssids: dict[Any, int] = {}
        self.hot = HotPaths(self.reflex, self.evidence, envelopes, self.rng, self._ssid, lambda: None)
        self.reflex.install(plan(), self.now_us)
        self.evidence.use(TRIGGERS)
        self.centers = (*RELAYS, "z", *(f"other-{i}" for i in range(others)))
        peers = [PlanPeer(f"{name}-1", name, "internet", "192.0.2.99", 7421, 7422, SECOND) for name in self.centers]
        self.evidence.follow(peers, SECOND)
        self._peer_at = {(p.node, p.transport): self.now_us + self.rng.randrange(SECOND) for p in peers}
        self._interval_us = SECOND
        self._sequence = 0
        self._events: list[tuple[int, int, Callable[[], None]]] = []
        self._media_us = self.now_us

    def _ssid(self, key: Any) -> int:
        return self._ssids.setdefault(key, len(self._ssids) + 1)

    # --- the network -------------------------------------------------------------------------------------------------

    def passes(self, way: tuple[str, ...]) -> bool:
        """Whether a packet gets through, link by link, as things are now."""
        links = list(itertools.pairwise(way))
        return not any(link in self.cut or self.rng.random() < self.loss for link in links)

    def path(self, key: PathKey) -> tuple[str, ...]:
        """Data centers of a path."""
        relay = relay_of(key)
        return ("home", relay, "z") if relay else ("home", "z")

    def stall(self, for_us: int) -> None:
        """Keep back everything that is under way or sent meanwhile: the uplink of the node, or its machine, is busy."""
        self.stalled_until_us = self.now_us + for_us

    def _later(self, at_us: int, what: Callable[[], None]) -> None:
        self._sequence += 1
        heappush(self._events, (at_us, self._sequence, what))

    def _travel(self, path: tuple[str, ...], one_way_us: int, answered: Callable[[int], None]) -> None:
        """One probe; each half is lost by what is cut when it sets out."""
        sent_us, there_us = self.now_us, one_way_us + int(self.rng.expovariate(1 / 300))

        def back() -> None:
            if self.passes(path[::-1]):
                self._later(self.now_us + one_way_us, lambda: answered(self.now_us - sent_us))

        if self.passes(path):
            self._later(self.now_us + there_us, back)

    # --- the node ----------------------------------------------------------------------------------------------------

    def send(self, target: Any, port: int) -> int:
        """As a ``ProbeSender``: sends along a path."""
        key = next(key for key, one in self.hot.targets.items() if one is target)
        self._sequence += 1
        number, watch = self._sequence, self.evidence.path(key)
        assert watch is not None

        def answered(rtt_us: int) -> None:
            known = self.evidence.path(key)
            if known is watch:
                self.evidence.answered(watch, number, rtt_us, self.now_us)

        self._travel(self.path(key), ONE_WAY_US[relay_of(key)], answered)
        return number

    def slow_down(self, interval_us: int) -> None:
        """Probe the first hops more seldom from now on."""
        self._interval_us = interval_us
        self._peer_at = {key: self.now_us + self.rng.randrange(interval_us) for key in self._peer_at}
        self._media_us = max(self._media_us, self.now_us)

    def _ask(self, watch: Any, port: int) -> None:
        if watch.peer is None:
            self.hot.send(watch, self, port, self.now_us)  # type: ignore[arg-type]
            return
        self._sequence += 1
        number, center = self._sequence, watch.peer.data_center
        one_way_us = ONE_WAY_US[center] // 2 if center in RELAYS else ONE_WAY_US[""]
        self._travel(
            ("home", center), one_way_us, lambda rtt_us: self.evidence.answered(watch, number, rtt_us, self.now_us)
        )
        self.evidence.sent(watch, number, self.now_us, port)

    def _fire(self) -> None:
        for key, at_us in self._peer_at.items():
            if at_us <= self.now_us:
                self._peer_at[key] = at_us + self._interval_us
                watch = self.evidence.peers()[key]
                self._ask(watch, watch.detector.next_port())
        self.hot.due(self.now_us, self, lambda: True)  # type: ignore[arg-type]
        for watch, count in self.evidence.due(self.now_us):
            for _ in range(count):
                self._ask(watch, watch.detector.confirm_port())

    def _talk(self) -> None:
        way = self.way
        self.media.sent_us.append(self.now_us)
        self.media.arrived.append(any(self.passes(self.path(key)) for key in way.paths()))
        self._media_us += MEDIA_US

    def _wakes_us(self) -> int:
        at_us = min([self.hot.next_at(), *self._peer_at.values()])
        overdue_us = self.evidence.next_at()
        at_us = at_us if overdue_us is None else min(at_us, overdue_us)
        return max(self.now_us + 1, at_us + -at_us % TICK_US)

    def run(self, for_us: int) -> None:
        """Let time pass."""
        until_us = self.now_us + for_us
        while True:
            at_us, wakes_us = self._events[0][0] if self._events else until_us + 1, self._wakes_us()
            next_us = min(at_us, wakes_us, self._media_us)
            if next_us > until_us:
                self.now_us = until_us
                return
            self.now_us = max(self.now_us, next_us)
            if at_us == next_us:
                _, _, what = heappop(self._events)
                if self.now_us < self.stalled_until_us:
                    self._later(self.stalled_until_us, what)
                else:
                    what()
            elif self._media_us == next_us:
                self._talk()
            else:
                self._fire()

    # --- what happens ------------------------------------------------------------------------------------------------

    @property
    def way(self) -> Way:
        """The way in force."""
        return self.reflex.way("voice", "z", self.now_us)

    @property
    def healed(self) -> bool:
        """Whether the path in force and its first backup are up."""
        way = self.way
        backups = [state for place, state in enumerate(way.states) if place != way.place]
        return way.state is Verdict.UP and backups[:1] == [Verdict.UP]

    def until_healed(self, within_us: int = 8 * SECOND) -> bool:
        """As the benchmark waits between cuts."""
        deadline_us = self.now_us + within_us
        while self.now_us < deadline_us and not self.healed:
            self.run(250 * MS)
        return self.healed

    def cuts(self, count: int, cut_us: int = 1_200 * MS) -> Iterator[tuple[int, int]]:
        """Silence one direction of one link of the path in force again and again; yields gap and round trip of each."""
        for _ in range(count):
            self.run(self.rng.randrange(600 * MS))
            way = self.way
            assert way.primary is not None
            path = self.path(way.primary.key)
            hop = self.rng.randrange(len(path) - 1)
            at_us, link = self.now_us, (path[hop], path[hop + 1])
            there = self.rng.random() < 0.5
            self.cut = {link if there else link[::-1]}
            self.run(cut_us)
            gap_us = self.media.gap_us(at_us - 200 * MS, self.now_us)
            self.cut = set()
            if there:
                yield gap_us, 2 * ONE_WAY_US[relay_of(way.primary.key)]
            self.until_healed()
            self.run(self.rng.randrange(300 * MS))
