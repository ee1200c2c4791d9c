"""``python -m bench.adapters --launches N [--prism PATH]``."""

from __future__ import annotations

import argparse
from pathlib import Path

from bench.adapters import prism
from bench.adapters.cases import LAUNCHES, run


def main() -> int:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(prog="python -m bench.adapters")
    parser.add_argument("--launches", type=int, default=LAUNCHES)
    parser.add_argument("--only", default=None, help="one cloud")
    parser.add_argument("--prism", type=Path, help="path of the prism command: through its proxy, without faults")
    arguments = parser.parse_args()
    if arguments.prism is not None:
        return 0 if prism.run(arguments.prism, arguments.launches, arguments.only) else 1
    return 0 if run(arguments.launches, arguments.only) else 1


if __name__ == "__main__":
    raise SystemExit(main())
