"""Noise keeps what was measured; events are timed right; the CUSUM bound is a bound."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.decisions import rules, synthetic
from bench.decisions.noise import BLOCK, Noise, cusum_delay, fit
from bench.decisions.rules import Family, Greedy
from router.core.errors import InputRejected
from router.core.model import MAX_RELAYS
from router.core.tables import DIRECT


def quiet_noise() -> Noise:
    rng = np.random.default_rng(1)
    return Noise([[rng.normal(0, 0.5, 500)], [rng.normal(0, 0.2, 300)]])


def test_residuals_are_cut_at_change_points_and_lost_probes_stay_lost(tmp_path: Path) -> None:
    rows = ["probe_id,time_utc,rtt_ms,lost,change_point"]
    rows += [f"1,t,{100 + i % 3},0,0" for i in range(150)]
    rows += [f"1,t,{'' if i == 7 else 200 + i % 3},{int(i == 7)},{int(i == 0)}" for i in range(150)]
    rows += [f"2,t,{50},0,0" for _ in range(20)]  # too short to be taken as stationary
    path = tmp_path / "traces.csv"
    path.write_text("\n".join(rows) + "\n")
    noise = fit(path)
    assert [len(probe) for probe in noise.pieces] == [2]
    for piece in noise.pieces[0]:
        assert set(piece[~np.isnan(piece)]) == {-1.0, 0.0, 1.0}
    assert noise.loss == pytest.approx(1 / 300)


@pytest.mark.parametrize(
    "text", ["probe_id,rtt_ms\n1,2\n", "probe_id,time_utc,rtt_ms,lost,change_point\n1,t,x,0,0\n", ""]
)
def test_traces_of_another_form_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "traces.csv"
    path.write_text(text)
    with pytest.raises(InputRejected):
        fit(path)


def test_drawn_noise_keeps_distribution_and_autocorrelation() -> None:
    rng = np.random.default_rng(5)
    walk = np.zeros(4_000)
    for i in range(1, len(walk)):
        walk[i] = 0.8 * walk[i - 1] + rng.normal()
    drawn = Noise([[walk]]).draw(30_000, rng)
    assert drawn.std() == pytest.approx(walk.std(), rel=0.1)
    for lag in (1, 3):
        assert np.corrcoef(drawn[lag:], drawn[:-lag])[0, 1] == pytest.approx(0.8**lag, abs=0.06)
    assert set(drawn) <= set(walk)
    assert len(Noise([[walk]]).draw(BLOCK + 1, rng)) == BLOCK + 1


@pytest.mark.parametrize(("false_every", "delay"), [(3.0, 1.5), (10.0, 3.75)])
def test_cusum_delay_by_hand(false_every: float, delay: float) -> None:
    """Losses 1/3 -> 2/3 make a walk of single steps: mean time to level 1 is 1/p, to level 2 it is (1 + p) / p^2."""
    # Under 1/3: 3 and 12 samples; the lowest level with alarms that rare is 1, then 2.
    assert cusum_delay(1 / 3, 2 / 3, false_every) == pytest.approx(delay)


def test_cusum_delay_grows_with_rarer_false_alarms_and_smaller_changes() -> None:
    assert cusum_delay(0.001, 0.05, 1e4) < cusum_delay(0.001, 0.05, 1e6)
    assert cusum_delay(0.001, 0.10, 1e5) < cusum_delay(0.001, 0.05, 1e5)


@pytest.mark.parametrize(("count", "most"), [(0, 2.996), (1, 4.744), (10, 16.962), (100, 118.1)])
def test_poisson_upper_ends(count: int, most: float) -> None:
    assert synthetic.poisson_at_most(count) == pytest.approx(most, rel=1e-3)


class Scripted:
    """Leaves 0 -> 1 ``late`` slices after an event begins: in the first cell always, in the second the first time."""

    name = "scripted"

    def __init__(self, late: int = 3) -> None:
        self._late = late

    def decide(self, seen: np.ndarray) -> np.ndarray:
        t, n = seen.shape[:2]
        paths = np.full((n, n, MAX_RELAYS), DIRECT, np.int16)
        away = [start + self._late <= t < start + synthetic.ON + 5 for start in synthetic.starts(3)]
        paths[0, 1, 0] = 2 if any(away) else DIRECT
        paths[4, 5, 0] = 6 if away[0] else DIRECT
        return paths


@pytest.fixture
def world() -> synthetic.World:
    return synthetic.make_world(quiet_noise(), 0.05, 2, cells=2, stationary=900, events=2)


@pytest.fixture(autouse=True)
def families(monkeypatch: pytest.MonkeyPatch) -> dict[str, Family]:
    families = dict(rules.FAMILIES) | {"scripted": Family("scripted", Scripted, {})}
    monkeypatch.setattr(synthetic, "FAMILIES", families)
    monkeypatch.setattr(synthetic, "WARM", 50)
    monkeypatch.setattr(synthetic, "ON", 40)
    monkeypatch.setattr(synthetic, "OFF", 30)
    return families


def test_reaction_moves_and_false_moves_are_counted(world: synthetic.World) -> None:
    row: dict[str, Any] = synthetic.measure(world, "scripted", {"late": 3})
    step = row["step"]
    assert step["events"] == 4  # two events in two cells
    assert step["share_left"] == 0.75
    assert step["p50_slices"] == 3.0
    assert step["p95_slices"] is None
    assert step["moves_per_event"] == 1.5  # away and back in three of four
    # Four scripted excursions in calm, each of two moves; 24 pairs in 900 - 51 slices of 50 ms.
    assert row["false_moves"] == 8
    assert row["link_days"] == pytest.approx(24 * 849 * 0.05 / 86_400)
    assert row["loss"]["cusum_slices"] > 1


def test_a_rule_without_memory_leaves_after_one_slow_sample(world: synthetic.World) -> None:
    row = synthetic.measure(world, "greedy", {})
    assert row["step"]["share_left"] == 1.0
    assert row["step"]["p95_slices"] == 1.0
    assert row["step"]["p95_s"] == pytest.approx(0.05)


def test_worlds_repeat_by_seed_and_hold_what_they_promise() -> None:
    one, two = (synthetic.make_world(quiet_noise(), 0.05, 7, cells=2, stationary=200, events=1) for _ in range(2))
    np.testing.assert_array_equal(one.stationary, two.stationary)
    base = np.where(one.pairs, np.median(one.stationary, axis=0), np.nan)
    for u in (0, 4):
        assert 7 < base[u, u + 2] + base[u + 2, u + 1] - base[u, u + 1] < 21
        assert 19 < base[u, u + 3] + base[u + 3, u + 1] - base[u, u + 1] < 36
    assert np.isnan(one.stationary[:, 0, 4:]).all()
    risen = one.events["step"][50:90, 0, 1] - base[0, 1]
    assert np.median(risen) == pytest.approx(40, abs=1)
    assert np.isnan(one.events["loss"][50:90, 0, 1]).mean() < 0.3
    assert isinstance(rules.FAMILIES["greedy"].rule(), Greedy)
