"""Stationary noise from labelled traces: what round trips do while nothing happens, by block bootstrap.

The traces carry hand-labelled change points. Between two of them a trace is taken as stationary: its residual is the
round trip minus the median of the segment, a lost probe stays lost. A noise of any length is drawn by gluing blocks of
consecutive residuals of one probe, so that the distribution, its tails, bursts of loss, and the autocorrelation within
a block are those of the measurement. The first probes of a block of another segment continue at its own residual, as
real slow drifts do. A trace has one sample per four minutes; here one sample is one slice, whatever its length.
"""

from __future__ import annotations

import csv
import gzip
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from bench.decisions._paths import F64
from router.core.errors import InputRejected

BLOCK = 100  # samples glued as one piece; the autocorrelation of the residuals has died away long before
MIN_SEGMENT = 100  # shorter ones have no median worth the name
COLUMNS = ("probe_id", "rtt_ms", "lost", "change_point")


class Noise:
    """Residuals of each probe's segments: ``pieces[probe]`` is a list of float64 ``[sample]`` in ms, NaN where lost."""

    def __init__(self, pieces: Iterable[list[F64]]) -> None:
        self.pieces = [probe for probe in pieces if probe]
        if not self.pieces:
            rule = f"must have a stretch of {MIN_SEGMENT} samples between change points"
            raise InputRejected("bad_traces", f"traces {rule}", field="traces", rule=rule, limit=MIN_SEGMENT)

    @property
    def loss(self) -> float:
        """Share of lost probes over all pieces."""
        return float(np.mean(np.isnan(np.concatenate([piece for probe in self.pieces for piece in probe]))))

    def draw(self, samples: int, rng: np.random.Generator) -> F64:
        """Residuals in ms of one link, float64 ``[sample]``: blocks of one randomly chosen probe."""
        probe = self.pieces[rng.integers(len(self.pieces))]
        weight = np.array([len(piece) - BLOCK + 1 for piece in probe], np.float64)
        blocks = []
        for _ in range(-(-samples // BLOCK)):
            piece = probe[rng.choice(len(probe), p=weight / weight.sum())]
            start = rng.integers(len(piece) - BLOCK + 1)
            blocks.append(piece[start : start + BLOCK])
        return np.concatenate(blocks)[:samples]


def fit(path: Path) -> Noise:
    """Read traces (``probe_id, time_utc, rtt_ms, lost, change_point``, ``.gz`` too) and cut them at their labels."""
    try:
        with path.open("rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
        with gzip.open(path, "rt", newline="") if packed else path.open(newline="") as text:
            return Noise(_pieces(csv.DictReader(text)))
    except (OSError, EOFError, UnicodeDecodeError, ValueError) as error:
        raise InputRejected("bad_traces", f"{path.name}: {error}", field="traces", rule=", ".join(COLUMNS)) from error


def _pieces(rows: csv.DictReader[str]) -> list[list[F64]]:
    if not set(COLUMNS) <= set(rows.fieldnames or ()):
        raise ValueError("the header must name " + ", ".join(COLUMNS))
    segments: dict[str, list[list[float]]] = {}
    for row in rows:
        of_probe = segments.setdefault(row["probe_id"], [[]])
        if row["change_point"] == "1":
            of_probe.append([])
        lost = row["lost"] == "1" or not row["rtt_ms"]
        of_probe[-1].append(np.nan if lost else float(row["rtt_ms"]))
    return [[_residual(s) for s in probe if _usable(s)] for _, probe in sorted(segments.items())]


def _usable(segment: list[float]) -> bool:
    return len(segment) >= max(BLOCK, MIN_SEGMENT) and not np.isnan(segment).all()


def _residual(segment: list[float]) -> F64:
    values = np.array(segment)
    residual: F64 = values - np.nanmedian(values)
    return residual


def cusum_delay(before: float, after: float, false_every: float) -> float:
    """Mean samples to detect that a loss rate rose from ``before`` to ``after``: the optimum (Moustakides 1986).

    The CUSUM statistic of the Bernoulli log likelihood ratio (Page 1954) with the threshold at which a false alarm
    comes every ``false_every`` samples on average; both means are solved exactly on a lattice of the walk.
    """
    down = np.log((1 - before) / (1 - after))
    up = max(1, round(float(np.log(after / before) / down)))  # one lost probe is worth so many that came back

    def mean(levels: int, loss: float) -> float:
        # x = 1 + (1-p) x[max(0, s-1)] + p x[s+up], absorbed at `levels`
        walk = np.eye(levels)
        here = np.arange(levels)
        np.add.at(walk, (here, np.maximum(here - 1, 0)), loss - 1)
        rise = here[here + up < levels]
        walk[rise, rise + up] -= loss
        return float(np.linalg.solve(walk, np.ones(levels))[0])

    low, high = 0, up
    while mean(high, before) < false_every:
        low, high = high, 2 * high
    while high - low > 1:  # the lowest threshold with alarms that rare
        middle = (low + high) // 2
        low, high = (middle, high) if mean(middle, before) < false_every else (low, middle)
    return mean(high, after)
