"""``python -m bench.drain [--only PART] [--keep FOLDER]``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from bench.drain.cases import CASES, run


def main() -> int:
    """Run what is asked for: 0 when every bound was met, 1 when not, 2 on wrong usage."""
    parser = argparse.ArgumentParser(prog="python -m bench.drain", description=__doc__)
    names = ", ".join(CASES)
    parser.add_argument("--only", default="", help=f"only cases whose name has this in it, of: {names}")
    parser.add_argument("--keep", type=Path, help="where the world's database and log stay")
    asked = parser.parse_args()
    if not any(asked.only in name for name in CASES):
        print(f"no case has {asked.only!r} in its name; there are: {names}", file=sys.stderr)
        return 2
    return 0 if run(asked.only, asked.keep) else 1


if __name__ == "__main__":
    sys.exit(main())
