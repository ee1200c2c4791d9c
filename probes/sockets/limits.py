"""How much may be sent, in all and to one source. Time is monotonic microseconds."""

from __future__ import annotations

from probes.sockets.kernel import monotonic_us

MAX_SOURCES = 4_096  # buckets kept; the longest unused one goes first, and its source starts with a full one again


class TokenBucket:
    """At most ``per_s`` events a second, ``burst`` at once."""

    __slots__ = ("_at_us", "_capacity_us", "_level_us", "_per_s")

    def __init__(self, per_s: int, burst: int | None = None) -> None:
        self._per_s = per_s
        self._capacity_us = (burst or max(1, per_s // 10)) * 1_000_000  # in event-microseconds
        self._level_us = self._capacity_us
        self._at_us = monotonic_us()

    def take(self, now_us: int | None = None) -> bool:
        """Use up one event if there is one."""
        if now_us is None:
            now_us = monotonic_us()
        passed_us = now_us - self._at_us
        if passed_us <= 0:  # the caller looked at the clock before this bucket was made, or last used
            passed_us, now_us = 0, self._at_us
        level_us = self._level_us + passed_us * self._per_s
        if level_us > self._capacity_us:
            level_us = self._capacity_us
        self._at_us = now_us
        if level_us < 1_000_000:
            self._level_us = level_us
            return False
        self._level_us = level_us - 1_000_000
        return True


class SourceLimit:
    """At most ``per_s`` events a second for each source; sources beyond :data:`MAX_SOURCES` push out the oldest."""

    def __init__(self, per_s: int) -> None:
        self._per_s = per_s
        self._buckets: dict[bytes, TokenBucket] = {}  # least recently made first

    def take(self, source: bytes, now_us: int) -> bool:
        """Use up one event of this source if it has one."""
        bucket = self._buckets.get(source)
        if bucket is None:
            if len(self._buckets) >= MAX_SOURCES:
                del self._buckets[next(iter(self._buckets))]
            bucket = self._buckets[source] = TokenBucket(self._per_s)
        return bucket.take(now_us)
