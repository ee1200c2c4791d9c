"""The same seed gives the same decisions and reasons under any hash seed; a planted nondeterminism is caught."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from router.sim.run import run

PLAY = """
import json, sys
from router.sim.run import run
planted = sys.argv[3] == "planted"
if planted:
    from router.core import plane
    honest = plane.ControlPlane._record
    def by_hash(self, kind, subject, reason):
        return honest(self, kind, subject, reason + "".join({"x", "y", "z", subject}))
    plane.ControlPlane._record = by_hash
done = run(sys.argv[1], int(sys.argv[2]))
print(json.dumps({k: done[k] for k in ("digest", "inputs", "violations")}))
"""


def digests(scenario: str, seed: int, planted: bool) -> list[dict[str, object]]:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PLAY, scenario, str(seed), "planted" if planted else "honest"],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            stdout=subprocess.PIPE,
            cwd=Path(__file__).parents[2],
        )
        for hash_seed in ("1", "2", "3")
    ]
    return [json.loads(p.communicate(timeout=240)[0]) for p in processes]


@pytest.mark.parametrize("scenario", ["blackhole", "report-faults", "slow-solver"])
def test_three_hash_seeds_agree(scenario: str) -> None:
    found = digests(scenario, 5, planted=False)
    assert found[0]["digest"] and found[0] == found[1] == found[2]


def test_a_planted_nondeterminism_is_caught() -> None:
    found = digests("blackhole", 5, planted=True)
    assert len({str(f["digest"]) for f in found}) > 1


def test_seeds_differ() -> None:
    assert run("slow-solver", 1)["digest"] != run("slow-solver", 2)["digest"]
