"""How soon a probe report shows in what the control plane answers: in process, over HTTP, and beside other load.

``make bench NAME=freshness``. What is measured and how to read the lines: ``docs/reference/benchmarks.md``.
"""

from __future__ import annotations


def main() -> bool:
    """Run all cases; whether every bound was met."""
    from bench.freshness.cases import run

    return run()
