"""Whose fault it is, as stories: each pattern of the table, leases, freezing, double faults, order."""

from __future__ import annotations

from copy import deepcopy
from functools import cache

import pytest
from blame_story import (
    SECOND,
    ProbeRule,
    SessionRule,
    Story,
    across,
    either,
    either_session,
    on_edges,
    place_of,
    provider_of,
    share_of,
    touches,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from router.core.blame import Outcome
from router.core.blame.book import LEASE_US
from router.core.model import DataCenterId
from router.core.verdicts import SURE_WINDOWS, Action, Component, ComponentKind

WARM = 45


@cache
def _warmed(reverse: bool) -> Story:
    story = Story(reverse=reverse).live(WARM)
    assert story.said == []
    return story


def warm(reverse: bool = False) -> Story:
    return deepcopy(_warmed(reverse))


@cache
def _broken(name: str) -> Story:
    return warm().live(12, *PATTERNS[name])


def on_hub(share: float, hub: str) -> SessionRule:
    return lambda _node, _group, h: share if h == hub else 0.0


def of_group(share: float, group: str, provider: str = "") -> SessionRule:
    return lambda node, g, _hub: share if g == group and node.startswith(provider) else 0.0


def from_node(share: float, node: str) -> ProbeRule:
    return lambda a, _b: share if a == node else 0.0


def node_dead(node: str) -> ProbeRule:
    return lambda a, b: 1.0 if node in (a, b) else 0.0


PATTERNS: dict[str, tuple[ProbeRule | None, SessionRule | None]] = {
    "target:gcp-iad": (None, on_hub(0.9, "gcp-iad")),
    "node:oracle-sin-n2": (node_dead("oracle-sin-n2"), on_edges(1.0, "oracle-sin-n2")),
    "edge_region:vultr-fra": (touches("vultr-fra-"), across(1.0, "vultr-fra-")),
    "provider_region:gcp/fra": (touches("gcp-fra"), across(1.0, "gcp-fra")),
    "provider:azure": (touches("azure-"), across(1.0, "azure-")),
    "transit:as3/oracle": (None, of_group(0.8, "as3", "oracle-")),
    "client_isp:as2": (None, of_group(0.7, "as2")),
    "prober:azure-iad-n1": (from_node(0.8, "azure-iad-n1"), None),
    "transit:azure-fra>vultr-sin": (
        lambda a, b: 0.7 if {place_of(a), place_of(b)} == {"azure-fra", "vultr-sin"} else 0.0,
        lambda node, _group, hub: 0.9 if (place_of(node), hub) == ("vultr-sin", "azure-fra") else 0.0,
    ),
}


@pytest.mark.parametrize("name", PATTERNS)
def test_each_pattern_has_its_verdict_and_nobody_else_is_blamed(name: str) -> None:
    story = _broken(name)
    assert story.names == [name]
    assert story.book.current.sure()[0].text


@pytest.mark.parametrize("name", PATTERNS)
def test_a_verdict_ends_once_all_is_well(name: str) -> None:
    story = deepcopy(_broken(name))
    for _ in range(40):
        story.live(1)
        if story.ended:
            break
    assert story.names == []
    assert name in [v.component.name for _, v in story.ended]


def test_a_gray_node_answers_probes_and_fails_three_in_ten_sessions() -> None:
    story = warm().live(15, None, on_edges(0.3, "azure-fra-n1"))
    assert story.names == ["node:azure-fra-n1"]
    verdict = story.book.current.sure()[0]
    assert verdict.evidence.sources == ("sessions",)
    assert verdict.action is Action.EJECT_NODE


def test_mild_loss_that_no_session_notices_yet_is_the_data_centers() -> None:
    story = warm().live(25, share_of(0.12, "oracle-iad-"))
    assert story.names == ["edge_region:oracle-iad"]


def test_a_third_of_the_flows_is_enough() -> None:
    def some(a: str, b: str) -> float:
        return 1.0 if touches("vultr-sin-")(a, b) and sum(map(ord, a + b)) % 3 < 2 else 0.0

    story = warm().live(15, some, on_edges(0.6, "vultr-sin-"))
    assert story.names == ["edge_region:vultr-sin"]


def test_two_faults_at_once_are_two_verdicts() -> None:
    probes = either(touches("vultr-fra-"), from_node(0.8, "azure-iad-n1"))
    story = warm().live(14, probes, either_session(on_edges(1.0, "vultr-fra-"), on_hub(0.9, "oracle-sin")))
    assert story.names == ["edge_region:vultr-fra", "prober:azure-iad-n1", "target:oracle-sin"]


def test_a_data_center_behind_a_relay_is_seen_by_sessions_through_it() -> None:
    story = warm()
    cell = story.book._session_cell  # the names an outcome with a relay crosses
    Dc = DataCenterId
    row = cell(Outcome(Dc("azure-fra"), None, "as1", Dc("gcp-iad"), (Dc("vultr-iad"),), good=1))
    entries = story.book._cells.entries()
    names = {story.book._atlas.components.names[c].name for c in entries[1][entries[0] == row].tolist()}
    assert {"edge_region:vultr-iad", "provider:vultr", "edge_region:gcp-iad", "target:gcp-iad"} <= names
    assert {"transit:azure-fra>vultr-iad", "transit:gcp-iad>vultr-iad", "transit:as1/azure", "client_isp:as1"} <= names
    assert "transit:azure-fra>gcp-iad" not in names


def test_sure_takes_three_windows() -> None:
    story = warm()
    story.live(2, *PATTERNS["edge_region:vultr-fra"])
    first = story.book.current.verdicts[0]
    assert first.confidence_ppm >= 900_000
    assert not first.is_sure
    story.live(4, *PATTERNS["edge_region:vultr-fra"])
    assert story.book.current.verdicts[0].windows >= SURE_WINDOWS


def test_one_burst_is_not_three_windows() -> None:
    """What was seen once fades for seconds, and is not seen again by fading."""
    story = warm().live(2, *PATTERNS["prober:azure-iad-n1"]).live(8)
    assert not [verdict for _, verdict in story.said if verdict.is_sure]
    assert story.names == []


def test_all_a_little_bad_everywhere_is_nobodys_fault_and_a_dead_place_still_is() -> None:
    noise = share_of(0.15, "azure-", "gcp-", "oracle-", "vultr-")
    story = warm().live(12, noise)
    assert story.names == []
    assert story.book._lately[0] > 0.1
    story.live(12, either(noise, touches("vultr-fra-")), across(1.0, "vultr-fra-"))
    assert story.names == ["edge_region:vultr-fra"]


def test_set_ups_that_fail_at_an_unknown_machine_are_the_blamed_machines() -> None:
    """Users of a dead machine report from elsewhere, and do not know which machine it was."""
    story = warm()
    for _ in range(14):
        late = Outcome(DataCenterId("oracle-sin"), None, "as1", None, setup_failed=2)
        story.book.observe_outcomes((late,), story.now)
        story.live(1, node_dead("oracle-sin-n2"), on_edges(1.0, "oracle-sin-n2"))
    assert story.names == ["node:oracle-sin-n2"]


def test_a_verdict_without_fresh_evidence_ends_with_its_lease() -> None:
    story = warm().live(12, *PATTERNS["edge_region:vultr-fra"])
    start = story.now
    everything = frozenset(place_of(n) for n in story.book._atlas.nodes)
    story.silent = everything  # nobody reports any more: neither good nor bad
    story.book.observe_outcomes = lambda *_: None  # type: ignore[method-assign]
    story.live(LEASE_US // SECOND - 2)
    assert story.names == ["edge_region:vultr-fra"], "no data is not good data"
    story.live(6)
    assert story.book.current.verdicts == ()
    assert start + LEASE_US <= story.now


def test_a_lone_monitor_isolates_nobody() -> None:
    """Only one data center reports, and says that all of another is bad: told, never acted on."""
    story = warm()
    story.silent = frozenset(place_of(n) for n in story.book._atlas.nodes) - {"azure-iad"}
    story.live(60, touches("vultr-fra-"))
    assert "edge_region:vultr-fra" not in story.names
    assert not [v for _, v in story.said if v.component.name == "edge_region:vultr-fra" and v.is_sure]


def test_everything_bad_everywhere_freezes_automation_and_blames_nobody() -> None:
    story = warm().live(10, lambda *_: 0.9, lambda *_: 0.9)
    assert story.book.current.frozen
    assert "data centers at once" in story.book.current.frozen_reason
    assert story.names == []
    story.live(40)
    assert not story.book.current.frozen


def test_a_provider_that_dies_is_not_the_end_of_the_world() -> None:
    story = warm().live(8, *PATTERNS["provider:azure"])
    assert not story.book.current.frozen


def test_what_is_usual_is_no_news() -> None:
    """A client network that always fails one session in ten is its own baseline."""
    usual = of_group(0.1, "as4")
    story = Story().live(100, None, usual)
    assert "client_isp:as4" not in story.names


def test_the_order_of_observations_does_not_matter() -> None:
    for name in ("edge_region:vultr-fra", "prober:azure-iad-n1", "transit:as3/oracle"):
        rules = PATTERNS[name]
        one, other = warm().live(9, *rules), warm(reverse=True).live(9, *rules)
        assert one.book.current == other.book.current


def test_probes_that_would_tell_are_asked_for_while_it_is_not_sure() -> None:
    story = warm()
    story.silent = frozenset(place_of(n) for n in story.book._atlas.nodes) - {"azure-iad", "gcp-sin"}
    found: list[tuple[str, str]] = []
    for _ in range(20):
        story.live(1, touches("vultr-fra-n1"))
        found += story.book.wanted
    assert found
    assert any("vultr-fra" in pair for pair in found)


def test_an_inventory_that_only_changes_intent_keeps_what_is_known() -> None:
    story = warm().live(12, *PATTERNS["edge_region:vultr-fra"])
    before = story.book._cells
    story.book.adopt(story.book._inventory)
    assert story.book._cells is before
    assert story.names == ["edge_region:vultr-fra"]


@pytest.mark.slow
@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    dc=st.sampled_from(["azure-fra", "gcp-sin", "oracle-iad", "vultr-sin"]),
    loss=st.floats(0.3, 1.0),
    node=st.sampled_from(["", "n1", "n2"]),
)
def test_whatever_breaks_and_however_badly_the_right_one_is_blamed(dc: str, loss: float, node: str) -> None:
    name = f"{dc}-{node}"
    story = warm().live(14, share_of(loss, name), across(loss, name))
    wanted = Component(ComponentKind.NODE, name) if node else Component(ComponentKind.EDGE_REGION, dc)
    assert story.names == [wanted.name]
    for verdict in story.book.current.verdicts:
        assert 0 < verdict.confidence_ppm <= 1_000_000
        assert verdict.since <= story.now < verdict.expires_at
        assert provider_of(name) in verdict.text.lower() or dc in verdict.text
