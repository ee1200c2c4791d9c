"""Links: cheap where that is good enough, within delay, room, providers' parts and insurance; always an answer."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.core.capacity import Agreed, Question, Split, Way, read_split, shortest, split_programme
from router.solver import optimum

WIDE = np.array([1e9, 1e9])
CHEAP = Way(0, 0, "linode", "cheap", 5_000, 30_000)
DEAR = Way(0, 0, "gcp", "dear", 100_000, 20_000, insured=True)
FREE = Agreed(mean_extra_us=100_000, insured_ppm=0, provider_ppm=1_000_000)


def solved(question: Question) -> Split:
    asked = split_programme(question)
    return read_split(question, asked, optimum(asked))


def asked(ways: tuple[Way, ...], agreed: Agreed = FREE, demand: list[list[float]] | None = None) -> Question:
    return Question(np.array(demand or [[10.0]]), ways, WIDE, agreed)


def test_the_cheap_way_is_taken_where_nothing_speaks_against_it() -> None:
    assert solved(asked((CHEAP, DEAR))).share.tolist() == [[1.0, 0.0]]


def test_insurance_keeps_a_part_on_the_insured_way() -> None:
    found = solved(asked((CHEAP, DEAR), Agreed(mean_extra_us=100_000, insured_ppm=50_000, provider_ppm=1_000_000)))
    assert found.share[0, 1] == pytest.approx(0.05)
    assert any(text.startswith("insurance of group 0 at 0") for text in found.why)


def test_the_mean_delay_binds_and_says_what_a_microsecond_would_save() -> None:
    found = solved(asked((CHEAP, DEAR), Agreed(mean_extra_us=5_000, insured_ppm=0, provider_ppm=1_000_000)))
    assert found.share[0].tolist() == pytest.approx([0.5, 0.5])
    assert found.mean_rtt_us == pytest.approx(25_000)
    assert found.why[0].startswith("mean delay")


def test_a_way_that_is_far_too_long_is_not_in_the_programme() -> None:
    far = Way(0, 0, "linode", "far", 0, 200_000)
    assert solved(asked((far, DEAR))).share.tolist() == [[0.0, 1.0]]


def test_no_provider_has_more_than_its_part_of_a_hub() -> None:
    found = solved(asked((CHEAP, DEAR), Agreed(mean_extra_us=100_000, insured_ppm=0)))
    assert found.share[0].tolist() == pytest.approx([0.5, 0.5])


def test_a_hub_that_is_full_in_one_hour_sends_that_hours_demand_elsewhere() -> None:
    other = Way(0, 1, "linode", "other", 20_000, 40_000)
    question = Question(np.array([[10.0], [2.0]]), (CHEAP, other), np.array([4.0, 1e9]), FREE)
    assert solved(question).share.tolist() == [pytest.approx([0.4, 0.6]), pytest.approx([1.0, 0.0])]


def test_where_rules_cannot_be_kept_there_is_an_answer_all_the_same() -> None:
    question = Question(np.array([[10.0]]), (CHEAP,), np.array([1.0]), Agreed())
    assert solved(question).share.tolist() == [[1.0]]


ways = st.lists(
    st.builds(
        Way, st.integers(0, 2), st.integers(0, 1), st.sampled_from(["gcp", "linode"]), st.just("w"),
        st.integers(0, 100_000), st.integers(1_000, 150_000), st.booleans(),
    ),
    min_size=1, max_size=8,
)  # fmt: skip


@settings(max_examples=50, deadline=None)
@given(ways, st.lists(st.lists(st.floats(0.1, 50), min_size=3, max_size=3), min_size=1, max_size=3))
def test_shares_add_up_and_the_mean_delay_is_kept(some: list[Way], demand: list[list[float]]) -> None:
    known = sorted({way.group for way in some})
    load = np.array(demand)
    load[:, [g for g in range(3) if g not in known]] = 0.0
    found = solved(Question(load, tuple(some), WIDE, Agreed(provider_ppm=1_000_000)))
    best = shortest(some)
    extra = total = 0.0
    for group in known:
        mine = [k for k, way in enumerate(some) if way.group == group]
        assert found.share[:, mine].sum(1) == pytest.approx(np.ones(len(load)))
        for k in mine:
            extra += float((load[:, group] * found.share[:, k]).sum()) * (some[k].rtt_us - best[group])
        total += float(load[:, group].sum())
    assert extra <= 5_000 * total * 1.001 + 1
