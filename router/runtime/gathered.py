"""Questions and changes that come at once share the next trip to the database.

Whoever comes first is served at once; whoever comes while the database is busy with that waits, and goes with all the
others that came meanwhile. As in the turnstile nobody waits for a timer: alone, a request costs what it did before; a
thousand of them ask as often as the database can answer. Who goes along is settled when the database turns to it: the
writer may have had other work before.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from router.core.errors import InputRejected, TendrilError
from router.core.model import Micros, SessionId
from router.runtime.turnstile import LARGEST_BATCH, Bound
from router.store import Store
from router.store.commit import Commit
from router.store.rebinds import Rebind, Rebound, Sighted

Asked = TypeVar("Asked")
Got = TypeVar("Got")
Board = Callable[[], Sequence[Asked]]  # who goes along; asked for by the thread that does the work, again if it must
Trip = Callable[[Board[Asked]], Awaitable[Sequence[Got | InputRejected]]]


class Gathered(Generic[Asked, Got]):
    """Collects what is asked; ``trip`` answers many at once, each with a value of its own or a refusal."""

    def __init__(self, trip: Trip[Asked, Got]) -> None:
        self._trip = trip
        self._waiting: deque[tuple[Asked, asyncio.Future[Got]]] = deque()
        self._travelling: asyncio.Task[None] | None = None
        self.trips = 0  # so far, and what they carried
        self.carried = 0

    async def ask(self, what: Asked) -> Got:
        """One answer. Raises what the database raises."""
        answer: asyncio.Future[Got] = asyncio.get_running_loop().create_future()
        self._waiting.append((what, answer))
        if self._travelling is None:
            self._travelling = asyncio.create_task(self._travel())
        return await answer

    async def _travel(self) -> None:
        try:
            while self._waiting:
                await self._serve([self._waiting.popleft()])
        finally:
            self._travelling = None

    async def _serve(self, batch: list[tuple[Asked, asyncio.Future[Got]]], alone: bool = False) -> None:
        def board() -> Sequence[Asked]:
            while not alone and self._waiting and len(batch) < LARGEST_BATCH:
                batch.append(self._waiting.popleft())
            return [what for what, _ in batch]

        try:
            outcomes: Sequence[Got | InputRejected] = await self._trip(board)
        except TendrilError as error:
            if len(batch) > 1 and isinstance(error, InputRejected):  # one of them spoils it for all: each alone
                for one in batch:
                    await self._serve([one], alone=True)
                return
            outcomes = [error] * len(batch)  # type: ignore[list-item]
        except BaseException as error:
            for _, answer in batch:
                _give(answer, error)
            if not isinstance(error, Exception):  # being cancelled is our own end
                raise
            return
        finally:
            self.trips += 1
            self.carried += len(batch)
        for (_, answer), outcome in zip(batch, outcomes, strict=True):
            _give(answer, outcome)


def _give(answer: asyncio.Future[Got], outcome: Got | BaseException) -> None:
    if answer.done():  # whoever asked has gone away
        return
    if isinstance(outcome, BaseException):
        answer.set_exception(outcome)
    else:
        answer.set_result(outcome)


def sightings(
    read: Callable[[Callable[[Store], Sequence[Sighted | None]]], Awaitable[Sequence[Sighted | None]]],
) -> Gathered[SessionId, Sighted | None]:
    """Sessions looked up together."""
    return Gathered(lambda board: read(lambda store: store.sighted(board())))


def rebindings(
    commit: Callable[[Callable[[Store], Commit[Rebound]]], Awaitable[Rebound]], now: Callable[[], Micros]
) -> Gathered[Rebind, Bound]:
    """Sessions placed anew together."""

    async def trip(board: Board[Rebind]) -> list[Bound | InputRejected]:
        done = await commit(lambda store: store.rebind_sessions(board(), now()))
        return [
            outcome
            if isinstance(outcome, InputRejected)
            else Bound(outcome, "" if outcome.agent is None else done.addresses.get(outcome.agent, ""))
            for outcome in done.outcomes
        ]

    return Gathered(trip)
