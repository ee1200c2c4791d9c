"""How many sessions there are over time: a soft ring of peaks per five minutes, kept for a day.

Drains ask it what to expect while they last. The mean length of a session follows from Little's law (1961): how many
live at a time, divided by how many begin per second. Both are counted from commits; a commit that moves a session
changes no total and is not counted as a beginning.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

from router.core.model import DataCenterId, Micros
from router.core.tables import Demand

BUCKET_US = 300_000_000
KEPT = 288  # a day; demand repeats by the day, so less would miss its peak
MIN_BEGUN = 20  # sessions that must have begun before their length is told


class DemandBook:
    """The ring; private state of the core."""

    def __init__(self) -> None:
        self._since: Micros | None = None
        self._bucket = 0
        self._peak = 0
        self._peaks: deque[int] = deque(maxlen=KEPT)
        self._session_s = 0.0  # sessions times seconds that they lived
        self._begun = 0
        self._at: Micros = 0
        self.current = Demand()

    def count(self, differences: Mapping[DataCenterId, int]) -> None:
        """Take in what one commit changed."""
        self._begun += max(0, sum(differences.values()))

    def observe(self, sessions: Mapping[DataCenterId, int], now: Micros) -> None:
        """Take in how many there are; about once a second."""
        total = sum(sessions.values())
        if self._since is None:
            self._since, self._bucket, self._at = now, now // BUCKET_US, now
        self._session_s += total * (now - self._at) / 1e6
        self._at = now
        if now // BUCKET_US != self._bucket:
            self._bucket = now // BUCKET_US
            self._peaks.append(self._peak)
            self._peak = 0
            self._session_s, self._begun = self._session_s / 2, self._begun // 2  # older beginnings count half
        self._peak = max(self._peak, total)
        life_s = round(self._session_s / self._begun) if self._begun >= MIN_BEGUN else None
        self.current = Demand((now - self._since) // 1_000_000, self._p95(), life_s)

    def _p95(self) -> int:
        ordered = sorted((*self._peaks, self._peak))
        return ordered[-1 - len(ordered) // 20]
