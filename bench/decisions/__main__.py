"""``python -m bench.decisions``: see :mod:`bench.decisions`."""

from bench.decisions.cli import cli

if __name__ == "__main__":
    raise SystemExit(cli())
