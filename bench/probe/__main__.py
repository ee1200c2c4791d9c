"""``python -m bench.probe --case NAME``."""

import sys

from bench.probe import main

if __name__ == "__main__":
    sys.exit(0 if main(sys.argv[1:]) else 1)
