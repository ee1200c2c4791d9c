"""``python -m bench [NAME]``: run one benchmark, or all of them."""

from __future__ import annotations

import importlib
import pkgutil
import sys

import bench


def main() -> int:
    """Run what is named on the command line."""
    names = sorted(m.name for m in pkgutil.iter_modules(bench.__path__) if not m.name.startswith("_"))
    wanted = sys.argv[1:] or names
    unknown = [name for name in wanted if name not in names]
    if unknown:
        print(f"no benchmark {', '.join(unknown)}; there are: {', '.join(names)}", file=sys.stderr)
        return 2
    met = True
    for name in wanted:
        met &= importlib.import_module(f"bench.{name}").main()
    return 0 if met else 1


if __name__ == "__main__":
    raise SystemExit(main())
