"""The score of a rule, from the raw series and the logged paths alone, so that anyone can recompute it.

A slice's one-way delay of a link is half its round trip. For each slice t and ordered pair the path logged for t is
walked over the links *of slice t*:

- ``mean_delay_ms``: of the paths in force, over pair-slices in which both the path and the direct link were measured.
- ``mean_gain_ms``: direct minus path, averaged over *all* pairs and slices with a measured direct link; a pair on its
  direct path gains 0, and so does a path with a missing hop.
- ``share_worse``: of the pair-time spent on another path than the direct one (both measured), the share in which it was
  slower than direct.
- ``share_moved``: pair-slices not on the direct path, of all. ``share_lost``: pair-slices whose path has a missing hop;
  such a path has no delay and is counted here only. ``share_lost_moved``: the same on relays while direct was there.
  ``share_rescued``: direct missing, path measured.
- ``moves_per_pair_1000``: changes of path from one slice to the next per ordered pair and 1000 slices; per link-day
  where the length of a slice is known.
- ``oracle_gain_ms``: what the clairvoyant with at most two relays gains who picks the best path of each slice knowing
  it; ``oracle1`` has at most one. ``share_of_oracle`` is our part of the first.
- ``mos``: mean opinion score (E-model, voice, delay alone) over measured paths.
- ``reaction_*``: see :mod:`bench.decisions.reaction`.

A published series often repeats a cell until the link is probed again. In a slice in which nothing was probed, a rule
is judged by the number it has already seen. ``share_worse_fresh`` and ``gain_fresh_ms`` therefore judge only the
pair-slices on a relay in which at least one hop of the path has a new value (one that differs from the slice before):
what the traffic met, not what the rule knew. The gain there is per such pair-slice, not over all pairs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bench.decisions._paths import F64, delay_along, fastest, is_relayed
from bench.decisions.reaction import Reaction, find_steps
from router.core.quality import mos, rating
from router.core.tables import I16, Bool

Metrics = dict[str, float | int | None]

MOS_STEP_MS, MOS_TOP_MS = 0.5, 4000.0
TOLERANCE_MS = 1e-6  # a sum of floats equal to direct is not worse than it
COLUMNS = (
    "delay", "direct", "both", "gain", "measured", "moved", "moved_both", "worse", "lost", "lost_moved", "rescued",
    "changes", "mos", "heard", "fresh", "fresh_worse", "fresh_gain",
)  # fmt: skip


def _mos_table() -> F64:
    steps = np.arange(0, MOS_TOP_MS + MOS_STEP_MS, MOS_STEP_MS)
    return np.array([mos(rating(round(ms * 1000), 0, 0)) for ms in steps])


@dataclass(frozen=True, eq=False)
class Judge:
    """What does not depend on the rule: the series, the clairvoyant's gain, the steps to react to.

    ``oracle_ms`` and ``oracle1_ms``: float64 ``[slice]``, summed gain over pairs with a measured direct link.
    """

    one_way_ms: F64
    oracle_ms: F64
    oracle1_ms: F64
    steps: Reaction
    slice_s: float | None
    mos_table: F64

    @classmethod
    def of(cls, one_way_ms: F64, slice_s: float | None = None) -> Judge:
        """Prepare the judgement of a series, float64 ``[slice, from, to]``."""
        sums = np.zeros((2, len(one_way_ms)))
        for t, delay_ms in enumerate(one_way_ms):
            for row, relays in enumerate((2, 1)):
                sums[row, t] = np.nansum(delay_ms - fastest(delay_ms, relays)[0])
        return cls(one_way_ms, sums[0], sums[1], find_steps(one_way_ms), slice_s, _mos_table())


class Score:
    """Collects one rule slice by slice; memory does not grow with the paths."""

    def __init__(self, judge: Judge) -> None:
        self._judge = judge
        slices, self._n = judge.one_way_ms.shape[:2]
        self._sums = {column: np.zeros(slices) for column in COLUMNS}
        self._before: I16 | None = None
        self._reacted = judge.steps.watch()
        self._off = ~np.eye(self._n, dtype=np.bool_)

    def add(self, t: int, paths: I16) -> None:
        """Judge the paths in force during slice ``t``; slices come in order."""
        direct_ms = self._judge.one_way_ms[t]
        path_ms = delay_along(direct_ms, paths)
        moved = is_relayed(paths) & self._off
        has_direct = ~np.isnan(direct_ms) & self._off
        has_path = ~np.isnan(path_ms) & self._off
        both = has_direct & has_path
        gain = np.where(both & moved, direct_ms - path_ms, 0.0)
        fresh = both & moved & self._fresh_hops(t, paths)
        level = np.minimum(path_ms[has_path], MOS_TOP_MS) / MOS_STEP_MS
        row = {
            "delay": path_ms[both].sum(), "direct": direct_ms[both].sum(), "both": both.sum(), "gain": gain.sum(),
            "measured": has_direct.sum(), "moved": moved.sum(), "moved_both": (moved & both).sum(),
            "worse": (gain < -TOLERANCE_MS).sum(), "lost": (self._off & ~has_path).sum(),
            "lost_moved": (moved & has_direct & ~has_path).sum(), "rescued": (has_path & ~has_direct).sum(),
            "changes": 0 if self._before is None else (paths != self._before).any(axis=-1)[self._off].sum(),
            "mos": self._judge.mos_table[np.rint(level).astype(np.int64)].sum(), "heard": has_path.sum(),
            "fresh": fresh.sum(), "fresh_worse": (gain[fresh] < -TOLERANCE_MS).sum(), "fresh_gain": gain[fresh].sum(),
        }  # fmt: skip
        for column, value in row.items():
            self._sums[column][t] = value
        self._reacted.add(t, path_ms, moved)
        self._before = paths.copy()

    def _fresh_hops(self, t: int, paths: I16) -> Bool:
        if not t:
            return np.zeros((self._n, self._n), np.bool_)
        now, before = self._judge.one_way_ms[t], self._judge.one_way_ms[t - 1]
        new: Bool = delay_along((now != before).astype(np.float64), paths) > 0
        return new

    def result(self, first: int = 0, last: int | None = None) -> Metrics:
        """The metrics over slices ``first`` up to ``last``, exclusive; None where nothing could be measured."""
        last = len(self._judge.one_way_ms) if last is None else last
        total = {column: float(values[first:last].sum()) for column, values in self._sums.items()}
        pairs = self._n * (self._n - 1)
        slices = last - first
        per_pair_slice = _ratio(total["changes"], pairs * slices)
        gain = _ratio(total["gain"], total["measured"])
        oracle = _ratio(float(self._judge.oracle_ms[first:last].sum()), total["measured"])
        oracle1 = _ratio(float(self._judge.oracle1_ms[first:last].sum()), total["measured"])
        slice_s = self._judge.slice_s
        return {
            "slices": slices,
            "mean_delay_ms": _ratio(total["delay"], total["both"]),
            "mean_direct_ms": _ratio(total["direct"], total["both"]),
            "mean_gain_ms": gain,
            "share_worse": _ratio(total["worse"], total["moved_both"]),
            "share_moved": _ratio(total["moved"], pairs * slices),
            "share_lost": _ratio(total["lost"], pairs * slices),
            "share_lost_moved": _ratio(total["lost_moved"], pairs * slices),
            "share_rescued": _ratio(total["rescued"], pairs * slices),
            "moves_per_pair_1000": None if per_pair_slice is None else 1000 * per_pair_slice,
            "moves_per_link_day": None
            if slice_s is None or per_pair_slice is None
            else per_pair_slice * 86_400 / slice_s,
            "oracle_gain_ms": oracle,
            "oracle1_gain_ms": oracle1,
            "share_of_oracle": None if gain is None or not oracle else gain / oracle,
            "mos": _ratio(total["mos"], total["heard"]),
            "share_worse_fresh": _ratio(total["fresh_worse"], total["fresh"]),
            "gain_fresh_ms": _ratio(total["fresh_gain"], total["fresh"]),
            **self._reacted.result(first, last, slice_s),
        }


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole else None
