"""``python -m bench.canary [--seeds A-B] [--only PART] [--processes N]``."""

from __future__ import annotations

import argparse
import sys

from bench.canary.cases import run


def main() -> int:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(prog="python -m bench.canary", description=__doc__)
    parser.add_argument("--seeds", default="0-199", help="first and last seed of each case (0-199)")
    parser.add_argument("--only", default="", help="only cases whose name has this in it")
    parser.add_argument("--processes", type=int, help="as many at once (all processors)")
    asked = parser.parse_args()
    first, _, last = asked.seeds.partition("-")
    return 0 if run(range(int(first), int(last or first) + 1), asked.only, asked.processes) else 1


if __name__ == "__main__":
    sys.exit(main())
