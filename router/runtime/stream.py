"""Live stream for dashboards and watchers: bounded, and a slow reader is told to resync instead of slowing us down."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from router.core.messages import ShowDrains, ShowRamps
from router.core.tables import View
from router.schemas.drains import progress_json
from router.schemas.ramps import ramp_json

QUEUE_LIMIT = 256


@dataclass(frozen=True, slots=True)
class StreamItem:
    """One message: ``generation``, ``event``, ``drain``, ``ramp``, or ``resync`` (some were dropped: read anew)."""

    kind: str
    data: dict[str, object] = field(default_factory=dict)


class Stream:
    """One reader's queue; use as a context manager, iterate asynchronously."""

    def __init__(self, hub: StreamHub) -> None:
        self._hub = hub
        self._queue: asyncio.Queue[StreamItem] = asyncio.Queue(QUEUE_LIMIT)

    def __enter__(self) -> Self:
        self._hub.readers.append(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._hub.readers.remove(self)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> StreamItem:
        return await self._queue.get()

    async def next(self, timeout_s: float) -> StreamItem | None:
        """The next item, ``None`` when there was none for so long (time for a heartbeat)."""
        try:
            return await asyncio.wait_for(self._queue.get(), timeout_s)
        except TimeoutError:
            return None

    def offer(self, item: StreamItem) -> None:
        """Queue an item; on overflow everything queued gives way to one ``resync``."""
        if self._queue.full():
            while not self._queue.empty():
                self._queue.get_nowait()
            item = StreamItem("resync")
        self._queue.put_nowait(item)


class StreamHub:
    """Everybody who listens."""

    def __init__(self) -> None:
        self.readers: list[Stream] = []

    def publish(self, item: StreamItem) -> None:
        """Offer an item to every reader."""
        for reader in self.readers:
            reader.offer(item)


def show(hub: StreamHub, view: View, effect: ShowDrains | ShowRamps) -> None:
    """Publish how far drains or ramps have come."""
    if not hub.readers:
        return
    if isinstance(effect, ShowRamps):
        for ramp in effect.ramps:
            hub.publish(StreamItem("ramp", ramp_json(view.ramps[ramp], view.climbs.get(ramp))))
        return
    for id in effect.drains:
        drain = view.drains[id]
        data: dict[str, object] = {"id": id, "state": drain.state.value, "share_pct": drain.share_ppm / 10_000}
        hub.publish(StreamItem("drain", data | progress_json(view.progress.get(id))))
