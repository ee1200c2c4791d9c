"""Counting all sessions anew beside the writer: a million rows take a while, and no commit may wait for that.

The count must say exactly what was committed before it and nothing else, for differences of later commits are added
to it. Its snapshot is therefore taken in the writer's turn, which costs nothing, the rows are counted by a reader, and
what was committed meanwhile is told to the core once more, after the counters.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from router.core.messages import Change, Committed, CountersLoaded, SessionsChanged
from router.core.model import Counters, Flow
from router.store.pinned import Pinned

if TYPE_CHECKING:
    from router.runtime.shell import Runtime


class Recount:
    """One recount at a time."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._since: list[Change] | None = None  # while counting: what was committed after the snapshot

    def note(self, changes: Sequence[Change]) -> None:
        """These became durable just now."""
        if self._since is not None:
            self._since += changes

    async def run(self) -> None:
        """Count, and tell the core."""
        runtime = self._runtime
        pinned = await runtime.in_writer(runtime.store.pin)
        self._since = []
        try:
            counters, flows = await runtime.read(lambda _: _counted(pinned))
        finally:
            since, self._since = self._since, None
        runtime.post(CountersLoaded(counters, flows))
        again = tuple(replace(change, began={}) for change in since if isinstance(change, SessionsChanged))
        if again:
            runtime.post(Committed(again))


def _counted(pinned: Pinned) -> tuple[Counters, Mapping[Flow, int]]:
    try:
        return pinned.counters(), pinned.flows()
    finally:
        pinned.close()
