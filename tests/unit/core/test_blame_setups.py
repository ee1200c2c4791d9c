"""Set-ups that fail at one place are that place's: not the agents', not a client network's, not the world's."""

from __future__ import annotations

import numpy as np
import pytest

from bench.freshness.world import World
from router.core.blame.components import Atlas
from router.core.blame.outcomes import Outcome
from router.core.blame.setups import LIVES_US, Setups
from router.core.model import DataCenterId

SECOND = 1_000_000
LIFE = 30 * SECOND
INVENTORY = World(6).inventory
PLACES = tuple(INVENTORY.data_centers)
ATLAS = Atlas(INVENTORY)
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


def poisson(per_minute: int, seconds: int, share: float = 0.3) -> tuple[Setups, ...]:
    """All spans after people have called for a while, ``per_minute`` of them at one place whose set-ups fail."""
    rng, spans = np.random.default_rng(7), tuple(map(Setups, LIVES_US))
    for t in range(seconds):
        for dc in PLACES:
            for _ in range(rng.poisson((per_minute if dc == PLACES[2] else 60) / 60)):
                failed = int(rng.random() < (share if dc == PLACES[2] and t >= 60 else 0.01))
                told = Outcome(dc, None, GROUPS[rng.integers(8)], setup_ok=1 - failed, setup_failed=failed)
                for span in spans:
                    span.observe([told], t * SECOND)
    return spans


def sure_of(spans: tuple[Setups, ...], now_s: int) -> list[str]:
    others = (None, None, spans[1])
    found = [one for s, other in zip(spans, others, strict=True) for one in s.gray(ATLAS, now_s * SECOND, other)]
    return sorted({one.component.id for one in found if one.confidence >= 0.9})


@pytest.mark.parametrize(("per_minute", "within_s"), [(120, 40), (30, 130), (12, 320), (6, 820)])
def test_a_gray_place_is_seen_however_few_call_there_and_how_long_that_takes(per_minute: int, within_s: int) -> None:
    """The limit, explicitly: about thirty set-ups of which a third fails; nobody can know sooner."""
    assert sure_of(poisson(per_minute, 60 + within_s), 60 + within_s) == [PLACES[2]]
    assert sure_of(poisson(per_minute, 60 + within_s, share=0.01), 60 + within_s) == []


def test_what_took_minutes_to_see_is_over_in_seconds_once_it_is_well() -> None:
    spans = poisson(60, 240)
    assert sure_of(spans, 240) == [PLACES[2]]
    for t in range(240, 300):
        for span in spans:
            span.observe([Outcome(PLACES[2], None, GROUPS[t % 8], setup_ok=1)], t * SECOND)
    assert spans[2].gray(ATLAS, 300 * SECOND), "its memory alone would still accuse"
    assert sure_of(spans, 300) == []
