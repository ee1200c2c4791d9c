"""What this node's probes say about its peers and the paths in use: detectors in, verdicts to the reflex. PURE.

Each peer of the probe plan and each path that the reflex wants probed has a :class:`Watch`: a detector, and the round
trip that says when its answers are overdue. A heap knows when which of them has to be looked at again, so that the work
per probe does not depend on how many there are.

Counters of real media (``passive``) are evidence like any other: a round trip that the media itself made (a STUN check
or an RTCP report that was answered) is an answered probe, and for two keepalives no other is needed.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from probes.choice import Choice, PathKey
from probes.detect import Detector, RoundTrip, SelfDoubt, Verdict
from probes.reflex import Flip, Reflex
from probes.wire import PlanPeer, Triggers

DEFAULT_TRIGGERS = Triggers(
    keepalive_us=50_000,
    suspect_missing=1,
    burst_probes=5,
    burst_gap_us=10_000,
    down_missing=6,
    up_answers=10,
    hold_down_us=1_000_000,
)
"""Those of the control plane; until there is a reaction plan."""
PASSIVE_KEEPALIVES = 2  # evidence of real media saves probes for so many keepalives


@dataclass(slots=True, eq=False)
class Watch:
    """Detection of one peer over one transport, or of one path."""

    detector: Detector
    round_trip: RoundTrip
    peer: PlanPeer | None = None
    path: PathKey | None = None
    shown: Verdict = Verdict.UP  # what the reflex was told
    heard_us: int | None = None  # the newest answer
    sent_us: int | None = None  # the newest probe
    answers: int = 0
    passive_until_us: int = 0
    wake_us: int | None = None  # its entry in the heap; an entry with another time is void


PeerKey = tuple[str, str]
"""(node, transport)"""


@dataclass(slots=True)
class Alarms:
    """What happened since somebody last asked."""

    flips: list[Flip] = field(default_factory=list)
    judged: dict[PeerKey, Verdict] = field(default_factory=dict)  # peers with another verdict


class Evidence:
    """All detectors of one node; times are monotonic microseconds."""

    def __init__(self, reflex: Reflex, on_alarm: Callable[[], None] = lambda: None, ports: int = 1) -> None:
        """``ports``: source ports that probes leave by; ``on_alarm`` is called when something is to be told at once."""
        self.doubt = SelfDoubt()
        self.verdicts = dict.fromkeys(Verdict, 0)  # changes to it, since the start
        self._reflex = reflex
        self._on_alarm = on_alarm
        self._alarms = Alarms()
        self._ports = ports
        self._triggers = DEFAULT_TRIGGERS
        self._timeout_us = 1_000_000
        self._peers: dict[PeerKey, Watch] = {}
        self._paths: dict[PathKey, Watch] = {}
        self._heap: list[tuple[int, int, Watch]] = []
        self._entries = 0
        self._troubled: dict[Watch, None] = {}  # of which not all is well
        reflex.answered = self._answered

    # --- whom to watch -----------------------------------------------------------------------------------------------

    def follow(self, peers: Iterable[PlanPeer], timeout_us: int) -> None:
        """Watch these peers from now on; who stays keeps its record."""
        self._timeout_us = timeout_us
        old, self._peers = self._peers, {}
        for peer in peers:
            key = (peer.node, peer.transport)
            watch = old.get(key) or self._watch()
            watch.peer = peer
            self._peers[key] = watch
        self.doubt.follow(self._peers)
        self._reflex.forget_peers(set(self._peers))
        self._rebuild()

    def use(self, triggers: Triggers) -> None:
        """Judge by a reaction plan's triggers; other triggers start all records anew."""
        if triggers == self._triggers:
            return
        self._triggers = triggers
        for watch in (*self._peers.values(), *self._paths.values()):
            watch.detector, watch.answers, watch.shown = Detector(triggers, ports=self._ports), 0, Verdict.UP
        self._rebuild()

    def watch_paths(self, hot: Mapping[PathKey, int]) -> None:
        """Watch these paths from now on, and no others."""
        gone = self._paths.keys() - hot.keys()
        for key in gone:
            del self._paths[key]
        for key in hot:
            if key not in self._paths:
                watch = self._paths[key] = self._watch()
                watch.path = key
        if gone:
            self._rebuild()

    @property
    def calm(self) -> bool:
        """Whether all that is watched is up."""
        return not self._troubled

    def peer(self, node: str, transport: str) -> Watch | None:
        """The watch of a peer."""
        return self._peers.get((node, transport))

    def path(self, key: PathKey) -> Watch | None:
        """The watch of a path."""
        return self._paths.get(key)

    def peers(self) -> Mapping[PeerKey, Watch]:
        """All peers' watches."""
        return self._peers

    def paths(self) -> Mapping[PathKey, Watch]:
        """All paths' watches."""
        return self._paths

    # --- probes ------------------------------------------------------------------------------------------------------

    def sent(self, watch: Watch, sequence: int, now_us: int, port_index: int = 0) -> None:
        """A probe left."""
        overdue_us = now_us + watch.round_trip.overdue_us
        watch.sent_us = now_us
        watch.detector.sent(sequence, now_us, overdue_us, port_index)
        self._wake(watch)

    def answered(self, watch: Watch, sequence: int, rtt_us: int, now_us: int) -> None:
        """An answer came."""
        watch.heard_us = now_us
        watch.answers += 1
        watch.round_trip.sample(rtt_us, now_us)
        watch.detector.answered(sequence, now_us)
        if watch.answers == self._triggers.up_answers:
            self._show(watch, now_us)  # what was remembered of it is out of date
        if watch.detector.verdict is not Verdict.UP:
            self._judge(watch, now_us)
            self._wake(watch)

    def passive(self, watch: Watch, answers: int, rtt_us: int | None, now_us: int) -> None:
        """Real media made round trips; they count as answered probes."""
        if answers <= 0:
            return
        watch.passive_until_us = now_us + PASSIVE_KEEPALIVES * self._triggers.keepalive_us
        trip_us = watch.round_trip.srtt_us if rtt_us is None else rtt_us
        for i in range(min(answers, self._triggers.up_answers)):
            key = -1 - self._entries - i  # below every sequence number
            watch.detector.sent(key, now_us, now_us + self._timeout_us, watch.detector.port)
            self.answered(watch, key, trip_us, now_us)
        self._entries += self._triggers.up_answers
        self._judge(watch, now_us)

    # --- time --------------------------------------------------------------------------------------------------------

    def next_at(self) -> int | None:
        """When :meth:`due` has something to do: the overdue time of an answered probe is not a reason to wake up."""
        heap = self._heap
        while heap:
            at_us, _, watch = heap[0]
            if watch.wake_us == at_us:
                needed_us = watch.detector.next_at()
                if needed_us is not None and needed_us <= at_us:
                    return at_us
                watch.wake_us = None
                heapq.heappop(heap)
                self._wake(watch)
            else:
                heapq.heappop(heap)
        return None

    def due(self, now_us: int) -> list[tuple[Watch, int]]:
        """Look at what is overdue; returns whom to ask how many times, on which source ports the detector says."""
        bursts: list[tuple[Watch, int]] = []
        while self._heap and self._heap[0][0] <= now_us:
            at_us, _, watch = heapq.heappop(self._heap)
            if watch.wake_us != at_us:
                continue
            watch.wake_us = None
            self._judge(watch, now_us)
            count = watch.detector.burst_due(now_us)
            if count:
                bursts.append((watch, count))
            self._wake(watch, after_us=now_us)
        self._note(self._reflex.tick(now_us))
        return bursts

    def take(self) -> Alarms:
        """What happened since the last call."""
        taken, self._alarms = self._alarms, Alarms()
        return taken

    # --- inside ------------------------------------------------------------------------------------------------------

    def _watch(self) -> Watch:
        return Watch(Detector(self._triggers, ports=self._ports), RoundTrip(self._timeout_us))

    def _wake(self, watch: Watch, after_us: int = 0) -> None:
        at_us = watch.detector.next_at()
        if at_us is None:
            return
        at_us = max(at_us, after_us + 1)
        if watch.wake_us is None or at_us < watch.wake_us:
            watch.wake_us = at_us
            self._entries += 1
            heapq.heappush(self._heap, (at_us, self._entries, watch))

    def _rebuild(self) -> None:
        """Forget the heap's entries of those who are not watched any more."""
        self._heap, self._troubled = [], {}
        for watch in (*self._peers.values(), *self._paths.values()):
            if watch.detector.verdict is not Verdict.UP:
                self._troubled[watch] = None
            watch.wake_us = None
            self._wake(watch)

    def _judge(self, watch: Watch, now_us: int) -> None:
        verdict = watch.detector.check(now_us)
        if verdict is not None:
            self._troubled.pop(watch, None)
            if verdict is not Verdict.UP:
                self._troubled[watch] = None
            self._count(watch, verdict, now_us)
        if _usable(watch.detector) is not watch.shown:
            self._show(watch, now_us)
        if verdict is Verdict.DOWN:
            self._on_alarm()

    def _count(self, watch: Watch, verdict: Verdict, now_us: int) -> None:
        self.verdicts[verdict] += 1
        if watch.peer is not None:
            key = watch.peer.node, watch.peer.transport
            self._alarms.judged[key] = verdict
            self.doubt.saw(key, verdict, now_us)
            self._note(self._reflex.doubt(self.doubt.since_us, now_us))

    def _show(self, watch: Watch, now_us: int) -> None:
        watch.shown, cause, peer = _usable(watch.detector), watch.detector.cause, watch.peer
        if peer is None:
            self._note(self._reflex.verdict(watch.path or (), watch.shown, now_us, cause))
        else:
            where = peer.node, peer.data_center, peer.transport
            self._note(self._reflex.peer_verdict(*where, watch.shown, now_us, cause))

    def _note(self, flips: list[Flip]) -> None:
        if flips:
            self._alarms.flips += flips
            self._on_alarm()

    def _answered(self, choice: Choice) -> int:
        """When the newest answered probe of a path had been sent; of one that is not probed, of its first hop."""
        watch = self._paths.get(choice.key) or self._peers.get((choice.nodes[0], choice.transports[0]))
        return -1 if watch is None else watch.detector.answered_us


def _usable(detector: Detector) -> Verdict:
    """The verdict for the routes: what answers again and is only held down is better than what is silent."""
    return Verdict.SUSPECT if detector.held else detector.verdict
