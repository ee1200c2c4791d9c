"""The JSON Schema of scenarios accepts what the reader accepts, and refuses what can be seen without a world."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema_rs
import pytest
import yaml

from router.sim.incidents import Incident, scenario
from router.sim.scenario import SHIPPED, shipped
from router.sim.schema import scenario_schema

VALIDATOR = jsonschema_rs.validator_for(json.dumps(scenario_schema()))
TOP: dict[str, object] = {"name": "s", "about": "About it.", "duration_s": 60}
PAGE = Path(__file__).parents[3] / "docs" / "reference" / "scenario.schema.json"


@pytest.mark.parametrize("name", shipped())
def test_shipped_scenarios_are_valid(name: str) -> None:
    VALIDATOR.validate(yaml.safe_load((SHIPPED / f"{name}.yaml").read_text(encoding="utf-8")))


def test_incidents_are_valid() -> None:
    VALIDATOR.validate(scenario(Incident(3, "aws", "eu-west-1", 93, "2", True, "[RESOLVED] Packet loss")))


@pytest.mark.parametrize(
    "wrong",
    [
        {"colour": "red"},
        {"users": {}},
        {"faults": [{"kind": "outage", "at_s": 1}]},
        {"faults": [{"kind": "outage", "at_s": 1, "target": "provider=gcp", "delay_ms": 5}]},
        {"faults": [{"kind": "gray-node", "at_s": 1, "target": "node=a"}]},
        {"actions": [{"do": "drain", "at_s": 1}]},
        {"actions": [{"do": "undo", "at_s": 1, "target": "provider=gcp"}]},
        {"expect": [{"right_percent": 101}]},
        {"expect": [{}]},
    ],
)
def test_what_is_wrong_is_refused(wrong: dict[str, object]) -> None:
    assert not VALIDATOR.is_valid(TOP | wrong)


def test_the_page_is_the_schema() -> None:
    assert json.loads(PAGE.read_text(encoding="utf-8")) == json.loads(json.dumps(scenario_schema()))
