"""Greedy and the paired window; what every rule must keep: causality, and nothing seen means direct."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from three_nodes import GONE, relays_of, series

from bench.decisions.rules import FAMILIES, Greedy, PairedWindow
from router.core.model import MAX_RELAYS
from router.core.tables import DIRECT

CASES = [(name, constants) for name, f in FAMILIES.items() for constants in (f.published, *f.grid[:2])]


def random_series(slices: int, n: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    one_way_ms = rng.integers(1, 40, (slices, n, n)).astype(float)
    one_way_ms[rng.random(one_way_ms.shape) < 0.05] = np.nan
    one_way_ms[:, range(n), range(n)] = np.nan
    return one_way_ms


def test_greedy_follows_the_last_slice_and_remembers_through_a_gap() -> None:
    assert relays_of(Greedy(), series([20, 10, GONE, 30], [15, 15, 15, 15])) == "drddr"


def test_paired_window_moves_at_its_share_of_the_window_and_forgets_what_left_it() -> None:
    # Window 4, share 0.75; the relay (20) wins where direct is 30. Wins in the last four slices, from the fourth on:
    # t=4: W W L L = 2; t=5: W L L W = 2; t=6: L L W W = 2; t=7: L W W W = 3.
    direct_ms = [30, 30, 10, 10, 30, 30, 30, 10]
    assert relays_of(PairedWindow(0.75, 4, 4), series(direct_ms, [20] * 8)) == "ddddddd" + "rr"


def test_paired_window_counts_as_a_recount_would() -> None:
    one_way_ms = random_series(40, 6, 3)
    rule = PairedWindow(0.5, 7)
    for t in range(41):
        paths = rule.decide(one_way_ms[:t])
        recent = one_way_ms[max(0, t - 7) : t]
        wins = (recent[:, :, :, None] + recent[:, None, :, :] < recent[:, :, None, :]).sum(axis=0)
        expected = np.where(wins.max(axis=1) >= 0.5 * min(t, 7), wins.argmax(axis=1), DIRECT)
        if t >= 5:
            np.testing.assert_array_equal(paths[..., 0], np.where(wins.max(axis=1) > 0, expected, DIRECT))
        else:
            assert (paths == DIRECT).all()


def test_paired_window_gives_the_same_whatever_the_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    one_way_ms = random_series(12, 7, 5)
    whole = PairedWindow(0.6, 5)
    expected = [whole.decide(one_way_ms[:t]) for t in range(13)]
    monkeypatch.setattr(PairedWindow, "CHUNK", 100)
    rule = PairedWindow(0.6, 5)
    np.testing.assert_array_equal([rule.decide(one_way_ms[:t]) for t in range(13)], expected)


@pytest.mark.parametrize(("name", "constants"), CASES)
def test_a_rule_sees_only_the_past(name: str, constants: Mapping[str, Any]) -> None:
    """Two series that agree before slice 12 have the same paths in force during slices 0 to 12."""
    one, other = random_series(20, 5, 7), random_series(20, 5, 8)
    other[:12] = one[:12]
    rules = FAMILIES[name].rule(constants), FAMILIES[name].rule(constants)
    for t in range(13):
        a, b = (rule.decide(values[:t]).copy() for rule, values in zip(rules, (one, other), strict=True))
        np.testing.assert_array_equal(a, b)
        assert a.dtype == np.int16
        assert a.shape == (5, 5, MAX_RELAYS)
        if t == 0:
            assert (a == DIRECT).all()


@pytest.mark.parametrize(("name", "constants"), CASES)
def test_paths_are_paths(name: str, constants: Mapping[str, Any]) -> None:
    """No vertex twice, nothing beyond the last relay."""
    one_way_ms = random_series(15, 5, 11)
    rule = FAMILIES[name].rule(constants)
    for t in range(16):
        paths = rule.decide(one_way_ms[:t])
        for u in range(5):
            for v in range(5):
                relays = [int(r) for r in paths[u, v] if r != DIRECT]
                assert list(paths[u, v][: len(relays)]) == relays
                if u != v:
                    assert len({u, v, *relays}) == len(relays) + 2
