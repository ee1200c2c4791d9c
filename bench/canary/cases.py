"""The cases of goal R5 and what is told of each."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from bench._case import NO_BOUND, line, progress
from bench.canary.climb import Outcome, climb
from bench.canary.users import Defect, read_defect
from router.core.model import RampState

SEEDS = range(200)
MOST_EXPOSED, MOST_SHARE, MOST_FALSE = 50.0, 0.01, 0.01
DEFECTS = (
    Defect("+30 ms", rtt_ms=30.0, robots=False),
    Defect("2 % loss", loss_ppm=20_000, robots=False),
    Defect("3 % set-up failures", setup_failures=0.03),
    Defect("bad only via relay", relayed_only=True),
)
UNSEEN = Defect("3 % set-up failures that robots do not meet", setup_failures=0.03, robots=False)


def rate_of(seed: int) -> float:
    """Sessions per second of a catchment: from one in twenty seconds to five a second."""
    return float(np.exp(np.random.default_rng([seed, 3]).uniform(np.log(0.05), np.log(5.0))))


def run(seeds: Iterable[int] = SEEDS, only: str = "", processes: int | None = None) -> bool:
    """All cases; whether every bound was met."""
    chosen, met = list(seeds), True
    with multiprocessing.get_context("spawn").Pool(processes or os.cpu_count() or 1) as pool:
        for defect in (*DEFECTS, UNSEEN):
            if only in defect.name:
                progress(f"canary: {defect.name}, {len(chosen)} climbs")
                met &= _bad(defect, chosen, pool.map(partial(_climb, defect=defect), chosen, 4))
        for name, factor in (("A/A", 1.0), ("A/A, low traffic", 0.01)):
            if only in name:
                progress(f"canary: {name}, {len(chosen)} climbs")
                met &= _alike(name, chosen, pool.map(partial(_climb, factor=factor), chosen, 4))
    return met


def run_scenario(path: Path, seeds: Iterable[int], processes: int | None = None) -> bool:
    """A defect from a file. Raises :class:`ScenarioError`."""
    (defect, rate), chosen = read_defect(path), list(seeds)
    with multiprocessing.get_context("spawn").Pool(processes or os.cpu_count() or 1) as pool:
        return _bad(defect, chosen, pool.map(partial(_climb, defect=defect, rate_per_s=rate), chosen, 4))


def _climb(seed: int, defect: Defect | None = None, factor: float = 1.0, rate_per_s: float = 0.0) -> Outcome:
    return climb(seed, defect, (rate_per_s or rate_of(seed)) * factor)


def _bad(defect: Defect, seeds: Sequence[int], found: Sequence[Outcome]) -> bool:
    """A bad one: how many sessions met it before it was rolled back."""
    caught = [one for one in found if one.state is RampState.ROLLED_BACK]
    exposed = np.array([one.exposed for one in found])
    most, promised = max(1.0, float(exposed.max())), defect is not UNSEEN
    share = max(one.share for one in found)
    told = {
        "runs": len(found), "rolled_back": len(caught), "exposed_p50": float(np.median(exposed)),
        "exposed_p99": round(float(np.percentile(exposed, 99)), 1),
        "exposed_share_mean": round(float(np.mean([one.share for one in found])), 5), "seeds": _range(seeds),
    }  # fmt: skip
    goal, bound = ("R5", 1.0) if promised else ("none", NO_BOUND)
    ok = line(
        "canary",
        f"{defect.name}: most sessions exposed",
        most,
        MOST_EXPOSED,
        "the goal",
        "sessions",
        goal,
        bound,
        **told,
    )
    ok &= line(
        "canary",
        f"{defect.name}: largest share exposed",
        max(1e-6, share),
        MOST_SHARE,
        "the goal",
        "share",
        goal,
        bound,
    )
    missed = (len(found) - len(caught)) / len(found)
    ok &= line(
        "canary", f"{defect.name}: share not rolled back", missed + 1e-6, 1e-6 + 1e-9, "none at all", "share", goal,
        0.999 if promised else NO_BOUND,
    )  # fmt: skip
    return ok or not promised


def _alike(name: str, seeds: Sequence[int], found: Sequence[Outcome]) -> bool:
    """A data center like its neighbours: how often it is rolled back all the same, and how long it climbs."""
    back = [one for one in found if one.state is RampState.ROLLED_BACK]
    stuck = [one for one in found if one.state not in (RampState.ROLLED_BACK, RampState.SERVING)]
    hours = np.array([one.hours for one in found if one.state is RampState.SERVING])
    return line(
        "canary", f"{name}: false rollbacks", len(back) / len(found) + 1e-6, MOST_FALSE, "the goal", "share", "R5", 1.0,
        runs=len(found), rolled_back=len(back), stuck=len(stuck), hours_p50=round(float(np.median(hours)), 2),
        hours_max=round(float(hours.max()), 2), rungs_passed_by_time=sum(one.by_time for one in found),
        sessions=sum(one.sessions for one in found), why=_reasons(back), seeds=_range(seeds),
    ) and not stuck  # fmt: skip


def _reasons(found: Sequence[Outcome]) -> list[str]:
    return sorted({one.reason for one in found})[:5]


def _range(seeds: Sequence[int]) -> str:
    return f"{seeds[0]}-{seeds[-1]}"
