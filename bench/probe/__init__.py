"""The agent's data path against irtt and fping, in two network namespaces of this machine.

``make bench NAME=probe`` (root); ``python -m bench.probe --case agent`` runs one case alone. What is measured and how
to read the lines: ``docs/reference/benchmarks.md``.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence


def main(arguments: Sequence[str] = ()) -> bool:
    """Run the cases; whether every bound was met."""
    from bench.probe.cases import CASES, run

    parser = argparse.ArgumentParser(prog="python -m bench.probe")
    parser.add_argument("--case", action="append", choices=list(CASES), help="only this one; may be given again")
    return run(parser.parse_args(arguments).case or ())
