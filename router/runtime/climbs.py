"""Carrying out what ramps ask for: decide on the View, commit with compare-and-swap."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import TYPE_CHECKING

import structlog

from router.core import drain as drains
from router.core import ramp as ramps
from router.core.errors import InputRejected
from router.core.messages import AdvanceRamp, OpenRamp
from router.core.model import DataCenterId, Drain, Intent, Micros, Ramp, RampId, RampKind
from router.core.tables import View

if TYPE_CHECKING:
    from router.runtime.shell import Runtime

log = structlog.get_logger("tendril.climbs")
US = "tendril"


def new_id() -> RampId:
    """The id of a ramp that begins."""
    return RampId(f"r-{secrets.token_hex(6)}")


def coming_back(
    view: View, drain: Drain, intents: Mapping[DataCenterId, Intent], actor: str, now: Micros
) -> tuple[Ramp, ...]:
    """The ramps that begin with the end of a drain; ``drain`` as it was before."""
    found = drains.returning(view, drain, intents, now)
    reason = f"drain {drain.id} is undone"
    return tuple(ramps.begin(RampKind.RETURN, dc, new_id(), reason, actor, now) for dc in found)


class Climbs:
    """Steps of ramps under way: one at a time for each."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._under_way: set[str] = set()

    def carry_out(self, effect: OpenRamp | AdvanceRamp) -> None:
        """Commit a step beside everything else."""
        about = effect.data_center if isinstance(effect, OpenRamp) else effect.ramp
        if about not in self._under_way:
            self._under_way.add(about)
            self._runtime.beside(self._commit(effect, about))

    async def _commit(self, effect: OpenRamp | AdvanceRamp, about: str) -> None:
        try:
            await (self._open(effect) if isinstance(effect, OpenRamp) else self._advance(effect))
        except InputRejected as error:  # somebody else was faster; the next tick looks again
            log.info("ramp_changed_meanwhile", about=about, code=error.code)
        finally:
            self._under_way.discard(about)

    async def _open(self, effect: OpenRamp) -> None:
        now = self._runtime.now()
        draft = ramps.begin(effect.kind, effect.data_center, new_id(), effect.reason, US, now)
        await self._runtime.commit(lambda store: store.put_ramp(draft, {}, actor=US, now=now))

    async def _advance(self, effect: AdvanceRamp) -> None:
        """What the evidence is about must still be what is there."""
        runtime, now = self._runtime, self._runtime.now()
        held = runtime.view.ramps.get(effect.ramp)
        if held is None or held.revision != effect.revision:
            return
        after, intents = ramps.step(runtime.view, effect.ramp, effect.step, effect.reason, now, effect.exposed)
        await runtime.commit(lambda store: store.put_ramp(after, intents, actor=US, now=now))
