"""The blame benchmark: worlds and faults are functions of their seed, files are checked, wrong drains are counted."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.blame.cli import cli
from bench.blame.drive import Spoken, Told, drive
from bench.blame.faults import KINDS, Fault, ScenarioError, candidates, crossing, draw_faults, read_scenario
from bench.blame.score import Score
from bench.blame.world import make_world
from router.core.verdicts import Component, ComponentKind


def write(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "fault.yaml"
    file.write_text(text)
    return file


def test_a_seed_is_a_history() -> None:
    one, other = (drive(make_world(5), draw_faults(make_world(5), 2, 3), 5) for _ in range(2))
    assert (one.probes, one.spoken, one.first) == (other.probes, other.spoken, other.first)


def test_every_kind_can_break_somewhere_and_crosses_something() -> None:
    seen = set()
    for seed in range(6):
        world = make_world(seed)
        for kind in KINDS:
            for name in candidates(world, kind)[:2]:
                rows, groups = crossing(world, Component(kind, name))
                assert rows.any() or groups.any(), (seed, kind, name)
                seen.add(kind)
    assert seen == set(KINDS)


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("[]", "a mapping with name"),
        ("faults: {}", "faults must be a list"),
        ("faults: [{kind: wire}]", r"faults\[0\].kind"),
        ("faults: [{kind: node, component: nowhere}]", r"faults\[0\].component"),
        ("faults: [{kind: node, loss: 3}]", "no field loss"),
        ("faults: [{kind: node, loss_pct: -3}]", r"faults\[0\].loss_pct"),
        ("faults: [{kind: node, shape: round}]", "shape is one of"),
        ("duration_s: soon", "duration_s"),
    ],
)
def test_a_file_that_is_not_as_documented_is_refused_by_its_field(tmp_path: Path, text: str, field: str) -> None:
    file = write(tmp_path, text)
    with pytest.raises(ScenarioError, match=field):
        read_scenario(file).faults(make_world(1))
    assert cli(["--scenario", str(file)]) == 2


def test_a_file_says_what_breaks(tmp_path: Path) -> None:
    text = "{name: n, seed: 2, duration_s: 50, faults: [{kind: prober, at_s: 10, delay_ms: 200, flows_pct: 50}]}"
    scenario = read_scenario(write(tmp_path, text))
    (fault,) = scenario.faults(make_world(scenario.seed))
    assert (fault.component.kind, fault.at_s, fault.duration_s) == (ComponentKind.PROBER, 10, 40)
    assert (fault.delay_ms, fault.flows_pct, fault.is_partial) == (200, 50, True)


def test_the_first_sure_verdict_counts_and_wrong_drains_are_counted() -> None:
    truth, wrong = Component(ComponentKind.NODE, "a-1"), Component(ComponentKind.PROVIDER, "a")
    fault = Fault(truth, 40, 20, loss_pct=100)
    right = Told([fault], {truth: Spoken(41, 45)}, first=[(45, truth)])
    late = Told([fault], {truth: Spoken(41, 52)}, first=[(46, wrong), (52, truth)])
    missed = Told([fault])
    score = Score()
    assert [score.add(0, told, 60)[0].is_right for told in (right, late, missed)] == [True, False, False]
    assert (score.right, score.wrong_drains, score.median("sure_s")) == (1, 1, 5)
    assert score.confusion() == {"node": {"node": 1, "nothing": 1, "provider": 1}}
