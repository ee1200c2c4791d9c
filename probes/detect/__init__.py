"""Is a path still there: overdue probes in, *up*, *suspect* or *down* out. PURE.

Theory of operation, with formulas and figures: ``docs/explanation/how-an-outage-is-noticed.md``.

The caller (one :class:`Detector` per probed path) does, with monotonic microseconds::

    detector.sent(key, now_us, now_us + round_trip.overdue_us, port_index=detector.next_port())  # a probe left
    detector.answered(key, now_us)                       # its answer came; also when it came late
    verdict = detector.check(now_us)                     # after answered(), and when next_at() has come
    for _ in range(detector.burst_due(now_us)):          # then: confirm probes, on other source ports
        detector.sent(next_key, now_us, ..., port_index=detector.confirm_port())
    wake_at(detector.next_at())

Answers that wait in a socket are to be read before ``check``; where the process stalled, ``check`` gives them time.
"""

from __future__ import annotations

from probes.detect.doubt import SelfDoubt
from probes.detect.loss import DOWN_NATS, LossModel
from probes.detect.machine import TRANSITIONS, Detector, Event, Verdict
from probes.detect.roundtrip import RoundTrip

__all__ = ["DOWN_NATS", "TRANSITIONS", "Detector", "Event", "LossModel", "RoundTrip", "SelfDoubt", "Verdict"]
