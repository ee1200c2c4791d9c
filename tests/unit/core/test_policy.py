"""Policies: contexts and their limit, matching by priority, what each rule forbids, prices and transports per link."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from worlds import SECOND, feed, inventory

from router.core.errors import InputRejected
from router.core.estimate import Estimator
from router.core.health import HealthBook
from router.core.model import (
    DataCenterId,
    Intent,
    Inventory,
    Link,
    LinkId,
    Policy,
    PolicyId,
    PoolId,
    ProviderId,
    RegionId,
    TrafficClass,
)
from router.core.policy import check_limit, contexts, forbids, matching
from router.core.quality import PROFILES
from router.core.tables import NO_COST
from router.core.topology import snapshot

VOICE = TrafficClass.VOICE


def world(*policies: Policy, links: tuple[Link, ...] = ()) -> Inventory:
    return replace(inventory("a-1 b-1"), policies={p.id: p for p in policies}, links={link.id: link for link in links})


def test_contexts_are_the_classes_and_what_policies_match() -> None:
    found = contexts(world(Policy(PolicyId("all")), Policy(PolicyId("one"), match_class=VOICE)))
    assert len(found) == 4 + 4 + 1
    assert [c.name for c in found if c.policy == "one"] == ["voice/one"]


def test_more_than_32_contexts_are_refused_with_the_limit() -> None:
    with pytest.raises(InputRejected) as refused:
        check_limit(world(*(Policy(PolicyId(f"p{i}")) for i in range(8))))
    assert refused.value.code == "too_many_contexts" and refused.value.limit == 32


def test_the_highest_priority_wins_and_ties_go_to_the_smaller_id() -> None:
    policies = world(
        Policy(PolicyId("z"), priority=5, match_pool=PoolId("p")),
        Policy(PolicyId("b"), priority=1),
        Policy(PolicyId("a"), priority=1),
        Policy(PolicyId("gold"), priority=9, match_labels={"tier": "gold"}),
    )
    assert matching(policies, VOICE, None, {}) == "a"
    assert matching(policies, VOICE, PoolId("p"), {}) == "z"
    assert matching(policies, VOICE, PoolId("p"), {"tier": "gold"}) == "gold"
    assert matching(world(), VOICE, None, {}) is None


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ({"allow_providers": (ProviderId("b"),)}, "allows only providers b"),
        ({"deny_providers": (ProviderId("a"),)}, "denies provider a"),
        ({"allow_regions": ()}, "allows only regions none"),
        ({"deny_regions": (RegionId("earth"),)}, "denies region earth"),
        ({"pin": (DataCenterId("b-1"),)}, "pins traffic to b-1"),
    ],
)
def test_each_rule_says_what_it_forbids(rule: dict[str, object], words: str) -> None:
    policy = Policy(PolicyId("p"), **rule)  # type: ignore[arg-type]
    centers = world().data_centers
    reason = forbids(policy, centers[DataCenterId("a-1")])
    assert reason is not None and words in reason
    if "regions" not in words and "region" not in words:
        assert forbids(policy, centers[DataCenterId("b-1")]) is None


def costs(made: Inventory) -> np.ndarray:
    estimator = Estimator(made)
    there = {("a-1", "b-1"): 10_000, ("b-1", "a-1"): 10_000}
    feed(estimator, there, {"a-1-0": 0, "b-1-0": 0}, SECOND)
    table, potential = estimator.table(SECOND)
    return snapshot(made, table, potential, HealthBook(made).current, 1, 1, SECOND).cost


def test_transports_and_prices_close_links() -> None:
    dear = Link(LinkId("l"), DataCenterId("a-1"), DataCenterId("b-1"), price_microusd_per_gb=90_000)
    cheap = Policy(PolicyId("cheap"), match_class=VOICE, max_price_microusd_per_gb=50_000)
    cost = costs(world(cheap, links=(dear,)))
    dearer = PROFILES[VOICE].price_us_per_usd * 90_000 // 1_000_000  # a free policy pays the price in the metric
    assert dearer > 0 and cost[0, 0, 1] == 10_000 + dearer
    assert cost[-1, 0, 1] == NO_COST and cost[-1, 1, 0] == 10_000
    fibre = Policy(PolicyId("fibre"), match_class=VOICE, allow_transports=("fibre",))
    assert (costs(world(fibre))[-1] == NO_COST).all()


def test_a_link_that_operators_took_out_is_not_used() -> None:
    out = Link(LinkId("l"), DataCenterId("a-1"), DataCenterId("b-1"), intent=Intent.DRAINED)
    cost = costs(world(links=(out,)))
    assert cost[0, 0, 1] == NO_COST and cost[0, 1, 0] == 10_000
