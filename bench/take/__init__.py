"""Take and return one agent over HTTP: placement included, every answer durable, while processes are killed.

``make bench NAME=take``, or ``python -m bench.take --takes N`` for a longer run. What is measured and how to read the
lines: ``docs/reference/benchmarks.md``.
"""

from __future__ import annotations


def main() -> bool:
    """Run all cases at their default length; whether every bound was met."""
    from bench.take.cases import run

    return run()
