"""What became of sessions: set up or not, good or bad, by everything that one crosses.

The counters that ramps and drains read are per edge, client network, hub and arm, and fade: a gate asks "how have the
last minutes been", and two arms are compared over the same time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields

from router.core.model import DataCenterId, Micros, NodeId

LIFE_US = 120_000_000  # after so long an outcome weighs 1/e: some 200 sessions at 100 a minute
LEAST = 0.01
UNKNOWN_GROUP = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """Some sessions with everything in common; what is not known of them is empty or None."""

    edge: DataCenterId
    node: NodeId | None = None
    group: str = UNKNOWN_GROUP  # ``as1234``
    hub: DataCenterId | None = None
    relays: tuple[DataCenterId, ...] = ()  # of the path between
    arm: str = ""  # of a ramp: canary, control; empty: of none
    setup_ok: int = 0
    setup_failed: int = 0
    good: int = 0
    bad: int = 0


@dataclass(frozen=True, slots=True)
class OutcomeKey:
    """What is told apart."""

    edge: DataCenterId
    group: str
    hub: DataCenterId | None
    arm: str


@dataclass(frozen=True, slots=True)
class OutcomeCount:
    """Faded sums as of ``at``."""

    setup_ok: float = 0.0
    setup_failed: float = 0.0
    good: float = 0.0
    bad: float = 0.0
    at: Micros = 0


_SUMS = ("setup_ok", "setup_failed", "good", "bad")


class OutcomeBook:
    """Counters of outcomes; private state of the core."""

    def __init__(self) -> None:
        self._counts: dict[OutcomeKey, OutcomeCount] = {}

    def observe(self, outcomes: Iterable[Outcome], now: Micros) -> None:
        """Add some outcomes."""
        for one in outcomes:
            key = OutcomeKey(one.edge, one.group, one.hub, one.arm)
            held = self._counts.get(key, OutcomeCount(at=now))
            new = OutcomeCount(one.setup_ok, one.setup_failed, one.good, one.bad, now)
            self._counts[key] = _sum(faded(held, now), new)

    def forget_old(self, now: Micros) -> None:
        """Drop counters of which nothing is left."""
        held = self._counts
        self._counts = {
            key: count
            for key, count in held.items()
            if _keep(now - count.at) * sum(getattr(count, name) for name in _SUMS) >= LEAST
        }

    def table(self, now: Micros) -> Mapping[OutcomeKey, OutcomeCount]:
        """All counters as of now, in a fixed order."""
        order = sorted(self._counts, key=lambda k: (k.edge, k.group, k.hub or "", k.arm))
        return {key: faded(self._counts[key], now) for key in order}


def faded(count: OutcomeCount, now: Micros) -> OutcomeCount:
    """A counter as it is at a later moment."""
    keep = _keep(now - count.at)
    return OutcomeCount(count.setup_ok * keep, count.setup_failed * keep, count.good * keep, count.bad * keep, now)


def total(
    table: Mapping[OutcomeKey, OutcomeCount], *, edge: DataCenterId | None = None, group: str | None = None,
    hub: DataCenterId | None = None, arm: str | None = None,
) -> OutcomeCount:  # fmt: skip
    """The sum of the counters that match; None matches all."""
    wanted = {"edge": edge, "group": group, "hub": hub, "arm": arm}
    found = OutcomeCount()
    for key, count in table.items():
        if all(wanted[f.name] in (None, getattr(key, f.name)) for f in fields(key)):
            found = _sum(found, count)
    return found


def _sum(a: OutcomeCount, b: OutcomeCount) -> OutcomeCount:
    setup_ok, setup_failed, good, bad = (getattr(a, name) + getattr(b, name) for name in _SUMS)
    return OutcomeCount(setup_ok, setup_failed, good, bad, max(a.at, b.at))


def _keep(passed_us: int) -> float:
    return float(2.718281828459045 ** (-max(0, passed_us) / LIFE_US))
