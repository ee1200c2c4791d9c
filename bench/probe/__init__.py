"""The agent's data path against irtt and fping, in two network namespaces of this machine.

``make bench NAME=probe`` (root). What is measured and how to read the lines: ``docs/reference/benchmarks.md``.
"""

from __future__ import annotations


def main() -> bool:
    """Run all cases; whether every bound was met."""
    from bench.probe.cases import run

    return run()
