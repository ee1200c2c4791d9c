"""Events on their way to the audit trail and the live stream.

The core's own events are written in batches; what commits wrote is read back. The stream shows both in the order of
the database, each once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from router.core.errors import Unavailable
from router.core.model import Event
from router.runtime.stream import StreamHub, StreamItem
from router.store import Store

T = TypeVar("T")
SHOW_AFTER_S = 0.1  # how long commits are collected before the stream shows their events
CATCH_UP = 100  # events shown at most at once; who needs more reads /v1/events


class Chronicle:
    """Unwritten events, and the number of the newest one shown."""

    def __init__(
        self,
        write: Callable[[Callable[[Store], object]], Awaitable[object]],
        read: Callable[[Callable[[Store], tuple[tuple[int, Event], ...]]], Awaitable[tuple[tuple[int, Event], ...]]],
        hub: StreamHub,
    ) -> None:
        self._write, self._read, self._hub = write, read, hub
        self._unwritten: list[Event] = []
        self._shown = 0
        self.showing = False

    async def begin(self) -> None:
        """Show only what comes from now on."""
        newest = await self._read(lambda store: store.events(limit=1))
        self._shown = newest[0][0] if newest else 0

    def take(self, event: Event) -> bool:
        """Keep an event for the next :meth:`flush`; whether one is due, because it is the first."""
        self._unwritten.append(event)
        return len(self._unwritten) == 1

    async def flush(self) -> None:
        """Write what was taken, and show it."""
        await self.write()
        await self.show()

    async def write(self) -> None:
        """Write decisions to the audit trail; if the database is away they still reach the stream."""
        events, self._unwritten = self._unwritten, []
        if not events:
            return
        try:
            await self._write(lambda store: store.record(events))
        except Unavailable:
            for event in events:
                self._hub.publish(StreamItem("event", event_data(event)))
            raise

    async def show_soon(self) -> bool:
        """Bring what was just committed to the stream, commits close together at once; False if somebody does."""
        if self.showing:
            return False
        self.showing = True
        await asyncio.sleep(SHOW_AFTER_S)
        self.showing = False
        await self.show()
        return True

    async def show(self) -> None:
        """Bring what is new in the database to the stream."""
        # While nobody listens only the newest number is of interest: whoever comes then is told from there on.
        after, most = self._shown, CATCH_UP if self._hub.readers else 1
        found = await self._read(lambda store: store.events(after_id=after, limit=most))
        for number, event in reversed(found):
            if number > self._shown:  # somebody else may have shown it while we were reading
                self._shown = number
                self._hub.publish(StreamItem("event", event_data(event)))


def event_data(event: Event) -> dict[str, object]:
    """An event as the stream and the API show it, times in microseconds."""
    return {
        "at_us": event.at,
        "kind": event.kind,
        "subject": event.subject,
        "actor": event.actor,
        "reason": event.reason,
        "detail": dict(event.detail),
    }
