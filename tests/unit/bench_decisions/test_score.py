"""The score, by hand on three nodes, and by brute force on random series."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from three_nodes import FAR_MS, GONE, series

from bench.decisions._paths import direct_paths
from bench.decisions.reaction import find_steps
from bench.decisions.replay import open_log, score_log, scored
from bench.decisions.rules import Greedy
from bench.decisions.score import Judge, Score
from router.core.errors import InputRejected
from router.core.quality import mos, rating
from router.sim.series import Series


def over_c(n: int = 3) -> np.ndarray:
    paths = direct_paths(n)
    paths[0, 1, 0] = 2
    return paths


def test_gain_worse_moved_and_lost_by_hand() -> None:
    # a -> b: direct 30, 30, 30, gone, 30; over c 20, 40, gone, 20, 30 (equal is not worse). Five other pairs stay.
    judge = Judge.of(series([30, 30, 30, GONE, 30], [20, 40, GONE, 20, 30]), slice_s=100.0)
    score = Score(judge)
    for t in range(5):
        score.add(t, over_c() if t else direct_paths(3))
    metrics = score.result()
    # Moved in slices 1..4, both measured in 1 and 4: gains -10 and 0; direct measured in 5 * 6 pair-slices but one
    # (a -> b in 3) and two (a -> c, c -> b in 2).
    assert metrics["share_moved"] == pytest.approx(4 / 30)
    assert metrics["share_worse"] == pytest.approx(1 / 2)
    assert metrics["mean_gain_ms"] == pytest.approx(-10 / 27)
    assert metrics["share_lost"] == pytest.approx(3 / 30)  # a -> b, a -> c and c -> b in slice 2
    assert metrics["share_lost_moved"] == pytest.approx(1 / 30)
    assert metrics["share_rescued"] == pytest.approx(1 / 30)  # slice 3
    assert metrics["moves_per_pair_1000"] == pytest.approx(1000 / 30)
    assert metrics["moves_per_link_day"] == pytest.approx(86_400 / (30 * 100))
    others_ms = 3 * 5 + 2 * 0  # b -> a, b -> c, c -> a are FAR in all five slices
    near_ms = 10 + 20 + 10 + 15  # a -> c alone; c -> b is the same again
    assert metrics["mean_delay_ms"] == pytest.approx((others_ms * FAR_MS + 2 * near_ms + 30 + 40 + 30) / 26)
    # The clairvoyant relays a -> b in slice 0 only, where the direct link was measured and the relay faster.
    assert metrics["oracle_gain_ms"] == pytest.approx(10 / 27)
    assert metrics["share_of_oracle"] == pytest.approx(-1.0)


def test_a_range_of_slices_is_judged_alone() -> None:
    judge = Judge.of(series([30, 30, 30, 30], [20, 40, 20, 20]))
    score = Score(judge)
    for t in range(4):
        score.add(t, over_c())
    assert score.result(0, 2)["share_worse"] == 0.5
    assert score.result(2)["share_worse"] == 0.0
    assert score.result(2)["mean_gain_ms"] == pytest.approx(2 * 10 / 12)
    assert score.result(2)["moves_per_link_day"] is None


def test_fresh_counts_only_slices_in_which_a_hop_has_a_new_value() -> None:
    # The relay repeats 20 until it is probed again and shows 40; direct changes do not matter.
    judge = Judge.of(series([30, 30, 31, 30, 30], [20, 20, 20, 40, 40]))
    score = Score(judge)
    for t in range(5):
        score.add(t, over_c())
    metrics = score.result()
    assert metrics["share_worse"] == pytest.approx(2 / 5)
    assert metrics["share_worse_fresh"] == 1.0
    assert metrics["gain_fresh_ms"] == pytest.approx(-10.0)


def test_mos_is_the_e_models() -> None:
    judge = Judge.of(np.where(np.eye(2, dtype=bool), np.nan, 200.0)[None])
    score = Score(judge)
    score.add(0, direct_paths(2))
    assert score.result()["mos"] == pytest.approx(mos(rating(200_000, 0, 0)))


def test_the_clairvoyant_equals_brute_force_over_two_relays() -> None:
    rng = np.random.default_rng(4)
    one_way_ms = rng.integers(1, 60, (3, 6, 6)).astype(float)
    one_way_ms[rng.random(one_way_ms.shape) < 0.1] = np.nan
    one_way_ms[:, range(6), range(6)] = np.nan
    judge = Judge.of(one_way_ms)
    for t, delay_ms in enumerate(one_way_ms):
        gains = {1: 0.0, 2: 0.0}
        for u, v in itertools.permutations(range(6), 2):
            others = [r for r in range(6) if r not in (u, v)]
            for most in gains:
                ways = [delay_ms[u, v]]
                for count in range(1, most + 1):
                    for relays in itertools.permutations(others, count):
                        ways.append(sum(delay_ms[a, b] for a, b in itertools.pairwise((u, *relays, v))))
                if not np.isnan(delay_ms[u, v]):
                    gains[most] += delay_ms[u, v] - np.nanmin(ways)
        assert judge.oracle_ms[t] == pytest.approx(gains[2])
        assert judge.oracle1_ms[t] == pytest.approx(gains[1])


def test_a_step_is_found_once_and_its_answer_timed() -> None:
    # Direct 30 -> 80 in slice 12 for good, the relay at 50: level 80, answered by a relayed path of 67.5 or less.
    one_way_ms = series([30.0] * 12 + [80.0] * 20, [50.0] * 32)
    steps = find_steps(one_way_ms)
    mine = [i for i in range(len(steps.at)) if (steps.source[i], steps.target[i]) == (0, 1)]
    assert len(mine) == len(steps.at) == 1
    assert abs(int(steps.at[0]) - 12) <= 5  # medians of ten straddle the edge
    assert steps.below_ms[0] == pytest.approx(67.5)
    judge = Judge.of(one_way_ms)
    score = Score(judge)
    for t in range(32):
        score.add(t, over_c() if t >= 15 else direct_paths(3))
    metrics = score.result()
    assert metrics["reaction_p50_slices"] == 15 - int(steps.at[0])
    assert metrics["share_answered"] == 1.0


def test_no_step_without_a_relay_worth_leaving_for() -> None:
    assert len(find_steps(series([30.0] * 12 + [80.0] * 12)).at) == 0


def test_a_log_scores_as_the_replay_did(tmp_path: Path) -> None:
    rng = np.random.default_rng(9)
    rtt_ms = rng.integers(2, 80, (8, 4, 4)).astype(float)
    rtt_ms[:, range(4), range(4)] = np.nan
    rtt_ms[3, 0, 1] = np.nan
    measured = Series(("n1", 'n"2', "n3", "n4"), (0, 1, 2, 5, 6, 7, 8, 9), rtt_ms)
    judge = Judge.of(measured.one_way_ms)
    for name in ("log.jsonl", "log.jsonl.gz"):
        with open_log(tmp_path / name, measured) as log:
            score = scored(judge, Greedy(), log)
        assert score_log(measured, judge, tmp_path / name).result() == score.result()
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert len(lines) == 8 * 12
    assert lines[0] == {"slice": 0, "from": "n1", "to": 'n"2', "path": ["n1", 'n"2']}
    assert {line["slice"] for line in lines} == set(measured.slices)
    assert any(len(line["path"]) == 3 for line in lines)


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        ({"slice": 0, "from": "a", "to": "b", "path": ["a", "x", "b"]}, "known slice"),
        ({"slice": 9, "from": "a", "to": "b", "path": ["a", "b"]}, "known slice"),
        ({"slice": 0, "from": "a", "to": "b", "path": ["a", "c", "a", "b"]}, "all different"),
        ({"slice": 0, "from": "a", "to": "c", "path": ["a", "b"]}, "its ends"),
        ({"slice": 0, "from": "a", "to": "b", "path": ["a", "b"]}, "have no path"),
    ],
)
def test_a_log_that_is_not_one_is_refused(tmp_path: Path, line: dict[str, object], rule: str) -> None:
    one_way_ms = series([30.0], [20.0])
    path = tmp_path / "log.jsonl"
    path.write_text(json.dumps(line) + "\n")
    with pytest.raises(InputRejected, match=rule):
        score_log(Series(("a", "b", "c"), (0,), 2 * one_way_ms), Judge.of(one_way_ms), path)
