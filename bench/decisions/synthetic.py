"""Reaction against false moves (goal D4): steps, brown-outs and losses on noise that was measured.

The world is a number of cells of four nodes without links between cells. In each cell the link 0 -> 1 is the fastest
way, and a relay is 8 to 20 ms slower, the other 20 to 35 ms: a pair that has every reason to stay, and a good place to
go. All twelve links of a cell carry their own noise (:mod:`bench.decisions.noise`; half a residual one way); the other
pairs of the cell have gains and near ties as they fall. One slice is one probe per link, ``probe_s`` seconds.

*Stationary*: nothing happens; after ``WARM`` slices each change of any pair's path is a false move, counted per
link-day (ordered pair and day). *Events*: for ``ON`` slices the link 0 -> 1 of every cell is 40 ms slower one way
(step); slower by a fresh exponential delay of mean 40 ms on top of 20 ms, and loses 2 % (brown-out); or loses 5 % more
(loss); then ``OFF`` slices of rest. Reaction is the number of slices from the first bad one until the path in force
leaves the link: 1 is the least a causal rule can reach. Pairs that were away already are not counted. Moves per event
are the changes of that pair from the event until its rest ends.

For loss the optimum is known: ``cusum_slices`` is the CUSUM's mean delay at the false rate the rule itself had on the
stationary series (or one per the whole exposure, if it had none).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.decisions import noise
from bench.decisions._paths import F64
from bench.decisions.rules import FAMILIES, Rule
from bench.decisions.workers import on_all_cores
from router.core.model import MAX_RELAYS
from router.core.tables import DIRECT, I16, I64, Bool

CELLS, CELL = 8, 4
WARM, ON, OFF = 400, 300, 300
STATIONARY, EVENTS = 24_000, 8  # 1.3 link-days of false moves at 20 probes a second
STEP_MS, BROWN_MS, BROWN_JITTER_MS, BROWN_LOSS, LOSS = 40.0, 20.0, 40.0, 0.02, 0.05
KINDS = ("step", "brownout", "loss")
DAY_S = 86_400


@dataclass(frozen=True, eq=False)
class World:
    """The four series, float64 ``[slice, from, to]`` one-way ms, and what is needed to judge them."""

    stationary: F64
    events: Mapping[str, F64]
    cell: I64  # [vertex]
    probe_s: float
    loss: float  # of the noise alone

    @property
    def pairs(self) -> Bool:
        """Ordered pairs with a link."""
        linked: Bool = (self.cell[:, None] == self.cell[None, :]) & ~np.eye(len(self.cell), dtype=np.bool_)
        return linked


def make_world(
    source: noise.Noise,
    probe_s: float,
    seed: int,
    cells: int = CELLS,
    stationary: int = STATIONARY,
    events: int = EVENTS,
) -> World:
    """Draw base delays and noise; the same seed gives the same world."""
    rng = np.random.default_rng(seed)
    base = _base(rng, cells)
    calm = _noisy(base, source, stationary, rng)
    slices = WARM + events * (ON + OFF)
    happening = {}
    for kind in KINDS:
        series = _noisy(base, source, slices, rng)
        _disturb(series, kind, events, cells, rng)
        happening[kind] = series
    return World(calm, happening, np.repeat(np.arange(cells), CELL), probe_s, source.loss)


def _base(rng: np.random.Generator, cells: int) -> F64:
    n = cells * CELL
    base = np.full((n, n), np.nan)
    for first in range(0, n, CELL):
        direct = rng.uniform(50, 80)
        way = np.zeros((CELL, CELL))
        way[0, 1] = direct
        for relay, more in ((2, rng.uniform(8, 20)), (3, rng.uniform(20, 35))):
            near = rng.uniform(0.3, 0.7)
            way[0, relay] = (direct + more) * near
            way[1, relay] = (direct + more) * (1 - near)
        way[2, 3] = rng.uniform(20, 70)
        both = way + way.T
        np.fill_diagonal(both, np.nan)
        base[first : first + CELL, first : first + CELL] = both
    return base


def _noisy(base: F64, source: noise.Noise, slices: int, rng: np.random.Generator) -> F64:
    series = np.full((slices, *base.shape), np.nan)
    for u, v in np.argwhere(~np.isnan(base)):
        series[:, u, v] = np.maximum(base[u, v] + source.draw(slices, rng) / 2, 0.1)
    return series


def starts(events: int) -> list[int]:
    """First bad slice of each event."""
    return [WARM + i * (ON + OFF) for i in range(events)]


def _disturb(series: F64, kind: str, events: int, cells: int, rng: np.random.Generator) -> None:
    for start in starts(events):
        for u in range(0, cells * CELL, CELL):
            link = series[start : start + ON, u, u + 1]
            if kind == "step":
                link += STEP_MS
            elif kind == "brownout":
                link += BROWN_MS + rng.exponential(BROWN_JITTER_MS, len(link))
            lost = {"step": 0.0, "brownout": BROWN_LOSS, "loss": LOSS}[kind]
            link[rng.random(len(link)) < lost] = np.nan


def measure(world: World, name: str, constants: Mapping[str, Any]) -> dict[str, Any]:
    """One rule: false moves on the stationary series, reaction and moves in each kind of event."""
    if FAMILIES[name].ours:  # it knows how often it probes; the others count slices
        constants = {**constants, "slice_s": world.probe_s, "probes": True}
    false, exposure_days = _false_moves(world, FAMILIES[name].rule(constants))
    row: dict[str, Any] = {
        "rule": name,
        "constants": dict(constants),
        "false_moves": false,
        "link_days": exposure_days,
        "false_per_link_day": false / exposure_days,
        "false_per_link_day_at_most": poisson_at_most(false) / exposure_days,
    }
    for kind in KINDS:
        row[kind] = _events(world, kind, FAMILIES[name].rule(constants))
    per_slice = max(false, 1) * world.probe_s / DAY_S / exposure_days
    row["loss"]["cusum_slices"] = noise.cusum_delay(max(world.loss, 1e-4), world.loss + LOSS, 1 / per_slice)
    return row


def _false_moves(world: World, rule: Rule) -> tuple[int, float]:
    before: I16 | None = None
    false = 0
    for t in range(len(world.stationary)):
        paths = rule.decide(world.stationary[:t])
        if before is not None and t > WARM:
            false += int((paths != before).any(axis=-1)[world.pairs].sum())
        before = paths.copy()
    exposure = (len(world.stationary) - WARM - 1) * int(world.pairs.sum())
    return false, exposure * world.probe_s / DAY_S


def poisson_at_most(count: int) -> float:
    """Upper end of the 95 % interval (one-sided) of a Poisson mean of which ``count`` were seen; 3.0 for none."""
    low, high = float(count), count + 5 * math.sqrt(count + 1) + 5
    for _ in range(60):
        mean = (low + high) / 2
        logs = np.cumsum([0.0, *(math.log(mean / k) for k in range(1, count + 1))]) - mean
        low, high = (mean, high) if np.exp(logs).sum() > 0.05 else (low, mean)
    return high


def _events(world: World, kind: str, rule: Rule) -> dict[str, Any]:
    series = world.events[kind]
    victims = np.arange(0, len(world.cell), CELL)
    paths = np.empty((len(series), len(victims), MAX_RELAYS), np.int16)
    for t in range(len(series)):
        paths[t] = rule.decide(series[:t])[victims, victims + 1]
    relayed = paths[..., 0] != DIRECT
    after: list[float] = []
    moves: list[int] = []
    for start in starts((len(series) - WARM) // (ON + OFF)):
        for i in np.flatnonzero(~relayed[start]):  # the others were away before anything happened
            left = np.flatnonzero(relayed[start : start + ON, i])
            after.append(float(left[0]) if len(left) else math.inf)
            span = paths[start : start + ON + OFF, i]
            moves.append(int((span[1:] != span[:-1]).any(axis=-1).sum()))
    return _summary(after, moves, world.probe_s)


def _summary(after: Sequence[float], moves: Sequence[int], probe_s: float) -> dict[str, Any]:
    if not after:
        return dict.fromkeys(
            ("events", "share_left", "p50_slices", "p95_slices", "p95_s", "mean_slices", "moves_per_event")
        )
    slices = np.array(after)
    left = slices[np.isfinite(slices)]
    p50, p95 = (float(np.quantile(slices, q, method="higher")) for q in (0.5, 0.95))
    return {
        "events": len(slices),
        "share_left": len(left) / len(slices),
        "p50_slices": p50 if math.isfinite(p50) else None,
        "p95_slices": p95 if math.isfinite(p95) else None,
        "p95_s": p95 * probe_s if math.isfinite(p95) else None,
        "mean_slices": float(left.mean()) if len(left) == len(slices) else None,
        "moves_per_event": float(np.mean(moves)),
        "moves_per_event_most": max(moves),
    }


def run(traces: Path, names: Sequence[str], probe_s: float, seed: int, with_grid: bool = False) -> dict[str, Any]:
    """All rules under their published constants, and over their grids if wanted (minutes)."""
    source = noise.fit(traces)
    world = make_world(source, probe_s, seed)
    jobs = [(name, FAMILIES[name].published) for name in names]
    if with_grid:
        jobs += [(name, constants) for name in names for constants in FAMILIES[name].grid]
    rows = on_all_cores(lambda name, constants: measure(world, name, constants), jobs)
    return {
        "traces": traces.name,
        "probe_s": probe_s,
        "noise_loss": world.loss,
        "pairs": int(world.pairs.sum()),
        "published": {row["rule"]: row for row in rows[: len(names)]},
        "grid": rows[len(names) :],
    }


def table(outcome: Mapping[str, Any]) -> str:
    """The operating points: false moves per link-day against reaction, one line per rule and constants."""
    head = f"{'rule':<44}{'false/day':>11}{'<=':>10}{'step p95 s':>12}{'brown p95 s':>13}{'loss p95 s':>12}"
    lines = [head + f"{'cusum s':>9}{'left %':>8}{'moves/event':>13}"]
    rows = [("", row) for row in outcome["published"].values()] + [("  ", row) for row in outcome["grid"]]
    for indent, row in sorted(rows, key=lambda item: (item[1]["rule"], item[0])):
        constants = ", ".join(f"{key} {value:g}" for key, value in row["constants"].items())
        cells = [f"{indent + row['rule'] + (f' ({constants})' if constants else ''):<44}"]
        cells += [f"{row['false_per_link_day']:>11.2f}", f"{row['false_per_link_day_at_most']:>10.2f}"]
        cells += [_cell(row[kind]["p95_s"], width) for kind, width in (("step", 12), ("brownout", 13), ("loss", 12))]
        cells.append(_cell(row["loss"]["cusum_slices"] * outcome["probe_s"], 9))
        cells.append(_cell(None if row["step"]["share_left"] is None else 100 * row["step"]["share_left"], 8))
        cells.append(_cell(row["step"]["moves_per_event"], 13))
        lines.append("".join(cells))
    return "\n".join(lines)


def _cell(value: float | None, width: int) -> str:
    return f"{'-' if value is None else format(value, '.2f'):>{width}}"
