"""``python -m bench.histories --histories N --operations N --seed N --processes N``."""

import sys

from bench.histories.run import main

if __name__ == "__main__":
    sys.exit(0 if main(sys.argv[1:]) else 1)
