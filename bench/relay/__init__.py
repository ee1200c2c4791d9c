"""What one core forwards, sealed and open, and what a seal costs.

``make bench NAME=relay``. What is measured and how to read the lines: ``docs/reference/benchmarks.md``.
"""

from __future__ import annotations


def main() -> bool:
    """Run all cases; nothing is promised, so nothing can be missed."""
    from bench.relay.cases import run

    return run()
