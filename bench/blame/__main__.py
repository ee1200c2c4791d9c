"""``python -m bench.blame``: see :mod:`bench.blame`."""

from bench.blame.cli import cli

if __name__ == "__main__":
    raise SystemExit(cli())
