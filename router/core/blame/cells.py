"""What was observed, in cells: each is one tuple of everything an observation crosses, with its counts and baseline.

A probe's cell is (node, node); a session's is (edge node, edge, client network, hub, relays). Each observation is good
or bad against its cell's own baseline: the median share of bad ones over the last blocks, with a floor, so that a
client network that always loses 3 % is no news. A round trip counts as bad, too, if it is lost or is slower than the
cell's usual one by more than noise.

Counts fade with two time constants: ``SHORT_US`` to be quick, ``LONG_US`` for faults so mild that seconds do not show
them. What crosses a blamed component does not teach the baseline, else a long fault would become what is usual.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping

import numpy as np

from probes.wire import ReportRows
from router.core.compiled import Arrays, count_cells
from router.core.model import Micros, NodeId
from router.core.tables import F64, I32, I64, Bool

SHORT_US, LONG_US = 4_000_000, 24_000_000
BLOCK_US = 30_000_000  # of the baseline
BLOCKS = 12  # six minutes: longer than a burst, shorter than an evening
FLOOR = np.array([0.006, 0.02])  # probes, sessions: what the internet, or people's own networks, do on any day
YOUNG_BLOCKS, YOUNG_MOST = 4, 0.1  # soon after a start, what is as bad as this is a fault and not what is usual
TRUST_FLOOR = 30.0  # observations that a block must outweigh before it says more than the floor
SLOW_US, SLOW_SHARE = 20_000, 0.25  # slower than usual by this much is heard (ITU-T G.114 speaks of 20-30 ms steps)
NEVER = np.iinfo(np.int64).max // 4
NOTHING_LEFT = 0.02  # observations; a session cell with less is given back
LEARNT_AT_ONCE = 200_000  # shares and trips of blocks: a baseline of more is learnt a part at a time, in milliseconds

SERVES, CARRIES, PERHAPS = 0, 1, 2
"""What a component is to a cell: it serves it, or only carries its sessions to where they are served, or it is one of
several that may have (of an outcome whose node is not known): it can explain what is seen, and is not accused of it."""

_RULES = (int(NEVER), SLOW_US, SLOW_SHARE)
_COUNTS = ("short_n", "short_b", "long_n", "long_b", "block_n", "block_b")


class Cells:
    """Struct of arrays that grows; rows are cells, entries join cells to components."""

    def __init__(self) -> None:
        self.count = 0
        self.row: dict[Hashable, int] = {}
        self._room = 0
        self.counts: dict[str, F64] = {name: np.zeros(0) for name in _COUNTS}
        self.kind: I64 = np.zeros(0, np.int64)  # 0 probe, 1 session
        self.last_bad: I64 = np.zeros(0, np.int64)
        self.baseline: F64 = np.zeros(0)
        self.usual_us: I64 = np.zeros(0, np.int64)  # usual round trip, NEVER while unknown
        self.fastest_us: I64 = np.zeros(0, np.int64)  # of the present block
        self._shares: list[F64] = []
        self._trips: list[I64] = []
        self._learnt = 0  # cells whose baseline has followed the last block; the others are next
        self._entries: I32 = np.zeros((256, 4), np.int32)  # cell, component, vantage, role
        self._used = 0  # of them
        self._told: tuple[I32, I32, I32, I32] | None = None  # the entries, as they are handed out
        self.moved = 0  # how often rows got other numbers,
        self.place: I64 = np.zeros(0, np.int64)  # and by the last time each old row its new one, -1 if it is gone
        self._faded_at: Micros = 0
        self._block_at: Micros = 0

    def add(self, key: Hashable | None, kind: int, parts: tuple[tuple[int, int, int], ...]) -> int:
        """A new cell; ``parts`` are (component, vantage that looks at it, role).

        One without a key is kept by its owner.
        """
        row = self.count
        if key is not None:
            self.row[key] = row
        self.add_all(kind, [parts])
        return row

    def add_all(self, kind: int, cells: list[tuple[tuple[int, int, int], ...]]) -> range:
        """The same for several without keys."""
        made = range(self.count, self.count + len(cells))
        while made.stop > self._room:
            self._grow()
        self.count = made.stop
        self.kind[made.start : made.stop] = kind
        self.baseline[made.start : made.stop] = FLOOR[kind]
        entries = [(row, *part) for row, parts in zip(made, cells, strict=True) for part in parts]
        used, self._used = self._used, self._used + len(entries)
        if self._used > len(self._entries):
            before, self._entries = self._entries, np.zeros((2 * self._used, 4), np.int32)
            self._entries[:used] = before[:used]
        if entries:
            self._entries[used : self._used] = entries
        self._told = None
        return made

    def _grow(self) -> None:
        more = max(256, self._room)
        self._room += more
        self.counts = {name: np.append(held, np.zeros(more)) for name, held in self.counts.items()}
        self.kind = np.append(self.kind, np.zeros(more, np.int64))
        self.last_bad = np.append(self.last_bad, np.zeros(more, np.int64))
        self.baseline = np.append(self.baseline, np.zeros(more))
        self.usual_us = np.append(self.usual_us, np.full(more, NEVER))
        self.fastest_us = np.append(self.fastest_us, np.full(more, NEVER))
        self._shares = [np.append(held, np.full(more, np.nan)) for held in self._shares]
        self._trips = [np.append(held, np.full(more, NEVER)) for held in self._trips]

    def observe(self, rows: ReportRows, numbers: Mapping[NodeId, int], source: int, cell_of: I32, now: Micros) -> bool:
        """``slow`` and ``note`` for a report, compiled; False, and nothing is changed, where a cell is not made yet.

        ``cell_of`` is int32 ``[source, peer]`` by the nodes' ``numbers``.
        """
        columns = (rows.peer, rows.sent, rows.received, rows.rtt_min_us)
        counts = [self.counts[name] for name in ("short_n", "long_n", "block_n", "short_b", "long_b", "block_b")]
        arrays: Arrays = (cell_of, self.usual_us, self.fastest_us, self.last_bad, *counts)
        return count_cells(columns, numbers, source, len(cell_of), now, self._room, _RULES, arrays)

    def note(self, rows: I64, n: F64, b: F64, now: Micros) -> None:
        """Count observations and bad ones; rows may repeat."""
        for name, add in (("n", n), ("b", b)):
            for span in ("short", "long", "block"):
                np.add.at(self.counts[f"{span}_{name}"], rows, add)
        self.last_bad[rows[b > 0]] = now

    def slow(self, rows: I64, trips_us: I64) -> Bool:
        """Which round trips are slower than their cell's usual one, and remember the fastest of the block."""
        heard = trips_us >= 0
        np.minimum.at(self.fastest_us, rows[heard], trips_us[heard])
        usual = self.usual_us[rows]
        late: Bool = heard & (usual < NEVER) & (trips_us > usual + np.maximum(SLOW_US, SLOW_SHARE * usual))
        return late

    def fade(self, now: Micros) -> None:
        """Let counts grow old; to be called before they are looked at."""
        if self._faded_at:
            passed = max(0, now - self._faded_at)
            for span, life in (("short", SHORT_US), ("long", LONG_US)):
                keep = float(np.exp(-passed / life))
                self.counts[f"{span}_n"] *= keep
                self.counts[f"{span}_b"] *= keep
        else:
            self._block_at = now
        self._faded_at = now

    def learn(self, now: Micros, blamed: I64) -> None:
        """Close the baseline's block when it is over; ``blamed``: components whose cells do not teach anything."""
        if now - self._block_at < BLOCK_US:
            if self._shares and self._learnt < self.count:
                self._follow()
            self._first_trips(now)
            return
        self._block_at = now
        cell, component, _, _ = self.entries()
        spoiled = np.zeros(self._room, np.bool_)
        spoiled[cell[np.isin(component, blamed)]] = True
        n, b = self.counts["block_n"], self.counts["block_b"]
        floor = FLOOR[self.kind]
        share = np.where((n >= 4) & ~spoiled, (b + TRUST_FLOOR * floor) / (n + TRUST_FLOOR), np.nan)
        self._shares = [*self._shares, share][-BLOCKS:]
        self._trips = [*self._trips, np.where(spoiled, NEVER, self.fastest_us)][-BLOCKS:]
        n[:] = b[:] = 0.0
        self.fastest_us[:] = NEVER
        self._learnt = 0
        self._follow()
        self._give_back()

    def _follow(self) -> None:
        """Let baselines and usual round trips follow the blocks that are over, of as many cells as there is time for.

        With hundreds of data centers that takes some calls, a second apart; a block lasts thirty.
        """
        some = slice(self._learnt, self._learnt + max(1, LEARNT_AT_ONCE // len(self._shares)))
        self._learnt = min(some.stop, self.count)
        floor = FLOOR[self.kind[some]]
        with np.errstate(invalid="ignore"):
            usual = _middle(np.stack([share[some] for share in self._shares]))
        most = 0.5 if len(self._shares) >= YOUNG_BLOCKS else YOUNG_MOST
        self.baseline[some] = np.clip(np.where(np.isnan(usual), self.baseline[some], usual), floor, most)
        trips = np.stack([trip[some] for trip in self._trips]).astype(np.float64)
        middle = _middle(np.where(trips < NEVER, trips, np.nan))
        self.usual_us[some] = np.where(np.isnan(middle), self.usual_us[some], middle).astype(np.int64)

    def _first_trips(self, now: Micros) -> None:
        """Until a block is over, the usual round trip of a new cell is the fastest of its first seconds."""
        if now - self._block_at >= BLOCK_US // 6:
            new = (self.usual_us >= NEVER) & (self.fastest_us < NEVER)
            self.usual_us[new] = self.fastest_us[new]

    def _give_back(self) -> None:
        """Forget session cells of which nothing is left, once there are many."""
        gone = (self.kind[: self.count] == 1) & (self.counts["long_n"][: self.count] < NOTHING_LEFT)
        if gone.sum() * 4 < self.count:
            return
        stay = np.flatnonzero(~gone)
        place = np.full(self.count, -1, np.int64)
        place[stay] = np.arange(len(stay))
        self.row = {key: int(place[row]) for key, row in self.row.items() if place[row] >= 0}
        held = self._entries[: self._used]
        held = held[place[held[:, 0]] >= 0].copy()
        held[:, 0] = place[held[:, 0]]
        self._entries, self._used, self._told = np.concatenate([held, np.zeros((256, 4), np.int32)]), len(held), None
        self._learnt = int((stay < self._learnt).sum())
        self.moved, self.place = self.moved + 1, place
        self.count = self._room = len(stay)
        self.counts = {name: held[stay] for name, held in self.counts.items()}
        self.kind, self.last_bad = self.kind[stay], self.last_bad[stay]
        self.baseline, self.usual_us, self.fastest_us = self.baseline[stay], self.usual_us[stay], self.fastest_us[stay]
        self._shares = [held[stay] for held in self._shares]
        self._trips = [held[stay] for held in self._trips]

    def entries(self) -> tuple[I32, I32, I32, I32]:
        """Cell, component, vantage and role of every entry; the same read-only arrays until there are others."""
        if self._told is None:
            columns = np.ascontiguousarray(self._entries[: self._used].T)
            columns.setflags(write=False)
            self._told = columns[0], columns[1], columns[2], columns[3]
        return self._told


def _middle(stack: F64) -> F64:
    """Median over the first axis of what is not NaN; NaN where nothing is."""
    ordered = np.sort(stack, axis=0)  # NaN last
    known = (~np.isnan(ordered)).sum(axis=0)
    last = np.maximum(known - 1, 0)
    low = np.take_along_axis(ordered, (last // 2)[None], axis=0)[0]
    high = np.take_along_axis(ordered, ((last + 1) // 2)[None], axis=0)[0]
    middle: F64 = (low + high) / 2
    return middle
