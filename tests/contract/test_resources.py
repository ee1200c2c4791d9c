"""Configured resources: create-or-replace, revisions, references, deletes, whole fleets, and their audit trail."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from router.core.errors import InputRejected, TendrilError
from router.core.messages import ResourcesChanged
from router.core.model import (
    DataCenter,
    Intent,
    Link,
    Node,
    Policy,
    Pool,
    Provider,
    Region,
    Resource,
    Role,
    TrafficClass,
    kind_of,
)
from router.store import Store


@pytest.fixture
def refused() -> Callable[[Callable[[], object]], TendrilError]:
    def run(call: Callable[[], object]) -> TendrilError:
        with pytest.raises(TendrilError) as caught:
            call()
        return caught.value

    return run


def _everything() -> Iterator[Resource]:
    yield Provider("linode", "Akamai", {"tier": "1", "b": "ü"})
    yield Region("frankfurt", "Frankfurt", "DE", 50.11, 8.68, {"eu": "yes"})
    yield DataCenter(
        "linode-fra",
        "linode",
        "frankfurt",
        (Role.HUB, Role.EDGE),
        50.1,
        8.7,
        500,
        10_000,
        90_000,
        "wss://f",
        Intent.CANARY,
    )
    yield DataCenter("linode-ams", "linode", "frankfurt")
    yield Node(
        "f-1", "linode-fra", {"internet": "192.0.2.1", "backbone": "10.0.0.1"}, 7421, 7422, "wss://f-1", {"rack": "4"}
    )
    yield Link("fra-ams", "linode-fra", "linode-ams", "backbone", 10_000, 20_000, Intent.CORDONED, {"x": "y"})
    yield Pool("tutors", TrafficClass.VOICE, 180_000, {"gpu": "l4"})
    yield Policy(
        "eu",
        7,
        TrafficClass.AGENT,
        "tutors",
        {"gdpr": "yes"},
        ("linode",),
        (),
        ("frankfurt",),
        (),
        ("backbone",),
        1,
        10,
        ("linode-fra",),
    )
    yield Policy("open", allow_providers=(), deny_providers=("linode",))


def test_every_kind_comes_back_as_it_was_written(store: Store) -> None:
    written = [store.put(resource, if_match=None, actor="ops", now=1).result for resource in _everything()]
    assert [replace(resource, revision=0) for resource in written] == list(_everything())
    assert {resource.revision for resource in written} == {1}
    inventory = store.inventory()
    for resource in written:
        assert getattr(inventory, kind_of(resource).replace("-", "_"))[resource.id] == resource
    assert list(inventory.data_centers) == ["linode-ams", "linode-fra"], "id order"
    assert inventory.policies["open"].allow_providers == ()
    assert inventory.policies["open"].allow_regions is None


def test_an_identical_put_changes_nothing_and_a_different_one_raises_the_revision(store: Store) -> None:
    first = store.put(Provider("linode", "Linode"), if_match=None, actor="ops", now=1)
    assert first.changes == (ResourcesChanged((Provider("linode", "Linode", revision=1),)),)
    again = store.put(Provider("linode", "Linode", revision=99), if_match=None, actor="ops", now=2)
    assert (again.result, again.changes) == (first.result, ())
    other = store.put(Provider("linode", "Akamai"), if_match=1, actor="ops", now=3)
    assert other.result.revision == 2
    kinds = [(event.kind, event.actor, event.at, event.detail) for _, event in store.events(subject="linode")]
    assert kinds == [
        ("provider.updated", "ops", 3, {"name.before": "Linode", "name.after": "Akamai"}),
        ("provider.created", "ops", 1, {"name.after": "Linode", "labels.after": "{}"}),
    ]


@pytest.mark.parametrize("if_match", [0, 2, 7])
def test_if_match_must_be_the_current_revision(store: Store, if_match: int, refused: Any) -> None:
    store.put(Provider("linode"), if_match=0, actor="ops", now=1)
    for call in (
        lambda: store.put(Provider("linode", "x"), if_match=if_match, actor="ops", now=2),
        lambda: store.put(Provider("linode"), if_match=if_match, actor="ops", now=2),
        lambda: store.delete("providers", "linode", if_match=if_match, actor="ops", now=2),
    ):
        error = refused(call)
        assert (error.code, error.limit, error.field) == ("revision_conflict", 1, "If-Match")
    assert store.inventory().providers["linode"].name == ""


def test_references_must_exist(store: Store, world: Any, refused: Any) -> None:
    world.seed()
    for resource, field in (
        (DataCenter("x", "nobody", "frankfurt"), "provider"),
        (DataCenter("x", "linode", "nowhere"), "region"),
        (Node("x", "nowhere"), "data_center"),
        (Link("x", "nowhere", "linode-fra"), "from"),
        (Link("x", "linode-fra", "nowhere"), "to"),
        (Policy("x", match_pool="nothing"), "match.pool"),
        (Policy("x", deny_providers=("linode", "orcale")), "deny_providers"),
        (Policy("x", allow_regions=("atlantis",)), "allow_regions"),
        (Policy("x", pin=("nowhere",)), "pin"),
    ):
        error = refused(lambda resource=resource: store.put(resource, if_match=None, actor="ops", now=2))
        assert (error.code, error.field) == ("unknown_reference", field)
        assert resource.id in error.message
    assert store.events(subject="x") == ()


def test_unknown_ids_and_kinds_are_refused(store: Store, refused: Any) -> None:
    for kind, code in (
        ("providers", "unknown_provider"),
        ("regions", "unknown_region"),
        ("data-centers", "unknown_data_center"),
        ("nodes", "unknown_node"),
        ("links", "unknown_link"),
        ("policies", "unknown_policy"),
        ("pools", "unknown_pool"),
        ("unicorns", "unknown_kind"),
    ):
        call = lambda kind=kind: store.delete(kind, "x", if_match=None, actor="ops", now=2)  # noqa: E731
        assert refused(call).code == code


def test_what_is_referred_to_is_not_deleted(store: Store, world: Any, refused: Any) -> None:
    world.seed()
    world.apply(
        Link("l-1", "linode-fra", "oracle-fra"),
        Policy("eu", allow_regions=("frankfurt",), pin=("oracle-fra",), match_pool="tutors"),
        *(Node(f"extra-{n}", "linode-fra") for n in range(4)),
    )
    for kind, id, limit, named in (
        ("providers", "oracle", 2, "2 data centers (oracle-fra, oracle-iad)"),
        ("regions", "frankfurt", 3, "1 policy (eu)"),
        ("data-centers", "linode-fra", 6, "5 nodes (extra-0, extra-1, extra-2 and 2 more); 1 link (l-1)"),
        ("data-centers", "oracle-fra", 3, "1 policy (eu)"),
        ("pools", "tutors", 3, "2 agents (a-000, a-001); 1 policy (eu)"),
        ("data-centers", "oracle-iad", 3, "1 node (oracle-iad-1); 2 agents (a-000, a-001)"),
    ):
        error = refused(lambda kind=kind, id=id: world.delete(kind, id))
        assert (error.code, error.limit) == ("in_use", limit)
        assert named in error.message
    assert len(store.inventory().data_centers) == 3


def test_what_carries_sessions_is_not_deleted(store: Store, world: Any, refused: Any) -> None:
    world.seed()
    for name in ("s-1", "s-2"):
        world.live(name)
    for kind, id in (
        ("data-centers", "linode-fra"),
        ("nodes", "linode-fra-1"),
        ("pools", "tutors"),
        ("data-centers", "oracle-iad"),
    ):
        error = refused(lambda kind=kind, id=id: world.delete(kind, id))
        assert (error.code, error.limit) == ("sessions_live", 2)
    for name in ("s-1", "s-2"):
        world.do(lambda name=name: store.end_session(name, reason="test", now=world.now))
    world.delete("nodes", "linode-fra-1")
    world.delete("data-centers", "linode-fra")
    assert "linode-fra" not in store.inventory().data_centers
    assert store.session("s-1").edge == "linode-fra", "history keeps the id"


def test_lost_agents_do_not_hold_their_pool_and_go_with_it(store: Store, world: Any) -> None:
    world.seed(agents=2)
    world.do(lambda: store.expire_agents(world.now + 1, world.now + 2))
    world.delete("pools", "tutors")
    assert store.agent("a-000") is None
    assert store.inventory().pools == {}


def test_a_fleet_is_applied_in_any_order_and_pruned(store: Store) -> None:
    fleet = list(_everything())
    done = store.apply(list(reversed(fleet)), [], actor="terraform", now=1)
    assert [replace(resource, revision=0) for resource in done.result] == list(reversed(fleet))
    assert store.apply(fleet, [], actor="terraform", now=2).changes == ()
    everything = [(kind_of(resource), resource.id) for resource in fleet]
    gone = store.apply([], everything, actor="terraform", now=3)
    (change,) = gone.changes
    assert sorted(change.deletes) == sorted(everything)
    assert store.inventory().data_centers == {}
    assert len(store.events(kind="policy.deleted")) == 2


def test_a_fleet_is_applied_whole_or_not_at_all(store: Store, world: Any, refused: Any) -> None:
    world.seed()
    before, trail = store.inventory(), store.events()
    new = Provider("vultr")
    for puts, deletes, code in (
        ([new, DataCenter("vultr-1", "vultr", "atlantis")], [], "unknown_reference"),
        ([new, replace(before.data_centers["linode-fra"], media_url="wss://x")], [("providers", "oracle")], "in_use"),
        ([new], [("data-centers", "oracle-iad")], "in_use"),
        ([new], [("nodes", "nobody")], "unknown_node"),
        ([new], [("providers", "vultr")], "conflicting_change"),
        ([new, Provider("vultr", "Vultr")], [], "conflicting_change"),
        ([new, DataCenter("x", "linode", "frankfurt")], [("regions", "frankfurt")], "unknown_reference"),
    ):
        error = refused(lambda puts=puts, deletes=deletes: store.apply(puts, deletes, actor="ops", now=9))
        assert error.code == code
        assert store.inventory() == before
        assert store.events() == trail


def test_a_replaced_fleet_may_name_the_same_adjacency_anew(store: Store, world: Any, refused: Any) -> None:
    world.seed()
    link = Link("old", "linode-fra", "oracle-fra", "backbone")
    world.apply(link)
    renamed = replace(link, id="new")
    error = refused(lambda: store.put(renamed, if_match=None, actor="ops", now=2))
    assert error.code == "link_exists"
    assert "old" in error.message
    store.apply([renamed], [("links", "old")], actor="ops", now=3)
    assert list(store.inventory().links) == ["new"]


def test_four_transports_fit_and_a_fifth_does_not(store: Store, world: Any, refused: Any) -> None:
    world.seed()
    for transport in ("backbone", "fibre", "satellite"):
        world.apply(Link(transport, "linode-fra", "oracle-fra", transport))
    error = refused(lambda: world.apply(Link("x", "oracle-fra", "linode-fra", "pigeon")))
    assert (error.code, error.limit) == ("too_many_transports", 4)
    world.apply(replace(store.inventory().links["fibre"], transport="pigeon"))
    assert store.inventory().transports == ("internet", "backbone", "pigeon", "satellite")


def test_what_the_database_cannot_hold_is_refused(store: Store, refused: Any) -> None:
    for resource in (Region("x", name="\ud800"), DataCenter("x", "p", "r", capacity_sessions=2**70)):
        store.apply([Provider("p"), Region("r")], [], actor="ops", now=1)
        error = refused(lambda resource=resource: store.put(resource, if_match=None, actor="ops", now=1))
        assert isinstance(error, InputRejected)
        assert error.code == "bad_value"
    assert list(store.inventory().regions) == ["r"]


def test_deleting_a_node_revokes_its_key(store: Store, world: Any) -> None:
    from router.access import mint_key

    world.seed()
    key, _ = mint_key("agent:oracle-fra-1", "n", 1)
    store.add_key(key, actor="ops", now=1)
    world.delete("nodes", "oracle-fra-1")
    assert store.keys()[0].revoked_at == world.now
