"""The shipped scenarios: invariants hold, expectations are met, outages are noticed, recordings replay."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from router.core.errors import InputRejected
from router.sim.run import replay, run, scenarios
from router.sim.scenario import load, shipped

NAMES = (
    "asymmetric", "blackhole", "brownout", "calm", "clock-chaos", "cold-relay", "controller-restart", "drain",
    "drain-live", "false-isolation", "gray", "gray-node", "isolated-regions", "new-data-center", "noisy", "operators",
    "partition", "provider-loss", "report-faults", "rush", "slow-solver", "store-outage",
)  # fmt: skip


def test_all_scenarios_are_there_with_what_they_are_about() -> None:
    assert shipped() == NAMES
    assert [s["name"] for s in scenarios()] == list(NAMES)
    assert all(load(name).name == name and load(name).about.endswith(".") and load(name).expect for name in NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_scenario_holds(name: str) -> None:
    outcome = run(name)
    assert outcome["violations"] == []
    expectations = outcome["expectations"]
    assert isinstance(expectations, list)
    assert len(expectations) == len(load(name).expect)


def test_a_blackhole_is_noticed_within_five_seconds_and_comes_back_once() -> None:
    events = run("blackhole", 3)["events"]
    assert isinstance(events, list)
    down = [e for e in events if e["kind"] == "data_center.down"]
    assert [e["subject"] for e in down] == ["gcp-nrt1"]
    assert 30 < down[0]["at_s"] <= 35
    back = [e for e in events if e["kind"] == "data_center.up" and e["subject"] == "gcp-nrt1"]
    assert len(back) == 2  # at the start, and once after its quiet period
    assert 60 <= back[-1]["at_s"] <= 70


SHORT = """
name: short
about: A short one.
duration_s: 12
world: {data_centers: 3, nodes: 1}
expect: [{moves_at_most: 0, after_s: 11}]
"""


def test_a_run_is_recorded_and_replays_to_the_same_digest(tmp_path: Path) -> None:
    path = tmp_path / "short.yaml"
    path.write_text(SHORT, encoding="utf-8")
    progress: list[float] = []
    outcome = run(str(path), 4, progress=lambda share, _: progress.append(share), record=tmp_path / "flight")
    assert progress[-1] == 1.0 and progress == sorted(progress)
    again = replay(str(tmp_path / "flight" / "flight-00000001.rec"))
    assert again["same"] is True and again["inputs"] == int(str(outcome["inputs"])) - 1  # the first is the checkpoint
    saved = tmp_path / "run.json"
    saved.write_text(json.dumps(outcome), encoding="utf-8")
    path.unlink()  # a saved run holds its scenario
    assert replay(str(saved))["same"] is True
    saved.write_text(json.dumps(outcome | {"digest": "00"}), encoding="utf-8")
    assert replay(str(saved))["same"] is False
    saved.write_text("{}", encoding="utf-8")
    with pytest.raises(InputRejected, match="source is missing"):
        replay(str(saved))


def test_an_unmet_expectation_is_a_violation(tmp_path: Path) -> None:
    path = tmp_path / "short.yaml"
    path.write_text(SHORT.replace("{moves_at_most: 0, after_s: 11}", "{event: data_center.down}"), encoding="utf-8")
    violations = run(str(path))["violations"]
    assert violations == ["not met: event: data_center.down (0)"]


def test_a_slow_solver_leaves_the_routes_alone_and_none_of_its_late_answers_is_adopted() -> None:
    outcome = run("slow-solver", 7)
    counters, events = outcome["counters"], outcome["events"]
    assert isinstance(counters, dict) and isinstance(events, list)
    assert counters["late_answers"] >= 40
    assert not [v for v in outcome["violations"] if "adopted" in v or "went back" in v]  # type: ignore[attr-defined]


def test_three_data_centers_measured_in_a_series(tmp_path: Path) -> None:
    lines = ["slice,src,a,b,c"]
    for number, ab in ((0, 20), (1, 90)):
        lines += [f"{number},a,0,{ab},40", f"{number},b,{ab},0,40", f"{number},c,40,40,0"]
    (tmp_path / "s.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    path = tmp_path / "series.yaml"
    path.write_text(
        "name: measured\nabout: b moves away from a.\nduration_s: 100\n"
        "world: {kind: series, file: s.csv, slice_s: 30, nodes: 1, clock_drift_ppm: 0}\n"
        "expect: [{right_percent: 100}, {moves_at_most: 2, per: run}]\n",
        encoding="utf-8",
    )
    outcome = run(str(path))
    assert outcome["violations"] == []
    assert outcome["moves"] == 2  # both ways over c once 90 / 2 > 40 / 2 + 40 / 2
