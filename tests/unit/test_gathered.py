"""Requests that share a trip: who comes until the database turns to it goes along, and nobody spoils it for others."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from router.core.errors import InputRejected, Unavailable
from router.runtime.gathered import Board, Gathered

pytestmark = pytest.mark.unit


async def test_who_comes_while_the_database_has_other_work_goes_along() -> None:
    turn = asyncio.Event()
    trips: list[list[int]] = []

    async def trip(board: Board[int]) -> list[int | InputRejected]:
        await turn.wait()
        trips.append(list(board()))
        return [10 * n for n in board()]

    gathered: Gathered[int, int] = Gathered(trip)
    first = asyncio.create_task(gathered.ask(1))
    await asyncio.sleep(0)
    others = [asyncio.create_task(gathered.ask(n)) for n in (2, 3)]
    await asyncio.sleep(0)
    turn.set()
    assert await asyncio.gather(first, *others) == [10, 20, 30]
    assert trips == [[1, 2, 3]]
    assert (gathered.trips, gathered.carried) == (1, 3)


async def test_one_that_spoils_a_trip_is_refused_alone() -> None:
    trips: list[list[int]] = []

    async def trip(board: Board[int]) -> Sequence[int | InputRejected]:
        asked = list(board())
        trips.append(asked)
        await asyncio.sleep(0)
        if 0 in asked:
            raise InputRejected("bad_value", "the database cannot hold this value")
        return asked

    gathered: Gathered[int, int] = Gathered(trip)
    found = await asyncio.gather(*(gathered.ask(n) for n in (1, 0, 2)), return_exceptions=True)
    assert found[0] == 1 and found[2] == 2 and isinstance(found[1], InputRejected)
    assert trips == [[1, 0, 2], [1], [0], [2]]


async def test_a_database_that_is_away_is_told_to_all_who_went() -> None:
    async def trip(board: Board[int]) -> Sequence[int | InputRejected]:
        board()
        raise Unavailable("database_unavailable", "the database cannot be used now")

    gathered: Gathered[int, int] = Gathered(trip)
    found = await asyncio.gather(*(gathered.ask(n) for n in (1, 2)), return_exceptions=True)
    assert all(isinstance(one, Unavailable) for one in found)
    assert gathered.trips == 1
