"""``python -m bench.solve --matrix``: the paths it writes against brute force, and what it refuses."""

from __future__ import annotations

import csv
import gzip
import itertools
import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.solve import measured
from bench.solve.__main__ import main
from bench.solve.verify import WrongAnswer, check_solution
from router.core.kernel import solve_context
from router.core.tables import NO_COST

AZURE = Path(__file__).parents[3] / "shared/data/rtt_azure_p50_2025.csv"
Rtts = dict[tuple[str, str], float]


def directed(seed: int, count: int = 7, missing: float = 0.25) -> Rtts:
    """Round trips in ms of a random directed world with holes and ties."""
    draw = random.Random(seed)
    names = [f"dc{i}" for i in range(count)]
    return {
        pair: draw.choice([0, 1.25, 2.5, 40.002, 80, 200])
        for pair in itertools.permutations(names, 2)
        if draw.random() > missing
    }


def write_directed(path: Path, rtts: Rtts) -> Path:
    rows = [f"{a},{b},{rtt}" for (a, b), rtt in rtts.items()]
    path.write_text("\n".join(["src_region,dst_region,p50_rtt_ms", *rows]) + "\n", encoding="utf-8")
    return path


def brute_force_us(rtts: Rtts, source: str, target: str, max_relays: int, relay_cost_us: int) -> int | None:
    """Cheapest of every simple path with at most so many relays."""
    names = sorted({name for pair in rtts for name in pair} - {source, target})
    best = None
    for count in range(max_relays + 1):
        for relays in itertools.permutations(names, count):
            hops = list(itertools.pairwise([source, *relays, target]))
            if all(hop in rtts for hop in hops):
                cost = sum(round(rtts[hop] * 500) for hop in hops) + count * relay_cost_us
                best = cost if best is None else min(best, cost)
    return best


def solved(matrix: Path, *options: str) -> list[dict[str, Any]]:
    out = matrix.with_suffix(".jsonl")
    assert main(["--matrix", str(matrix), "--out", str(out), *options]) == 0
    return [json.loads(row) for row in out.read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("max_relays", [0, 1, 2, 3])
def test_every_path_is_the_cheapest_there_is(tmp_path: Path, max_relays: int) -> None:
    rtts = directed(max_relays, count=6)
    matrix = write_directed(tmp_path / "m.csv", rtts)
    rows = solved(matrix, "--max-relays", str(max_relays), "--relay-cost-ms", "0.5")
    names = sorted({name for pair in rtts for name in pair})
    assert [(row["from"], row["to"]) for row in rows] == list(itertools.permutations(names, 2))
    for row in rows:
        wanted = brute_force_us(rtts, row["from"], row["to"], max_relays, 500)
        assert row["metric_us"] == wanted
        if wanted is None:
            assert row["path"] is None
            continue
        assert (row["path"][0], row["path"][-1]) == (row["from"], row["to"])
        hops = list(itertools.pairwise(row["path"]))
        assert sum(round(rtts[hop] * 500) for hop in hops) + 500 * (len(hops) - 1) == wanted
        assert len(hops) <= max_relays + 1


def test_the_summary_counts_what_was_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rtts = {("a", "b"): 100.0, ("a", "c"): 10.0, ("c", "b"): 20.0, ("b", "a"): 30.0}
    rows = solved(write_directed(tmp_path / "m.csv", rtts), "--relay-cost-ms", "1")
    summary = json.loads(capsys.readouterr().out)
    assert rows[0] == {"from": "a", "to": "b", "path": ["a", "c", "b"], "metric_us": 16_000}
    assert rows[3] == {"from": "b", "to": "c", "path": ["b", "a", "c"], "metric_us": 21_000}
    assert summary["pairs"] == 6 and summary["reachable"] == 6 and summary["links"] == 4
    assert summary["relayed"] == sum(len(row["path"]) > 2 for row in rows) == 3
    assert summary["mean_saving_ms"] == pytest.approx((50 - 16) / 4)  # of the four pairs that have a link
    assert summary["max_relays"] == 2 and summary["seconds"] >= 0


def test_all_forms_of_a_matrix_give_the_same_paths(tmp_path: Path) -> None:
    rtts = {pair: rtt for pair, rtt in directed(7, count=5, missing=0.0).items() if pair[0] < pair[1]}
    both = rtts | {(b, a): rtt for (a, b), rtt in rtts.items()}
    names = sorted({name for pair in rtts for name in pair})
    plain = write_directed(tmp_path / "directed.csv", both)
    pairs = tmp_path / "pairs.csv.gz"
    with gzip.open(pairs, "wt", encoding="utf-8", newline="") as file:
        head = ["provider_a", "region_a", "provider_b", "region_b", "rtt_ms", "quality"]
        csv.writer(file).writerows([head, *(["p", a, "p", b, rtt, "ok"] for (a, b), rtt in rtts.items())])
    square = tmp_path / "square.csv.gz"
    with gzip.open(square, "wt", encoding="utf-8", newline="") as file:
        cells = [[a, *(both.get((a, b), 0) for b in names)] for a in names]
        csv.writer(file).writerows([["src", *names], *cells])
    wanted = solved(plain)
    assert solved(square) == wanted
    unnamed = json.loads(json.dumps(solved(pairs)).replace('"p-', '"'))
    assert unnamed == wanted


@pytest.mark.parametrize(
    ("text", "field", "rule"),
    [
        ("src_region,dst_region,p50_rtt_ms\na,b,-1\n", "line 2: p50_rtt_ms", "must be between 0 and 60000 ms"),
        ("src_region,dst_region,p50_rtt_ms\na,b,nan\n", "line 2: p50_rtt_ms", "must be between 0 and 60000 ms"),
        ("src_region,dst_region,p50_rtt_ms\na,b,soon\n", "line 2: p50_rtt_ms", "must be a number of milliseconds"),
        ("src_region,dst_region,p50_rtt_ms\na,b,1\na,b,2\n", "line 3: p50_rtt_ms", "but an earlier line says 1 ms"),
        ("one,two\n1,2\n", "line 1: header", "must have the columns"),
        ("", "line 1: header", "must have the columns"),
    ],
)
def test_a_bad_matrix_is_refused_with_line_field_and_rule(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, field: str, rule: str
) -> None:
    matrix, out = tmp_path / "m.csv", tmp_path / "out.jsonl"
    matrix.write_text(text, encoding="utf-8")
    out.write_text("what was there\n", encoding="utf-8")
    assert main(["--matrix", str(matrix), "--out", str(out)]) == 1
    said = capsys.readouterr()
    assert said.out == "" and said.err.startswith("refused (bad_matrix): m.csv, ")
    assert f"field: {field}" in said.err and rule in said.err
    assert out.read_text(encoding="utf-8") == "what was there\n"


def test_files_that_cannot_be_read_or_written_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--matrix", str(tmp_path / "none.csv"), "--out", str(tmp_path / "o")]) == 1
    assert "cannot be read: No such file" in capsys.readouterr().err
    matrix = write_directed(tmp_path / "m.csv", {("a", "b"): 1.0})
    assert main(["--matrix", str(matrix), "--out", str(tmp_path / "no/such/folder.jsonl")]) == 1
    assert "field: --out" in capsys.readouterr().err


@pytest.mark.parametrize(
    "wrong",
    [
        ["--matrix", "m.csv"],
        ["--out", "o.jsonl"],
        ["--max-relays", "2"],
        ["--matrix", "m.csv", "--out", "o", "--max-relays", "4"],
        ["--matrix", "m.csv", "--out", "o", "--max-relays", "-1"],
        ["--matrix", "m.csv", "--out", "o", "--relay-cost-ms", "nan"],
        ["--matrix", "m.csv", "--out", "o", "--relay-cost-ms", "-0.5"],
        ["--matrix", "m.csv", "--out", "o", "--surprise"],
    ],
)
def test_wrong_usage_is_exit_code_two(wrong: list[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(wrong)
    assert end.value.code == 2


def test_the_command_needs_no_peer_library(tmp_path: Path) -> None:
    matrix = write_directed(tmp_path / "m.csv", {("a", "b"): 1.0})
    code = (
        "import sys, bench.solve.__main__ as m;"
        f"assert m.main(['--matrix', {str(matrix)!r}, '--out', {str(tmp_path / 'o')!r}]) == 0;"
        "sys.exit(','.join(sorted({'scipy', 'igraph', 'rustworkx', 'networkit', 'networkx'} & set(sys.modules))) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_verifier_notices_a_path_that_is_not_the_best() -> None:
    cost = np.array([[NO_COST, 10, 90], [10, NO_COST, 10], [90, 10, NO_COST]], np.int64)
    anyone = np.ones(3, np.bool_)
    total, relays = solve_context(cost, anyone, 1, 0)
    check_solution(cost, anyone, 1, 0, (total, relays), range(3))
    worse, direct = total.copy(), relays.copy()
    worse[0, 2], direct[0, 2] = 90, -1
    with pytest.raises(WrongAnswer, match="not the best"):
        check_solution(cost, anyone, 1, 0, (worse, direct), range(3))
    with pytest.raises(WrongAnswer, match="do not cost their total"):
        check_solution(cost, anyone, 1, 0, (worse, relays), range(3))
    with pytest.raises(WrongAnswer, match="more than 0 relays"):
        check_solution(cost, anyone, 0, 0, (total, relays), range(3))


@pytest.mark.skipif(not AZURE.exists(), reason="the shared measurements are not beside the repository")
def test_a_measured_matrix_with_missing_links() -> None:
    links = measured.load(AZURE)
    total, relays, _ = measured.solve(links, 3, 500)
    anyone = np.ones(len(links.ids), np.bool_)
    assert "australia-central" in links.ids and (links.cost == NO_COST).sum() > len(links.ids)
    check_solution(links.cost, anyone, 3, 500, (total, relays), range(len(links.ids)))
    figures = measured.summary(links, total, relays)
    assert figures["reachable"] > figures["links"] and figures["reachable"] < figures["pairs"]
