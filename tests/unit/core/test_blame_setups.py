"""Set-ups that fail at one place are that place's: not the agents', not a client network's, not the world's."""

from __future__ import annotations

import pytest

from bench.freshness.world import World
from router.core.blame.components import Atlas
from router.core.blame.outcomes import Outcome
from router.core.blame.setups import Setups
from router.core.model import DataCenterId

SECOND = 1_000_000
LIFE = 30 * SECOND
INVENTORY = World(6).inventory
PLACES = tuple(INVENTORY.data_centers)
GROUPS = tuple(f"as{n}" for n in range(8))


def played(fails: dict[tuple[DataCenterId, str], int], hub: DataCenterId | None = None, rounds: int = 12) -> Setups:
    """Twelve seconds in which somebody of each network sets up at each place; some say that one in ``n`` fails."""
    setups = Setups(LIFE)
    for number in range(rounds):
        for dc in PLACES:
            for group in GROUPS:
                every = fails.get((dc, group), 0)
                bad = int(bool(every) and (number + GROUPS.index(group)) % every == 0)
                told = [Outcome(dc, None, group, setup_ok=1)]
                told += [Outcome(dc, None, group, hub, setup_failed=1)] if bad else []
                setups.observe(told, number * SECOND)
    return setups


def named(setups: Setups) -> list[str]:
    return [one.component.id for one in setups.gray(Atlas(INVENTORY), 12 * SECOND) if one.confidence >= 0.9]


@pytest.mark.parametrize("every", [2, 3, 4])
def test_a_place_where_some_of_all_networks_fail_is_named(every: int) -> None:
    setups = played({(PLACES[2], group): every for group in GROUPS})
    (gray,) = setups.gray(Atlas(INVENTORY), 12 * SECOND)
    assert (gray.component.id, gray.confidence >= 0.9) == (PLACES[2], True)
    assert (gray.evidence.vantages_bad, gray.evidence.sources) == (len(GROUPS), ("sessions",))
    assert 1e6 / every / 2 < gray.evidence.failed_ppm < 1e6 / every


@pytest.mark.parametrize(
    "fails",
    [
        {},
        {(PLACES[2], GROUPS[0]): 1, (PLACES[2], GROUPS[1]): 1},  # two networks, wholly: a peering each
        {(dc, GROUPS[3]): 2 for dc in PLACES},  # a network everywhere
        {(dc, group): 3 for dc in PLACES for group in GROUPS},  # everybody everywhere
        {(dc, group): 3 for dc in PLACES[:3] for group in GROUPS},  # half of the world
    ],
)
def test_what_is_not_one_places_fault_names_none(fails: dict[tuple[DataCenterId, str], int]) -> None:
    assert named(played(fails)) == []


def test_failures_that_may_be_the_agents_are_not_held_against_the_edge() -> None:
    assert named(played({(PLACES[2], group): 2 for group in GROUPS}, hub=PLACES[4])) == []


def test_it_is_forgotten() -> None:
    setups = played({(PLACES[2], group): 2 for group in GROUPS})
    assert setups.gray(Atlas(INVENTORY), 12 * SECOND + 10 * LIFE) == ()
