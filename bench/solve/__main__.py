"""``python -m bench.solve [--matrix FILE --out OUT.jsonl]``: the benchmark, or the paths of one measured matrix.

Exit codes: 0 done (all bounds met), 1 refused with a reason on stderr (or a bound missed), 2 wrong usage.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path

from router.core import kernel
from router.core.errors import InputRejected
from router.core.model import DEFAULT_MAX_RELAYS, MAX_RELAYS

DEFAULT_RELAY_COST_MS = 0.5  # forwarding in a relay and its share of jitter; a relay that saves less is not worth it
MAX_RELAY_COST_MS = 60_000.0  # as much as the longest round trip a matrix may have


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line, run, return the exit code."""
    parser = _parser()
    options = parser.parse_args(argv)
    if options.matrix is None:
        if any(value is not None for value in (options.out, options.max_relays, options.relay_cost_ms)):
            parser.error("--out, --max-relays and --relay-cost-ms go with --matrix FILE")
        import bench.solve

        return 0 if bench.solve.main() else 1
    if options.out is None:
        parser.error("--matrix needs --out FILE, where the paths are written")
    max_relays = DEFAULT_MAX_RELAYS if options.max_relays is None else options.max_relays
    relay_cost_ms = DEFAULT_RELAY_COST_MS if options.relay_cost_ms is None else options.relay_cost_ms
    try:
        _solve(options.matrix, options.out, max_relays, relay_cost_ms)
    except InputRejected as error:
        details = {"field": error.field, "rule": error.rule, "limit": error.limit}
        shown = "".join(f"\n  {name}: {value}" for name, value in details.items() if value is not None)
        print(f"refused ({error.code}): {error.message}{shown}", file=sys.stderr)
        return 1
    return 0


def _solve(matrix: Path, out: Path, max_relays: int, relay_cost_ms: float) -> None:
    from bench.solve import measured

    links = measured.load(matrix)
    total, relays, seconds = measured.solve(links, max_relays, round(relay_cost_ms * 1000))
    measured.write(out, links, total, relays)
    row = {"name": "solve", "matrix": matrix.name, "max_relays": max_relays, "relay_cost_ms": relay_cost_ms}
    figures = measured.summary(links, total, relays)
    print(json.dumps(row | figures | {"seconds": round(seconds, 6), "compiled": kernel.COMPILED}))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench.solve",
        description="Without --matrix: the solver's benchmark. With it: solve a measured matrix, write every path.",
        allow_abbrev=False,
    )
    parser.add_argument("--matrix", type=Path, metavar="FILE", help="CSV of round trips, .gz too")
    parser.add_argument("--out", type=Path, metavar="OUT.jsonl", help="one JSON object for each ordered pair")
    parser.add_argument(
        "--max-relays", type=int, choices=range(MAX_RELAYS + 1), help=f"on a path (default {DEFAULT_MAX_RELAYS})"
    )
    parser.add_argument(
        "--relay-cost-ms", type=_milliseconds, metavar="MS", help=f"for each relay (default {DEFAULT_RELAY_COST_MS})"
    )
    return parser


def _milliseconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} must be a number of milliseconds") from None
    if not math.isfinite(value) or not 0 <= value <= MAX_RELAY_COST_MS:
        raise argparse.ArgumentTypeError(f"{text} must be between 0 and {MAX_RELAY_COST_MS:g} ms")
    return value


if __name__ == "__main__":
    raise SystemExit(main())
