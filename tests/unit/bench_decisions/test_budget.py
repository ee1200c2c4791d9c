"""The budget judgement: what is hidden is never read, the budget holds, the figures can be recomputed from the log."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from bench.decisions.belief import Beliefs
from bench.decisions.budget import Limits, hidden_pairs, main, replay
from router.sim.series import Series


def made(n: int, slices: int, noise: float = 0.01, seed: int = 1) -> Series:
    rng = np.random.default_rng(seed)
    x = rng.uniform(0, 100, (n, 2))
    rtt = np.linalg.norm(x[:, None] - x[None], axis=2) + 5
    bad = np.triu(rng.random((n, n)) < 0.15, 1)
    rtt = np.where(bad | bad.T, 2.5 * rtt, rtt)
    series = rtt[None] * np.exp(rng.normal(0, noise, (slices, n, n)))
    series[:, np.arange(n), np.arange(n)] = np.nan
    return Series(tuple(f"n{i}" for i in range(n)), tuple(range(10, 10 + slices)), series)


def written(series: Series, path: Path) -> Path:
    rows = ["slice,src," + ",".join(series.nodes)]
    for label, matrix in zip(series.slices, series.rtt_ms, strict=True):
        for name, row in zip(series.nodes, matrix, strict=True):
            rows.append(f"{label},{name}," + ",".join("" if np.isnan(x) else repr(float(x)) for x in row))
    path.write_text("\n".join(rows) + "\n")
    return path


def test_hidden_pairs_are_a_share_both_ways_and_always_the_same() -> None:
    hidden = hidden_pairs(30, 0.8)
    assert hidden.sum() == 2 * round(0.8 * 435)
    assert (hidden == hidden.T).all()
    assert not np.diagonal(hidden).any()
    assert (hidden == hidden_pairs(30, 0.8)).all()
    assert not hidden_pairs(30, 0.0).any()


def test_with_everything_read_it_is_as_good_as_the_omniscient() -> None:
    figures = replay(made(12, 3, noise=0.3), Limits(1.0, 0.0))
    assert figures["mean_delay_ms"] == pytest.approx(figures["omniscient_ms"], abs=1e-3)
    assert figures["gain_share"] == pytest.approx(1.0, abs=1e-3)
    assert figures["probes_share"] <= 1.0


def test_without_probes_everybody_stays_direct() -> None:
    figures = replay(made(12, 3), Limits(0.0, 0.0))
    assert figures["mean_delay_ms"] == figures["direct_ms"]
    assert figures["moved_share"] == 0


@pytest.mark.slow
def test_a_tenth_of_the_probes_gets_over_half_of_the_gain_and_hidden_pairs_are_predicted() -> None:
    series = made(30, 10)
    figures = replay(series, Limits(0.1, 0.0))
    assert figures["gain_share"] > 0.5
    assert figures["probes_share"] <= 0.1
    hidden = replay(series, Limits(0.1, 0.6))
    assert hidden["median_relative_error"] < 0.3
    assert 0.8 < hidden["interval_coverage"] < 1.0
    assert hidden["omniscient_ms"] <= hidden["attainable_ms"] <= hidden["direct_ms"]


def test_the_log_holds_the_budget_and_gives_the_score(tmp_path: Path) -> None:
    series = made(12, 4)
    out = tmp_path / "log.jsonl"
    result = main(written(series, tmp_path / "s.csv"), 0.2, 0.5, out)
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    for label in series.slices:
        probes = [tuple(line["probe"]) for line in lines if line["slice"] == label and "probe" in line]
        assert len(probes) == len(set(probes)) <= int(0.2 * 12 * 11)
    index = {name: i for i, name in enumerate(series.nodes)}
    delays = []
    for line in lines:
        if "path" in line:
            hops = [index[name] for name in line["path"]]
            rtt = series.rtt_ms[line["slice"] - 10]
            delays.append(sum(rtt[a, b] / 2 for a, b in pairwise(hops)))
    assert len(delays) == 4 * 12 * 11
    assert np.mean(delays) == pytest.approx(result["mean_delay_ms"])
    assert set(result["met"]) == {"excess", "gain", "error", "coverage"}
    assert result["hidden_pairs"] == 33


def test_no_choice_depends_on_what_was_not_read() -> None:
    series = made(14, 4)
    first = replay(series, Limits(0.1, 0.5))
    changed = series.rtt_ms.copy()
    changed[:, hidden_pairs(14, 0.5)] *= 7.0
    second = replay(Series(series.nodes, series.slices, changed), Limits(0.1, 0.5))
    assert first["moved_share"] == second["moved_share"]
    assert first["probes_share"] == second["probes_share"]


def test_dead_links_are_left_and_empty_series_are_judged() -> None:
    series = made(10, 6)
    series.rtt_ms[3:, 2, :] = np.nan  # one node falls silent
    series.rtt_ms[3:, :, 2] = np.nan
    figures = replay(series, Limits(0.5, 0.0))
    assert np.isfinite(figures["mean_delay_ms"])
    silent = Series(("a", "b"), (0,), np.full((1, 2, 2), np.nan))
    assert replay(silent, Limits(0.1, 0.8))["gain_share"] is None


def test_beliefs_learn_that_readings_last_or_do_not() -> None:
    one = np.array([0])
    calm, wild = Beliefs(2), Beliefs(2)
    rng = np.random.default_rng(4)
    for at in range(60):
        calm.observe(at, one, one + 1, np.array([20.0]))
        wild.observe(at, one, one + 1, np.array([20.0 * np.exp(rng.normal(0, 0.8))]))
    assert calm.now(60)[0][0, 1] == pytest.approx(20.0)
    assert calm.now(60)[1][0, 1] < 0.1 < 0.4 < wild.now(60)[1][0, 1]
    assert calm.now(59)[1][0, 1] == 0.0  # read in that very slice
    assert np.isnan(calm.now(60)[0][1, 0])
    calm.observe(60, one, one + 1, np.array([np.nan]))
    assert np.isnan(calm.now(60)[0][0, 1])  # down until it answers again


def test_beliefs_notice_that_both_directions_are_one() -> None:
    beliefs, there, back = Beliefs(8), *np.triu_indices(8, 1)
    value = np.linspace(5, 50, len(there))
    beliefs.observe(0, there, back, value)
    assert not beliefs.same_both_ways
    beliefs.observe(0, back, there, value)
    assert beliefs.same_both_ways
    beliefs.observe(1, there[:1], back[:1], np.array([99.0]))
    assert beliefs.now(1)[0][back[0], there[0]] == pytest.approx(99.0)
