"""Keeps a node's reaction plan: boots from disk, long-polls for newer ones, installs and acknowledges them.

A task of its own beside the reports, with its own back-off: neither waits for the other. A plan that is refused (older,
another node's, not understood) changes nothing. The copy on disk is written when the routes in it change, otherwise
once a minute, so that a restart knows how old it is; a disk that is full or broken is said once and costs only that.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

from probes.backoff import Backoff
from probes.reflex import Flip, Reflex
from probes.sockets import monotonic_us
from probes.state import Identity, StateDir
from probes.uplink import Refused, Unreachable, Uplink
from probes.wire import ReactionPlan, WireError

log = logging.getLogger("probes.reactions")

WAIT_S = 30.0  # the control plane holds a poll for so long if nothing changes
LEAST_GAP_S = 0.2  # between polls, whatever the control plane answers
SAVE_EVERY_S = 60.0


class Reactions:
    """The reaction plan of one node, from wherever it can be had."""

    def __init__(self, node: str, reflex: Reflex, uplink: Uplink, state: StateDir, backoff: Backoff) -> None:
        self.etag = ""
        self.source = "none"  # then "disk" or "control plane"
        self.confirmed_us: int | None = None  # monotonic time at which the control plane last said that it is current
        self.counters: Counter[str] = Counter()
        self.on_flips: Callable[[list[Flip]], None] = lambda flips: None
        self._node = node
        self._reflex = reflex
        self._uplink = uplink
        self._state = state
        self._backoff = backoff
        self._saved: ReactionPlan | None = None
        self._saved_s = 0.0
        self._disk_failed = False

    def boot(self) -> None:
        """Follow the copy on disk if there is a good one."""
        try:
            found = self._state.load_reaction_plan()
        except WireError as error:
            log.warning("%s: the reaction plan on disk is of no use: %s", self._node, error)
            return
        if found is None:
            return
        plan, received_us = found
        lying_us = max(0, time.time_ns() // 1_000 - received_us)
        installed = self._reflex.install(plan, monotonic_us(), lying_us)
        if installed.accepted:
            self.source = "disk"
            log.info("%s: routes of generation %d from disk", self._node, plan.generation)
        else:
            log.warning("%s: the reaction plan on disk is of no use: %s", self._node, installed.refusal)

    def forget(self) -> None:
        """Drop plan and copy: the node has joined anew, maybe another control plane."""
        self.etag, self.source, self.confirmed_us = "", "none", None
        self._reflex.forget_plan()
        try:
            self._state.forget_reaction_plan()
        except OSError as error:
            self._disk(error)

    async def run(self, identity: Identity, plan_version: Callable[[], int]) -> None:
        """Fetch for ever."""
        while True:
            try:
                await self._once(identity, plan_version())
            except (Refused, Unreachable) as error:
                self.counters["polls_failed"] += 1
                if not self._backoff.failures:
                    log.warning("%s: no reaction plan, going on by the last: %s", self._node, error)
                self._backoff.fail()
                await asyncio.sleep(self._backoff.wait_s())
            else:
                self._backoff.reset()
                await asyncio.sleep(LEAST_GAP_S)

    async def _once(self, identity: Identity, plan_version: int) -> None:
        found = await self._uplink.reaction_plan(identity, self.etag, WAIT_S)
        self.counters["polls"] += 1
        if found is None:
            self.confirmed_us = monotonic_us()
            return
        plan, etag = found
        installed = self._reflex.install(plan, monotonic_us())
        if not installed.accepted:
            raise Unreachable(f"the reaction plan is refused: {installed.refusal}")
        self.etag, self.source, self.confirmed_us = etag, "control plane", monotonic_us()
        self.on_flips(list(installed.flips))
        await self._keep(plan)
        await self._acknowledge(identity, plan_version, plan.generation)

    async def _acknowledge(self, identity: Identity, plan_version: int, generation: int) -> None:
        try:
            await self._uplink.acknowledge(identity, plan_version, generation, self.etag)
            self.counters["acknowledged"] += 1
        except (Refused, Unreachable):
            self.counters["acknowledgements_failed"] += 1  # the next one says it all again

    async def _keep(self, plan: ReactionPlan) -> None:
        content = _content(plan)
        if content == self._saved and time.monotonic() - self._saved_s < SAVE_EVERY_S:
            return
        received_us = time.time_ns() // 1_000
        try:
            await asyncio.to_thread(self._state.save_reaction_plan, plan, received_us)
        except OSError as error:
            self._disk(error)
        else:
            self._disk_failed = False
            self._saved, self._saved_s = content, time.monotonic()

    def _disk(self, error: OSError) -> None:
        self.counters["disk_errors"] += 1
        if not self._disk_failed:
            log.warning("%s: the reaction plan cannot be kept on disk: %s", self._node, error)
        self._disk_failed = True


def _content(plan: ReactionPlan) -> ReactionPlan:
    """What the plan says, without when."""
    return replace(plan, generation=0, computed_at_us=0, issued_at_us=0, degraded_at_us=0)
