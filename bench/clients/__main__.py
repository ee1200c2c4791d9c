"""``python -m bench.clients``."""

from bench.clients.cli import main

raise SystemExit(0 if main() else 1)
