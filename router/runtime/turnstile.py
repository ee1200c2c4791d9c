"""Group commit: sessions that start or end while the disk is busy share the next transaction.

Whoever comes first starts a write at once; whoever comes while it runs waits for it and goes with all the others that
came meanwhile. Nobody waits for a timer: with one caller at a time each has a transaction of its own, with a thousand
the disk is asked as often as it can answer. A request whose values the database cannot hold must not spoil the others:
then each of the batch is written alone.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from router.core.errors import InputRejected, TendrilError
from router.core.model import Leg, Micros, Session, SessionId
from router.store import Store
from router.store.commit import Commit
from router.store.takes import End, Exchanged, Start

LARGEST_BATCH = 128  # what comes later goes with the next: a batch that takes long keeps everybody waiting


class Bound(NamedTuple):
    """A session, where its agent is reached ("" without one), and the further legs of one that ends."""

    session: Session
    address: str
    legs: tuple[Leg, ...] = ()
    version: str = ""  # of its agent, of a session that starts


Ask = tuple[Start | End, "asyncio.Future[Bound | None]"]


class Turnstile:
    """Collects starts and ends; ``commit`` runs one transaction and tells the core what it changed."""

    def __init__(
        self,
        commit: Callable[[Callable[[Store], Commit[Exchanged]]], Awaitable[Exchanged]],
        now: Callable[[], Micros],
    ) -> None:
        self._commit = commit
        self._now = now
        self._waiting: deque[Ask] = deque()
        self._turning: asyncio.Task[None] | None = None
        self.batches = 0  # transactions so far, and what they carried
        self.requests = 0

    async def start(self, start: Start) -> Bound | None:
        """Start a session; None when no agent is free. Raises what the store raises."""
        return await self._ask(start)

    async def end(self, id: SessionId, reason: str) -> Bound:
        """End a session. Raises ``unknown_session``."""
        ended = await self._ask(End(id, reason))
        if ended is None:
            raise InputRejected("unknown_session", f"there is no session called {id}", field="id")
        return ended

    async def _ask(self, what: Start | End) -> Bound | None:
        answer: asyncio.Future[Bound | None] = asyncio.get_running_loop().create_future()
        self._waiting.append((what, answer))
        if self._turning is None:
            self._turning = asyncio.create_task(self._turn())
        return await answer

    async def _turn(self) -> None:
        try:
            while self._waiting:
                await self._write()
        finally:
            self._turning = None

    async def _write(self) -> None:
        batch: list[Ask] = []

        def run(store: Store) -> Commit[Exchanged]:
            # In the writer thread, when its turn has come: all who have come until now. A retry finds them again.
            while self._waiting and len(batch) < LARGEST_BATCH:
                batch.append(self._waiting.popleft())
            return _exchange(store, [what for what, _ in batch], self._now())

        try:
            answers = await self._commit(run)
        except InputRejected as error:
            await self._each_alone(batch, error)
        except BaseException as error:
            for _, answer in batch:
                _refuse(answer, error)
            if not isinstance(error, Exception):  # being cancelled is the turnstile's own end
                raise
        else:
            self.batches += 1
            self.requests += len(batch)
            _deliver(batch, answers)

    async def _each_alone(self, batch: list[Ask], error: InputRejected) -> None:
        if len(batch) == 1:
            _refuse(batch[0][1], error)
            return
        for what, answer in batch:
            try:
                alone = [(what, answer)]
                answers = await self._commit(lambda store, what=what: _exchange(store, [what], self._now()))  # type: ignore[misc]
                _deliver(alone, answers)
            except TendrilError as refused:
                _refuse(answer, refused)


def _exchange(store: Store, asked: list[Start | End], now: Micros) -> Commit[Exchanged]:
    starts = [what for what in asked if isinstance(what, Start)]
    ends = [what for what in asked if isinstance(what, End)]
    return store.exchange(starts, ends, now)


def _deliver(batch: list[Ask], answers: Exchanged) -> None:
    started, ended = iter(answers.started), iter(answers.ended)
    for what, answer in batch:
        outcome = next(started if isinstance(what, Start) else ended)
        if isinstance(outcome, InputRejected):
            _refuse(answer, outcome)
        elif not answer.done():  # its caller may have gone away
            answer.set_result(None if outcome is None else _bound(outcome, answers))


def _bound(session: Session, answers: Exchanged) -> Bound:
    address, version = ("", "") if session.agent is None else answers.reached.get(session.agent, ("", ""))
    return Bound(session, address, answers.legs.get(session.id, ()), version)


def _refuse(answer: asyncio.Future[Bound | None], error: BaseException) -> None:
    if not answer.done():
        answer.set_exception(error)
