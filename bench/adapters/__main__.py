"""``python -m bench.adapters --launches N``."""

from __future__ import annotations

import argparse

from bench.adapters.cases import LAUNCHES, run


def main() -> int:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(prog="python -m bench.adapters")
    parser.add_argument("--launches", type=int, default=LAUNCHES)
    parser.add_argument("--only", default=None, help="one cloud")
    arguments = parser.parse_args()
    return 0 if run(arguments.launches, arguments.only) else 1


if __name__ == "__main__":
    raise SystemExit(main())
