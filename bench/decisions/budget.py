"""Decisions on a probe budget, and values that can only be predicted: a causal replay of a measured series.

Each slice a prober may read a share of the full mesh's directed links and nothing else; which ones, the explorer
decides from earlier readings (in a few rounds, so that what moved is followed up). Two judgements:

- *budget*: every link may be read. Delay of the paths then in force, against direct and against the omniscient who
  knows all links of that slice. ``lagged_*`` judges the paths of the slice before instead, as if probing took a slice.
- *hidden*: a share of the pairs, drawn by hash, may never be read at all, in either direction. Their delay is predicted
  (relative error, and how often the 90 % interval covers what came). Traffic of a hidden pair may take its direct link:
  it is there, only never measured, and its prediction is compared with measured detours. A *relay* path may only
  use links that were measured: no user is sent over a detour that nobody has tried. The omniscient may use everything,
  which no prober could match; ``attainable_ms`` is the best with hidden links known but used as direct links only.

Two more references. ``constant_ms``: paths that never change, the fastest by the mean of the whole series, known in
advance. ``noise_relative_error``: how far a hidden pair's readings are from their own median, known in advance: no
prediction that does not see the pair can be nearer. ``typical_relative_error``: our prediction against that median.

A pair whose path turns out to have a missing hop counts as on its direct link, and in ``lost_share``.
"""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from bench.decisions._paths import delay_along, direct_paths, fastest, is_relayed
from bench.decisions.belief import Beliefs
from router.core.coordinates import F64
from router.core.explore import choose
from router.core.predict import Prediction, nothing_known, overlay, predict
from router.core.tables import DIRECT, I16, Bool
from router.sim.series import Series, load_series

ROUNDS = 4  # of choosing and reading per slice
CAUTION = 1.0  # deviations added to a link's mean before users are sent over it
REFIT_SHARE = 0.05  # of the links newly read since the last fit of the predictor that call for another
REFIT_SLICES = 5
EXCESS_BOUND, GAIN_BOUND = 0.05, 0.70
ERROR_BOUND, COVERAGE_BOUNDS = 0.10, (0.85, 0.95)


@dataclass(frozen=True)
class Limits:
    """What may be probed."""

    budget: float  # share of the full mesh's directed links, per slice
    hide: float  # share of the unordered pairs that may never be read


@dataclass
class Tally:
    """Sums over slices; all means are over pair-slices whose direct link was measured."""

    count: float = 0.0
    direct: float = 0.0
    ours: float = 0.0
    lagged: float = 0.0
    omniscient: float = 0.0
    attainable: float = 0.0
    constant: float = 0.0
    moved: float = 0.0
    worse: float = 0.0
    lost: float = 0.0
    probes: int = 0
    errors: list[F64] = field(default_factory=list)
    noise: list[F64] = field(default_factory=list)
    typical: list[F64] = field(default_factory=list)
    covered: list[F64] = field(default_factory=list)


class Prober:
    """Beliefs, predictions and paths of one replay; sees what it reads and nothing else."""

    def __init__(self, n: int, may_probe: Bool, per_slice: int) -> None:
        self.beliefs = Beliefs(n)
        self.prediction = nothing_known(n)
        self.paths: I16 = direct_paths(n)
        self._n, self._may_probe, self._per_slice = n, may_probe, per_slice
        self._fitted_links, self._fitted_at = 0, -1
        self._turn = 0

    def step(self, at: int, delay_ms: F64) -> list[tuple[int, int]]:
        """Read links of slice ``at`` within the budget and choose paths; returns the links read."""
        read: list[tuple[int, int]] = []
        for done in range(ROUNDS):
            budget = (self._per_slice - len(read)) // (ROUNDS - done)
            fresh = self.beliefs.asked_slice == at
            if self.beliefs.same_both_ways:
                fresh = fresh | fresh.T
            choice = choose(
                self.prediction, self._may_probe & ~fresh, budget, self._turn, CAUTION,
                both_ways=self.beliefs.same_both_ways,
            )  # fmt: skip
            self._turn += 1
            self.beliefs.observe(at, choice.source, choice.target, delay_ms[choice.source, choice.target])
            read += zip(choice.source.tolist(), choice.target.tolist(), strict=True)
            self._believe(at)
        return read

    def _believe(self, at: int) -> None:
        value, sd, age = self.beliefs.now(at)
        known = np.isfinite(value)
        links = int(known.sum())
        everything = links == self._n * (self._n - 1)
        due = links - self._fitted_links > REFIT_SHARE * self._n * self._n or at - self._fitted_at >= REFIT_SLICES
        if not everything and due:
            level, level_sd = self.beliefs.settled()
            readings = np.exp(self.beliefs.last) * 1000.0
            self.prediction = predict(level * 1000.0, age, level_sd, reading_us=readings)
            self._fitted_links, self._fitted_at = links, at
        self.prediction = overlay(self.prediction, value * 1000.0, age, sd)
        self.paths = self._choose(value, sd)

    def _choose(self, value_ms: F64, log_sd: F64) -> I16:
        """Measured links at their mean plus caution; an unmeasured direct link against what has paid."""
        known = np.isfinite(value_ms)
        careful = value_ms * np.exp(CAUTION * np.where(known, log_sd, 0.0))
        _, relays = fastest(careful, 2)
        detour = delay_along(careful, relays)
        guess = self.prediction.detour_us / 1000.0
        direct = np.where(known, careful, guess)
        better = is_relayed(relays) & (detour < np.where(np.isnan(direct), np.inf, direct))
        paths: I16 = np.where(better[..., None], relays, np.int16(DIRECT))
        return paths


def hidden_pairs(n: int, share: float) -> Bool:
    """Symmetric bool ``[a, b]``: that share of the pairs, by rank of a hash of their indices."""
    a, b = np.triu_indices(n, 1)
    x = (a.astype(np.uint64) << np.uint64(32)) + b.astype(np.uint64)
    with np.errstate(over="ignore"):
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
            x = (x ^ (x >> np.uint64(shift))) * np.uint64(factor)
    chosen = np.argsort(x ^ (x >> np.uint64(31)), kind="stable")[: round(share * len(a))]
    hidden = np.zeros((n, n), np.bool_)
    hidden[a[chosen], b[chosen]] = hidden[b[chosen], a[chosen]] = True
    return hidden


def replay(series: Series, limits: Limits, log: TextIO | None = None) -> dict[str, Any]:
    """Run one judgement over the whole series; see the module for what the figures mean."""
    delay = series.one_way_ms
    n = len(series.nodes)
    off = ~np.eye(n, dtype=np.bool_)
    hidden = hidden_pairs(n, limits.hide)
    prober = Prober(n, off & ~hidden, int(limits.budget * n * (n - 1)))
    mean, usual = _references(delay)
    _, constant = fastest(mean, 2)
    tally = Tally()
    for at, now in enumerate(delay):
        before = prober.paths
        read = prober.step(at, now)
        tally.probes += len(read)
        _judge(tally, now, before, prober.paths, hidden)
        still = delay_along(now, constant)
        tally.constant += np.where(np.isnan(still), now, still)[~np.isnan(now)].sum()
        _judge_prediction(tally, now, usual, prober.prediction, hidden)
        if log is not None:
            _write(log, series, at, prober.paths, read)
    return _figures(tally, len(delay) * n * (n - 1), int(hidden.sum()) // 2)


def _references(delay: F64) -> tuple[F64, F64]:
    """Mean and median over slices ``[from, to]``, NaN where a link was never measured."""
    ever = (~np.isnan(delay)).any(axis=0)
    filled = np.where(ever, delay, 0.0)
    mean, median = np.nanmean(filled, axis=0), np.nanmedian(filled, axis=0)
    return np.where(ever, mean, np.nan), np.where(ever, median, np.nan)


def _judge(tally: Tally, now: F64, before: I16, paths: I16, hidden: Bool) -> None:
    there = ~np.isnan(now)
    best, _ = fastest(now, 2)
    open_best, _ = fastest(np.where(hidden, np.nan, now), 2)
    walked = delay_along(now, paths)
    lost = there & np.isnan(walked)
    ours = np.where(lost, now, walked)
    late = delay_along(now, before)
    tally.count += there.sum()
    tally.direct += now[there].sum()
    tally.ours += ours[there].sum()
    tally.lagged += np.where(np.isnan(late), now, late)[there].sum()
    tally.omniscient += best[there].sum()
    tally.attainable += np.fmin(open_best, now)[there].sum()
    tally.moved += (is_relayed(paths) & there).sum()
    tally.worse += (ours[there] > now[there] + 1e-6).sum()
    tally.lost += lost.sum()


def _judge_prediction(tally: Tally, now: F64, usual_ms: F64, prediction: Prediction, hidden: Bool) -> None:
    judged = hidden & ~np.isnan(now)
    if not judged.any():
        return
    truth = now[judged] * 1000.0
    guess = prediction.mean_us[judged]
    covered = (truth >= prediction.low_us[judged]) & (truth <= prediction.high_us[judged])
    # Nothing predicted is a miss, not a gap in the statistics.
    usual = usual_ms[judged] * 1000.0
    tally.errors.append(_relative(guess, truth))
    tally.noise.append(_relative(usual, truth))
    tally.typical.append(_relative(guess, usual))
    tally.covered.append(covered.astype(np.float64))


def _relative(guess: F64, truth: F64) -> F64:
    return np.where(np.isnan(guess), np.inf, np.abs(guess - truth) / np.maximum(truth, 1.0))


def _figures(tally: Tally, link_slices: int, hidden: int) -> dict[str, Any]:
    count = max(tally.count, 1.0)
    mean, direct, best = tally.ours / count, tally.direct / count, tally.omniscient / count
    lagged = tally.lagged / count
    figures: dict[str, Any] = {
        "mean_delay_ms": mean, "omniscient_ms": best, "direct_ms": direct,
        "excess_share": _ratio(mean - best, best), "gain_share": _ratio(direct - mean, direct - best),
        "attainable_ms": tally.attainable / count,
        "attainable_gain_share": _ratio(direct - mean, direct - tally.attainable / count),
        "constant_ms": tally.constant / count,
        "lagged_ms": lagged, "lagged_excess_share": _ratio(lagged - best, best),
        "lagged_gain_share": _ratio(direct - lagged, direct - best),
        "moved_share": tally.moved / count, "worse_share": _ratio(tally.worse, tally.moved),
        "lost_share": tally.lost / count, "probes_share": _ratio(tally.probes, link_slices), "hidden_pairs": hidden,
    }  # fmt: skip
    if tally.errors:
        figures |= {
            "median_relative_error": _quantile(tally.errors, 0.5),
            "p90_relative_error": _quantile(tally.errors, 0.9),
            "interval_coverage": float(np.concatenate(tally.covered).mean()),
            "typical_relative_error": _quantile(tally.typical, 0.5),
            "noise_relative_error": _quantile(tally.noise, 0.5),
        }
    return figures


def _quantile(parts: list[F64], share: float) -> float:
    return float(np.quantile(np.concatenate(parts), share, method="lower"))  # no mixing with infinity


def _ratio(part: float, whole: float) -> float | None:
    return float(part / whole) if whole else None


def _write(log: TextIO, series: Series, at: int, paths: I16, read: list[tuple[int, int]]) -> None:
    names, label = series.nodes, series.slices[at]
    for s, t in read:
        log.write(json.dumps({"slice": label, "probe": [names[s], names[t]]}) + "\n")
    for s, t in np.argwhere(~np.eye(len(names), dtype=np.bool_)).tolist():
        relays = [names[r] for r in paths[s, t].tolist() if r != DIRECT]
        path = [names[s], *relays, names[t]]
        log.write(json.dumps({"slice": label, "from": names[s], "to": names[t], "path": path}) + "\n")


def _met(open_run: dict[str, Any], hidden_run: dict[str, Any]) -> dict[str, bool | None]:
    """Each half of the goal; None where there was nothing to judge."""
    excess, gain = open_run["excess_share"], open_run["gain_share"]
    error, coverage = hidden_run.get("median_relative_error"), hidden_run.get("interval_coverage")
    low, high = COVERAGE_BOUNDS
    return {
        "excess": None if excess is None else excess <= EXCESS_BOUND,
        "gain": None if gain is None else gain >= GAIN_BOUND,
        "error": None if error is None else error <= ERROR_BOUND,
        "coverage": None if coverage is None else low <= coverage <= high,
    }


def main(path: Path, budget: float, hide: float, out: Path | None = None) -> dict[str, Any]:
    """Both judgements of one series; ``out`` gets the probes and paths of the first as JSON lines.

    At the top stand the delay figures of the run in which every link may be read, and the prediction figures of the one
    with hidden pairs; ``hidden`` has that run's delay too.
    """
    series = load_series(path)
    with ExitStack() as stack:
        log = None if out is None else stack.enter_context(Path(out).open("w", encoding="utf-8"))
        open_run = replay(series, Limits(budget, 0.0), log)
    hidden_run = replay(series, Limits(budget, hide)) if hide > 0 else dict(open_run)
    keys = ["hidden_pairs", "interval_coverage", *(key for key in hidden_run if key.endswith("relative_error"))]
    predicted = {key: hidden_run[key] for key in keys if key in hidden_run}
    about = {
        "series": Path(path).name,
        "nodes": len(series.nodes),
        "slices": len(series.slices),
        "budget": budget,
        "hide": hide,
    }
    return about | open_run | predicted | {"met": _met(open_run, hidden_run), "hidden": hidden_run}
