"""A detector on an emulated path in virtual time: probes, confirm probes and answers, no clock and no socket."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush

from probes.detect import Detector, RoundTrip, Verdict

Missing = Callable[[int, int], bool]
"""Whether a probe sent at a time (microseconds) from a source port gets no answer; called once per probe, in order."""


class Path:
    """One probed path: regular probes every ``interval_us`` from ``now_us`` on."""

    def __init__(
        self,
        detector: Detector,
        missing: Missing,
        rtt_us: Callable[[int], int],
        interval_us: int,
        now_us: int = 0,
        confirm: bool = True,
    ) -> None:
        self.detector, self.now_us = detector, now_us
        self.round_trip = RoundTrip()
        self._missing, self._rtt_us, self._interval_us, self._confirm = missing, rtt_us, interval_us, confirm
        self._regular_us = now_us
        self._answers: list[tuple[int, int, int]] = []  # heap of (when, key, round trip)
        self._key = 0
        self.sent = 0
        self.changes: list[tuple[int, Verdict]] = []

    def run(self, until_us: int, stop: Verdict | None = None) -> bool:
        """Go on until a time, or until the verdict is ``stop``; whether it is."""
        while True:
            at = self._regular_us
            if self._answers and self._answers[0][0] < at:
                at = self._answers[0][0]
            due = self.detector.next_at()
            if due is not None and due < at:
                at = due
            if at > until_us:
                self.now_us = until_us
                return False
            self.now_us = max(self.now_us, at)
            if self._step() and self.detector.verdict is stop:
                return True

    def _step(self) -> bool:
        now, detector = self.now_us, self.detector
        while self._answers and self._answers[0][0] <= now:
            _, key, rtt = heappop(self._answers)
            self.round_trip.sample(rtt, now)
            detector.answered(key, now)
        changed = detector.check(now)
        if changed is not None:
            self.changes.append((now, changed))
        if self._confirm:
            for _ in range(detector.burst_due(now)):
                self._send(detector.confirm_port())
        else:
            detector.burst_due(now)
        if now >= self._regular_us:
            self._send(detector.next_port())
            self._regular_us += self._interval_us
        return changed is not None

    def _send(self, port: int) -> None:
        now = self.now_us
        self._key += 1
        self.sent += 1
        self.detector.sent(self._key, now, now + self.round_trip.overdue_us, port)
        if not self._missing(now, port):
            rtt = self._rtt_us(now)
            heappush(self._answers, (now + rtt, self._key, rtt))
