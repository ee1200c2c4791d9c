"""How waiting ends when the server stops: streams and long-polls give way at once instead of being cut off later."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class Closing:
    """Whether the server is stopping; one per app, set and cleared by the server that runs it."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    @property
    def closed(self) -> bool:
        """Whether nobody should wait any longer."""
        return self._event.is_set()

    def open(self) -> None:
        """The server listens."""
        self._event.clear()

    def close(self) -> None:
        """The server stops: wake everybody who waits."""
        self._event.set()

    async def or_closing(self, work: Coroutine[Any, Any, T]) -> T | None:
        """The outcome of ``work``; ``None`` if the server stops before, and then ``work`` is cancelled."""
        task, closing = asyncio.ensure_future(work), asyncio.ensure_future(self._event.wait())
        try:
            await asyncio.wait((task, closing), return_when=asyncio.FIRST_COMPLETED)
            return task.result() if task.done() else None
        finally:
            task.cancel()
            closing.cancel()
            await asyncio.gather(task, closing, return_exceptions=True)
