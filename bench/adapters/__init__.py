"""Launches through every adapter against its fake cloud, with faults of all kinds: is a machine ever leaked?

``make bench NAME=adapters``, or ``python -m bench.adapters --launches N``. What is measured and how to read the lines:
``docs/reference/benchmarks.md``.
"""

from __future__ import annotations


def main() -> bool:
    """Run all clouds at the default length; whether every bound was met."""
    from bench.adapters.cases import run

    return run()
