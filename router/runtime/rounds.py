"""Heartbeats of media nodes, heard in rounds: a quiet one writes nothing, loud ones share a transaction.

A node's lease is durable, but it need not be written with every heartbeat: as long as three quarters of it are left,
a node that has nothing to tell is only asked about, and the answer names the lease that is written. Those who wait
while a round runs go together with the next one, so that a thousand nodes that speak every second cost a few queries
per second, and the number of their sessions does not matter at all.

Kept in memory only: the leases that this process has seen written. Another process may have written later ones, which
does no harm, and none can end before the one that we know of is over.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from router.core.errors import InputRejected
from router.core.model import Micros, NodeId, Session
from router.store import Store
from router.store.commit import Commit
from router.store.heartbeats import Beat, Heard
from router.store.leases import NodeLease

LARGEST_ROUND = 64  # heartbeats that share a transaction: a start that comes meanwhile waits for its end
Ask = tuple[Beat, "asyncio.Future[Heard]"]
Outcomes = tuple[Heard | InputRejected, ...]
Found = dict[NodeId, tuple[Session, ...]]


@dataclass(slots=True)
class RoundCounts:
    """How many heartbeats came, and how many of them had to be written."""

    heartbeats: int = 0
    written: int = 0
    transactions: int = 0


class Rounds:
    """Collects heartbeats; ``commit`` and ``read`` are the runtime's."""

    def __init__(
        self,
        commit: Callable[[Callable[[Store], Commit[Outcomes]]], Awaitable[Outcomes]],
        read: Callable[[Callable[[Store], Found]], Awaitable[Found]],
        now: Callable[[], Micros],
    ) -> None:
        self._commit = commit
        self._read = read
        self._now = now
        self._leases: dict[NodeId, NodeLease] = {}
        self._loud: list[Ask] = []
        self._quiet: list[Ask] = []
        self.first_heard: dict[NodeId, Micros] = {}  # since this process listens
        self._writing: asyncio.Task[None] | None = None
        self._reading: asyncio.Task[None] | None = None
        self.counts = RoundCounts()

    async def hear(self, beat: Beat) -> Heard:
        """Renew a node's lease and apply what it says. Raises ``unknown_node``, ``unknown_event``, ``fenced``."""
        answer: asyncio.Future[Heard] = asyncio.get_running_loop().create_future()
        self.counts.heartbeats += 1
        self.first_heard.setdefault(beat.node, self._now())
        if self._is_quiet(beat):
            self._quiet.append((beat, answer))
            if self._reading is None:
                self._reading = asyncio.create_task(self._ask_about())
        else:
            self._loud.append((beat, answer))
            if self._writing is None:
                self._writing = asyncio.create_task(self._write_down())
        return await answer

    def forget(self, node: NodeId) -> None:
        """The node is no longer in the inventory."""
        self._leases.pop(node, None)
        self.first_heard.pop(node, None)

    def _is_quiet(self, beat: Beat) -> bool:
        known = self._leases.get(beat.node)
        if beat.changed or known is None or known.epoch != beat.epoch:
            return False
        now = self._now()
        return 4 * (known.expires_at - now) > 3 * (beat.lease_expires_at - now)

    async def _ask_about(self) -> None:
        try:
            while self._quiet:
                asked, self._quiet = self._quiet[:LARGEST_ROUND], self._quiet[LARGEST_ROUND:]
                nodes = sorted({beat.node for beat, _ in asked})
                await self._settle(asked, self._told(asked, nodes))
        finally:
            self._reading = None

    async def _told(self, asked: list[Ask], nodes: list[NodeId]) -> Outcomes:
        leaving = await self._read(lambda store: dict(store.leaving(nodes)))
        return tuple(Heard(leaving.get(beat.node, ()), self._leases[beat.node]) for beat, _ in asked)

    async def _write_down(self) -> None:
        try:
            while self._loud:
                asked, self._loud = self._loud[:LARGEST_ROUND], self._loud[LARGEST_ROUND:]
                beats = [beat for beat, _ in asked]
                self.counts.written += len(beats)
                self.counts.transactions += 1
                done = self._commit(lambda store, beats=beats: store.heartbeats(beats, self._now()))  # type: ignore[misc]
                for outcome in await self._settle(asked, done):
                    if isinstance(outcome, Heard):
                        self._leases[outcome.lease.node] = outcome.lease
        finally:
            self._writing = None

    async def _settle(self, asked: list[Ask], outcomes: Awaitable[Outcomes]) -> Outcomes:
        """Give everybody their answer, or all of them what went wrong."""
        try:
            found = await outcomes
        except BaseException as error:
            for _, answer in asked:
                if not answer.done():
                    answer.set_exception(error)
            if not isinstance(error, Exception):  # being cancelled is the end of the rounds
                raise
            return ()
        for (_, answer), outcome in zip(asked, found, strict=True):
            if answer.done():  # its caller may have gone away
                continue
            if isinstance(outcome, InputRejected):
                answer.set_exception(outcome)
            else:
                answer.set_result(outcome)
        return found
