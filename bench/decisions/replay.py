"""Replay: every rule walks through the slices once, each scored as it goes, one of them logged."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, TextIO

import numpy as np

from bench.decisions._paths import F64
from bench.decisions.rules import Rule
from bench.decisions.score import Judge, Score
from router.core.errors import InputRejected
from router.core.model import MAX_RELAYS
from router.core.tables import DIRECT, I16
from router.sim.series import Series


class PathLog:
    """Writes one JSON line per slice and ordered pair, streamed; ``.gz`` is compressed."""

    def __init__(self, file: TextIO, series: Series) -> None:
        self._file = file
        self._series = series
        self._names = [json.dumps(node) for node in series.nodes]
        self._pairs = [
            (u, v, f', "from": {a}, "to": {b}, "path": [{a}, ', f"{b}]}}\n")
            for u, a in enumerate(self._names)
            for v, b in enumerate(self._names)
            if u != v
        ]

    def add(self, t: int, paths: I16) -> None:
        """Write the paths in force during slice ``t``."""
        head = f'{{"slice": {self._series.slices[t]}'
        names = self._names
        rows = paths.tolist()
        self._file.writelines(
            head + middle + "".join([f"{names[r]}, " for r in rows[u][v] if r != DIRECT]) + tail
            for u, v, middle, tail in self._pairs
        )


@contextmanager
def open_log(path: Path, series: Series) -> Iterator[PathLog]:
    """A log at ``path``, closed at the end."""
    with _open(path, "w") as file:
        yield PathLog(file, series)


def _open(path: Path, mode: Literal["r", "w"]) -> TextIO:
    if path.suffix == ".gz":
        return gzip.open(path, "wt" if mode == "w" else "rt", compresslevel=3, encoding="utf-8")
    return path.open(mode, encoding="utf-8")


def replay(one_way_ms: F64, rule: Rule, score: Score | None = None, log: PathLog | None = None) -> None:
    """Drive a rule causally: for slice t it sees the slices before t only."""
    seen = one_way_ms.view()
    seen.flags.writeable = False
    for t in range(len(seen)):
        paths = rule.decide(seen[:t])
        if score is not None:
            score.add(t, paths)
        if log is not None:
            log.add(t, paths)


def scored(judge: Judge, rule: Rule, log: PathLog | None = None) -> Score:
    """Replay a rule and return its score."""
    score = Score(judge)
    replay(judge.one_way_ms, rule, score, log)
    return score


def score_log(series: Series, judge: Judge, path: Path) -> Score:
    """Score a log of paths as anyone may write one; every ordered pair and slice must be there once."""
    index = {node: i for i, node in enumerate(series.nodes)}
    slots = {label: t for t, label in enumerate(series.slices)}
    n = len(series.nodes)
    paths = np.full((len(slots), n, n, MAX_RELAYS), DIRECT, np.int16)
    there = np.zeros((len(slots), n, n), np.bool_)
    with _open(path, "r") as file:
        for line, text in enumerate(file, 1):
            t, hops = _entry(json.loads(text), slots, index, line)
            if there[t, hops[0], hops[-1]]:
                raise InputRejected("bad_log", f"line {line}: a pair and slice may appear once", field=f"line {line}")
            there[t, hops[0], hops[-1]] = True
            paths[t, hops[0], hops[-1], : len(hops) - 2] = hops[1:-1]
    missing = int((~there[:, ~np.eye(n, dtype=np.bool_)]).sum())
    if missing:
        raise InputRejected("bad_log", f"{missing} pairs and slices have no path", field="log", rule="all must")
    score = Score(judge)
    for t in range(len(slots)):
        score.add(t, paths[t])
    return score


def _entry(
    row: Mapping[str, object], slots: Mapping[int, int], index: Mapping[str, int], line: int
) -> tuple[int, Sequence[int]]:
    path = row.get("path")
    names = path if isinstance(path, list) else []
    hops = [index.get(name, -1) for name in names]
    t = slots.get(row.get("slice"), -1)  # type: ignore[call-overload]
    good = t >= 0 and 2 <= len(hops) <= MAX_RELAYS + 2 and -1 not in hops and len(set(hops)) == len(hops)
    if not good or [row.get("from"), row.get("to")] != [names[0], names[-1]]:
        rule = f"a known slice, from and to its ends, at most {MAX_RELAYS} relays, all different"
        raise InputRejected("bad_log", f"line {line}: {rule}", field=f"line {line}", rule=rule)
    return t, hops
