"""Commits close together are one change for the core, and what it knows does not depend on that."""

from __future__ import annotations

from dataclasses import replace

import pytest
from test_plane import DETOUR, Desk

from router.core.committed import followed, hurries, merged, same_graph
from router.core.messages import Change, Committed, ResourcesChanged, SessionsChanged, Solve
from router.core.model import DataCenter, DataCenterId, Intent, Inventory, Node, NodeId, Provider, ProviderId

FAR = DataCenter(DataCenterId("far"), provider="p", region="r", latitude=1.0, longitude=2.0)  # type: ignore[arg-type]
NODE = Node(NodeId("n"), data_center=FAR.id)
GOOGLE = Provider(ProviderId("g"))


@pytest.fixture
def desk() -> Desk:
    """A core that has measured for three seconds."""
    made = Desk()
    for _ in range(3):
        made.second(DETOUR)
    return made


def put(*resources: DataCenter | Node | Provider) -> ResourcesChanged:
    """One transaction that wrote these."""
    return ResourcesChanged(resources)


def test_the_last_word_on_a_resource_counts_and_others_stay_between() -> None:
    gone = ResourcesChanged((), (("nodes", "n"),))
    sessions = SessionsChanged({FAR.id: 1})
    second = replace(NODE, revision=2)
    changes: list[Change] = [put(FAR), put(NODE), gone, put(GOOGLE), put(second), sessions, gone]
    assert merged(changes) == (put(FAR, GOOGLE, second), sessions, gone)
    assert merged([put(NODE), gone]) == (gone,)


def test_one_by_one_or_at_once_the_inventory_is_the_same() -> None:
    steps = [put(GOOGLE), put(FAR), put(NODE), ResourcesChanged((), (("providers", "g"),))]
    one_by_one = Inventory()
    for step in steps:
        one_by_one = followed(one_by_one, step)
    (at_once,) = merged(steps)
    assert isinstance(at_once, ResourcesChanged)
    assert followed(Inventory(), at_once) == one_by_one


def test_a_node_changes_no_graph_and_a_place_does() -> None:
    here = followed(Inventory(), put(FAR))
    assert same_graph(here, followed(here, put(NODE)))
    assert not same_graph(here, followed(here, put(replace(FAR, latitude=3.0))))


def test_what_is_hurried() -> None:
    here = followed(Inventory(), put(FAR))
    assert not hurries(here, put(NODE, replace(FAR, labels={"a": "b"})))
    assert hurries(here, put(replace(FAR, intent=Intent.DRAINED)))
    assert hurries(followed(here, put(NODE)), put(replace(NODE, intent=Intent.CORDONED)))
    assert hurries(here, ResourcesChanged((), (("data-centers", "far"),)))


def test_a_fleet_that_is_written_is_solved_now_and_then_and_an_intent_at_once(desk: Desk) -> None:
    def asked(change: ResourcesChanged) -> int:
        desk.now += 60_000
        desk.log.clear()
        desk.submit(Committed((change,)))
        return sum(isinstance(effect, Solve) for effect in desk.log)

    desk.now += 1_000_000
    home = next(iter(desk.plane.view.inventory.data_centers.values()))
    nodes = [asked(put(Node(NodeId(f"new-{i}"), data_center=home.id))) for i in range(5)]
    assert nodes == [1, 0, 0, 0, 0]
    assert asked(put(replace(home, intent=Intent.CORDONED))) == 1
