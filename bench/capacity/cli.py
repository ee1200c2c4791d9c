"""Command line of the capacity benchmark, and its form for ``make bench``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import numpy as np

from bench._case import NO_BOUND, line, progress
from bench.capacity.cost import DATA, available, least_usd, pairs, placements, question
from bench.capacity.day import Day, Ours, Share, run
from bench.capacity.spills import orders
from bench.capacity.world import DAY_S, REGIONS, Load
from router.core.capacity import Agreed, Question

SEEDS, HOLD_OUT = range(1, 3), range(10_001, 10_003)  # looked at while the core was made, and never looked at
MAY_MISS, MAY_OVER, MAY_TAKE_S = 0.001, 0.20, 5.0  # goal U6
ORDERS = 1_000
COST_SHARE, MAY_ADD_MS = 0.2, 5.0  # goal U6: of premium-only
ONE_OF = 1e-6  # told instead of no miss at all: a ratio needs something to divide by


def run_days(name: str, load: Load, seeds: range, seconds: int, bound: float, peer: bool = False) -> bool:
    """Days of several seeds; the worst of them is what counts."""
    days = []
    for seed in seeds:
        days.append(run(load, seed, lambda history: Ours(load, history), seconds))
        progress(f"{name}: seed {seed}, {days[-1].spike_share:.5%} warm in the spike, {days[-1].over:.2%} over")
    about = _about(days, load, seeds)
    if peer:
        theirs = run(load, seeds[0], lambda _: Share(MAY_OVER), seconds)
        about |= {
            "fixed_share_missing_in_spike": round(1 - theirs.spike_share, 6),
            "fixed_share_over": round(theirs.over, 4),
        }
    goal = "U6" if bound else "none"
    missing = max(max(1 - day.spike_share, 1 - day.share) for day in days)
    met = line(
        "capacity", f"{name}: sessions without a warm agent", missing or ONE_OF, MAY_MISS,
        "goal U6: share that may wait, of the day and of the spike's quarter of an hour", "share", goal, bound, **about,
    )  # fmt: skip
    over = max(day.over for day in days)
    return met & line(
        "capacity", f"{name}: agents beyond the busy ones", over, MAY_OVER, "goal U6: mean over-provision", "share",
        goal, bound, seeds=about["seeds"],
    )  # fmt: skip


def _about(days: Sequence[Day], load: Load, seeds: range) -> dict[str, object]:
    return {
        "seeds": f"{seeds.start}:{seeds.stop}", "regions": len(REGIONS), "sessions": sum(day.sessions for day in days),
        "without_warm": sum(day.sessions - day.warm for day in days), "away": sum(day.away for day in days),
        "spike_sessions": sum(day.spike_sessions for day in days), "mean_busy": load.mean_busy,
        "median_s": load.median_s, "sigma": load.sigma, "spike": load.spike, "spike_s": load.spike_s,
        "shape": load.shape, "where": load.where,
    }  # fmt: skip


def run_spills(seed: int, count: int = ORDERS) -> bool:
    """Orders that are refused: how long until somebody else accepted them."""
    found = list(orders(seed, count))
    times = np.array([one.seconds for one in found])
    one_hop = np.array([one.seconds for one in found if one.refusals == 1])
    progress(f"spills: {sum(one.refusals for one in found)} refusals of {count} orders")
    met = line(
        "capacity", "refused once: until another provider accepted, 99th percentile",
        float(np.percentile(one_hop, 99)), MAY_TAKE_S, "goal U6: quota failure spills", "s", "U6", 1.0,
        seed=seed, orders=len(one_hop),
    )  # fmt: skip
    return met & line(
        "capacity", "refused any number of times: until another provider accepted, 99th percentile",
        float(np.percentile(times, 99)), MAY_TAKE_S, "goal U6: quota failure spills", "s", "U6", 1.0,
        seed=seed, orders=count,
        refusals=sum(one.refusals for one in found), unmet=sum(one.unmet for one in found),
        asked_again=sum(one.asked_again for one in found), beside=sum(one.beside for one in found),
        median_s=round(float(np.median(times)), 3),
    )  # fmt: skip


def run_cost() -> bool:
    """Cost and delay against three placements, by the shared data; nothing is promised where they are not here."""
    if not available():
        progress(f"cost: {DATA} has no prices or no delays; left out")
        return True
    alone = Agreed(provider_ppm=1_000_000)
    met = _split("links", question(Agreed())[0])
    met &= _split("links, hosters too", question(Agreed(), hosted=True)[0])
    _split("links alone, both ends fixed", pairs(alone), NO_BOUND, least_usd())
    _split("links alone, both ends fixed, hosters too", pairs(alone, hosted=True), NO_BOUND)
    return met


def _split(name: str, asked: Question, bound: float = 1.0, floor_usd: float | None = None) -> bool:
    """Ours against premium-only, and against the least that anything could cost by these prices."""
    found, split = placements(asked)
    by_name = {one.name: one for one in found}
    ours, premium, least = by_name["ours"], by_name["premium-only"], by_name["cheap-only"]
    told = {one.name: {"usd": round(one.usd, 2), "rtt_ms": round(one.rtt_ms, 2)} for one in found}
    goal = "U6" if bound else "none"
    saved, most = premium.usd - ours.usd, premium.usd - least.usd
    floor = {} if floor_usd is None else {"no_route_saves_more_pct": round(100 * (1 - floor_usd / premium.usd), 1)}
    met = line(
        "capacity", f"{name}: cost of a day", ours.usd, premium.usd * COST_SHARE, "goal U6: a fifth of premium-only",
        "USD", goal, bound, placements=told, groups=asked.demand.shape[1], ways=len(asked.ways), why=split.why[:3],
        saved_pct=round(100 * saved / premium.usd, 1), most_that_prices_allow_pct=round(100 * most / premium.usd, 1),
        reached_of_that_pct=round(100 * saved / most, 1), machines_included=False, **floor,
    )  # fmt: skip
    added = max(ONE_OF, ours.rtt_ms - premium.rtt_ms)
    return met & line("capacity", f"{name}: mean delay added", added, MAY_ADD_MS, "goal U6", "ms", goal, bound)


def main(argv: Sequence[str] | None = None) -> bool:
    """All cases; ``--seeds``, ``--seconds`` and ``--case`` narrow them."""
    parser = argparse.ArgumentParser(prog="python -m bench.capacity", description=__doc__)
    parser.add_argument("--seeds", help="A:B instead of the usual ones")
    parser.add_argument("--seconds", type=int, default=DAY_S, help="length of the day")
    parser.add_argument("--case", choices=("days", "spills", "cost", "all"), default="all")
    asked = parser.parse_args(list(argv) if argv is not None else [])
    met = True
    if asked.case in ("cost", "all"):
        met &= run_cost()
    if asked.case in ("spills", "all"):
        met &= run_spills(SEEDS[0] if asked.seeds is None else int(asked.seeds.split(":")[0]))
    if asked.case in ("days", "all"):
        met &= _days(asked.seeds, asked.seconds)
    return met


def _days(seeds: str | None, seconds: int) -> bool:
    if seeds is not None:
        first, last = map(int, seeds.split(":"))
        return run_days("3x ramp over 5 min", Load(), range(first, last), seconds, 1.0)
    met = run_days("3x ramp over 5 min", Load(), SEEDS, seconds, 1.0, peer=True)
    met &= run_days("3x ramp over 5 min, hold-out seeds", Load(), HOLD_OUT, seconds, 1.0)
    run_days("3x at once for 5 min", Load(shape="step"), SEEDS[:1], seconds, NO_BOUND, peer=True)
    run_days("a tenth of the sessions", Load(mean_busy=2_000.0), SEEDS[:1], seconds, NO_BOUND)
    run_days("shorter tails", Load(sigma=0.8), SEEDS[:1], seconds, NO_BOUND)
    return met
