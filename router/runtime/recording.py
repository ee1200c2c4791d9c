"""The flight recorder beside the event loop: a thread that writes, in the order in which the core was asked.

What a record is made of is immutable and handed over by reference. A segment begins with the core's whole state: of
that the loop makes a copy (milliseconds), and the thread writes it (a second for hundreds of data centers). If the disk
fails, the segment is given up and recording rests; if it is too slow, the segment is given up too: a recording with a
hole in it is none. Inputs are handed over by the batch, since waking a thread costs more than writing one down.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import structlog

from router.core.messages import Effect, Input
from router.core.model import Micros
from router.core.plane import ControlPlane
from router.core.tables import View
from router.runtime.recorder import FlightRecorder

log = structlog.get_logger("tendril.recording")
REST_US = 60_000_000
MOST_WAITING = 20_000  # records of a minute
BATCH, BATCH_US = 64, 100_000  # inputs at most, and how long the first of them waits for more


class Recording:
    """Hands inputs and their effects to a :class:`FlightRecorder` in a thread of its own."""

    def __init__(self, recorder: FlightRecorder, failed: Callable[[], None]) -> None:
        """``failed`` is called, in any thread, when something could not be written."""
        self.recorder = recorder
        self._failed = failed
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="flight-recorder")
        self._handed_over = self._written = 0  # the first is counted by the loop, the second by the thread
        self._is_begun = self._is_beginning = False
        self._rests_until: Micros = 0
        self._waiting: list[tuple[Input, Micros, list[Effect], View | None]] = []

    def note(self, plane: ControlPlane, event: Input, now: Micros, effects: list[Effect]) -> None:
        """Record one handled input; a full disk costs the recording and nothing else."""
        if now < self._rests_until:
            return
        if not self._is_begun or (self.recorder.is_full and not self._is_beginning):
            self._is_begun = self._is_beginning = True
            self._hand_over_waiting(now)
            state = plane.checkpoint()
            self._hand_over(lambda: self._begin(state), now)
        elif self._handed_over - self._written >= MOST_WAITING // BATCH:
            self._waiting.clear()
            self._hand_over(self.recorder.abandon, now)
            self._rest(now)
        else:
            self._waiting.append((event, now, effects, plane.view if effects else None))
            if len(self._waiting) >= BATCH or now - self._waiting[0][1] >= BATCH_US:
                self._hand_over_waiting(now)

    def _begin(self, state: ControlPlane) -> None:
        try:
            self.recorder.begin(state)
        finally:
            self._is_beginning = False

    def flush(self, now: Micros) -> None:
        """Hand what was recorded to the operating system soon."""
        self._hand_over_waiting(now)
        self._hand_over(self.recorder.flush, now)

    def close(self) -> None:
        """Write what waits, and close the segment."""
        self._hand_over_waiting(0)
        self._thread.submit(self.recorder.close)
        self._thread.shutdown(wait=True)

    def _hand_over_waiting(self, now: Micros) -> None:
        if self._waiting:
            records, self._waiting = self._waiting, []
            self._hand_over(lambda: self.recorder.append_all(records), now)

    def _hand_over(self, work: Callable[[], None], now: Micros) -> None:
        self._handed_over += 1
        self._thread.submit(work).add_done_callback(lambda done: self._done(done, now))

    def _done(self, done: Future[None], now: Micros) -> None:
        """In the recorder's thread; the loop reads these numbers and never waits for them."""
        self._written += 1
        error = done.exception()
        if error is not None and now >= self._rests_until:
            self._failed()
            log.error("flight_recorder_failed", exc_info=error)
            self.recorder.abandon()
            self._rest(now)

    def _rest(self, now: Micros) -> None:
        self._rests_until = now + REST_US
        self._is_begun = False
