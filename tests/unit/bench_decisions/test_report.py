"""Tuning looks at the first half only; dominance, table and plot say what the numbers say."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from bench.decisions import report, rules
from bench.decisions.rules import Direct, Family
from bench.decisions.score import Judge
from bench.decisions.tune import Trial, frontier, trial, trials, tuned


def made(name: str, first: tuple[float | None, float], second: tuple[float | None, float] = (0.0, 0.0)) -> Trial:
    halves = [{"share_worse": worse, "mean_gain_ms": gain} for worse, gain in (first, second)]
    return Trial(name, {}, halves[0], halves[1], halves[1])


def test_the_frontier_takes_the_most_gain_within_each_cap_of_the_first_half() -> None:
    careful, middle, bold = made("careful", (0.015, 2)), made("middle", (0.07, 5)), made("bold", (0.4, 9))
    beaten, idle = made("beaten", (0.07, 4), (0.0, 99)), made("idle", (None, 0.0))
    tried = [beaten, bold, idle, careful, middle]
    assert frontier(tried) == [careful, middle, bold]
    assert tuned(tried, 0.08) is middle
    assert tuned([bold, beaten], 0.01) is beaten
    assert tuned([idle]) is idle


def test_a_trial_judges_the_halves_apart() -> None:
    one_way_ms = np.full((8, 3, 3), 50.0)
    one_way_ms[4:, 0, 1] = 200.0
    one_way_ms[:, range(3), range(3)] = np.nan
    done = trial(Judge.of(one_way_ms), "greedy", {}, first=1)
    assert done.first_half["slices"] == 3
    assert done.second_half["slices"] == 4
    assert done.first_half["mean_gain_ms"] == 0
    # Greedy sees the rise in slice 5: three of four slices gain 100 ms on one of six pairs.
    assert done.second_half["mean_gain_ms"] == pytest.approx(100 * 3 / 24)
    assert done.second_half["share_of_oracle"] == pytest.approx(3 / 4)


def test_trials_on_all_cores_equal_trials_one_by_one() -> None:
    one_way_ms = np.random.default_rng(1).integers(1, 50, (10, 4, 4)).astype(float)
    judge = Judge.of(one_way_ms)
    jobs = [("greedy", {}, 0), ("ron", {"margin": 0.2}, 0), ("direct", {}, 0)]
    assert trials(judge, jobs) == [trial(judge, *job) for job in jobs]


@pytest.fixture
def outcome(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setattr(rules, "FAMILIES", dict(rules.FAMILIES))
    monkeypatch.setattr(report, "FAMILIES", rules.FAMILIES)
    rules.register(Family("engine", Direct, {}, ours=True))
    one_way_ms = np.random.default_rng(2).integers(1, 50, (12, 5, 5)).astype(float)
    one_way_ms[:, range(5), range(5)] = np.nan
    judge = Judge.of(one_way_ms)
    published = {name: trial(judge, name, {}) for name in ("direct", "greedy", "paired-0.9")}
    published["engine"] = Trial("engine", {}, *(published["direct"].second_half,) * 3)
    grid = [trial(judge, "greedy", {}), trial(judge, "greedy", {})]
    return report.rules_report(published, {"greedy": grid})


def test_dominance_names_what_none_of_our_points_matches(outcome: dict[str, Any]) -> None:
    def point(worse: float, gain: float) -> dict[str, Any]:
        return {"share_worse": worse, "mean_gain_ms": gain}

    entry = {"ours": False, "second_half": point(0.1, 5.0), "frontier": [{"second_half": point(0.02, 1.0)}]}
    ours = {"ours": True, "second_half": point(0.08, 6.0), "frontier": [{"second_half": point(0.01, 0.5)}]}
    assert report.dominance({"other": entry}) is None
    assert report.dominance({"other": entry, "engine": ours}) == {
        "beaten": 1,
        "unbeaten": [{"rule": "other", "share_worse": 0.02, "mean_gain_ms": 1.0}],
    }
    ours = ours | {"frontier": [{"second_half": point(0.02, 1.0)}]}
    assert report.dominance({"other": entry, "engine": ours}) == {"beaten": 2, "unbeaten": []}


def test_the_table_has_every_rule_once_and_once_tuned(outcome: dict[str, Any]) -> None:
    lines = report.table(outcome).splitlines()
    assert sorted(line[:18].strip() for line in lines[1:]) == sorted(
        ["direct", "engine", "greedy", "greedy tuned", "paired-0.9"]
    )
    assert len({len(line) for line in lines}) == 1


def test_the_plot_is_well_formed_and_stays_inside_its_frame(outcome: dict[str, Any]) -> None:
    root = ElementTree.fromstring(report.plot(outcome, "a < b & c"))
    circles = root.findall("{http://www.w3.org/2000/svg}circle")
    texts = [text.text for text in root.findall("{http://www.w3.org/2000/svg}text")]
    assert texts[0] == "a < b & c"
    assert {"direct", "greedy", "engine", "paired-0.9"} <= set(texts)
    assert all(
        0 <= float(c.get("cx", -1)) <= report.WIDTH and 0 <= float(c.get("cy", -1)) <= report.HEIGHT for c in circles
    )


@pytest.mark.parametrize(("low", "high"), [(0.0, 0.72), (-4.2, 72.3), (0.0, 0.1), (-120.0, 3.0)])
def test_ticks_are_round_and_inside(low: float, high: float) -> None:
    ticks = report._ticks(low, high)
    assert 4 <= len(ticks) <= 9
    assert low - 1e-9 <= ticks[0] < ticks[-1] <= high + 1e-9
    assert f"{(ticks[1] - ticks[0]):.0e}"[0] in "125"


def test_rounding_reaches_every_number() -> None:
    assert report.rounded({"a": [1.23456789, {"b": (0.1 + 0.2, 3, None)}]}) == {"a": [1.23457, {"b": [0.3, 3, None]}]}
