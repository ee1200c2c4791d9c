"""The console script ``tendril``.

The base install is the node agent, so ``tendril agent`` must run without the control plane's dependencies and without
paying for their import; everything else is the operator CLI, which needs the ``control`` extra.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

_MISSING = """tendril: {what} is not installed, so only `tendril agent` works here.
  rule: the control plane and the operator CLI need the control extra
  override: pip install 'tendril[control]'"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0 done, 1 refused or failed, 2 wrong usage."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] == ["agent"]:
        from probes.cli import main as agent

        return agent(arguments[1:])
    # Before numpy loads: on a busy machine two BLAS threads wait for each other 100 times longer than one computes.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    try:
        from router.cli import main as operate
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] in ("router", "probes", "providers"):
            raise  # a broken installation of our own, not a missing extra
        print(_MISSING.format(what=error.name), file=sys.stderr)
        return 1
    return operate(arguments)


if __name__ == "__main__":
    sys.exit(main())
