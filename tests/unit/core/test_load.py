"""Load as a price: flows along routes, the curve, damping in time, and what it does in a table and an explanation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from worlds import SECOND, inventory
from worlds import snapshot as plain

from router.core.load import (
    BITRATE_KBPS,
    KNEE,
    MOST_US,
    PRICE_US,
    UNDAMPED,
    Damping,
    LoadBook,
    carried,
    price_us,
)
from router.core.model import (
    DEFAULT_TRANSPORT,
    DataCenterId,
    Flow,
    Inventory,
    Link,
    LinkId,
    TrafficClass,
)
from router.core.quality import PROFILES
from router.core.solve import Switcher, solve
from router.core.tables import DIRECT, Context, RouteTable

A, B, C, D = (DataCenterId(f"x-{name}") for name in "abcd")
VOICE, VIDEO = TrafficClass.VOICE, TrafficClass.VIDEO
FLEET = inventory("x-a x-b x-c x-d")


def table_of(costs: dict[tuple[str, str], int], fleet: Inventory = FLEET, **changes: object) -> RouteTable:
    """Routes over these links alone, both classes the same."""
    n = len(fleet.data_centers)
    cost = np.full((n, n), 1 << 40, np.int64)
    for (a, b), us in costs.items():
        cost[fleet.index[DataCenterId(f"x-{a}")], fleet.index[DataCenterId(f"x-{b}")]] = us
    one = plain(cost)
    found = replace(
        one,
        data_centers=tuple(fleet.data_centers),
        contexts=(Context(VOICE), Context(VIDEO)),
        **{
            name: np.concatenate([getattr(one, name)] * 2)
            for name in ("cost", "transport", "may_relay", "max_relays", "relay_cost_us")
        },  # type: ignore[arg-type]
        **changes,  # type: ignore[arg-type]
    )
    return Switcher().adopt(None, found, solve(found), 0)[0]


CHAIN = dict.fromkeys(("ab", "ba", "bc", "cb", "cd", "dc", "da"), 1)  # over b and c there, straight back


def limited(mbps: int = 0, link_mbps: int = 0) -> Inventory:
    centers = {**FLEET.data_centers, B: replace(FLEET.data_centers[B], capacity_mbps=mbps)}
    link = Link(LinkId("l"), B, C, DEFAULT_TRANSPORT, capacity_mbps=link_mbps)
    return replace(FLEET, data_centers=centers, links={link.id: link})


def test_flows_are_laid_along_the_routes_in_force_of_both_directions() -> None:
    table = table_of(CHAIN)
    assert table.relays[0, 0, 3].tolist()[:2] == [1, 2] and table.relays[0, 3, 0, 0] == DIRECT
    found = carried(FLEET, {(A, D, VOICE): 1_000, (B, C, VIDEO): 10}, table)
    links = found.link.reshape(1, 4, 4)[0]
    voice, video = 64.0, 12.0
    assert links[0, 1] == links[2, 3] == links[3, 0] == voice
    assert links[1, 2] == voice + video and links[2, 1] == video
    assert links.sum() == pytest.approx(4 * voice + 2 * video)
    # a and d see both directions of voice, b and c one and both of video.
    assert found.center.tolist() == [2 * voice, voice + 2 * video, voice + 2 * video, 2 * voice]


def test_flows_without_a_route_or_a_place_carry_nothing_and_one_place_carries_without_links() -> None:
    table = table_of({("a", "b"): 1})
    flows: dict[Flow, int] = {
        (B, A, VOICE): 100, (C, C, VOICE): 1_000, (DataCenterId("gone"), A, VOICE): 5, (A, B, TrafficClass.BULK): 9,
    }  # fmt: skip
    found = carried(FLEET, flows, table)
    assert found.link.reshape(4, 4)[0, 1] == pytest.approx(6.4) and found.link.sum() == pytest.approx(6.4)
    assert found.center.tolist() == pytest.approx([6.4, 6.4, 128.0, 0.0])
    assert carried(FLEET, flows, None).center.sum() == 0 == carried(FLEET, {}, table).center.sum()


def test_a_table_of_an_older_inventory_is_read_by_names() -> None:
    table = table_of(CHAIN)
    grown = inventory("w-z x-a x-b x-d")  # a new first vertex, and c is gone
    found = carried(grown, {(A, D, VOICE): 1_000}, table)
    assert found.center.tolist() == [0.0, 128.0, 64.0, 128.0]
    links = found.link.reshape(4, 4)
    assert links[1, 2] == 64.0 and links[3, 1] == 64.0 and links.sum() == 128.0


def test_price_is_nothing_below_the_knee_convex_above_and_bounded() -> None:
    u = np.linspace(0.0, 3.0, 3_001)
    price = price_us(u)
    assert (price[u <= KNEE] == 0).all() and (price[u > KNEE + 1e-9] > 0).all()
    assert (np.diff(price) >= 0).all() and price.max() == MOST_US == price[-1]
    rising = price[(u > KNEE) & (price < MOST_US)]
    assert (np.diff(rising, 2) > 0).all()
    assert float(price_us(np.array([(1 + KNEE) / 2]))[0]) == pytest.approx(PRICE_US)
    assert price_us(np.array([0.0, np.inf])).tolist() == [0.0, MOST_US]


def test_rates_are_the_ones_that_prices_are_reckoned_with() -> None:
    assert set(BITRATE_KBPS) == set(TrafficClass)
    for traffic_class, gb_per_hour in ((VOICE, 0.029), (TrafficClass.AGENT, 0.029), (VIDEO, 0.54)):
        assert BITRATE_KBPS[traffic_class] * 3_600 / 8e6 == pytest.approx(gb_per_hour, rel=0.01)
        assert PROFILES[traffic_class].usd_per_point > 0


def follow(book: LoadBook, fleet: Inventory, sessions: list[int], start: int = 0) -> list[int]:
    """Price of the hop a -> b second by second."""
    table, found = table_of(CHAIN), []
    for k, number in enumerate(sessions):
        book.count({(A, B, VOICE): number})
        book.update(fleet, table, (start + k + 1) * SECOND)
        price = book.price(fleet)
        found.append(0 if price is None else int(price.smooth_us[0, 0, 1]))
    return found


def test_the_damped_price_rises_by_its_rate_and_falls_more_slowly() -> None:
    fleet, book, damping = limited(mbps=100), LoadBook(), Damping()
    rise = follow(book, fleet, [0] + [1_000] * 30)  # 128 Mbit/s on 100
    steps = np.diff(rise)
    assert (steps >= 0).all() and steps[0] == damping.step_us
    assert (steps <= np.maximum(damping.step_us, np.array(rise[:-1]) * damping.step_share) + 1).all()
    fall = follow(book, fleet, [0] * 30, start=31)
    assert (np.diff([rise[-1], *fall]) < 0).all() and fall[-1] > rise[-1] * 0.3
    assert follow(book, fleet, [0] * 600, start=61)[-1] == 0  # and in the end it is gone


def test_the_price_stays_while_the_load_moves_within_the_band() -> None:
    fleet = limited(mbps=100)
    book, loose = LoadBook(), LoadBook(replace(Damping(), band=0.0))
    noise = [0] + [700] * 60 + [640, 700] * 30  # 89.6 and 81.9 Mbit/s
    assert len(set(follow(book, fleet, noise)[-60:])) == 1
    assert len(set(follow(loose, fleet, noise)[-60:])) > 10
    assert follow(LoadBook(UNDAMPED), fleet, noise)[-2:] == [
        int(np.rint(price_us(np.array([0.8192]))[0])), int(np.rint(price_us(np.array([0.896]))[0]))
    ]  # fmt: skip


def test_after_a_restart_the_price_is_there_at_once_and_after_a_pause_it_does_not_leap() -> None:
    fleet = limited(mbps=100)
    assert follow(LoadBook(), fleet, [700])[0] == int(np.rint(price_us(np.array([0.896]))[0]))
    book = LoadBook()
    follow(book, fleet, [0])
    assert follow(book, fleet, [1_000], start=600)[0] <= 5 * Damping().step_us


def test_a_link_has_its_own_price_and_a_data_center_prices_the_hops_into_it() -> None:
    table = table_of(CHAIN)
    book, fleet = LoadBook(UNDAMPED), limited(mbps=1_000, link_mbps=80)
    book.count({(A, D, VOICE): 1_000})
    book.update(fleet, table, SECOND)
    price = book.price(fleet)
    assert price is not None and price.smooth_us.shape == (1, 4, 4)
    assert np.flatnonzero(price.smooth_us).tolist() == [1 * 4 + 2]  # 64 on 80, against 64 on 1000
    assert price.smooth_us[0, 1, 2] == PRICE_US
    book = LoadBook(UNDAMPED)
    book.count({(A, D, VOICE): 1_000})
    book.update(limited(mbps=80), table, SECOND)
    price = book.price(limited(mbps=80))
    assert price is not None and set(price.smooth_us[0, :, 1].tolist()) == {PRICE_US}
    assert price.smooth_us[0, :, [0, 2, 3]].sum() == 0


def test_without_capacities_there_is_no_price_at_all() -> None:
    book = LoadBook()
    follow(book, FLEET, [1_000_000] * 3)
    assert book.price(FLEET) is None


def test_prices_follow_their_names_when_the_inventory_changes() -> None:
    fleet, book = limited(mbps=100), LoadBook()
    before = follow(book, fleet, [0] + [1_000] * 10)[-1]
    centers = dict(sorted({**inventory("w-z").data_centers, **fleet.data_centers}.items()))
    price = book.price(replace(fleet, data_centers=centers, links={}))
    assert price is not None and set(price.smooth_us[0, :, 2].tolist()) == {before}
    gone = {id: dc for id, dc in fleet.data_centers.items() if id != B}
    assert book.price(replace(fleet, data_centers=gone, links={})) is None
