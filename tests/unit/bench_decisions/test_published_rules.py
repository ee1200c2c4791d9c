"""Golden cases: each published rule switches in the slice that its own text says, computed by hand."""

from __future__ import annotations

import numpy as np
import pytest
from three_nodes import GONE, relays_of, series

from bench.decisions.published import Babel, HawkEye, Ron, Scion, Tailscale


@pytest.mark.parametrize(("relay_ms", "expected"), [(96.0, "ddd"), (95.5, "ddd"), (94.0, "drr")])
def test_ron_keeps_the_last_good_path_unless_another_is_five_per_cent_better(relay_ms: float, expected: str) -> None:
    assert relays_of(Ron(), series([100.0, 100.0], [relay_ms] * 2)) == expected


def test_ron_follows_the_average_of_nine_tenths_old() -> None:
    # 100 -> 150: averages 105.0, 109.5, 113.55; the relay at 102 wins below 0.95 of them: 99.75, 104.0, 107.9.
    assert relays_of(Ron(), series([100, 100, 150, 150, 150], [102] * 5)) == "ddddrr"


def test_ron_leaves_a_link_after_four_unanswered_probes_even_for_a_slower_path() -> None:
    assert relays_of(Ron(), series([100, GONE, GONE, GONE, GONE, 100], [300] * 6)) == "dddddrd"


def test_babel_cost_is_the_clamped_ramp_of_rfc_9616() -> None:
    rtt_ms = np.array([0.0, 10.0, 65.0, 120.0, 500.0])
    assert Babel().link_cost(rtt_ms).tolist() == [96, 96, 171, 246, 246]


def test_babel_prefers_one_long_hop_to_two_medium_ones() -> None:
    # Direct RTT 500: 246. Over c two links of RTT 65: 2 * 171; of RTT 10: 2 * 96, less than 246.
    assert relays_of(Babel(), series([250, 250], [65, 65])) == "ddd"
    assert relays_of(Babel(), series([250, 250], [10, 10])) == "drr"


def test_babel_switches_only_when_the_smoothed_metric_agrees() -> None:
    # Direct RTT 10 -> 1000: averages 10, 172.36 (cost 246 from there on); relay 192 throughout. The present metric asks
    # to switch after one slow sample. Half-life 1: smoothed 171, 208.5. Half-life 16: 246 - 150 * 2^(-k/16) > 192 from
    # k = 24 on.
    slow_ms = [5.0] * 2 + [500.0] * 26
    one_way_ms = series(slow_ms, [10.0] * len(slow_ms))
    assert relays_of(Babel(half_life=1), one_way_ms).index("r") == 2 + 2
    assert relays_of(Babel(half_life=16), one_way_ms).index("r") == 2 + 24


def test_babel_link_is_down_when_two_of_three_hellos_are_missing() -> None:
    assert relays_of(Babel(), series([5, 5, 5, GONE, 5, GONE, GONE], [200] * 7)) == "dddddd" + "rr"


@pytest.mark.parametrize(
    ("direct_rtt_ms", "relay_rtt_ms", "expected"),
    [
        (60, 41, "ddd"),  # not below two thirds of 60
        (60, 39, "drr"),
        (25, 16, "ddd"),  # below two thirds, but only 9 ms
        (33, 21, "drr"),
    ],
)
def test_tailscale_wants_ten_milliseconds_and_a_third(direct_rtt_ms: float, relay_rtt_ms: float, expected: str) -> None:
    assert relays_of(Tailscale(), series([direct_rtt_ms / 2] * 2, [relay_rtt_ms / 2] * 2)) == expected


def test_tailscale_compares_the_best_of_the_window_with_the_present() -> None:
    # The relay was at RTT 38 once; the direct path turns slow while that is still in a window of 3, or after it left.
    # Once there, the relay's present 200 loses to the best recent 50 of the direct path.
    relay_ms = [100.0, 19.0, 100.0, 100.0, 100.0, 100.0]
    assert relays_of(Tailscale(window=3), series([25, 25, 25, 40, 40, 40], relay_ms)) == "ddddrdd"
    assert relays_of(Tailscale(window=3), series([25, 25, 25, 25, 40, 40], relay_ms)) == "ddddddd"


def test_tailscale_leaves_a_region_that_does_not_answer() -> None:
    assert relays_of(Tailscale(), series([20, GONE, 20], [100] * 3)) == "ddrd"


def test_scion_needs_two_missing_replies_to_leave_and_three_to_come_back() -> None:
    direct_ms = [300, 300, 300, GONE, 300, GONE, GONE, 300, 300, 300]
    # Alive after three replies; one missing is nothing; two are death; latency (the relay is faster) never matters.
    assert relays_of(Scion(), series(direct_ms, [10] * 10)) == "ddddddd" + "rrr" + "d"


def test_hawkeye_changes_for_ten_per_cent_only_both_ways() -> None:
    # 91 of 100 is not enough, 89 is; back only when direct is below 0.9 * 100.
    direct_ms = [100, 100, 100, 91, 89, 89]
    relay_ms = [91, 89, 89, 100, 100, 100]
    assert relays_of(HawkEye(), series(direct_ms, relay_ms)) == "ddrrrdd"
