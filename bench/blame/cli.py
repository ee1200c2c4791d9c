"""Command line of the blame benchmark, and its form for ``make bench``."""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
from collections.abc import Sequence
from multiprocessing.pool import Pool
from pathlib import Path

from bench._case import line, progress, seeds_of
from bench.blame.drive import TAIL_S, WARM_S, Told, drive
from bench.blame.faults import ScenarioError, draw_faults, read_scenario
from bench.blame.score import Score
from bench.blame.world import make_world

SEEDS, HOLD_OUT = range(300), range(10_000, 10_060)  # looked at while the localiser was made, and never looked at
NOISE_S = 7_200.0
NOISE_SEED = 20_001
RIGHT_PCT, MEDIAN_S = 95.0, 6.0  # goal D7
BLAMEIT_PCT = 100.0  # BlameIt's own report: 88 of 88 incidents, each confirmed by people (SIGCOMM 2019)


def run(
    seeds: range = SEEDS,
    hold_out: range = HOLD_OUT,
    noise_s: float = NOISE_S,
    log: Path | None = None,
    processes: int | None = None,
) -> bool:
    """Faults of both ranges of seeds, and noise; whether every bound was met."""
    met = True
    with multiprocessing.get_context("spawn").Pool(processes or os.cpu_count() or 1) as pool:
        calm = pool.apply_async(_calm, (noise_s,)) if noise_s else None  # the longest of all
        for name, some in (("faults", seeds), ("hold-out faults", hold_out)):
            if len(some):
                met &= _faults(pool, name, some, log)
        if calm is not None:
            progress(f"noise: {noise_s:.0f} s without a fault, with an evening of congestion")
            met &= _noise(calm.get(), noise_s)
    return met


def _driven(seed: int) -> Told:
    world = make_world(seed)
    return drive(world, draw_faults(world, WARM_S, TAIL_S), WARM_S + TAIL_S + 2)


def _calm(noise_s: float) -> Told:
    return drive(make_world(NOISE_SEED), (), noise_s, evening=True)


def _faults(pool: Pool, name: str, seeds: range, log: Path | None) -> bool:
    score = Score()
    for seed, told in zip(seeds, pool.imap(_driven, seeds), strict=True):
        rows = [one.row() for one in score.add(seed, told, WARM_S + TAIL_S + 2)]
        if seed % 10 == 9:
            progress(f"{name}: seed {seed}, {score.right} of {len(score.faults)} right")
        if log is not None:
            with log.open("a") as out:
                out.writelines(json.dumps({"case": name} | row) + "\n" for row in rows)
    return _lines(name, seeds, score)


def _lines(name: str, seeds: range, score: Score) -> bool:
    count = len(score.faults)
    pct = 100 * score.right / count
    partial = [one for one in score.faults if one.fault.is_partial]
    about = {"seeds": f"{seeds.start}:{seeds.stop}", "faults": count}
    met = line(
        "blame", f"{name}: right", 100 - pct or 0.01, 100 - RIGHT_PCT, "goal D7: share that may be wrong", "% wrong",
        "D7", 1.0, **about, right=score.right, right_pct=round(pct, 2), partial=len(partial),
        partial_right_pct=score.share(partial), double_worlds=score.doubles, confusion=score.confusion(),
        calibration=score.calibration(), extra_sure=dict(score.extra), blameit_pct=BLAMEIT_PCT,
    )  # fmt: skip
    met &= line(
        "blame", f"{name}: time until automation may act", score.median("sure_s"), MEDIAN_S, "goal D7", "s", "D7", 1.0,
        **about, median_named_s=score.median("named_s"),
    )  # fmt: skip
    met &= line(
        "blame", f"{name}: wrong drains", score.wrong_drains + 1, 1 + 0.01 * count, "one wrong drain in 100 faults",
        "drains + 1", "none", 0.0, **about,
    )  # fmt: skip
    return met & line(
        "blame", f"{name}: cost", 1000 * score.judged_s / max(1, score.judgements), 1000.0, "the second between two",
        "ms/judgement", "none", 0.0, **about, probe_bytes_s=round(sum(score.bytes_s) / len(score.bytes_s)),
    )  # fmt: skip


def _noise(told: Told, noise_s: float) -> bool:
    score = Score()
    score.add(NOISE_SEED, told, noise_s)
    return line(
        "blame", "noise: wrong data-center drains", score.wrong_drains + 1, 1.0, "none at all", "drains + 1", "D7", 1.0,
        seconds=noise_s, wrong_drains=score.wrong_drains, sure_of_others=dict(score.extra),
    )  # fmt: skip


def run_scenario(path: Path) -> bool:
    """Run a file; prints what was said of each fault. Raises :class:`ScenarioError`."""
    scenario = read_scenario(path)
    world, score = make_world(scenario.seed), Score()
    told = drive(world, scenario.faults(world), scenario.duration_s)
    found = score.add(scenario.seed, told, scenario.duration_s)
    for one in found:
        print(json.dumps({"name": "blame", "case": scenario.name} | one.row()))
    spoken = [
        {"component": name.name, "named_s": said.named_s, "sure_s": said.sure_s, "text": said.text}
        for name, said in sorted(told.spoken.items())
    ]
    summary = {"name": "blame", "case": scenario.name, "frozen_s": told.frozen_s, "said": spoken}
    print(json.dumps(summary | {"wrong_drains": score.wrong_drains, "probe_bytes": told.probe_bytes}))
    return all(one.is_right for one in found) and not score.wrong_drains


def cli(argv: Sequence[str] | None = None) -> int:
    """Run what the command line asks for: 0 when every bound was met, 1 when not, 2 on wrong usage."""
    parser = argparse.ArgumentParser(prog="python -m bench.blame")
    parser.add_argument("--seeds", type=seeds_of, help="A-B, worlds with one fault or two each; no hold-out, no noise")
    parser.add_argument("--noise-s", type=float, help="seconds without any fault; alone: only these")
    parser.add_argument(
        "--scenario", type=Path, action="append", help="a file that says what breaks, see benchmarks.md"
    )
    parser.add_argument("--log", type=Path, help="append one JSON line per fault to this file")
    parser.add_argument("--processes", type=int, help="as many at once (all processors)")
    args = parser.parse_args(argv)
    try:
        if args.scenario:
            outcomes = [run_scenario(path) for path in args.scenario]  # all of them, whatever the first one says
            return 0 if all(outcomes) else 1
    except (ScenarioError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    if args.seeds is None and args.noise_s is None:
        return 0 if run(log=args.log, processes=args.processes) else 1
    nothing = range(0)
    return 0 if run(args.seeds or nothing, nothing, args.noise_s or 0.0, args.log, args.processes) else 1
