"""Verdicts that are not found again, and priors of what a client network's trouble may be."""

from __future__ import annotations

import numpy as np

from router.core.blame.book import TOLD_GONE_PPM, TOLD_LIKELY_PPM, TOLD_NEXT_PPM, _faded, _told
from router.core.blame.kinds import Kinds
from router.core.verdicts import LIKELY_PPM, SURE_PPM, Action, Component, ComponentKind, Evidence, Verdict

PEERING = Component(ComponentKind.TRANSIT, "as1/gcp")
EDGE = Component(ComponentKind.EDGE_REGION, "gcp-fra")


def priors(*names: Component) -> dict[Component, float]:
    return dict(zip(names, Kinds(names).prior.tolist(), strict=True))


def test_a_verdict_that_is_not_found_again_is_believed_less_and_not_acted_on() -> None:
    sure = Verdict(EDGE, 950_000, 0, 5, Evidence(3, 3, 2, 0, 0, 0, 0, ()), (), Action.DRAIN_DATA_CENTER, 10, "")
    once = _faded(sure)
    assert (once.windows, once.action, once.is_sure) == (0, Action.WATCH, False)
    assert once.confidence_ppm == TOLD_GONE_PPM == _faded(once).confidence_ppm < LIKELY_PPM


def test_what_is_told_below_what_is_acted_on_is_how_often_it_is_right() -> None:
    told = [_told(sure) for sure in range(LIKELY_PPM, SURE_PPM, 10_000)]
    assert told == sorted(told) and told[0] == TOLD_LIKELY_PPM and told[-1] < TOLD_NEXT_PPM < SURE_PPM
    assert [_told(sure) for sure in (SURE_PPM, 990_000)] == [SURE_PPM, 990_000], "what is acted on is its posterior"


def test_the_number_of_ways_does_not_make_peerings_less_likely() -> None:
    ways = [Component(ComponentKind.TRANSIT, f"a{i}>b{i}") for i in range(400)]
    few, many = priors(PEERING, EDGE, ways[0]), priors(PEERING, EDGE, *ways)
    assert few[PEERING] == many[PEERING]
    assert np.isclose(few[ways[0]] - many[ways[0]], np.log(400))
