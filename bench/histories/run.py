"""Many histories, over processes; one line of JSON each for the histories, the transitions and the planted bugs."""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from bench._case import progress, seeds_of
from bench.histories.acts import play, replay
from bench.histories.coverage import TABLES, Taken, counted, missing
from bench.histories.planted import PLANTED, caught

HISTORIES, OPERATIONS = 100_000, 50  # goal R4
CHUNK = 250
PLANTED_HISTORIES = 400  # within so many each planted bug must be noticed
SHOWN = 10


@dataclass(slots=True)
class Played:
    """What some histories came to."""

    histories: int = 0
    operations: int = 0
    checks: int = 0
    broken: list[str] = field(default_factory=list)
    done: Counter[str] = field(default_factory=Counter)
    taken: Taken = field(default_factory=lambda: {name: Counter() for name in TABLES})

    def add(self, other: Played) -> None:
        """Take in what others came to."""
        self.histories += other.histories
        self.operations += other.operations
        self.checks += other.checks
        self.broken += other.broken
        self.done += other.done
        for name, counts in other.taken.items():
            self.taken[name] += counts


def some(first: int, count: int, operations: int) -> Played:
    """Play histories with the seeds from ``first`` on."""
    played = Played()
    with counted() as taken:
        for seed in range(first, first + count):
            h = play(seed, operations)
            played.histories += 1
            played.operations += sum(h.done.values())
            played.checks += h.rules.checks
            played.broken += [f"seed {seed}: {text}" for text in h.rules.broken]
            played.done += h.done
        played.taken = taken
    return played


def _some(args: tuple[int, int, int]) -> Played:
    return some(*args)


def many(histories: int, operations: int, seed: int, processes: int) -> Played:
    """Play many, in so many processes."""
    chunks = [
        (first, min(CHUNK, seed + histories - first), operations) for first in range(seed, seed + histories, CHUNK)
    ]
    total, started = Played(), time.monotonic()
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        for played in pool.imap(_some, chunks):
            total.add(played)
            if total.histories % (CHUNK * 40) == 0:
                progress(f"{total.histories} histories, {time.monotonic() - started:.0f} s, {len(total.broken)} broken")
    return total


def _scenario(path: Path) -> bool:
    """Play what a file says; whether every rule held. Raises :class:`ValueError` for what it does not know."""
    told = yaml.safe_load(path.read_text())
    h = replay(int(told.get("seed", 1)), [str(name) for name in told["operations"]])
    print(json.dumps({
        "name": "histories", "case": str(told.get("name", path.stem)), "goal": "R4", "operations": sum(h.done.values()),
        "checks": h.rules.checks, "violations": len(h.rules.broken), "first_violations": h.rules.broken[:SHOWN],
        "met": not h.rules.broken,
    }), flush=True)  # fmt: skip
    return not h.rules.broken


def main(argv: list[str] | None = None) -> bool:
    """Play, print, and say whether the goal is met."""
    parser = argparse.ArgumentParser(prog="python -m bench.histories")
    parser.add_argument("--histories", type=int, default=HISTORIES)
    parser.add_argument("--operations", type=int, default=OPERATIONS)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seeds", type=seeds_of, help="A-B, in place of --seed and --histories")
    parser.add_argument("--scenario", type=Path, help="one history from a file: its seed and its operations by name")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    args = parser.parse_args(argv if argv is not None else [])
    if args.scenario:
        return _scenario(args.scenario)
    if args.seeds is not None:
        args.seed, args.histories = args.seeds.start, len(args.seeds)
    started = time.monotonic()
    total = many(args.histories, args.operations, args.seed, args.processes)
    took_s = time.monotonic() - started
    print(json.dumps({
        "name": "histories", "case": "random operators and faults", "goal": "R4", "histories": total.histories,
        "operations": total.operations, "checks": total.checks, "violations": len(total.broken),
        "first_violations": total.broken[:SHOWN], "seconds": round(took_s, 1), "processes": args.processes,
        "operations_per_s_and_process": round(total.operations / took_s / args.processes),
        "by_operation": dict(sorted(total.done.items())), "met": not total.broken,
    }), flush=True)  # fmt: skip
    unseen = missing(total.taken)
    print(json.dumps({
        "name": "histories", "case": "transitions taken", "goal": "R4",
        **{name: len(counts) for name, counts in total.taken.items()}, "missing": unseen, "met": not unseen,
    }), flush=True)  # fmt: skip
    found = {name: caught(name, PLANTED_HISTORIES, args.operations) for name in PLANTED}
    print(json.dumps({
        "name": "histories", "case": "planted bugs", "goal": "R4", "planted": len(found),
        "caught": sum(seen is not None for seen in found.values()),
        "after_histories": {name: None if seen is None else seen[0] for name, seen in found.items()},
        "by": {name: None if seen is None else seen[1] for name, seen in found.items()},
        "met": all(seen is not None for seen in found.values()),
    }), flush=True)  # fmt: skip
    return not total.broken and not unseen and all(seen is not None for seen in found.values())


if __name__ == "__main__":
    sys.exit(0 if main(sys.argv[1:]) else 1)
