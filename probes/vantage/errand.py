"""The agent's vantage measurements: asks the targets of its plan and tells the control plane what came out.

Rows go to ``POST /v1/beacons`` once in :data:`TELL_EVERY_S`. What cannot be delivered is dropped and counted: the next
rows are better, and a control plane that does not take them must not stop anything else.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from random import Random

from probes.vantage import Network, VantageProber, beacons
from probes.wire import ProbePlan

TELL_EVERY_S = 30.0

Tell = Callable[[list[dict[str, object]]], Awaitable[None]]
"""Delivers rows; raises an ``Exception`` named in ``failures`` if it cannot."""


class VantageErrand:
    """Follows plans, asks and tells while :meth:`run` runs."""

    def __init__(
        self,
        tell: Tell,
        failures: tuple[type[Exception], ...],
        *,
        bind_host: str = "",
        opt_out: Iterable[Network] = (),
        phase: Random | None = None,
        tell_every_s: float = TELL_EVERY_S,
    ) -> None:
        self.prober = VantageProber(bind_host=bind_host, opt_out=opt_out, phase=phase)
        self._tell = tell
        self._failures = failures
        self._tell_every_s = tell_every_s
        self._data_center = ""
        self._counters: Counter[str] = Counter()

    def follow(self, plan: ProbePlan) -> None:
        """Ask this plan's targets from now on."""
        self._data_center = plan.data_center
        self.prober.follow(plan.vantage, plan.contact)

    def counters(self) -> Counter[str]:
        """What happened to requests and to rows."""
        return self._counters + self.prober.counters

    async def run(self) -> None:
        """Ask and tell until cancelled."""
        asking = asyncio.create_task(self.prober.run(), name="vantage targets")
        try:
            while not asking.done():
                await asyncio.wait([asking], timeout=self._tell_every_s)
                rows = beacons(self.prober.take_rows(), self._data_center)
                if rows:
                    await self._deliver(rows)
            await asking  # whatever ended it
        finally:
            asking.cancel()
            await asyncio.wait([asking])

    async def _deliver(self, rows: list[dict[str, object]]) -> None:
        try:
            await self._tell(rows)
        except self._failures:
            self._counters["rows_dropped"] += len(rows)
        else:
            self._counters["rows_delivered"] += len(rows)
