"""The agent's event loop: asyncio's, but for sockets and alarms that need nothing of it.

Going round asyncio's loop once costs more than answering a probe, since a process that slept finds its memory out of
the machine's caches. A *quick* descriptor is therefore served inside the selector's wait (``_batch.c``): its callback
runs there, and if it says that it touched nothing of the loop's (no task, no timer, no ``call_soon``), the wait goes
on. Any other loop serves the same callbacks as readers.
"""

from __future__ import annotations

import asyncio
import gc
import math
import select
import selectors
import sys
import time
from collections.abc import Callable

Ready = Callable[[], bool]
"""Called when a descriptor is readable; True: it touched nothing of the loop's."""

GC_THRESHOLDS = 10_000, 20, 50  # what a second of probes allocates is freed without a search; whole ones are rare
_QUICK = object()  # marks what asyncio must not see

wait: Callable[[int, int, dict[int, Ready]], list[tuple[int, int]]] | None
try:
    from probes.sockets import _batch

    wait = _batch.wait
except (ImportError, AttributeError):  # no compiler when it was installed, or not Linux
    wait = None

if sys.platform == "linux":

    class _Selector(selectors.EpollSelector):
        """Serves quick descriptors itself; ``failed`` hears what their callbacks raise."""

        def __init__(self, failed: Callable[[Exception], None]) -> None:
            super().__init__()
            self.quick: dict[int, Ready] = {}
            self._failed = failed

        def attend(self, fd: int, ready: Ready) -> None:
            self.register(fd, selectors.EVENT_READ, _QUICK)
            self.quick[fd] = ready

        def disregard(self, fd: int) -> bool:
            if self.quick.pop(fd, None) is None:
                return False
            self.unregister(fd)
            return True

        def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
            try:
                return self._each(timeout) if wait is None else self._at_once(timeout)
            except Exception as error:  # noqa: BLE001  as asyncio does with what a callback raises
                self._failed(error)
                return []  # what else was ready still is

        def _at_once(self, timeout: float | None) -> list[tuple[selectors.SelectorKey, int]]:
            assert wait is not None
            timeout_ms = -1 if timeout is None else math.ceil(max(0.0, timeout) * 1e3)
            found: list[tuple[selectors.SelectorKey, int]] = []
            for fd, events in wait(self.fileno(), timeout_ms, self.quick):
                key = self.get_map().get(fd)
                if key is not None and key.data is not _QUICK:
                    mask = selectors.EVENT_WRITE if events & ~select.EPOLLIN else 0
                    mask |= selectors.EVENT_READ if events & ~select.EPOLLOUT else 0
                    found.append((key, mask & key.events))
            return found

        def _each(self, timeout: float | None) -> list[tuple[selectors.SelectorKey, int]]:
            until_s = None if timeout is None else time.monotonic() + timeout
            while True:
                found = super().select(timeout)
                others = [(key, mask) for key, mask in found if key.data is not _QUICK]
                quiet = bool(found) and not others
                for key, _ in found:
                    ready = self.quick.get(key.fd)
                    if ready is not None and not ready():
                        quiet = False
                if until_s is not None:
                    timeout = until_s - time.monotonic()
                if not quiet or (timeout is not None and timeout <= 0):
                    return others

    class AgentLoop(asyncio.SelectorEventLoop):
        """asyncio's loop over that selector."""

        def __init__(self) -> None:
            self.quick = _Selector(self._failed)
            super().__init__(self.quick)

        def _failed(self, error: Exception) -> None:
            self.call_exception_handler({"message": "a descriptor's callback failed", "exception": error})


def new_loop() -> asyncio.AbstractEventLoop:
    """A loop for an agent: this module's where there is ``epoll``."""
    return AgentLoop() if sys.platform == "linux" else asyncio.new_event_loop()


def settle() -> None:
    """Look for garbage seldom, and never again among what there is: a search finds all of it out of the caches."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)


def attend(loop: asyncio.AbstractEventLoop, fd: int, ready: Ready) -> None:
    """Call ``ready`` whenever a descriptor is readable."""
    if sys.platform == "linux" and isinstance(loop, AgentLoop):
        loop.quick.attend(fd, ready)
    else:
        loop.add_reader(fd, ready)


def disregard(loop: asyncio.AbstractEventLoop, fd: int) -> None:
    """Do so no more; not attended is fine."""
    if sys.platform == "linux" and isinstance(loop, AgentLoop):
        loop.quick.disregard(fd)
    else:
        loop.remove_reader(fd)
