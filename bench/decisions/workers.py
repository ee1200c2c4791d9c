"""The same work on all cores: forked, so that a series is shared and never copied."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

Result = TypeVar("Result")

_work: Callable[..., Any] | None = None  # what forked workers run; set right before they start


def on_all_cores(work: Callable[..., Result], jobs: Sequence[tuple[Any, ...]]) -> list[Result]:
    """``work(*job)`` for each job, results in the order of the jobs; ``work`` may be a closure."""
    global _work
    workers = min(os.cpu_count() or 1, len(jobs))
    if workers < 2:
        return [work(*job) for job in jobs]
    _work = work
    with multiprocessing.get_context("fork").Pool(workers) as pool:
        return pool.map(_one, jobs, chunksize=1)


def _one(job: tuple[Any, ...]) -> Any:
    assert _work is not None
    return _work(*job)
