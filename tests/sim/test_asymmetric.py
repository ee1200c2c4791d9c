"""Goal D2 in a small world: the real core is right where routing by round trips is not."""

from __future__ import annotations

from bench.decisions.asymmetric import main


def test_wrong_clocks_and_unequal_directions_do_not_mislead_the_routes() -> None:
    report = main(seed=2, data_centers=8, nodes=2)
    assert report["violations"] == []
    assert report["right"]["within_margin"] >= 0.99
    assert report["difference_error_ms"]["p95"] <= 0.5
    assert report["band"]["wider_than_allowed"] == 0
    assert report["peers"]["rtt_half"]["within_margin"] < 0.9  # else the world does not tell the two apart
    assert set(report["met"]) == {"right", "difference", "coverage", "band_width", "invariants"}
