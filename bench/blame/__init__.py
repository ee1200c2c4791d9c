"""Blame: seeded faults in a world that is not the localiser's model, and what it said of them; hours of noise.

``make bench NAME=blame``, or ``python -m bench.blame [--seeds A-B] [--noise-s N] [--scenario FILE.yaml]``. What is
measured, how to read the lines and how to write a scenario: ``docs/reference/benchmarks.md``.
"""

from __future__ import annotations


def main() -> bool:
    """Run all cases at their default length; whether every bound was met."""
    from bench.blame.cli import run

    return run()
