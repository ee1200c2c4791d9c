"""A measured matrix solved by our kernel, every chosen path written down, so that anybody can recompute it.

A link's metric is half of its own round trip, in whole microseconds; each relay adds the relay cost. ``metric_us`` of a
path is the sum, which is what the solver minimises.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from router.core import kernel
from router.core.errors import InputRejected
from router.core.tables import DIRECT, I16, I64, NO_COST
from router.sim.matrix import read_matrix

MAX_DATA_CENTERS = 2_000  # what the solver is promised to hold


@dataclass(frozen=True)
class Links:
    """Ids in order, and link costs int64 ``[from, to]`` in microseconds, ``NO_COST`` where nothing was measured."""

    ids: tuple[str, ...]
    cost: I64


def load(path: Path) -> Links:
    """Links of a matrix file in any documented form. Raises :class:`InputRejected` naming line, field, rule, limit."""
    matrix = read_matrix(path, MAX_DATA_CENTERS)
    ids = tuple(matrix.ends)
    index = {name: i for i, name in enumerate(ids)}
    cost = np.full((len(ids), len(ids)), NO_COST, np.int64)
    for a, b in matrix.rtt_ms:
        delay_us = matrix.delay_us(a, b)
        if delay_us is not None:
            cost[index[a], index[b]] = delay_us
    return Links(ids, cost)


def solve(links: Links, max_relays: int, relay_cost_us: int) -> tuple[I64, I16, float]:
    """Total cost ``[from, to]``, relays ``[from, to, slot]`` and the seconds it took, with all cores."""
    may_relay = np.ones(len(links.ids), np.bool_)
    cores = len(os.sched_getaffinity(0))
    start = time.perf_counter()
    total, relays = kernel.solve_context(links.cost, may_relay, max_relays, relay_cost_us, cores)
    return total, relays, time.perf_counter() - start


def lines(links: Links, total: I64, relays: I16) -> Iterator[str]:
    """One JSON object for each ordered pair, by from and to; ``path`` and ``metric_us`` are null where unreachable."""
    names = [json.dumps(name) for name in links.ids]
    for s, source in enumerate(names):
        row = zip(names, total[s].tolist(), relays[s].tolist(), strict=True)
        for t, (target, metric_us, via) in enumerate(row):
            if s == t:
                continue
            head = f'{{"from": {source}, "to": {target}, "path": '
            if metric_us >= NO_COST:
                yield head + 'null, "metric_us": null}\n'
            else:
                path = ", ".join([source, *(names[k] for k in via if k != DIRECT), target])
                yield f'{head}[{path}], "metric_us": {metric_us}}}\n'


def write(path: Path, links: Links, total: I64, relays: I16) -> None:
    """Write the lines, whole or not at all. Raises :class:`InputRejected` if the place cannot be written to."""
    draft = path.with_name(f".{path.name}.part")
    try:
        with draft.open("w", encoding="utf-8") as file:
            file.writelines(lines(links, total, relays))
        draft.replace(path)
    except OSError as error:
        draft.unlink(missing_ok=True)
        rule = f"cannot be written: {error.strerror or error}"
        raise InputRejected("bad_output", f"{path}: --out {rule}", field="--out", rule=rule) from error


def summary(links: Links, total: I64, relays: I16) -> dict[str, int | float]:
    """Counts over ordered pairs; the saving is the direct link's metric less the path's, over pairs that have both."""
    n = len(links.ids)
    reachable, direct = total < NO_COST, links.cost < NO_COST
    both = reachable & direct
    relayed = reachable & (relays[:, :, 0] != DIRECT)
    saved_us = (links.cost - total)[both]
    return {
        "data_centers": n,
        "pairs": n * (n - 1),
        "links": int(direct.sum()),
        "reachable": int(reachable.sum()),
        "relayed": int(relayed.sum()),
        "mean_saving_ms": round(float(saved_us.mean()) / 1000, 4) if saved_us.size else 0.0,
        "mean_metric_ms": round(float(total[reachable].mean()) / 1000, 4) if reachable.any() else 0.0,
    }
