"""What is believed about client networks: shrinkage, liars, light, tomography, what to measure next."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.core.clients import Census, ClientBook, access_legs, belief, candidates
from router.core.clients.evidence import NETWORKS_KEPT, RECENT, SEATS, kept_log, rtt_of, verdict
from router.core.estimate import Estimator
from router.core.geography import distance_km
from router.core.messages import Beacon
from router.core.model import Client, DataCenter, DataCenterId, Intent, Inventory, ProviderId, RegionId
from router.core.tables import UNKNOWN, View

NOW = 10_000_000_000
SPOTS = {
    "a": (50.0, 8.0),
    "b": (52.0, 5.0),
    "c": (40.0, -74.0),
    "d": (1.3, 103.8),
    "e": (35.0, 139.0),
    "f": (55.0, 37.0),
}
HERE = Client("203.0.113.0/24", 64500, "DE", 50.5, 8.5)


def world(**intents: Intent) -> Inventory:
    return Inventory(
        data_centers={
            DataCenterId(id): DataCenter(
                DataCenterId(id), ProviderId("own"), RegionId(id), latitude=lat, longitude=lon,
                intent=intents.get(id, Intent.SERVING),
            )
            for id, (lat, lon) in SPOTS.items()
        }
    )  # fmt: skip


def view_of(book: ClientBook, inventory: Inventory, now: int = NOW) -> View:
    return View(now, 1, inventory, Estimator(inventory).table(0)[0], None, (), clients=book.table)


def beacon(edge: str, rtt_ms: float, client: Client = HERE, witness: str = "key:beacon") -> Beacon:
    return Beacon(client, DataCenterId(edge), round(1000 * rtt_ms), witness)


def legs_ms(view: View, client: Client = HERE) -> dict[str, float]:
    access = access_legs(view, client)
    return {id: 2 * access.one_way_us[i] / 1000 for i, id in enumerate(view.inventory.data_centers)}


def test_without_measurements_geography_speaks_and_says_so() -> None:
    inventory = world()
    view = view_of(ClientBook(), inventory)
    access = access_legs(view, HERE)
    km = distance_km(50.5, 8.5, *SPOTS["a"])
    assert access.one_way_us[0] == pytest.approx(km * 10 + 5_000, abs=2)
    assert {access.provenance_of(i) for i in range(6)} == {"geo"} and (access.error_us > 0).all()
    nowhere = access_legs(view, Client("198.51.100.0/24"))
    assert (nowhere.one_way_us == UNKNOWN).all() and nowhere.provenance_of(0) == "none"


def test_a_measurement_moves_its_edge_and_by_less_the_others() -> None:
    inventory, book = world(), ClientBook()
    before = legs_ms(view_of(book, inventory))
    book.observe([beacon("a", 60.0)], inventory, NOW)
    view = view_of(book, inventory)
    after, access = legs_ms(view), access_legs(view, HERE)
    assert after["a"] == pytest.approx(60.0, rel=0.1)
    assert before["b"] < after["b"] < 60.0 * after["b"] / before["b"]
    assert (access.provenance_of(0), access.provenance_of(1)) == ("prefix", "geo")
    assert access.error_us[0] / after["a"] < access.error_us[1] / after["b"]


def test_levels_shrink_towards_each_other() -> None:
    inventory, book = world(), ClientBook()
    others = [Client(f"198.51.{i}.0/24", 64500, "DE", 50.5, 8.5) for i in range(6)]
    book.observe([beacon("a", 70.0, other) for other in others], inventory, NOW)
    view = view_of(book, inventory)
    assert access_legs(view, HERE).provenance_of(0) == "asn_metro"
    metro = legs_ms(view)["a"]
    elsewhere = Client("203.0.114.0/24", 64500, "DE", 53.5, 10.0)
    assert access_legs(view, elsewhere).provenance_of(0) == "asn"
    geo = legs_ms(view_of(ClientBook(), inventory))["a"]
    assert geo < legs_ms(view, elsewhere)["a"] < metro < 75.0
    assert access_legs(view, Client("203.0.115.0/24", 64999, "DE", 50.5, 8.5)).provenance_of(0) == "country"


def test_a_network_without_position_is_known_where_it_was_measured() -> None:
    inventory, book = world(), ClientBook()
    lost = Client(None, 64501)
    book.observe([beacon("d", 33.0, lost)], inventory, NOW)
    access = access_legs(view_of(book, inventory), lost)
    known = access.one_way_us != UNKNOWN
    assert list(np.flatnonzero(known)) == [3] and access.provenance_of(3) == "asn"
    assert 2 * access.one_way_us[3] / 1000 == pytest.approx(33.0, rel=0.1)


def test_evidence_fades() -> None:
    inventory, book = world(), ClientBook()
    book.observe([beacon("a", 120.0)], inventory, NOW)
    fresh = legs_ms(view_of(book, inventory))["a"]
    day = legs_ms(view_of(book, inventory, NOW + 24 * 3_600_000_000))["a"]
    gone = legs_ms(view_of(book, inventory, NOW + 8 * 24 * 3_600_000_000))["a"]
    assert fresh > day > gone
    assert gone == legs_ms(view_of(ClientBook(), inventory))["a"]


@pytest.mark.slow
@given(
    lie_ms=st.floats(1.0, 60_000.0),
    honest=st.integers(3, 6),
    lies=st.integers(1, 200),
    prefixes=st.integers(1, 50),
)
@settings(max_examples=60, deadline=None)
def test_one_key_cannot_move_a_network(lie_ms: float, honest: int, lies: int, prefixes: int) -> None:
    """However often it lies, and about however many prefixes it makes up, beside three honest keys."""
    inventory, book = world(), ClientBook()
    truth = [beacon("c", 90.0 + i, HERE, f"key{i}:beacon") for i in range(honest)]
    false = [
        beacon(
            "c", lie_ms, Client(f"203.{i % prefixes}.113.0/24" if i % 2 else HERE.prefix, 64500, "DE"), "liar:beacon"
        )
        for i in range(lies)
    ]
    for told in zip(truth * lies, false * honest, strict=False):
        book.observe(told, inventory, NOW)
    view = view_of(book, inventory)
    assert legs_ms(view)["c"] == pytest.approx(92.0, rel=0.2)
    of_asn = Client(None, 64500)
    leg = 2 * access_legs(view, of_asn).one_way_us[2] / 1000
    assert leg == pytest.approx(92.0, rel=0.2)


def test_one_outlier_of_an_honest_witness_moves_it_little() -> None:
    inventory, book = world(), ClientBook()
    book.observe([beacon("a", 40.0)] * 8, inventory, NOW)
    steady = legs_ms(view_of(book, inventory))["a"]
    book.observe([beacon("a", 3_000.0)], inventory, NOW)
    assert legs_ms(view_of(book, inventory))["a"] == pytest.approx(steady, rel=0.08)


def test_what_cannot_be_true_is_left_out_and_counted() -> None:
    inventory, book = world(), ClientBook()
    book.observe(
        [beacon("d", 2.0), beacon("nowhere", 20.0), beacon("a", 9.0, Client(None, latitude=50.0, longitude=8.0))],
        inventory, NOW,
    )  # fmt: skip
    assert book.refused == {
        "beacon_outran_light": 1, "beacon_unknown_data_center": 1, "beacon_without_network": 1,
    }  # fmt: skip
    assert book.taken == 0


def test_who_lives_far_from_the_middle_of_a_large_country_is_believed() -> None:
    """New York to an edge there takes 3 ms; a client that is known as American alone counts as being in Kansas."""
    inventory, book = world(), ClientBook()
    edge = inventory.data_centers[DataCenterId("a")]
    assert edge.latitude is not None and edge.longitude is not None
    for degrees, believed in ((13.0, True), (40.0, False)):
        client = Client("203.0.113.0/24", None, "US", edge.latitude - degrees, edge.longitude)
        book.observe([beacon("a", 3.0, client)], inventory, NOW)
        assert book.taken == 1 and (book.refused == {}) == believed


def test_nothing_but_a_measurement_says_that_light_was_outrun() -> None:
    inventory, book = world(), ClientBook()
    book.observe([beacon(edge, 4.0) for edge in "ab"], inventory, NOW)
    legs = legs_ms(view_of(book, inventory))
    for id, (lat, lon) in SPOTS.items():
        if id not in "ab":
            assert legs[id] >= 2 * distance_km(50.5, 8.5, lat, lon) * 0.005 - 0.01


def test_memory_is_bounded() -> None:
    inventory, book = world(), ClientBook()
    client = Client("203.0.113.0/24", 64500)
    book.observe([beacon("a", 50.0, client, f"key{i}") for i in range(100)], inventory, NOW)
    network = book.table.get((5, "203.0.113.0/24"))
    assert network is not None and len(network.seats[DataCenterId("a")]) == SEATS
    assert NETWORKS_KEPT >= 10 * RECENT


def test_those_heard_longest_ago_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("router.core.clients.evidence.NETWORKS_KEPT", 1_000)
    inventory, book = world(), ClientBook()
    for i in range(3_000):
        book.observe([beacon("a", 50.0, Client(f"10.{i >> 8}.{i & 255}.0/24"))], inventory, NOW + i)
    names = book.table.networks(5)
    assert len(names) <= 1_000 + RECENT + 1 and "10.11.183.0/24" in names and "10.0.0.0/24" not in names
    assert book.refused["network_forgotten"] >= 1_000


def test_a_table_is_what_it_was() -> None:
    inventory, book = world(), ClientBook()
    book.observe([beacon("a", 50.0)], inventory, NOW)
    table = book.table
    seats = dict(table.networks(5)["203.0.113.0/24"].seats)
    book.observe([beacon("a", 90.0), beacon("b", 90.0)], inventory, NOW)
    assert dict(table.networks(5)["203.0.113.0/24"].seats) == seats and book.table is not table


def cities(count: int) -> list[Client]:
    """Clients on a grid."""
    return [
        Client(f"10.1.{i}.0/24", None, "XX" if i % 3 else "YY", -20.0 + 60 * ((i * 7) % count) / count,
               -60.0 + 180 * i / count)
        for i in range(count)
    ]  # fmt: skip


def truth_ms(client: Client, edge: str, heavy: float = 1.0) -> float:
    """A world in which the way to ``d`` leads round by a detour that no map shows."""
    assert client.latitude is not None and client.longitude is not None
    km = distance_km(client.latitude, client.longitude, *SPOTS[edge])
    return 8.0 * heavy + km * 0.015 * (2.0 if edge in "ad" else 1.0)


def taught(count: int = 40, every: int = 1) -> tuple[ClientBook, Inventory]:
    inventory, book = world(), ClientBook()
    for i, client in enumerate(cities(count)):
        told = [e for j, e in enumerate(SPOTS) if (i + j) % every == 0]
        book.observe([beacon(e, truth_ms(client, e), client) for e in told], inventory, NOW)
    book.adopt(Census(1, NOW, book.table, inventory).fit())
    return book, inventory


@pytest.mark.parametrize("every", [1, 2])
def test_others_teach_what_no_map_shows(every: int) -> None:
    book, inventory = taught(every=every)
    stranger = Client("198.51.100.0/24", None, "XX", 20.0, 30.0)
    legs, plain = legs_ms(view_of(book, inventory), stranger), legs_ms(view_of(ClientBook(), inventory), stranger)
    missed = {e: abs(math.log(legs[e] / truth_ms(stranger, e))) for e in SPOTS}
    before = {e: abs(math.log(plain[e] / truth_ms(stranger, e))) for e in SPOTS}
    assert sum(missed.values()) < 0.7 * sum(before.values())
    assert max(missed.values()) < 0.25


def test_the_fit_is_the_same_every_time_and_bounded_by_the_inventory() -> None:
    one, _ = taught()
    two, inventory = taught()
    assert one.table.model is not None and two.table.model is not None
    assert np.array_equal(one.table.model.pull, two.table.model.pull)
    fewer = Inventory(data_centers={id: dc for id, dc in inventory.data_centers.items() if id != "b"})
    more = legs_ms(view_of(one, fewer), HERE)
    assert "b" not in more and all(value > 0 for value in more.values())
    fresh = DataCenter(DataCenterId("z"), ProviderId("own"), RegionId("z"), latitude=48.0, longitude=2.0)
    assert legs_ms(view_of(one, Inventory(data_centers={**inventory.data_centers, fresh.id: fresh})), HERE)["z"] > 0


def test_too_little_teaches_nothing() -> None:
    book, _ = taught(count=5)
    assert book.table.model is not None and book.table.model.places == 0


def test_candidates_are_promising_serving_and_not_asked_twice() -> None:
    book, _ = taught()
    view = view_of(book, world())
    asked = candidates(view, HERE)
    assert 1 <= len(asked) <= 3 and len(set(asked)) == len(asked)
    legs = legs_ms(view)
    assert asked[0] == min(legs, key=lambda e: legs[e])
    assert asked[0] not in candidates(view, HERE, skip=[asked[0]])
    drained = view_of(book, world(**{asked[0]: Intent.DRAINED}))
    assert asked[0] not in candidates(drained, HERE)
    book.observe([beacon(asked[0], legs[asked[0]])], world(), NOW)
    assert asked[0] not in candidates(view_of(book, world()), HERE)
    assert candidates(view_of(ClientBook(), world()), Client(None, 64999)) == []


def test_three_beacons_find_the_best_edge() -> None:
    book, inventory = taught()
    stranger = Client("198.51.100.0/24", None, "XX", 30.0, 60.0)
    true = {e: truth_ms(stranger, e, heavy=3.0) for e in SPOTS}
    true["f"] *= 4.0  # its own ISP goes round the world to where everybody else would go
    for _ in range(3):
        for edge in candidates(view_of(book, inventory), stranger, 1):
            book.observe([beacon(edge, true[edge], stranger)], inventory, NOW)
    legs = legs_ms(view_of(book, inventory), stranger)
    assert min(legs, key=lambda e: legs[e]) == min(true, key=lambda e: true[e])


def test_beliefs_are_kept_until_their_own_network_says_something() -> None:
    book, inventory = taught()
    view = view_of(book, inventory)
    assert belief(view, HERE) is belief(view_of(book, inventory), HERE)
    book.observe([beacon("a", 77.0)], inventory, NOW)
    assert belief(view_of(book, inventory), HERE) is not belief(view, HERE)


@given(
    st.lists(st.tuples(st.floats(1.0, 5_000.0), st.integers(1, 10)), min_size=1, max_size=8), st.floats(1.0, 5_000.0)
)
def test_a_verdict_lies_among_its_witnesses_or_at_the_prior(votes: list[tuple[float, int]], prior_ms: float) -> None:
    from router.core.clients.evidence import Seat

    seats = tuple(Seat(f"k{i}", "", kept_log(1000 * ms), n, NOW) for i, (ms, n) in enumerate(votes))
    prior = kept_log(1000 * prior_ms) / 1e6
    said = verdict(seats, prior, NOW)
    assert said is not None
    logs = [seat.log / 1e6 for seat in seats]
    assert min(logs) - 1e-9 <= said.log <= max(logs) + 1e-9 or said.log == prior
    assert rtt_of(said.log) > -1 and all(a <= b for a, b in pairwise(sorted(logs)))
