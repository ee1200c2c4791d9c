"""The route solver against the machine and against libraries, on the same matrices, answers verified while timing.

``make bench NAME=solve`` runs all cases; ``python -m bench.solve --matrix FILE`` solves one measured matrix and writes
every path. What is measured and how to read the lines: ``docs/reference/benchmarks.md``.
"""

from __future__ import annotations


def main() -> bool:
    """Run all cases; whether every bound was met. Peers are imported here: ``--matrix`` needs none of them."""
    from bench.solve.cases import run

    return run()
