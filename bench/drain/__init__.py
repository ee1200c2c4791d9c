"""What five hundred people notice when their edge is drained, its controller killed, or its provider dies. Needs root.

``make bench NAME=drain``. What is measured and how to read the lines: ``docs/reference/benchmarks.md``.
"""

from __future__ import annotations


def main() -> bool:
    """Run all cases; whether every bound was met."""
    from bench.drain.cases import run

    return run()
