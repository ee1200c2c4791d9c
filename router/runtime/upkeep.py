"""Ending what nobody holds any more, and taking back moves that nobody followed.

Leases end only while those who hold them can be heard. After a start, and after any time in which this process could
not write (the database was away, the disk was full, the machine stood still), nothing expires until every holder has
had the time to speak again: the silence may have been ours. A move is taken back only when both its nodes have been
heard for as long as a move may take, or have not spoken at all for as long as everything waits: the user may have
arrived, and its new node may be the one that could not say so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from router.core.model import Micros, NodeId, Session, SessionId
from router.runtime.outcomes import from_expired

if TYPE_CHECKING:
    from router.runtime.shell import Runtime

log = structlog.get_logger("tendril.upkeep")
DEAF_US = 15_000_000  # a gap in our own work that is longer than this counts as not having listened
BACK_OFF_US = 30_000_000  # a session whose move was taken back is left alone for so long


class Upkeep:
    """What the runtime does every two seconds about time that is over."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._listening_since: Micros = 0
        self._worked_at: Micros = 0
        self._back_off: dict[SessionId, Micros] = {}
        self.expired = 0
        self.rolled_back = 0

    async def run(self) -> None:
        """One round of it."""
        runtime = self._runtime
        now = runtime.now()
        runtime.arms.sweep(now)
        await runtime.commit_later(lambda store: store.forget_old(now))  # also shows that we can write
        if now - self._worked_at > DEAF_US:
            if self._worked_at:
                log.warning("leases_wait", deaf_for_s=(now - self._worked_at) // 1_000_000)
            self._listening_since = now
            runtime.rounds.first_heard.clear()
        self._worked_at = runtime.now()
        listened_us = now - self._listening_since
        if listened_us >= min(runtime.options.move_lease_us, runtime.options.patience_us):
            await self._roll_back(now, self._unheard(now) if listened_us < runtime.options.patience_us else [])
        if listened_us < runtime.options.patience_us:
            return
        while ended := await runtime.commit_later(lambda store: store.expire_sessions(now)):
            self.expired += len(ended)
            from_expired(runtime, ended)
            self._worked_at = runtime.now()
        lost, suspect = now - runtime.options.agent_silence_us, now - runtime.options.agent_suspect_us
        await runtime.commit_later(lambda store: store.expire_agents(lost, now, suspect))

    def _unheard(self, now: Micros) -> list[NodeId]:
        """Nodes that have not been heard, or not for as long as a move may take."""
        since, first = now - self._runtime.options.move_lease_us, self._runtime.rounds.first_heard
        return [node for node in sorted(self._runtime.inventory.nodes) if first.get(node, now) > since]

    async def _roll_back(self, now: Micros, unheard: list[NodeId]) -> None:
        back: tuple[Session, ...] = await self._runtime.commit_later(lambda store: store.roll_back_moves(now, unheard))
        self.rolled_back += len(back)
        self._back_off = {id: until for id, until in self._back_off.items() if until > now}
        self._back_off |= {session.id: now + BACK_OFF_US for session in back}

    @property
    def backing_off(self) -> int:
        """How many sessions were sent back to their old edge a moment ago."""
        return len(self._back_off)

    def backs_off(self, id: SessionId) -> bool:
        """Whether a session was sent back to its old edge a moment ago, and should not be moved again yet."""
        return self._back_off.get(id, 0) > self._runtime.now()
