"""One line for each cloud."""

from __future__ import annotations

import importlib.util

from bench._case import line, progress, timed
from bench.adapters.clouds import CASES, SPECS, Case, running
from bench.adapters.drill import FAULTS, drill
from providers.fake.server import Faults

LAUNCHES = 1_000
SEED = 7


def run(launches: int = LAUNCHES, only: str | None = None) -> bool:
    """Drill every cloud; a missing SDK or description counts as failed."""
    met = [_case(name, case, launches) for name, case in CASES.items() if only in (None, name)]  # told to the end
    return all(met)


def missing(case: Case) -> str | None:
    """Return what a cloud's drill cannot do without on this machine."""
    for module in case.needs:
        if not _there(module):
            return f"the SDK ({module}) is not installed: make clouds"
    if case.spec is not None and not (SPECS / case.spec).exists():
        return f"../shared/specs/openapi/{case.spec} is absent"
    return None


def _there(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # of a package above it
        return False


def _case(name: str, case: Case, launches: int) -> bool:
    lacking = missing(case)
    if lacking is not None:
        progress(f"{name}: {lacking}")
        return False
    progress(f"{name}: {launches:,} launches")
    faults = Faults(SEED, FAULTS)
    with running(name, faults, launches) as (provider, fake):
        took_s, result = timed(lambda: drill(provider, fake, case.cloud_region, case.size, launches, SEED))
    for violation in sorted(set(fake.violations))[:20]:
        progress(f"{name}: {violation}")
    wrong = result.leaked + result.left + result.twice + len(fake.violations)
    return line(
        "adapters", f"{name}: machines leaked and requests not as described", 1.0 + wrong, 1.0, "none (told as 1)",
        "wrong + 1", "U6", 1.0,
        launches=launches, leaked=result.leaked, left_after_removal=result.left, violations=len(fake.violations),
        described_by=case.described_by, requests=sum(fake.requests.values()), answered=result.answered,
        given_up=result.given_up, unknown=result.unknown, adopted=result.adopted, terminated_by_reaper=result.reaped,
        faults={f.value: n for f, n in sorted(fake.faults.items())}, errors=dict(sorted(result.errors.items())),
        seconds=round(took_s, 1),
    )  # fmt: skip
