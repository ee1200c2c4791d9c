"""All ramps with what was seen on their present rungs; what they want on each tick, and the dials they turn."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from probes.wire import ProbeReport
from router.core.dial import composed
from router.core.messages import AdvanceRamp, Climbed, Effect, OpenRamp, Record, ShowRamps
from router.core.model import DataCenterId, Event, Intent, Inventory, Micros, PoolId, Ramp, RampId, RampKind, RampState
from router.core.ramp.checks import World, robots_of
from router.core.ramp.evidence import Arm, Evidence
from router.core.ramp.judge import RUNG_SESSIONS, Outlook, held, outlook
from router.core.ramp.kinds import KINDS
from router.core.tables import Climb, Dial, Lane, View

TELL_US = 7_200_000_000  # a ramp that has waited longer than this says so, once per rung
SHARE = "canary share"


class RampBook:
    """Ramps by id; the evidence is soft state: after a restart a rung is begun anew."""

    def __init__(self) -> None:
        self.ramps: dict[RampId, Ramp] = {}
        self._evidence: dict[RampId, Evidence] = {}
        self._waits: dict[RampId, tuple[str, ...]] = {}
        self._dials: Mapping[DataCenterId, Dial] = {}
        self._shown: dict[RampId, tuple[int, Climb | None]] = {}  # revision and climb that were shown last
        self._told: dict[RampId, Micros] = {}  # ``since`` of the rung whose wait was told

    def put(self, ramp: Ramp, now: Micros) -> None:
        """Take a ramp as it now is in the database; a new rung starts with no evidence."""
        before = self.ramps.get(ramp.id)
        self.ramps[ramp.id] = ramp
        moved = before is None or (before.state, before.share_ppm, before.attempt) != (
            ramp.state, ramp.share_ppm, ramp.attempt,
        )  # fmt: skip
        paused = RampState.PAUSED in (ramp.state, None if before is None else before.state)
        if not ramp.open:
            self._evidence.pop(ramp.id, None)
        elif ramp.id not in self._evidence:
            self._evidence[ramp.id] = Evidence(now)
        elif moved and not paused:
            climbs = before is not None and before.state is ramp.state is RampState.CANARY
            known = self._evidence[ramp.id]
            self._evidence[ramp.id] = known.renewed(now, RUNG_SESSIONS) if climbs else Evidence(now)
        self._waits.pop(ramp.id, None)

    def observe(self, event: Climbed, now: Micros) -> None:
        """Add what sessions and robots showed."""
        by_subject = {ramp.subject: ramp.id for ramp in self._open()}
        for sample in event.samples:
            id = by_subject.get(sample.version or sample.data_center) if sample.machine is None else None
            if id is not None:
                evidence = self._evidence[id]
                evidence.take(sample, now, bool(held(self.ramps[id], evidence)))
        for robot in event.robots:
            if robot.data_center in by_subject:
                self._evidence[by_subject[robot.data_center]].take_robot(robot)

    def reported(self, report: ProbeReport, world: World, now: Micros) -> None:
        """Add what a probe report says about data centers that robots try."""
        if not self._evidence:
            return  # no ramp is open
        robots = robots_of(world, self.tried, report)
        if robots:
            self.observe(Climbed(robots=robots), now)

    @property
    def tried(self) -> tuple[DataCenterId, ...]:
        """Data centers that robots try now; their paths are in the probe plans."""
        if not self._evidence:
            return ()
        return tuple(sorted(ramp.data_center for ramp in self._open() if ramp.state is RampState.SYNTHETIC))

    def drive(self, view: View, now: Micros) -> list[Effect]:
        """What all ramps want now."""
        effects: list[Effect] = [*self._missing(view.inventory)]
        for ramp in self._open():
            evidence = self._evidence[ramp.id]
            found = _overruled(view.inventory, ramp) or outlook(view, ramp, evidence, now)
            self._waits[ramp.id] = found.waits
            if found.step is not None:
                exposed = self._exposed(ramp)
                effects.append(AdvanceRamp(ramp.id, ramp.revision, found.step, found.reason, exposed))
            elif now - ramp.since >= TELL_US and self._told.get(ramp.id) != ramp.since and found.waits:
                self._told[ramp.id] = ramp.since
                text = f"{ramp.state.value} for {(now - ramp.since) // 60_000_000} min: {'; '.join(found.waits)}"
                effects.append(Record(Event(now, "ramp.waits", ramp.id, reason=text)))
        news = tuple(self._news())
        return [*effects, ShowRamps(news)] if news else effects

    def _news(self) -> Iterator[RampId]:
        """Ramps that are not as they were shown last; one that has ended is shown once more."""
        for id in sorted({*self._evidence, *self._shown}):
            ramp = self.ramps[id]
            seen = (ramp.revision, self._climb(ramp) if ramp.open else None)
            if self._shown.get(id) != seen:
                self._shown[id] = seen
                yield id
            if not ramp.open:
                del self._shown[id]

    def claims(self, inventory: Inventory) -> Iterator[tuple[DataCenterId, Dial]]:
        """The dials that ramps turn; a canary whose ramp has not begun takes nobody."""
        ramped = set()
        for ramp in self._open():
            if ramp.kind is RampKind.VERSION:
                continue
            ramped.add(ramp.data_center)
            yield ramp.data_center, _dial(ramp, self._evidence[ramp.id])
        for dc in inventory.data_centers.values():
            if dc.intent is Intent.CANARY and dc.id not in ramped:
                yield dc.id, Dial(0, f"its ramp has not begun; {SHARE}")

    def turned(self, drains: Iterable[tuple[DataCenterId, Dial]], inventory: Inventory) -> Mapping[DataCenterId, Dial]:
        """All dials, those of drains too; the very same object while none turns, for steering keeps arrays of it."""
        newest = composed(drains, self.claims(inventory))
        if newest != self._dials:
            self._dials = newest
        return self._dials

    def lanes(self) -> Mapping[PoolId, tuple[Lane, ...]]:
        """Versions of agents that are on ramps, and how many users each may have now."""
        found: dict[PoolId, tuple[Lane, ...]] = {}
        for ramp in sorted(self._open(), key=lambda one: (one.created_at, one.id)):
            if ramp.pool:
                share = 0 if held(ramp, self._evidence[ramp.id]) else ramp.share_ppm
                found[ramp.pool] = (*found.get(ramp.pool, ()), Lane(ramp.version, share, ramp.share_ppm))
        return found

    def climbs(self) -> Mapping[RampId, Climb]:
        """What the open ramps have seen."""
        return {ramp.id: self._climb(ramp) for ramp in self._open()}

    def _open(self) -> Iterable[Ramp]:
        return [self.ramps[id] for id in sorted(self._evidence)]  # closed ones have none

    def _exposed(self, ramp: Ramp) -> int:
        return ramp.exposed + self._evidence[ramp.id].canary.begun

    def _missing(self, inventory: Inventory) -> Iterator[OpenRamp]:
        ramped = {ramp.data_center for ramp in self._open()}
        for dc in inventory.data_centers.values():
            if dc.intent is Intent.CANARY and dc.id not in ramped:
                yield OpenRamp(dc.id, RampKind.NEW, "its intent is canary")

    def _climb(self, ramp: Ramp) -> Climb:
        evidence = self._evidence[ramp.id]
        return Climb(
            exposed=self._exposed(ramp),
            canary=_counts(evidence.canary),
            control=_counts(evidence.control),
            e_value=round(evidence.worth, 3),
            limit=round(1 / evidence.alpha, 1),
            worst=evidence.worst,
            robots={name: (c.tried, c.failed) for name, c in sorted(evidence.errands.items())},
            waits=self._waits.get(ramp.id, ()),
            held=bool(held(ramp, evidence)),
        )


def _counts(arm: Arm) -> Mapping[str, int]:
    return {name: getattr(arm, name) for name in ("begun", "settled", "set_up", "setup_failed", "ended", "dropped")}


def _dial(ramp: Ramp, evidence: Evidence) -> Dial:
    if ramp.state in (RampState.CANARY, RampState.PAUSED):
        why = held(ramp, evidence)
        if why:
            return Dial(0, f"{why}; {SHARE}")
        return Dial(ramp.share_ppm, SHARE)
    return Dial(0, f"{ramp.state.value.replace('_', ' ')}; {SHARE}")


def _overruled(inventory: Inventory, ramp: Ramp) -> Outlook | None:
    """Operators have decided otherwise: who is on its way in may still be taken out, or be let in at once."""
    why = KINDS[ramp.kind].overruled(inventory, ramp)
    return Outlook("withdraw", why) if why else None
