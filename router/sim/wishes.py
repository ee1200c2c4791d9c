"""Carrying out what the core wants of drains and ramps, as ``runtime.moves`` and ``runtime.climbs`` do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from router.core import drain as drains
from router.core import ramp as ramps
from router.core.errors import InputRejected, TendrilError, Unavailable
from router.core.messages import (
    AdvanceDrain,
    AdvanceRamp,
    CutAgents,
    FinishDrain,
    Moved,
    MoveSessions,
    OpenDrain,
    OpenRamp,
)
from router.core.model import DataCenterId, DrainId, DrainOrigin, Micros, Ramp, RampId, RampKind

if TYPE_CHECKING:
    from router.sim.simulation import Simulation

Wish = MoveSessions | FinishDrain | AdvanceDrain | CutAgents | OpenDrain | OpenRamp | AdvanceRamp
MOVE_US, COMMIT_US = 50_000, 5_000
US = "tendril"


class Wishes:
    """Each is decided on the View at the moment of its commit; what cannot be written now is asked for again."""

    def __init__(self, sim: Simulation) -> None:
        self._sim = sim

    def delay_us(self, wish: Wish) -> Micros:
        """How long it takes until it is carried out."""
        return MOVE_US if isinstance(wish, MoveSessions) else COMMIT_US

    def carry_out(self, wish: Wish) -> None:
        """Do it now."""
        sim = self._sim
        if isinstance(wish, MoveSessions):
            self._move(wish)
            return
        try:
            match wish:
                case FinishDrain():
                    self._finish(wish.drain)
                case AdvanceDrain():
                    sim.operator.step(wish.drain, wish.step, wish.outcome)
                case CutAgents():
                    sim.commit(sim.rows.cut(wish.data_center, sim.engine.now, wish.node))
                case OpenDrain():
                    self._open_drain(wish)
                case OpenRamp():
                    ramp = begun(wish.kind, wish.data_center, len(sim.rows.ramps), wish.reason, sim.engine.now)
                    sim.commit(sim.rows.put_ramp(ramp, {}))
                case AdvanceRamp():
                    self._advance_ramp(wish)
        except (InputRejected, Unavailable) as error:  # the next tick asks again
            sim.counts[f"{'ramp' if isinstance(wish, OpenRamp | AdvanceRamp) else 'drain'}_{error.code}"] += 1

    def _move(self, wish: MoveSessions) -> None:
        sim = self._sim
        if sim.users is not None and sim.answers:
            sim.submit(sim.users.move(wish))
            return
        left = max(0, sim.plane.view.counters.sessions.get(wish.data_center, 0) - wish.limit)
        sim.submit(Moved(wish.data_center, wish.limit, 0, left, wish.node))

    def _finish(self, id: DrainId) -> None:
        held = self._sim.rows.drains.get(id)
        if held is None or not self._sim.rows.left_on(held):  # else some are still on their way to another edge
            self._sim.operator.step(id, "empty")

    def _open_drain(self, wish: OpenDrain) -> None:
        sim, request = self._sim, wish.request
        if request.origin is DrainOrigin.AUTOMATIC and drains.refusal(sim.plane.view, request, sim.engine.now):
            return
        try:
            drain = sim.operator.open(request)
        except TendrilError as error:
            sim.counts[f"{request.origin.value}_drain_{error.code}"] += 1
            return
        sim.counts[f"{drain.origin.value}_drains"] += 1

    def _advance_ramp(self, wish: AdvanceRamp) -> None:
        """What the evidence is about must still be what is there."""
        view, now = self._sim.plane.view, self._sim.engine.now
        held = view.ramps.get(wish.ramp)
        if held is not None and held.revision == wish.revision:
            after, intents = ramps.step(view, wish.ramp, wish.step, wish.reason, now, wish.exposed)
            self._sim.commit(self._sim.rows.put_ramp(after, intents))


def begun(kind: RampKind, data_center: DataCenterId, number: int, reason: str, now: Micros) -> Ramp:
    """A ramp that begins; ``number``: how many there were."""
    return ramps.begin(kind, data_center, RampId(f"r-{number + 1}"), reason, US, now)


def returns(data_centers: Sequence[DataCenterId], number: int, drain: DrainId, now: Micros) -> tuple[Ramp, ...]:
    """Ramps of those who come back from a drain."""
    found = enumerate(data_centers, number)
    return tuple(begun(RampKind.RETURN, dc, n, f"drain {drain} is undone", now) for n, dc in found)
