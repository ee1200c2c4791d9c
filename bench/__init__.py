"""Benchmarks against peers, measured in the same run; each case prints one JSON object. Never part of the tests."""
