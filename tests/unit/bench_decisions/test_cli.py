"""The command: one JSON object, the log, the exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.decisions import cli as module
from bench.decisions.cli import cli


@pytest.fixture
def path(tmp_path: Path) -> Path:
    # a -> b turns slow in slice 2; over c it stays at 40.
    rows = ["slice,src,a,b,c"]
    for t in range(6):
        rows += [f"{t},a,,{30 if t < 2 else 90},20", f"{t},b,50,,50", f"{t},c,50,20,"]
    file = tmp_path / "three.csv"
    file.write_text("\n".join(rows) + "\n")
    return file


def test_rules_to_metrics(path: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    plot = tmp_path / "plot.svg"
    assert cli(["--series", str(path), "--rules", "direct,greedy", "--slice-s", "60", "--plot", str(plot)]) == 0
    out, err = capsys.readouterr()
    outcome = json.loads(out)
    assert (outcome["series"], outcome["nodes"], outcome["slices"]) == ("three", 3, 6)
    assert list(outcome["rules"]) == ["direct", "greedy"]
    greedy = outcome["rules"]["greedy"]["all"]
    # Greedy relays in slices 3, 4, 5: 25 ms less each, of 36 pair-slices; the clairvoyant in slice 2 as well.
    assert greedy["mean_gain_ms"] == pytest.approx(3 * 25 / 36, rel=1e-5)
    assert greedy["share_of_oracle"] == pytest.approx(3 / 4)
    assert greedy["moves_per_link_day"] == pytest.approx(1 / 36 * 86_400 / 60)
    assert "greedy" in err
    assert plot.read_text().startswith("<svg")


def test_log_then_score_gives_the_same_metrics(path: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    assert cli(["--series", str(path), "--rules", "greedy", "--log", str(log), "--from-slice", "2"]) == 0
    replayed = json.loads(capsys.readouterr().out)["rules"]["greedy"]
    assert len(log.read_text().splitlines()) == 6 * 6
    assert json.loads(log.read_text().splitlines()[3 * 6]) == {
        "slice": 3,
        "from": "a",
        "to": "b",
        "path": ["a", "c", "b"],
    }
    assert cli(["--series", str(path), "--score", str(log), "--from-slice", "2"]) == 0
    scored = json.loads(capsys.readouterr().out)["log"]
    assert scored == {"all": replayed["all"], "second_half": replayed["second_half"]}


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        ([], 2, "--series"),
        (["--rules", "nonsense", "--series", "FILE"], 1, "unknown_rule"),
        (["--series", "gone.csv"], 1, "bad_series"),
        (["--series", "FILE", "--from-slice", "6"], 1, "from 0 to 5"),
        (["--series", "FILE", "--rules", "direct,greedy", "--log", "FILE.log"], 1, "no_rule_to_log"),
    ],
)
def test_refusals_say_why(
    path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, says: str
) -> None:
    assert cli([argument.replace("FILE", str(path)) for argument in arguments]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert says in err


def test_bench_skips_what_is_not_there(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "DATA", tmp_path)
    assert module.main() is True
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["skipped"] for line in lines] == ["no such file"] * len(lines)
    assert lines
