"""A million live sessions on one box: what they cost while they are quiet, and what a place, a resume and an end take.

``make bench NAME=sessions``; ``BENCH_SESSIONS=100000`` takes fewer. What is measured and how to read the lines:
``docs/reference/benchmarks.md``.
"""

from __future__ import annotations


def main() -> bool:
    """Run both databases; whether every bound was met."""
    from bench.sessions.cases import run

    return run()
