"""Replies in, report rows out: what became of the probes of one reporting interval. PURE, on any clock.

A probe is *open* from :meth:`Row.send` until it is *closed*, exactly once: answered within the timeout, or overdue and
therefore lost. A row of a report covers the probes closed in its interval, so over time ``sent = received + lost +
open`` holds without remainder. An answer to a probe already counted as lost is ``late``, a second answer is a
``duplicate``; neither changes what was counted before.

Two clocks. ``now_us`` is monotonic and decides about deadlines; the four stamps t1..t4 are node clocks (see
``probes.wire``). Because t1 and t4 come from a wall clock that somebody may set, the round trip is checked against the
monotonic time that passed: a t4 beyond it, or before t1, is replaced. A reflector whose stamps claim that it kept the
probe for less than nothing, or longer than the probe was away, is not believed: its residence counts as zero.

Jitter is RFC 3550's estimator (6.4.1 and A.8) over successive round trips, kept in sixteenths of a microsecond.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from enum import Enum, auto

from probes.wire import MAX_BUCKETS, MAX_COUNT, MAX_ROWS, ReportRows, bucket_of

MAX_OPEN = 65_536  # probes of all rows together; beyond it the oldest is given up as lost
MAX_LOST_REMEMBERED = 256  # per row; an answer that comes more losses later than this is no longer known to be late
MAX_AGE = 65_536  # sequence numbers further back than this are strays, not duplicates
CLOCK_SLACK_US = 2_000  # wall and monotonic clock may disagree by this much within one probe
_SEQUENCES = 1 << 32


class Outcome(Enum):
    """What an answer turned out to be."""

    ANSWERED = auto()
    LATE = auto()  # its probe had been counted as lost
    DUPLICATE = auto()
    STRAY = auto()  # no probe of ours, or one too old to remember


class Row:
    """The probes to one (peer, transport); made by :meth:`Summary.row`, lives as long as the process."""

    __slots__ = (
        "_backward", "_backward_base_us", "_backward_min_us", "_duplicate", "_forward", "_forward_base_us",
        "_forward_min_us", "_jitter_16", "_late", "_lost", "_open", "_opened", "_received", "_reflected", "_rtt",
        "_rtt_min_us", "_sent", "_summary", "last_rtt_us", "next_sequence", "peer", "transport",
    )  # fmt: skip

    def __init__(self, summary: Summary, peer: str, transport: str, first_sequence: int) -> None:
        self._summary = summary
        self.peer = peer
        self.transport = transport
        self.next_sequence = first_sequence
        self.last_rtt_us = -1  # of the newest answered probe
        self._opened = 0  # probes since the start
        self._open: dict[int, tuple[int, int]] = {}  # sequence -> (t1, monotonic time of sending)
        self._lost: dict[int, None] = {}  # sequences, oldest first
        self._jitter_16 = 0
        self._forward_base_us: int | None = None
        self._backward_base_us: int | None = None
        self._start_interval()

    def _start_interval(self) -> None:
        self._sent = self._received = self._reflected = self._late = self._duplicate = 0
        self._rtt_min_us = -1
        self._forward_min_us = self._backward_min_us = 0
        self._rtt: dict[int, int] = {}  # bucket -> count; likewise the next two
        self._forward: dict[int, int] = {}
        self._backward: dict[int, int] = {}

    @property
    def open(self) -> int:
        """Probes that are neither answered nor counted as lost."""
        return len(self._open)

    def send(self, t1_us: int, now_us: int) -> int:
        """Open a probe stamped ``t1_us`` and return its sequence number."""
        sequence = self.next_sequence
        self.next_sequence = (sequence + 1) % _SEQUENCES
        self._opened += 1
        self._open[sequence] = (t1_us, now_us)
        self._summary.enqueue(now_us, self, sequence)
        return sequence

    def answer(self, sequence: int, t1_us: int, t2_us: int, t3_us: int, t4_us: int, now_us: int) -> Outcome:
        """Take a reply; ``t1_us`` is what it echoes and must be what was sent under that sequence number."""
        probe = self._open.get(sequence)
        if probe is None:
            return self._unexpected(sequence)
        sent_t1_us, sent_at_us = probe
        if sent_t1_us != t1_us:
            return self._stray()
        away_us = now_us - sent_at_us
        if away_us > self._summary.timeout_us:
            self.lose(sequence)
            return self._unexpected(sequence)
        del self._open[sequence]
        elapsed_us = t4_us - t1_us
        if not 0 <= elapsed_us <= away_us + CLOCK_SLACK_US:
            self._summary.clock_steps += 1
            elapsed_us = away_us
            t4_us = t1_us + away_us
        residence_us = t3_us - t2_us
        if not 0 <= residence_us <= elapsed_us:
            self._summary.residences_refused += 1
            residence_us, t3_us = 0, t2_us
        self._count(elapsed_us - residence_us, t2_us - t1_us, t4_us - t3_us)
        return Outcome.ANSWERED

    def reflect(self) -> None:
        """Count a probe from this peer that this node answered."""
        self._reflected += 1

    def lose(self, sequence: int) -> None:
        """Close a probe as lost if it is still open."""
        if self._open.pop(sequence, None) is None:
            return
        self._sent += 1
        self._lost[sequence] = None
        if len(self._lost) > MAX_LOST_REMEMBERED:
            del self._lost[next(iter(self._lost))]

    def _count(self, rtt_us: int, forward_us: int, backward_us: int) -> None:
        if self._forward_base_us is None or self._backward_base_us is None:
            self._forward_base_us, self._backward_base_us = forward_us, backward_us
        if self._received == 0:
            self._rtt_min_us, self._forward_min_us, self._backward_min_us = rtt_us, forward_us, backward_us
        else:
            self._rtt_min_us = min(self._rtt_min_us, rtt_us)
            self._forward_min_us = min(self._forward_min_us, forward_us)
            self._backward_min_us = min(self._backward_min_us, backward_us)
        self._sent += 1
        self._received += 1
        if self.last_rtt_us >= 0:
            self._jitter_16 += abs(rtt_us - self.last_rtt_us) - ((self._jitter_16 + 8) >> 4)
        self.last_rtt_us = rtt_us
        _add(self._rtt, rtt_us)
        _add(self._forward, forward_us - self._forward_base_us)
        _add(self._backward, backward_us - self._backward_base_us)

    def _unexpected(self, sequence: int) -> Outcome:
        if sequence in self._lost:
            del self._lost[sequence]
            self._late += 1
            return Outcome.LATE
        age = (self.next_sequence - 1 - sequence) % _SEQUENCES
        if age >= min(MAX_AGE, self._opened):
            return self._stray()
        self._duplicate += 1
        return Outcome.DUPLICATE

    def _stray(self) -> Outcome:
        self._summary.strays += 1
        return Outcome.STRAY

    def close(self) -> tuple[object, ...] | None:
        """The finished interval in the column order of ``ReportRows``, ``None`` if nothing happened in it."""
        if not (self._sent or self._reflected or self._late or self._duplicate):
            return None
        values = (
            self.peer, self.transport, self._sent, self._received, min(self._reflected, MAX_COUNT), self._late,
            min(self._duplicate, MAX_COUNT), self._rtt_min_us, self._forward_min_us, self._backward_min_us,
            self._jitter_16 >> 4 if self._received else -1, self._forward_base_us or 0, self._backward_base_us or 0,
            _flat(self._rtt), _flat(self._forward), _flat(self._backward),
        )  # fmt: skip
        self._start_interval()
        return values


class Summary:
    """All rows of one agent; ``timeout_us`` may change with the plan."""

    def __init__(self, timeout_us: int = 1_000_000, *, first_sequence: int = 0) -> None:
        self.timeout_us = timeout_us
        self.strays = 0
        self.clock_steps = 0
        self.residences_refused = 0
        self._first_sequence = first_sequence
        self._rows: dict[tuple[str, str], Row] = {}
        self._sent: deque[tuple[int, Row, int]] = deque()  # in order of sending; may name probes closed meanwhile

    def row(self, peer: str, transport: str) -> Row:
        """The row of a (peer, transport), made on first use."""
        row = self._rows.get((peer, transport))
        if row is None:
            row = self._rows[peer, transport] = Row(self, peer, transport, self._first_sequence)
        return row

    def retain(self, keys: Collection[tuple[str, str]]) -> None:
        """Forget the oldest rows outside ``keys`` as far as the bound on rows asks; the others keep their bases."""
        surplus = len(self._rows) - MAX_ROWS
        for key in [key for key in self._rows if key not in keys][: max(0, surplus)]:
            del self._rows[key]

    def knows(self, key: tuple[str, str]) -> bool:
        """Whether a (peer, transport) has a row."""
        return key in self._rows

    @property
    def open(self) -> int:
        """Probes of all rows that are neither answered nor counted as lost."""
        return sum(row.open for row in self._rows.values())

    def enqueue(self, now_us: int, row: Row, sequence: int) -> None:
        """Note when a probe was sent; only :meth:`Row.send` calls this."""
        self._sent.append((now_us, row, sequence))
        if len(self._sent) > MAX_OPEN:
            _, oldest, its_sequence = self._sent.popleft()
            oldest.lose(its_sequence)

    def expire(self, now_us: int) -> None:
        """Count as lost what is overdue."""
        before = now_us - self.timeout_us
        while self._sent and self._sent[0][0] < before:
            _, row, sequence = self._sent.popleft()
            row.lose(sequence)

    def close(self, now_us: int) -> ReportRows:
        """End the interval: rows of everything that happened since the last call, in order of first use."""
        self.expire(now_us)
        found = [values for row in self._rows.values() if (values := row.close()) is not None]
        return ReportRows(*zip(*found, strict=True)) if found else ReportRows()


def _add(sketch: dict[int, int], value_us: int) -> None:
    bucket = bucket_of(value_us)
    sketch[bucket] = sketch.get(bucket, 0) + 1


def _flat(sketch: dict[int, int]) -> tuple[int, ...]:
    """Flatten; of too many buckets the lowest are put together, so that the upper quantiles stay exact."""
    items = sorted(sketch.items())
    if len(items) > MAX_BUCKETS:
        cut = len(items) - MAX_BUCKETS
        items[: cut + 1] = [(items[cut][0], sum(count for _, count in items[: cut + 1]))]
    return tuple(part for item in items for part in item)
