"""What sessions and robots have shown on one rung: counts per arm, and the capital of each test. Soft state.

The canary arm is who is steered to the data center; the control arm is who would have been but stands outside its
share, and went to the old best. The hash makes the two arms of one population. A delay or a loss is compared with the
control arm's newest values of the same client group (network and country), so that the hour of the day and the mix of
networks fall out; groups that the control arm hardly knows are compared with each other. The value wagered is the rank
among those, with the margin that we tolerate added to each of them: 1/2 on average where nothing is wrong.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from router.core.messages import Robot, Sample
from router.core.model import Micros
from router.core.ramp.sequential import Capital, rank_among, upper_share

MARGINS: dict[str, tuple[int, float]] = {
    "rtt": (5_000, 0.06),  # microseconds, share of the value: what nobody hears
    "rtt_tail": (10_000, 0.15),
    "setup_time": (50_000, 0.20),
    "loss": (3_000, 0.5),  # ppm: codecs hide less than half a per cent
}
WEIGHTS = {
    "setup": 0.05, "setup_arm": 0.3, "rtt": 0.23, "loss": 0.23, "setup_time": 0.07, "rtt_tail": 0.05, "drops": 0.07,
}  # fmt: skip
TAIL = 0.9  # the control arm's quantile that starts the tail
TAIL_NULL = 0.25  # so many may lie beyond it: quantiles of few values are rough
SETUP_FLOOR = 0.01  # set-up success of 99 % is what is promised
DROP_FLOOR = 0.02
WORSE = 1.5  # times the control arm's share
OFTENER, EXCUSED = 1.25, 0.001  # times the control arm's failed set-ups, as if so many more of its own had failed
LEAST_ARM = 1 / 32  # of the control arm; what the smallest share comes to, while few of either have come
ROBOT_FLOOR = 0.01
GROUP_KEPT, REST_KEPT = 48, 96  # newest values of the control arm
LEAST_CONTROL = 8
LEAST_FAILED = 3
HARM_LIMIT = 0.025  # what the upper end of the interval of failed set-ups must be under before more users come
NEXT_ALPHA = 0.0006  # of each later start of the tests: six at most, with the first 0.66 %
CONTROL_LIFE_US = 7_200_000_000  # older ones are of another time of day
SHARES_KEPT = 1_000  # newest outcomes of the control arm


@dataclass(slots=True)
class Arm:
    """Counts of one arm since the rung began."""

    begun: int = 0
    settled: int = 0  # of which enough is known for a verdict
    set_up: int = 0
    setup_failed: int = 0
    ended: int = 0
    dropped: int = 0

    @property
    def tried(self) -> int:
        """Set-ups that ended one way or the other."""
        return self.set_up + self.setup_failed


@dataclass(slots=True)
class Window:
    """Newest values of the control arm of one group and metric, with their times."""

    values: deque[tuple[Micros, int]]

    def fresh(self, now: Micros) -> list[int]:
        """Those of this time of day."""
        return [value for at, value in self.values if now - at <= CONTROL_LIFE_US]


@dataclass(slots=True)
class Course:
    """How robots fared on one errand."""

    tried: int = 0
    failed: int = 0
    last: str = ""  # why the last one failed


@dataclass(slots=True)
class Evidence:
    """Everything seen since a ramp came onto its present rung."""

    since: Micros
    alpha: float = 0.003  # of the tests of sessions: most for the first rung, where least is risked
    carried: int = 0  # canary sessions of the rungs before that still count in the tests
    canary: Arm = field(default_factory=Arm)
    control: Arm = field(default_factory=Arm)
    capital: dict[str, Capital] = field(default_factory=lambda: {name: Capital() for name in WEIGHTS})
    errands: dict[str, Course] = field(default_factory=dict)
    robot_capital: dict[str, Capital] = field(default_factory=dict)
    beside: int = 0  # control sessions that began while the canary took some as well
    _excused: float = 0.0
    _windows: dict[tuple[str, str], Window] = field(default_factory=dict)
    _recent: dict[str, deque[bool]] = field(default_factory=dict)

    def renewed(self, now: Micros, enough: int) -> Evidence:
        """For the next rung: the control arm stays, and so do the tests if this rung saw too few to judge by."""
        settled = self.canary.settled + self.carried
        after = Evidence(now, self.alpha, carried=settled, capital=self.capital)
        if settled >= enough:
            after = Evidence(now, NEXT_ALPHA)
        after._windows, after._recent = self._windows, self._recent
        return after

    @property
    def compared(self) -> int:
        """Canary sessions whose round trip was compared with somebody's."""
        return self.capital["rtt"].bets

    @property
    def suspect(self) -> str:
        """A share of failures that is higher than promised, though not yet beyond doubt; or nothing."""
        ours, theirs = self.canary, self.control
        failed, tried = ours.setup_failed, ours.tried
        usual = theirs.setup_failed / max(1, theirs.tried)
        if failed >= LEAST_FAILED and failed > max(SETUP_FLOOR, WORSE * usual) * tried:
            return f"{failed} of {tried} set-ups failed"
        return ""

    @property
    def harm(self) -> str:
        """Why failed set-ups are not bounded yet; or nothing."""
        ours, theirs = self.canary, self.control
        upper = upper_share(ours.setup_failed, ours.tried) if ours.tried else 1.0
        limit = max(HARM_LIMIT, WORSE * upper_share(theirs.setup_failed, theirs.tried))
        if upper <= limit:
            return ""
        return f"{ours.setup_failed} of {ours.tried} set-ups failed: up to {upper:.1%} may, {limit:.1%} is the limit"

    @property
    def worth(self) -> float:
        """The e-value of all tests together."""
        return sum(weight * self.capital[name].worth for name, weight in WEIGHTS.items())

    @property
    def worst(self) -> str:
        """The test that speaks loudest."""
        return max(WEIGHTS, key=lambda name: (WEIGHTS[name] * self.capital[name].worth, name))

    @property
    def robot_worth(self) -> float:
        """The e-value of what robots found; the mean over their errands."""
        found = self.robot_capital.values()
        return sum(capital.worth for capital in found) / len(found) if found else 1.0

    @property
    def unsettled(self) -> int:
        """Canary sessions that run without a verdict."""
        return self.canary.begun - self.canary.settled

    def take_robot(self, robot: Robot) -> None:
        """Add one robot's way."""
        course = self.errands.setdefault(robot.errand, Course())
        course.tried += 1
        if not robot.passed:
            course.failed += 1
            course.last = robot.detail
        self.robot_capital.setdefault(robot.errand, Capital()).bet(float(not robot.passed), ROBOT_FLOOR)

    def take(self, sample: Sample, now: Micros, held: bool = False) -> None:
        """Add what one session showed; ``held``: the canary takes nobody just now."""
        arm = self.canary if sample.canary else self.control
        arm.begun += sample.begun
        self.beside += sample.begun and not sample.canary and not held
        arm.settled += sample.settled
        if sample.set_up is not None:
            arm.set_up += sample.set_up
            arm.setup_failed += not sample.set_up
            self._excused += 0.0 if sample.canary else EXCUSED
            if not sample.set_up:
                self._failure(sample.canary)
            if self._excused >= 1.0:
                self._excused -= 1.0
                self._failure(canary=False)
            self._share("setup", not sample.set_up, sample.canary, SETUP_FLOOR)
        if sample.dropped is not None:
            arm.ended += 1
            arm.dropped += sample.dropped
            self._share("drops", sample.dropped, sample.canary, DROP_FLOOR)
        for name, value in (("rtt", sample.rtt_us), ("loss", sample.loss_ppm), ("setup_time", sample.setup_us)):
            if value is not None:
                self._value(name, value, sample, now)

    def _failure(self, canary: bool) -> None:
        """A set-up failed; whose was it? The hash makes it the canary's as often as its arm is large.

        That holds whatever the failures depend on, the hour and the networks too, and no share has to be estimated.
        """
        ours = OFTENER * max(self.canary.begun + 1, LEAST_ARM * self.beside)
        if self.beside:
            self.capital["setup_arm"].bet(float(canary), ours / (ours + self.beside))

    def _share(self, name: str, failed: bool, canary: bool, floor: float) -> None:
        recent = self._recent.setdefault(name, deque(maxlen=SHARES_KEPT))
        if not canary:
            recent.append(failed)
            return
        usual = upper_share(sum(recent), len(recent)) if len(recent) >= LEAST_CONTROL else 0.0
        null = min(0.5, max(floor, WORSE * usual if sum(recent) else 0.0))
        self.capital[name].bet(float(failed), null)

    def _value(self, name: str, value: int, sample: Sample, now: Micros) -> None:
        window = self._window(name, sample.group, GROUP_KEPT)
        if not sample.canary:
            if len(window.fresh(now)) < LEAST_CONTROL:
                self._window(name, "", REST_KEPT).values.append((now, value))
            window.values.append((now, value))
            return
        others = window.fresh(now)
        if len(others) < LEAST_CONTROL:
            others = self._window(name, "", REST_KEPT).fresh(now)
        if len(others) < LEAST_CONTROL:
            return  # nobody to compare it with
        self._wager(name, value, sorted(others))

    def _wager(self, name: str, value: int, others: list[int]) -> None:
        least, share = MARGINS[name]
        self.capital[name].bet(rank_among(value, [other + max(least, int(share * other)) for other in others]), 0.5)
        if name == "rtt":
            start = others[min(len(others) - 1, int(TAIL * len(others)))]
            least, share = MARGINS["rtt_tail"]
            self.capital["rtt_tail"].bet(float(value > start + max(least, int(share * start))), TAIL_NULL)

    def _window(self, name: str, group: str, kept: int) -> Window:
        return self._windows.setdefault((name, group), Window(deque(maxlen=kept)))
