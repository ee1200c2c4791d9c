"""Dials: who is in a data center's share, and what steering does about it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from test_answers import AGENT, VOICE
from test_plane import DETOUR, Desk

from router.core.dial import composed, identity, position_ppm, positions_ppm, salt
from router.core.messages import Committed, ResourcesChanged, SessionsChanged
from router.core.model import Client, DataCenterId, Intent, Pool, PoolId
from router.core.steering import Placement, PlaceRequest, Refused, place
from router.core.tables import Dial, View

NEAR_A1 = Client(latitude=50.0, longitude=8.0)


@pytest.fixture
def desk() -> Desk:
    made = Desk()
    where = {"a-1": (50.0, 8.0), "a-2": (52.0, 4.0), "b-1": (39.0, -77.0)}
    placed = tuple(
        replace(dc, latitude=where[dc.id][0], longitude=where[dc.id][1], capacity_sessions=10)
        for dc in made.plane.view.inventory.data_centers.values()
    )
    made.submit(Committed((ResourcesChanged((*placed, Pool(PoolId("p")))),)))
    for _ in range(3):
        made.second(DETOUR)
    return made


def dialled(view: View, **shares: int) -> View:
    dials = {DataCenterId(dc.replace("_", "-")): Dial(share, "canary share") for dc, share in shares.items()}
    return replace(view, dials=dials)


def edge_of(view: View, user: str, client: Client = NEAR_A1, **more: object) -> str:
    found = place(view, PlaceRequest(client, VOICE, labels={"user": user}, seed="s", **more), 0)  # type: ignore[arg-type]
    assert isinstance(found, Placement), found
    return found.edges[0].data_center


def test_the_share_of_users_is_the_share_on_the_dial() -> None:
    salts = np.array([salt(DataCenterId("a")), salt(DataCenterId("b"))], np.uint64)
    at = np.array([positions_ppm(f"user-{i}", salts) for i in range(20_000)])
    assert at.min() >= 0 and at.max() < 1_000_000
    for share in (10_000, 50_000, 250_000, 500_000):
        inside = (at < share).mean(axis=0) * 1e6
        assert np.all(np.abs(inside - share) < 4 * np.sqrt(share * (1e6 - share) / 20_000))  # four standard errors
    both = (at < 250_000).all(axis=1).mean()
    assert both == pytest.approx(0.0625, abs=0.008)  # the hashes of two data centers know nothing of each other


def test_a_user_stands_where_he_stood() -> None:
    assert [position_ppm(f"u{i}", DataCenterId("oracle-sin1")) for i in range(4)] == [187767, 351716, 975477, 28728]


def test_who_a_user_is() -> None:
    assert identity(Client(prefix="192.0.2.0/24"), {"user": "ann"}, "s-1") == "ann"
    assert identity(Client(prefix="192.0.2.0/24"), {}, "s-1") == "192.0.2.0/24"
    assert identity(Client(), {}, "s-1") == "s-1"


def test_users_outside_the_share_go_to_their_old_best_and_those_inside_stay_inside(desk: Desk) -> None:
    users, chosen = [f"u{i}" for i in range(300)], {}
    for share in (10_000, 100_000, 500_000):
        view = dialled(desk.plane.view, a_1=share)
        chosen[share] = {user for user in users if edge_of(view, user) == "a-1"}
        assert chosen[share] == {user for user in users if position_ppm(user, DataCenterId("a-1")) < share}
    assert chosen[10_000] <= chosen[100_000] <= chosen[500_000] and chosen[500_000] - chosen[100_000]


def test_the_trace_says_the_share_and_that_the_user_is_not_in_it(desk: Desk) -> None:
    view = dialled(desk.plane.view, a_1=50_000, a_2=0)
    found = place(view, PlaceRequest(NEAR_A1, VOICE, labels={"user": "u0"}), 0)
    assert isinstance(found, Placement)
    told = {r.data_center: (r.rule, r.detail) for r in found.rejected}
    assert told[DataCenterId("a-1")] == ("dial", "canary share 5 %, this user is not in it")
    assert told[DataCenterId("a-2")] == ("dial", "canary share 0 %, nobody is in it")


def test_one_who_is_there_stays_unless_the_dial_is_at_0(desk: Desk) -> None:
    held = DataCenterId("a-1")
    assert edge_of(dialled(desk.plane.view, a_1=1), "u0", sticky=held) == "a-1"
    assert edge_of(dialled(desk.plane.view, a_1=0), "u0", sticky=held) != "a-1"


def test_a_small_share_is_given_up_before_an_outage_and_a_shut_one_never(desk: Desk) -> None:
    rest = tuple(
        replace(dc, intent=Intent.CORDONED) for dc in desk.plane.view.inventory.data_centers.values() if dc.id != "a-1"
    )
    desk.submit(Committed((ResourcesChanged(rest),)))
    outsider = PlaceRequest(NEAR_A1, VOICE, labels={"user": "u0"})
    found = place(dialled(desk.plane.view, a_1=1), outsider, 0)
    assert isinstance(found, Placement) and found.edges[0].data_center == "a-1"
    assert "last resort" in " ".join(found.reasons)
    refused = place(dialled(desk.plane.view, a_1=0), outsider, 0)
    assert isinstance(refused, Refused) and refused.code == "no_edge"
    desk.submit(Committed((SessionsChanged({DataCenterId("a-1"): 10}),)))  # full, and outside its share
    assert isinstance(place(dialled(desk.plane.view, a_1=1), outsider, 0), Refused)


def test_agents_of_a_dialled_data_center_are_taken_only_by_users_in_its_share(desk: Desk) -> None:
    pool, here = PoolId("p"), DataCenterId("b-1")
    desk.submit(Committed((SessionsChanged(idle={(pool, here): 3}),)))
    view = dialled(desk.plane.view, b_1=500_000)
    for user in [f"u{i}" for i in range(30)]:
        found = place(view, PlaceRequest(NEAR_A1, AGENT, pool, labels={"user": user}), 0)
        inside = position_ppm(user, here) < 500_000
        assert isinstance(found, Placement) is inside
    moved = place(view, PlaceRequest(NEAR_A1, AGENT, pool, agent_data_center=here, labels={"user": "u0"}), 0)
    assert isinstance(moved, Placement)  # a session keeps the agent that it has


def test_the_smaller_share_wins() -> None:
    a, b = DataCenterId("a"), DataCenterId("b")
    ramp = [(a, Dial(50_000, "canary share")), (b, Dial(1_000_000, "canary share"))]
    drain = [(a, Dial(0, "drain d-1 leaves"))]
    assert composed(ramp, drain) == {a: Dial(0, "drain d-1 leaves")} == composed(drain, ramp)
