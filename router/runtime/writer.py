"""The one thread that writes: what a user waits for overtakes heartbeats and upkeep that have not begun.

A thousand media nodes renew their leases and sessions expire all the time; none of that is urgent to a tenth of a
second, while a call is not set up until its start, resume or end is durable. What has begun is finished, so work of the
second lane must be short. Nobody starves: after a few of the first lane in a row one of the second has its turn.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")
IN_A_ROW = 8  # of the first lane while somebody waits in the second: leases last for many times as long


class Writer:
    """Two lanes and a thread that is started with the first work."""

    def __init__(self) -> None:
        self.first, self.later = Lane(self), Lane(self)
        self.changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._over = False
        self._in_a_row = 0

    def begin(self) -> None:
        """See to it that somebody works; to be called while ``changed`` is held."""
        if self._over:
            raise RuntimeError("the writer has stopped")
        if self._thread is None:
            # A daemon: a process that failed before it could stop us must still end; what is not durable was not told.
            self._thread = threading.Thread(target=self._run, name="store-writer_0", daemon=True)
            self._thread.start()

    def shutdown(self) -> None:
        """Finish what waits, and stop."""
        with self.changed:
            self._over = True
            self.changed.notify()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while (work := self._next()) is not None:
            work()

    def _next(self) -> Callable[[], None] | None:
        with self.changed:
            while not self.first.waiting and not self.later.waiting:
                if self._over:
                    return None
                self.changed.wait()
            yields = bool(self.later.waiting) and self._in_a_row >= IN_A_ROW
            lane = self.first if self.first.waiting and not yields else self.later
            self._in_a_row = self._in_a_row + 1 if lane is self.first else 0
            return lane.waiting.popleft()


class Lane(Executor):
    """Work that is done in the order in which it came."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self.waiting: deque[Callable[[], None]] = deque()

    def submit(self, fn: Callable[P, T], /, *args: P.args, **more: P.kwargs) -> Future[T]:
        """Have something done."""
        answer: Future[T] = Future()

        def work() -> None:
            if answer.set_running_or_notify_cancel():
                _settle(answer, lambda: fn(*args, **more))

        with self._writer.changed:
            self._writer.begin()
            self.waiting.append(work)
            self._writer.changed.notify()
        return answer


def _settle(answer: Future[Any], work: Callable[[], Any]) -> None:
    try:
        result = work()
    except BaseException as error:  # noqa: BLE001 - it is raised where the answer is awaited
        answer.set_exception(error)
    else:
        answer.set_result(result)
