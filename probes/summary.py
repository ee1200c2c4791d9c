"""Replies in, report rows out: what became of the probes of one reporting interval. PURE, on any clock.

A probe is *open* from :meth:`Row.send` until it is *closed*, exactly once: answered within the timeout, or overdue and
therefore lost. A row of a report covers the probes closed in its interval, so over time ``sent = received + lost +
open`` holds without remainder. An answer to a probe already counted as lost is ``late``, a second answer is a
``duplicate``; neither changes what was counted before.

Two clocks. ``now_us`` is monotonic and decides about deadlines; the four stamps t1..t4 are node clocks (see
``probes.wire``). Because t1 and t4 come from a wall clock that somebody may set, the round trip is checked against the
monotonic time that passed: a t4 beyond it, or before t1, is replaced. A reflector whose stamps claim that it kept the
probe for less than nothing, or longer than the probe was away, is not believed: its residence counts as zero.

Follow-Up Telemetry (RFC 8972, 4.7): a reply may tell when the *previous* one really left its reflector. The sample of
that one is then corrected, if it still waits for its sketch; otherwise it counts as it came. In an interval with
:data:`HELD_FROM` answers or more, the last one is held over to the next, so that it is corrected too; it counts as open
until then. With fewer, being told a whole interval later would cost more than the correction is worth.

Measured values are kept as they come and turned into sketches at the end of an interval, or after
:data:`MAX_UNFOLDED` of them: equal values are then counted once, at a third of the cost.

Jitter is RFC 3550's estimator (6.4.1 and A.8) over successive round trips, kept in sixteenths of a microsecond.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Collection, Sequence
from enum import Enum, auto

from probes.wire import MAX_BUCKETS, MAX_COUNT, MAX_ROWS, ReportRows, bucket_of

MAX_OPEN = 65_536  # probes of all rows together; beyond it the oldest is given up as lost
MAX_LOST_REMEMBERED = 256  # per row; an answer that comes more losses later than this is no longer known to be late
MAX_AGE = 65_536  # sequence numbers further back than this are strays, not duplicates
HELD_FROM = 8  # answers of an interval, from which on the last one may wait for its correction
MAX_UNFOLDED = 1_024  # values of a row that wait for their sketch
CLOCK_SLACK_US = 2_000  # wall and monotonic clock may disagree by this much within one probe
_SEQUENCES = 1 << 32

Probe = list[int]  # T1 as sent, monotonic time of sending, T1 as measured with, sequence number (-1 once it is closed)
T1, SENT_AT, DEPARTED, SEQUENCE = range(4)


class Outcome(Enum):
    """What an answer turned out to be."""

    ANSWERED = auto()
    LATE = auto()  # its probe had been counted as lost
    DUPLICATE = auto()
    STRAY = auto()  # no probe of ours, or one too old to remember


class Row:
    """The probes to one (peer, transport); made by :meth:`Summary.row`, lives as long as the process."""

    __slots__ = (
        "_backward", "_backward_base_us", "_backward_min_us", "_duplicate", "_folded_rtt_us", "_forward",
        "_forward_base_us", "_forward_min_us", "_held", "_jitter_16", "_late", "_lost", "_open", "_opened", "_received",
        "_reflected", "_reply", "_rtt", "_rtt_min_us", "_sent", "_summary", "_t3_us", "_unfolded", "last_rtt_us",
        "next_sequence", "peer", "transport",
    )  # fmt: skip

    def __init__(self, summary: Summary, peer: str, transport: str, first_sequence: int) -> None:
        self._summary = summary
        self.peer = peer
        self.transport = transport
        self.next_sequence = first_sequence
        self.last_rtt_us = -1  # of the newest answered probe
        self._held = 0  # answers of the interval before that wait in this one: one or none
        self._t3_us = 0  # of the newest answer
        self._reply = (-1, 0)  # the reflector's number and T3 of the newest answer that could be followed up
        self._opened = 0  # probes since the start
        self._open: dict[int, Probe] = {}  # by sequence
        self._lost: dict[int, None] = {}  # sequences, oldest first
        self._jitter_16 = 0
        self._folded_rtt_us = -1  # of the newest probe in the sketches
        self._forward_base_us: int | None = None
        self._backward_base_us: int | None = None
        self._start_interval()

    def _start_interval(self) -> None:
        self._sent = self._received = self._reflected = self._late = self._duplicate = 0
        self._rtt_min_us = -1
        self._forward_min_us = self._backward_min_us = 0
        self._unfolded: list[tuple[int, int, int]] = []  # round trip, forward, backward of answered probes
        self._rtt: dict[int, int] = {}  # bucket -> count; likewise the next two
        self._forward: dict[int, int] = {}
        self._backward: dict[int, int] = {}

    @property
    def open(self) -> int:
        """Probes that are neither answered nor lost, and an answer held over from the interval before."""
        return len(self._open) + self._held

    def send(self, t1_us: int, now_us: int) -> int:
        """Open a probe stamped ``t1_us`` and return its sequence number."""
        return self.launch(t1_us, now_us)[SEQUENCE]

    def launch(self, t1_us: int, now_us: int) -> Probe:
        """Open a probe stamped ``t1_us``; whoever learns when it really left sets its ``DEPARTED``."""
        sequence = self.next_sequence
        self.next_sequence = (sequence + 1) % _SEQUENCES
        self._opened += 1
        probe = self._open[sequence] = [t1_us, now_us, t1_us, sequence]
        self._summary.enqueue(probe, self)
        return probe

    def trim(self) -> None:
        """Forget closed probes at the head of the queue; the compiled loop leaves that to once for a batch."""
        self._summary.trim()

    def withdraw(self, probe: Probe) -> None:
        """Forget a probe that was opened and then not sent."""
        self._open.pop(probe[SEQUENCE], None)
        probe[SEQUENCE] = -1

    def answer(self, sequence: int, t1_us: int, t2_us: int, t3_us: int, t4_us: int, now_us: int) -> Outcome:
        """Take a reply; ``t1_us`` is what it echoes and must be what was sent under that sequence number."""
        probe = self._open.get(sequence)
        if probe is None:
            return self._unexpected(sequence)
        sent_t1_us, sent_at_us, departed_us, _ = probe
        if sent_t1_us != t1_us:
            return self._stray()
        away_us = now_us - sent_at_us
        if away_us > self._summary.timeout_us:
            self.lose(sequence)
            return self._unexpected(sequence)
        del self._open[sequence]
        probe[SEQUENCE] = -1
        elapsed_us = t4_us - departed_us
        if not 0 <= elapsed_us <= away_us + CLOCK_SLACK_US:
            self._summary.clock_steps += 1
            elapsed_us, departed_us = away_us, sent_t1_us
            t4_us = sent_t1_us + away_us
        residence_us = t3_us - t2_us
        if not 0 <= residence_us <= elapsed_us:
            self._summary.residences_refused += 1
            residence_us, t3_us = 0, t2_us
        self._sent += 1
        self._received += 1
        self._t3_us = t3_us
        self.last_rtt_us = elapsed_us - residence_us
        self._unfolded.append((self.last_rtt_us, t2_us - departed_us, t4_us - t3_us))
        if len(self._unfolded) >= MAX_UNFOLDED:
            self._fold()
        return Outcome.ANSWERED

    def follow_up(self, number: int, told_number: int, told_us: int) -> None:
        """The newest answer was the reflector's reply ``number`` and tells when reply ``told_number`` really left."""
        previous, t3_us = self._reply
        self._reply = number, self._t3_us
        if told_number != previous or len(self._unfolded) < 2:
            return
        rtt_us, forward_us, backward_us = self._unfolded[-2]
        late_us = told_us - t3_us
        if 0 <= late_us <= rtt_us:
            self._unfolded[-2] = rtt_us - late_us, forward_us, backward_us - late_us
            self._summary.followed_up += 1

    def waiting(self) -> list[int]:
        """Round trips of this interval, in microseconds, that are not in a sketch yet."""
        return [rtt_us for rtt_us, _, _ in self._unfolded]

    def reflect(self) -> None:
        """Count a probe from this peer that this node answered."""
        self._reflected += 1

    def lose(self, sequence: int) -> None:
        """Close a probe as lost if it is still open."""
        probe = self._open.pop(sequence, None)
        if probe is None:
            return
        probe[SEQUENCE] = -1
        self._sent += 1
        self._lost[sequence] = None
        if len(self._lost) > MAX_LOST_REMEMBERED:
            del self._lost[next(iter(self._lost))]

    def _fold(self) -> None:
        """Count the values that came since the last time."""
        if not self._unfolded:
            return
        if self._forward_base_us is None or self._backward_base_us is None:
            _, self._forward_base_us, self._backward_base_us = self._unfolded[0]
        rtt_us, forward_us, backward_us, self._folded_rtt_us, self._jitter_16 = fold(
            self._unfolded, self._rtt, self._forward, self._backward, self._forward_base_us, self._backward_base_us,
            self._folded_rtt_us, self._jitter_16,
        )  # fmt: skip
        if self._rtt_min_us >= 0:
            rtt_us, forward_us = min(rtt_us, self._rtt_min_us), min(forward_us, self._forward_min_us)
            backward_us = min(backward_us, self._backward_min_us)
        self._rtt_min_us, self._forward_min_us, self._backward_min_us = rtt_us, forward_us, backward_us
        self._unfolded.clear()

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
        held = self._hold()
        self._fold()
        values = (
            self.peer, self.transport, self._sent, self._received, min(self._reflected, MAX_COUNT), self._late,
            min(self._duplicate, MAX_COUNT), self._rtt_min_us, self._forward_min_us, self._backward_min_us,
            self._jitter_16 >> 4 if self._received else -1, self._forward_base_us or 0, self._backward_base_us or 0,
            _flat(self._rtt), _flat(self._forward), _flat(self._backward),
        )  # fmt: skip
        self._start_interval()
        self._unfolded += held
        self._held = self._sent = self._received = len(held)
        return values

    def _hold(self) -> list[tuple[int, int, int]]:
        """Take out the newest answer if the next one is likely to tell when it really left its reflector."""
        if self._reply[0] < 0 or len(self._unfolded) < HELD_FROM:
            return []
        self._sent -= 1
        self._received -= 1
        return [self._unfolded.pop()]


class Summary:
    """All rows of one agent; ``timeout_us`` may change with the plan."""

    def __init__(self, timeout_us: int = 1_000_000, *, first_sequence: int = 0) -> None:
        self.timeout_us = timeout_us
        self.strays = 0
        self.clock_steps = 0
        self.residences_refused = 0
        self.followed_up = 0  # samples corrected by what the next reply told
        self._first_sequence = first_sequence
        self._rows: dict[tuple[str, str], Row] = {}
        self._sent: deque[tuple[Probe, Row]] = deque()  # in order of sending; open ones, and closed ones among them

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

    def enqueue(self, probe: Probe, row: Row) -> None:
        """Note that a probe was sent; only :meth:`Row.launch` calls this."""
        self._sent.append((probe, row))
        self.trim()

    def trim(self) -> None:
        """Forget closed probes at the head of the queue; of too many open ones, the oldest are given up."""
        sent = self._sent
        while sent and sent[0][0][SEQUENCE] < 0:
            sent.popleft()
        while len(sent) > MAX_OPEN:
            oldest, its_row = sent.popleft()
            its_row.lose(oldest[SEQUENCE])

    def expire(self, now_us: int) -> None:
        """Count as lost what is overdue."""
        before, sent = now_us - self.timeout_us, self._sent
        while sent and (sent[0][0][SEQUENCE] < 0 or sent[0][0][SENT_AT] < before):
            probe, row = sent.popleft()
            row.lose(probe[SEQUENCE])

    def close(self, now_us: int) -> ReportRows:
        """End the interval: rows of everything that happened since the last call, in order of first use."""
        self.expire(now_us)
        found = [values for row in self._rows.values() if (values := row.close()) is not None]
        return ReportRows(*zip(*found, strict=True)) if found else ReportRows()


Values = tuple[int, int, int]  # round trip, forward, backward


def fold_each(
    values: list[Values],
    rtt: dict[int, int],
    forward: dict[int, int],
    backward: dict[int, int],
    forward_base_us: int,
    backward_base_us: int,
    last_us: int,
    jitter_16: int,
) -> tuple[int, int, int, int, int]:
    """Count values into sketches; returns the three minima, the last round trip, and the jitter up to there."""
    rtts, forwards, backwards = zip(*values, strict=True)
    for rtt_us in rtts:
        if last_us >= 0:
            jitter_16 += abs(rtt_us - last_us) - ((jitter_16 + 8) >> 4)
        last_us = rtt_us
    _add(rtt, rtts, 0)
    _add(forward, forwards, forward_base_us)
    _add(backward, backwards, backward_base_us)
    return min(rtts), min(forwards), min(backwards), last_us, jitter_16


try:
    from probes._hot import fold
except ImportError:  # no compiler when it was installed
    fold = fold_each


def _add(sketch: dict[int, int], values_us: Sequence[int], base_us: int) -> None:
    if len(values_us) == 1:  # most rows of an agent with sparse probes
        bucket = bucket_of(values_us[0] - base_us)
        sketch[bucket] = sketch.get(bucket, 0) + 1
        return
    for value_us, count in Counter(values_us).items():
        bucket = bucket_of(value_us - base_us)
        sketch[bucket] = sketch.get(bucket, 0) + count


def _flat(sketch: dict[int, int]) -> tuple[int, ...]:
    """Flatten; of too many buckets the lowest are put together, so that the upper quantiles stay exact."""
    items = sorted(sketch.items())
    if len(items) > MAX_BUCKETS:
        cut = len(items) - MAX_BUCKETS
        items[: cut + 1] = [(items[cut][0], sum(count for _, count in items[: cut + 1]))]
    return tuple(part for item in items for part in item)
