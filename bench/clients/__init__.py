"""Benchmark ``clients``: which edge is chosen for client networks that were hidden from the estimator.

``python -m bench.clients --rtt FILE --locations FILE --edges LIST --log OUT.jsonl``, see :mod:`bench.clients.cli`.
"""

from bench.clients import cli


def main() -> bool:
    """Of all benchmarks, this one needs files of the caller's."""
    return cli.main([])
