"""``python -m bench.take [--takes N] [--only CASE]``."""

from __future__ import annotations

import argparse

from bench.take.cases import CASES, run


def _parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.take")
    parser.add_argument(
        "--takes", type=int, default=0, help="so many takes per database under kill -9, and nothing else"
    )
    parser.add_argument("--only", choices=sorted(CASES), action="append", help="default: all cases")
    return parser.parse_args()


if __name__ == "__main__":
    asked = _parsed()
    raise SystemExit(0 if run(asked.takes, tuple(asked.only or CASES)) else 1)
