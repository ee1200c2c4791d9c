"""The detector of one path: a table of states, fed with evidence. PURE."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import Enum, IntEnum, auto
from heapq import heappop, heappush
from math import log
from typing import TYPE_CHECKING

from probes.detect.loss import DOWN_NATS, LossModel

if TYPE_CHECKING:
    from probes.wire import Triggers


class Verdict(IntEnum):
    """What is believed of a path; the numbers are those of a report's ``state`` column."""

    UP = 0
    SUSPECT = 1
    DOWN = 2


class Event(Enum):
    """What can happen to a verdict."""

    MISSED = auto()  # answers are overdue and nothing sent later was answered
    CLEARED = auto()  # something sent later was
    CONDEMNED = auto()  # the evidence has reached the false alarm budget
    PROVED = auto()  # enough answers in a row, and held down long enough


TRANSITIONS: dict[tuple[Verdict, Event], Verdict] = {
    (Verdict.UP, Event.MISSED): Verdict.SUSPECT,
    (Verdict.SUSPECT, Event.CLEARED): Verdict.UP,
    (Verdict.SUSPECT, Event.CONDEMNED): Verdict.DOWN,
    (Verdict.DOWN, Event.PROVED): Verdict.UP,
}
"""The state machine: what is not here does not happen."""

PORTS = 4  # source ports per path: routers hash each onto one of their parallel links
BESIDE_US = 300_000  # a miss counts against its port when another port's probe, sent so soon after, was answered
RETRY = 32  # every so many regular probes one goes from a port that did not work
FORGET_US = 10_000_000  # misses of a port further apart have nothing to do with each other
PARTIAL_NATS = 12.0  # one port's own evidence; a wrong one only moves probes to a port that works as well
MOST_HELD_US = 4_000_000  # hold-down doubles up to this: whether to *return* to a path that flaps is for the reflex
CALM_US = 600_000_000  # up for so long, and the flaps before are forgotten
STALL_US = 100_000  # a check so late means that this process did not run
GRACE_US = 25_000  # then answers that wait in sockets are read first
KEPT = 256  # overdue probes of which an answer is still recognised


@dataclass(slots=True)
class _Probe:
    sent_us: int
    overdue_us: int
    port: int
    missed: bool | None = None  # not known yet


@dataclass(slots=True)
class _Port:
    missing: int = 0  # in a row, while others were answered
    missing_us: int = -1  # when the newest of them was sent
    answered_us: int = -1  # when the newest probe that was answered had been sent
    lost_us: int = -1  # and the newest that was not


class Detector:
    """Verdict of one path; all times are monotonic microseconds."""

    __slots__ = (
        "_answers", "_burst_at", "_burst_left", "_confirm", "_down_at", "_flaps", "_grace_until", "_held_until",
        "_newest", "_newest_port", "_open", "_order", "_overdue", "_ports", "_run", "_triggers", "_turn", "_up_at",
        "cause", "down_nats", "evidence", "heard_us", "model", "partial", "port", "verdict",
    )  # fmt: skip

    def __init__(
        self,
        triggers: Triggers,
        loss_ppm: int = 10_000,
        ports: int = PORTS,
        model: LossModel | None = None,
        down_nats: float = DOWN_NATS,
    ) -> None:
        self._triggers = triggers
        self.model = LossModel(loss_ppm) if model is None else model
        self.down_nats = down_nats
        self.verdict = Verdict.UP
        self.cause = ""  # of the verdict, for people
        self.evidence = 0.0  # nats for *down*
        self.port = 0  # index of the source port that the path's own probes, and its media, do best to use
        self._ports = [_Port() for _ in range(max(1, ports))]
        self.partial: tuple[int, ...] = ()  # ports that lose everything while others are answered
        self.heard_us: int | None = None  # when the last answer came
        self._confirm, self._turn = 0, 0
        self._open: dict[int, _Probe] = {}  # by key: neither answered nor forgotten
        self._order: deque[_Probe] = deque()  # as sent; what the loss model has not seen yet
        self._overdue: list[tuple[int, int]] = []  # heap of (when, key)
        self._run: list[tuple[int, int]] = []  # the missing after the newest answered: when sent, from which port
        self._newest, self._newest_port = -1, 0  # when, and from which port, the newest answered probe had been sent
        self._burst_left, self._burst_at = 0, 0
        self._answers = 0  # in a row, of probes sent since down
        self._flaps, self._held_until, self._down_at, self._up_at = 0, 0, 0, 0
        self._grace_until = 0

    # --- what the caller tells -------------------------------------------------------------------------------------

    def sent(self, key: int, now_us: int, overdue_at_us: int, port_index: int = 0) -> None:
        """A probe left from one of the source ports; ``key`` names it until it is answered."""
        probe = _Probe(now_us, overdue_at_us, port_index % len(self._ports))
        self._open[key] = probe
        self._order.append(probe)
        heappush(self._overdue, (overdue_at_us, key))
        while len(self._open) > KEPT:
            oldest = next(iter(self._open))
            if self._open[oldest].missed is None:
                break
            del self._open[oldest]

    def answered(self, key: int, now_us: int) -> None:
        """An answer came, in time or late; unknown keys and duplicates are ignored."""
        probe = self._open.pop(key, None)
        if probe is None:
            return
        if probe.missed is None:
            probe.missed = False  # `check` comes in time; where it does not, this process is late and not the answer
        self.heard_us = now_us
        self._answers += probe.sent_us >= self._down_at
        if self.verdict is Verdict.DOWN and self._silent(self.port):
            self.port = probe.port
        port = self._ports[probe.port]
        port.answered_us = max(port.answered_us, probe.sent_us)
        if port.missing and probe.sent_us >= port.missing_us:
            port.missing = 0
            self._judge_ports()
        if probe.sent_us > self._newest:
            self._newest, self._newest_port = probe.sent_us, probe.port
            if self._run:
                self._shorten()
        self._settle()

    def check(self, now_us: int) -> Verdict | None:
        """The new verdict, if it changed."""
        if self._stalled(now_us):
            return None
        self._collect(now_us)
        self._settle()
        before = self.verdict
        event = self._event(now_us)
        if event is not None:
            self._enter(TRANSITIONS.get((self.verdict, event), self.verdict), now_us)
        return self.verdict if self.verdict is not before else None

    # --- what the caller asks --------------------------------------------------------------------------------------

    def next_at(self) -> int | None:
        """When to call ``check`` and ``burst_due`` next, ``None``: after the next ``sent`` or ``answered``."""
        self._forget_answered()
        times = [max(self._overdue[0][0], self._grace_until)] if self._overdue else []
        if self.verdict is Verdict.SUSPECT or self._proving:
            times.append(self._burst_at)
        if self.held:
            times.append(self._held_until)
        return min(times, default=None)

    def burst_due(self, now_us: int) -> int:
        """How many confirm probes to send now, on other source ports.

        A suspect path is asked ``burst_probes`` times in a row, then twice per keepalive interval until it is decided:
        probes in one burst of loss prove little, so the questions are spread over the time that an answer needs. A path
        that is down and answers again is asked once per keepalive interval until it has proved itself.
        """
        if self._proving and now_us >= self._burst_at:
            self._burst_at = now_us + self._triggers.keepalive_us
            return 1
        if self.verdict is not Verdict.SUSPECT or now_us < self._burst_at:
            return 0
        if self._burst_left > 0:
            self._burst_left -= 1
            self._burst_at = now_us + self._triggers.burst_gap_us
        else:
            self._burst_at = now_us + self._triggers.keepalive_us // 2
        return 1

    def next_port(self) -> int:
        """Index of the source port for the next regular probe.

        Now and then one that did not work is tried again; on a path that is down all are, in turn.
        """
        self._turn += 1
        if self.verdict is Verdict.DOWN and self._silent(self.port):
            return self._turn % len(self._ports)
        if self.partial and self._turn % RETRY == 0:
            return self.partial[self._turn // RETRY % len(self.partial)]
        return self.port

    def confirm_port(self) -> int:
        """Index of the source port for the next confirm probe: in turn, not the path's own if another one works.

        Of a path that is down and answers again it is the port that answered.
        """
        if self._proving:
            return self.port
        for _ in self._ports:
            self._confirm = (self._confirm + 1) % len(self._ports)
            if self._confirm != self.port and self._confirm not in self.partial:
                return self._confirm
        return self.port

    @property
    def answered_us(self) -> int:
        """When the newest probe that was answered had been sent; -1: none was."""
        return self._newest

    @property
    def held(self) -> bool:
        """Whether the path is down, has answered often enough since, and only waits for the hold-down to end."""
        return self.verdict is Verdict.DOWN and self._answers >= self._triggers.up_answers

    @property
    def run(self) -> tuple[int, ...]:
        """When the probes were sent whose answers are missing in a row: what the evidence rests on."""
        return tuple(sent_us for sent_us, _ in self._run)

    # --- inside ----------------------------------------------------------------------------------------------------

    @property
    def _proving(self) -> bool:
        return self.verdict is Verdict.DOWN and 0 < self._answers < self._triggers.up_answers

    def _stalled(self, now_us: int) -> bool:
        """Whether this process, not the path, is late: then answers get time to be read, once."""
        if now_us < self._grace_until:
            return True
        self._forget_answered()
        if not self._overdue or now_us - max(self._overdue[0][0], self._grace_until) <= STALL_US:
            return False
        self._grace_until = now_us + GRACE_US
        return True

    def _forget_answered(self) -> None:
        while self._overdue and self._overdue[0][1] not in self._open:
            heappop(self._overdue)

    def _collect(self, now_us: int) -> None:
        """Move what is overdue by now from open to missing."""
        while self._overdue and self._overdue[0][0] <= now_us:
            probe = self._open.get(heappop(self._overdue)[1])
            if probe is None or probe.missed is not None or probe.overdue_us > now_us:
                continue
            probe.missed = True
            if probe.sent_us > self._newest:  # one sent before an answered one says nothing about now
                self._answers = 0
            self._ports[probe.port].lost_us = max(self._ports[probe.port].lost_us, probe.sent_us)
            if probe.sent_us <= self._newest:
                self._count_beside(probe.sent_us, probe.port)
            elif probe.port not in self.partial and self.verdict is not Verdict.DOWN:
                self._run.append((probe.sent_us, probe.port))

    def _shorten(self) -> None:
        """What was sent before the newest answered probe is no longer missing in a row: the path was there after it."""
        for sent_us, port in self._run:
            if sent_us <= self._newest:
                self._count_beside(sent_us, port)
        self._run = [miss for miss in self._run if miss[0] > self._newest]

    def _count_beside(self, sent_us: int, index: int) -> None:
        """A miss that an answer followed: does it speak against its source port?"""
        port = self._ports[index]
        if index == self._newest_port or self._newest - sent_us > BESIDE_US or sent_us <= port.answered_us:
            return
        fresh = port.missing_us >= 0 and sent_us - port.missing_us <= FORGET_US
        port.missing = port.missing + 1 if fresh or index in self.partial else 1
        port.missing_us = max(port.missing_us, sent_us)
        self._judge_ports()

    def _silent(self, index: int) -> bool:
        return self._ports[index].lost_us > self._ports[index].answered_us

    def _judge_ports(self) -> None:
        """Which ports do not work, and which one to use; one that does not is left."""
        worth, before = -log(self.model.loss), self.partial
        self.partial = tuple(i for i, port in enumerate(self._ports) if port.missing * worth >= PARTIAL_NATS)
        if self.port in self.partial:
            works = [i for i in range(len(self._ports)) if i not in self.partial]
            self.port = max(works, key=lambda i: self._ports[i].answered_us, default=self.port)
        if self.partial and self.partial != before and self.verdict is not Verdict.DOWN:
            self.cause = self._because(Verdict.UP)

    def _settle(self) -> None:
        """Show the loss model what is decided, in the order of sending, while the path is there."""
        while self._order and self._order[0].missed is not None:
            probe = self._order.popleft()
            if self.verdict is not Verdict.DOWN and probe.port not in self.partial:
                self.model.observe(probe.sent_us, probe.missed is True)

    def _event(self, now_us: int) -> Event | None:
        if self.verdict is Verdict.DOWN:
            return Event.PROVED if self.held and now_us >= self._held_until else None
        self._run.sort()
        self.evidence = self.model.evidence([sent_us for sent_us, _ in self._run])
        if not self._run:
            return Event.CLEARED
        if self.verdict is Verdict.UP:
            return Event.MISSED if len(self._run) >= self._triggers.suspect_missing else None
        enough = len(self._run) >= self._triggers.down_missing and self.evidence >= self.down_nats
        return Event.CONDEMNED if enough else None

    def _enter(self, verdict: Verdict, now_us: int) -> None:
        if verdict is self.verdict:
            return
        if verdict is Verdict.SUSPECT:
            self._burst_left, self._burst_at = self._triggers.burst_probes, now_us
        elif verdict is Verdict.DOWN:
            self._hold(now_us)
        elif self.verdict is Verdict.DOWN:
            self._up_at = now_us
        self.cause = self._because(verdict)
        self.verdict = verdict

    def _hold(self, now_us: int) -> None:
        """Begin a hold-down, twice as long with every flap."""
        self._flaps = 0 if now_us - self._up_at > CALM_US and self._flaps else self._flaps
        held_us = min(MOST_HELD_US, self._triggers.hold_down_us << min(self._flaps, 16))
        self._flaps += 1
        self._burst_at = now_us
        self._down_at, self._held_until, self._answers = now_us, now_us + held_us, 0
        self.model.forget_run()

    def _because(self, verdict: Verdict) -> str:
        if verdict is Verdict.UP:
            if self.partial:
                bad = ", ".join(map(str, self.partial))
                return f"partial: source port {bad} loses everything, port {self.port} is answered"
            return f"{self._answers} answers in a row" if self.verdict is Verdict.DOWN else "answered again"
        span_ms, burst_ms = (self._run[-1][0] - self._run[0][0]) // 1_000, self.model.burst_us // 1_000
        return (
            f"{len(self._run)} answers in a row missing, sent over {span_ms} ms; {self.evidence:.1f} of "
            f"{self.down_nats:.1f} nats at {self.model.loss:.1%} loss in bursts of up to {burst_ms} ms"
        )
