"""Incidents: of real histories in the simulator, and published ones with real packets; ``make bench NAME=incidents``.

``BENCH_INCIDENTS`` says how many of each history (default 12). What is measured: ``docs/reference/benchmarks.md``.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench._case import line, progress
from bench.incidents import wire
from router.sim.incidents import Incident, read, scenario
from router.sim.run import play
from router.sim.scenario import parse

DATA = Path(__file__).parents[3] / "shared" / "data"
HISTORIES = ("incidents_aws_2018-2023.csv", "incidents_digitalocean_2020-2023.csv")
SEED = 6


def main() -> bool:
    """Play them; whether every one met what is expected of it."""
    met = wire.run()
    found = [_history(DATA / name) for name in HISTORIES if (DATA / name).exists()]
    if not found:
        progress("incidents of histories are skipped: there are none beside the project")
    return all(found) and met


def _history(path: Path) -> bool:
    known, wanted = read(path), int(os.environ.get("BENCH_INCIDENTS", "12"))
    drawn = random.Random(SEED).sample(known, min(wanted, len(known)))
    played = list(_played(drawn))
    broken = {name: violations for name, violations in played if violations}
    more: dict[str, Any] = {"history": len(known), "played": len(played), "broken": broken}
    return line("incidents", path.stem, 1 + len(broken), 1, "none", "1 + count", "R2", 1.0, **more)


def _played(drawn: list[Incident]) -> Iterator[tuple[str, list[str]]]:
    for incident in drawn:
        document = scenario(incident)
        outcome = play(parse(document, None), incident.row)
        violations = outcome["violations"]
        assert isinstance(violations, list)
        progress(f"{document['name']}: {len(violations)} violations; {document['about'][:100]}")
        yield document["name"], violations
