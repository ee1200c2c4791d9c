"""How soon a silent blackhole is noticed, and how often a path is called down that is not.

``make bench NAME=detect``. What is measured and how to read the lines: ``docs/reference/benchmarks.md``.
"""

from __future__ import annotations


def main() -> bool:
    """Run all cases; whether every bound was met."""
    from bench.detect.cases import run

    return run()
