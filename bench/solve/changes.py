"""Changed links: the incremental update against a full solve of the same costs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np

from bench._case import NO_BOUND, best_s, line, progress, timed
from bench.solve.verify import WrongAnswer, check_solution
from bench.solve.worlds import costs_us, everyone, some_sources
from router.core import kernel
from router.core.tables import I64

RELAY_COST_US = 500
FULL_S = 1.0  # how long the full solve gets to show its best
RISE, FALL = 1.4, 0.7  # of the link's first cost; half of the changes each, so that costs do not drift away

# (at most so many relays, changed links, updates, bound of P2)
CASES = (
    (1, 1, 400, 500.0),
    (1, 10, 100, NO_BOUND),
    (1, 100, 40, 20.0),
    (3, 1, 40, 1.8),
    (3, 10, 20, NO_BOUND),
    (3, 100, 10, NO_BOUND),
)


def lines(name: str, n: int, threads_tried: Sequence[int], runs: int) -> Iterator[bool]:
    """One line for each case: median of many updates against the quickest full solve, with every number of threads."""
    for max_relays in sorted({case[0] for case in CASES}):
        cost = costs_us(n).copy()
        engine = kernel.Incremental(cost.copy(), everyone(n), max_relays, RELAY_COST_US)
        rng = np.random.default_rng(n + max_relays)
        for relays, links, updates, bound in CASES:
            if relays != max_relays:
                continue
            progress(f"{links} changed links, <= {max_relays} relays")
            took_s, switched = _updates(engine, cost, rng, links, updates)
            full_s = {
                threads: best_s(
                    partial(kernel.solve_context, cost, everyone(n), max_relays, RELAY_COST_US, threads), runs, FULL_S
                )
                for threads in threads_tried
            }
            _check(engine, cost, max_relays)
            median_s = float(np.median(took_s))
            yield line(
                name, f"N={n}, <= {max_relays} relay{'s' * (max_relays > 1)}, {links} changed link{'s' * (links > 1)}",
                median_s, min(full_s.values()), "full solve, the quickest number of threads", "s",
                "P2" if bound else "none", bound, updates=updates, p90_s=float(f"{np.quantile(took_s, 0.9):.4g}"),
                max_s=float(f"{max(took_s):.4g}"), switched_to_full=switched, threads=1,
                ratio_to_1_thread=float(f"{full_s[1] / median_s:.4g}"), runs=runs, compiled=kernel.COMPILED,
            )  # fmt: skip


def _updates(
    engine: kernel.Incremental, cost: I64, rng: np.random.Generator, links: int, updates: int
) -> tuple[list[float], int]:
    """Seconds of each update and how many became a full solve; ``cost`` is changed along."""
    n = len(cost)
    first = costs_us(n)
    took_s, switched = [], 0
    for _ in range(updates):
        flat = rng.choice(n * (n - 1), links, replace=False)
        source, target = flat // (n - 1), flat % (n - 1)
        target = target + (target >= source)  # over the diagonal
        factor = rng.choice([RISE, FALL], links)
        fresh = np.rint(first[source, target] * factor).astype(np.int64)
        cost[source, target] = fresh
        once_s, incremental = timed(partial(engine.update, source, target, fresh))
        took_s.append(once_s)
        switched += not incremental
    return took_s, switched


def _check(engine: kernel.Incremental, cost: I64, max_relays: int) -> None:
    """The repaired tables are those of a full solve bit for bit, and brute force agrees."""
    n = len(cost)
    total, relays = kernel.solve_context(cost, everyone(n), max_relays, RELAY_COST_US, 1)
    if not (np.array_equal(total, engine.total) and np.array_equal(relays, engine.relays)):
        raise WrongAnswer(f"N={n}, <= {max_relays} relays: the incremental update is not a full solve")
    check_solution(cost, everyone(n), max_relays, RELAY_COST_US, (total, relays), some_sources(n, 10))
