"""Counting all sessions anew beside the writer: a million rows take a while, and no commit may wait for that.

The count must say exactly what was committed before it and nothing else, for differences of later commits are added
to it. Its snapshot is therefore taken in the writer's turn, which costs nothing, the rows are counted by a reader, and
what was committed meanwhile is told to the core once more, after the counters.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from router.core.messages import Change, Committed, CountersLoaded, SessionsChanged
from router.store.pinned import Pinned

if TYPE_CHECKING:
    from router.runtime.shell import Runtime

T = TypeVar("T")


class Recount:
    """Recounts of everything, one at a time, and of agents alone, which may fall into one of those."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._since: list[list[Change]] = []  # of each that is under way: what was committed after its snapshot

    def note(self, changes: Sequence[Change]) -> None:
        """These became durable just now."""
        for since in self._since:
            since += changes

    async def run(self) -> None:
        """Count, and tell the core."""
        (counters, flows), since = await self._counted(lambda pinned: (pinned.counters(), pinned.flows()))
        again = [replace(change, began={}) for change in since]
        self._tell(CountersLoaded(counters, flows), again)

    async def agents(self) -> None:
        """Count agents only: on a shared database others take them, and give them back, all the time."""
        found, since = await self._counted(lambda pinned: pinned.agents())
        again = [replace(change, began={}, sessions={}) for change in since]
        self._runtime.catch_up()  # its sessions stay as they are, those that began just now included
        self._tell(CountersLoaded(replace(found, sessions=self._runtime.view.counters.sessions)), again)

    async def _counted(self, count: Callable[[Pinned], T]) -> tuple[T, list[SessionsChanged]]:
        """The count of one moment, and what was committed since."""
        runtime, since = self._runtime, list[Change]()
        pinned = await runtime.in_writer(runtime.store.pin)
        self._since.append(since)
        try:
            found = await runtime.read(lambda _: _of(pinned, count))
        finally:
            self._since = [other for other in self._since if other is not since]
        return found, [change for change in since if isinstance(change, SessionsChanged)]

    def _tell(self, loaded: CountersLoaded, again: Sequence[SessionsChanged]) -> None:
        self._runtime.post(loaded)
        if changes := tuple(change for change in again if change):
            self._runtime.post(Committed(changes))


def _of(pinned: Pinned, count: Callable[[Pinned], T]) -> T:
    try:
        return count(pinned)
    finally:
        pinned.close()
