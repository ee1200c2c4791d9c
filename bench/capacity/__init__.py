"""Benchmark of capacity: warm agents on a day with a spike, spills between providers, and the cost of links."""

from bench.capacity.cli import main

__all__ = ["main"]
