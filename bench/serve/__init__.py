"""How fast answers are served: one route, many, one's own table in the client library, and reports taken in.

``make bench NAME=serve``. What is measured and how to read the lines: ``docs/reference/benchmarks.md``.
"""

from __future__ import annotations


def main() -> bool:
    """Run all cases."""
    from bench.serve.cases import run

    return run()
