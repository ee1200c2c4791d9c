"""``python -m bench.canary [--seeds A-B] [--only PART] [--scenario FILE.yaml] [--processes N]``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from bench._case import seeds_of
from bench.canary.cases import run, run_scenario
from bench.canary.users import ScenarioError


def main() -> int:
    """Run what is asked for: 0 when every bound was met, 1 when not, 2 on wrong usage."""
    parser = argparse.ArgumentParser(prog="python -m bench.canary", description=__doc__)
    parser.add_argument("--seeds", type=seeds_of, default=seeds_of("0-199"), help="A-B, of each case (0-199)")
    parser.add_argument("--only", default="", help="only cases whose name has this in it")
    parser.add_argument(
        "--scenario", type=Path, action="append", help="a file that says what is wrong, see benchmarks.md"
    )
    parser.add_argument("--processes", type=int, help="as many at once (all processors)")
    asked = parser.parse_args()
    try:
        if asked.scenario:
            met = [run_scenario(path, asked.seeds, asked.processes) for path in asked.scenario]
            return 0 if all(met) else 1
    except (ScenarioError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0 if run(asked.seeds, asked.only, asked.processes) else 1


if __name__ == "__main__":
    sys.exit(main())
