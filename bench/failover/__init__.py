"""How long people hear nothing when a path dies silently while every controller is frozen. Needs root.

``make bench NAME=failover``. What is measured and how to read the lines: ``docs/reference/benchmarks.md``.
"""

from __future__ import annotations


def main() -> bool:
    """Run all cases; whether every bound was met."""
    from bench.failover.cases import run

    return run()
