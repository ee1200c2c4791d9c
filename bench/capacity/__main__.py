"""``python -m bench.capacity --help``."""

import sys

from bench.capacity.cli import main

if __name__ == "__main__":
    sys.exit(0 if main(sys.argv[1:]) else 1)
