"""One line of benchmark output, and the best of several runs."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

T = TypeVar("T")
NO_BOUND = 0.0  # for a figure that is told, not promised


def timed(work: Callable[[], T]) -> tuple[float, T]:
    """Seconds of one run, and what it returned."""
    start = time.perf_counter()
    answer = work()
    return time.perf_counter() - start, answer


def best_s(work: Callable[[], object], repeat: int = 5, at_least_s: float = 0.0) -> float:
    """Shortest of several runs in seconds: the noise of a shared machine only ever adds.

    Goes on after ``repeat`` runs until ``at_least_s`` have passed: short work needs many tries to meet a quiet moment.
    """
    start, times = time.perf_counter(), []
    while len(times) < repeat or time.perf_counter() - start < at_least_s:
        times.append(timed(work)[0])
    return min(times)


def best_of_all(works: Sequence[Callable[[], Any]], repeat: int = 5) -> list[tuple[float, Any]]:
    """Seconds of the shortest run of each, and its last answer; as many runs each.

    Taken in turns, so that a busy moment of the machine meets all of them.
    """
    best_s, answers = [float("inf")] * len(works), [None] * len(works)
    for _ in range(repeat):
        for i, work in enumerate(works):
            took_s, answers[i] = timed(work)
            best_s[i] = min(best_s[i], took_s)
    return list(zip(best_s, answers, strict=True))


def line(
    name: str,
    case: str,
    ours: float,
    peer: float,
    peer_name: str,
    unit: str,
    goal: str,
    bound: float,
    **more: object,
) -> bool:
    """Print a case; ``ratio`` is peer / ours (higher is better), met when it reaches ``bound``.

    ``more`` are further fields: how it was measured, and what else was seen. A unit that ends in ``/s`` is a rate:
    more is better, and the ratio is ours / peer.
    """
    ratio = ours / peer if unit.endswith("/s") else peer / ours
    row = {
        "name": name, "case": case, "ours": _digits(ours), "peer": _digits(peer), "peer_name": peer_name,
        "unit": unit, "ratio": _digits(ratio), "goal": goal, "bound": bound, "met": bool(ratio >= bound),
    }  # fmt: skip
    print(json.dumps(row | more), flush=True)
    return bool(ratio >= bound)


def seeds_of(text: str) -> range:
    """Seeds of ``A-B`` (both in it), ``A:B`` (without B) or ``A``. Raises :class:`ValueError`."""
    first, colon, end = text.partition(":")
    if colon:
        return range(int(first), int(end))
    first, _, last = text.partition("-")
    return range(int(first), int(last or first) + 1)


def progress(text: str) -> None:
    """Tell a waiting person what is being measured."""
    print(text, file=sys.stderr, flush=True)


def _digits(value: float) -> float:
    """Four significant digits: a microsecond and a minute are told equally well."""
    return float(f"{value:.4g}")
