"""Real incidents, drawn by a seed from the histories of two providers, played with users: nobody is lost, rules hold.

One row of each sort that the histories hold (what happens, and how widely), so that a run costs seconds; where the
histories are not at hand, rows in their form. ``python -m bench incidents`` plays as many as wanted in full.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from router.sim.incidents import Incident, read, scenario
from router.sim.run import play
from router.sim.scenario import parse

DATA = Path(__file__).parents[3] / "shared" / "data"
HISTORIES = ("incidents_aws_2018-2023.csv", "incidents_digitalocean_2020-2023.csv")
SEED, PLAYED_S = 6, 20
MADE_UP = [
    Incident(1, "aws", "us-east-1", 33, "2", True, "Delays in a single Availability Zone"),
    Incident(2, "aws", "ap-southeast-1", 93, "3", False, "Power"),
    Incident(3, "digitalocean", "global", 51, "critical", True, "Networking"),
    Incident(4, "digitalocean", "global", 12, "major", False, "Control panel"),
    Incident(5, "aws", "eu-west-1", 226, "1", True, "Connection errors"),
    Incident(6, "digitalocean", "global", 86, "minor", True, "App Platform"),
]


def sort_of(incident: Incident) -> tuple[str, ...]:
    """What happens in its scenario, and how widely."""
    fault = scenario(incident)["faults"][0]
    return fault["kind"], fault["target"].partition("=")[0]


def drawn() -> list[Incident]:
    """One incident of each sort; those that lose nothing are left out."""
    known = [incident for name in HISTORIES if (DATA / name).exists() for incident in read(DATA / name)] or MADE_UP
    sorts: dict[tuple[str, ...], list[Incident]] = {}
    for incident in known:
        if scenario(incident)["faults"][0].get("loss_percent") != 0.0:
            sorts.setdefault(sort_of(incident), []).append(incident)
    rng = random.Random(SEED)
    return [rng.choice(sorts[sort]) for sort in sorted(sorts)]


@pytest.mark.parametrize("incident", drawn(), ids=lambda i: f"{i.provider}-{i.row}-{'-'.join(sort_of(i))}")
def test_a_real_incident_loses_nobody_and_breaks_no_rule(incident: Incident) -> None:
    document = scenario(incident, longest_s=PLAYED_S)
    outcome = play(parse(document, None), incident.row)
    assert outcome["violations"] == []
    expectations = outcome["expectations"]
    assert isinstance(expectations, list) and len(expectations) == len(document["expect"])
    assert all(told["met"] and "waits_for" not in told for told in expectations)
