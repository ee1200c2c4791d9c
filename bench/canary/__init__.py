"""How a new data center climbs to all of its users, and how few meet a bad one, on a virtual clock.

``make bench NAME=canary``, or ``python -m bench.canary --seeds 1000-1199 --only loss``. What is measured and how to
read the lines: ``docs/reference/benchmarks.md``.
"""

from __future__ import annotations


def main() -> bool:
    """Run all cases at their default length; whether every bound was met."""
    from bench.canary.cases import run

    return run()
