"""The chance of being worse than direct, computed by hand for small cases; and a record that corrects what was said."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from worlds import evidence, snapshot

from router.core.history import KEEP
from router.core.model import MAX_RELAYS
from router.core.solve.risk import JUDGED, PRIOR_WORSE, RECORD_KEEP, Paths, Record, gain_share, worse_than_direct
from router.core.solve.switching import risk_accepted
from router.core.tables import DIRECT, FALLEN, I64, NO_COST, GraphSnapshot

MS = 1_000
ALMOST = 1e-6  # the narrowest kernel leaves this much of a sample on the wrong side


def links(direct_ms: float, first_ms: float, rest_ms: float, last_ms: float | None = None) -> I64:
    """One bucket over four vertices: 0 -> 3 direct, or 0 -> 1 -> 3, or with ``last_ms`` 0 -> 1 -> 2 -> 3."""
    delay = np.full((4, 4), 500 * MS, np.int64)
    delay[0, 3], delay[0, 1] = round(direct_ms * MS), round(first_ms * MS)
    if last_ms is None:
        delay[1, 3] = round(rest_ms * MS)
    else:
        delay[1, 2], delay[2, 3] = round(rest_ms * MS), round(last_ms * MS)
    return delay


def over(*relays: int) -> Paths:
    slots = [*relays, *[DIRECT] * (MAX_RELAYS - len(relays))]
    return Paths(0, np.array([0]), np.array([3]), np.array([slots], np.int16))


def world(*ring: I64, refresh: object = 1.0, noise_us: int = 0, latest: I64 | None = None) -> GraphSnapshot:
    """A snapshot whose costs are the newest bucket's."""
    story = evidence(ring, refresh, noise_us, latest)  # type: ignore[arg-type]
    return replace(snapshot(ring[-1]), evidence=story, extra_us=np.zeros((1, 4, 4), np.int64))


def risk(shot: GraphSnapshot, *relays: int) -> float:
    return float(worse_than_direct(shot, over(*relays))[0])


GOOD = links(100, 40, 40)
FIRST_BAD = links(100, 70, 40)  # what the source measures itself
REST_BAD = links(100, 40, 70)  # what the relay measures


@pytest.mark.parametrize(
    ("own", "others", "before", "share"),
    [
        (1.0, 1.0, REST_BAD, 1.0),
        (0.0, 1.0, REST_BAD, 1.0),
        (1.0, 0.0, REST_BAD, 0.0),  # the relay will not measure again: what it said last still holds
        (0.0, 0.0, REST_BAD, 0.0),
        (1.0, 0.0, FIRST_BAD, 1.0),
        (0.0, 1.0, FIRST_BAD, 0.0),
        (0.5, 0.25, REST_BAD, 0.25),
        (0.5, 0.25, FIRST_BAD, 0.5),
    ],
)
def test_only_what_is_measured_again_can_get_worse(own: float, others: float, before: I64, share: float) -> None:
    shot = world(before, GOOD, refresh=(own, others, 1.0, 1.0))
    assert risk(shot, 1) == pytest.approx(share * KEEP / (1 + KEEP), abs=ALMOST)


def test_without_any_renewal_the_present_decides() -> None:
    assert risk(world(GOOD, REST_BAD, refresh=0.0), 1) == 1.0
    assert risk(world(REST_BAD, GOOD, refresh=0.0), 1) == 0.0


def test_pairing_sees_that_both_paths_suffer_at_once() -> None:
    together = world(links(160, 70, 70), links(100, 40, 40))
    assert risk(together, 1) == pytest.approx(0.0, abs=ALMOST)
    apart = world(links(100, 70, 70), links(160, 40, 40), links(100, 40, 40))
    assert risk(apart, 1) == pytest.approx(KEEP**2 / (1 + KEEP + KEEP**2), abs=ALMOST)


def test_two_relays_are_renewed_when_either_is() -> None:
    good, bad = links(100, 30, 20, 20), links(100, 30, 20, 70)
    shot = world(bad, good, refresh=(1.0, 0.3, 0.2, 0.9))
    assert risk(shot, 1, 2) == pytest.approx((1 - 0.7 * 0.8) * KEEP / (1 + KEEP), abs=ALMOST)


def test_a_tie_is_even_odds_and_noise_blurs_what_few_buckets_say() -> None:
    tie = links(100, 50, 50)
    assert risk(world(tie, tie), 1) == pytest.approx(0.5)
    noisy = world(GOOD, GOOD, noise_us=6 * MS)
    count = (1 + KEEP) ** 2 / (1 + KEEP**2)
    z = 20 * MS / (6 * MS * 3**0.5 / count)  # three links carry the noise
    assert risk(noisy, 1) == pytest.approx(0.5 * (1 - z / (2 + z * z) ** 0.5))
    assert risk(world(*[GOOD] * 30, noise_us=6 * MS), 1) < risk(noisy, 1) / 10


def test_direct_paths_and_pairs_without_a_direct_path_have_nothing_to_lose() -> None:
    bad = world(REST_BAD, REST_BAD)
    assert risk(bad, 1) == pytest.approx(1.0, abs=ALMOST)
    assert risk(bad) == 0.0
    no_direct = REST_BAD.copy()
    no_direct[0, 3] = NO_COST
    cost = bad.cost.copy()
    cost[0, 0, 3] = NO_COST
    assert risk(replace(bad, cost=cost), 1) == 0.0, "measured, but not to be used"
    assert risk(world(no_direct, no_direct, latest=np.where(no_direct == NO_COST, FALLEN, no_direct)), 1) == 0.0


def test_a_hop_that_nobody_knows_now_is_no_risk_to_take() -> None:
    latest = GOOD.copy()
    latest[1, 3] = FALLEN
    assert risk(world(GOOD, GOOD, latest=latest), 1) == 1.0


def test_without_evidence_there_is_nothing_to_say() -> None:
    assert risk(replace(world(GOOD), evidence=None), 1) == 0.0
    story = evidence([GOOD])
    assert risk(replace(world(GOOD), evidence=replace(story, ring=())), 1) == 0.0
    nobody = Paths(0, np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros((0, MAX_RELAYS), np.int16))
    assert worse_than_direct(world(GOOD), nobody).shape == (0,)


def test_buckets_before_a_change_of_level_do_not_count() -> None:
    shot = world(REST_BAD, REST_BAD, GOOD, GOOD)
    assert shot.evidence is not None and risk(shot, 1) > 0.4
    since = shot.evidence.since.copy()
    since[0, 1, 3] = 2  # the relay's way is another one since the third bucket
    assert risk(replace(shot, evidence=replace(shot.evidence, since=since)), 1) == pytest.approx(0.0, abs=ALMOST)
    since[0, 1, 3] = 4  # and now nothing is left to compare: the present says it, blurred by noise alone
    assert risk(replace(shot, evidence=replace(shot.evidence, since=since)), 1) == pytest.approx(0.0, abs=ALMOST)
    since[:], since[0, 2, 3] = 0, 4
    assert risk(replace(shot, evidence=replace(shot.evidence, since=since)), 1) > 0.4, "that hop is not on the path"


def test_buckets_without_a_value_are_left_out() -> None:
    gap = REST_BAD.copy()
    gap[0, 1] = FALLEN
    assert risk(world(gap, GOOD, GOOD), 1) == pytest.approx(0.0, abs=ALMOST)


def test_jitter_loss_and_price_of_each_hop_are_part_of_the_comparison() -> None:
    shot, extra = world(GOOD, GOOD), np.zeros((1, 4, 4), np.int64)
    extra[0, 1, 3] = 30 * MS
    assert risk(replace(shot, extra_us=extra), 1) == pytest.approx(1.0, abs=ALMOST)
    extra[0, 0, 3] = 30 * MS
    assert risk(replace(shot, extra_us=extra), 1) == pytest.approx(0.0, abs=ALMOST)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(0, 1 << 32), st.integers(1, 6), st.floats(0, 1), st.floats(0, 1))
def test_it_is_a_probability_and_falls_when_direct_gets_worse(seed: int, buckets: int, own: float, rest: float) -> None:
    rng = np.random.default_rng(seed)
    ring = [rng.integers(0, 200 * MS, (4, 4)) for _ in range(buckets)]
    noise = int(rng.integers(0, 9 * MS))
    shot = world(*ring, refresh=(own, rest, rest, rest), noise_us=noise)
    for bucket in ring:
        bucket[0, 3] += 20 * MS
    worse = world(*ring, refresh=(own, rest, rest, rest), noise_us=noise)
    for relays in ((1,), (2, 1)):
        assert 0.0 <= risk(worse, *relays) <= risk(shot, *relays) <= 1.0


# --- the record ------------------------------------------------------------------------------------------------------

SAID = 0.02
PAIRS = [(u, v) for u in range(4) for v in range(4) if u != v and 1 not in (u, v)]
OVER_ONE = np.full((len(PAIRS), MAX_RELAYS), DIRECT, np.int16)
OVER_ONE[:, 0] = 1
ENDS = Paths(0, np.array([u for u, _ in PAIRS]), np.array([v for _, v in PAIRS]), OVER_ONE)


def outcome(bucket: int, is_bad: list[bool]) -> GraphSnapshot:
    """The measurements of a bucket in which these of ``PAIRS`` were worse off over vertex 1 than direct."""
    delay = np.full((4, 4), 40 * MS, np.int64)
    for (u, v), bad in zip(PAIRS, is_bad, strict=True):
        delay[u, v] = (70 if bad else 90) * MS
    return replace(snapshot(delay), evidence=replace(evidence([delay]), bucket=bucket))


def say(record: Record, bucket: int, is_bad: list[bool], said: float = SAID) -> None:
    record.follow_up(outcome(bucket, is_bad), ENDS, np.full(len(PAIRS), said))


def corrected(record: Record, said: float = SAID) -> float:
    return float(record.correct(np.array([said]))[0])


def test_a_new_record_believes_what_is_said() -> None:
    for said in (0.0, SAID, 1.0):
        assert corrected(Record(), said) == said
    assert Record().correct(np.zeros(0)).shape == (0,)


def test_who_is_too_sure_is_believed_less_and_after_better_times_again() -> None:
    record, k = Record(), len(PAIRS)
    for bucket in range(60):
        say(record, bucket, [(i + bucket) % 2 == 0 for i in range(k)])  # half of it comes out wrong
    came, told = (0.5 * k * (1 - RECORD_KEEP**59) / (1 - RECORD_KEEP) for _ in range(2))
    told *= SAID / 0.5
    assert corrected(record) == pytest.approx(SAID * (PRIOR_WORSE + came) / (PRIOR_WORSE + told))
    assert corrected(record) > 3 * SAID and corrected(record, said=0.9) == 1.0
    for bucket in range(60, 400):
        say(record, bucket, [False] * k)
    assert corrected(record) < SAID


def test_one_mistake_is_an_anecdote() -> None:
    record, k = Record(), len(PAIRS)
    say(record, 0, [False] * k)
    say(record, 1, [True] + [False] * (k - 1))
    assert corrected(record) == pytest.approx(SAID * (PRIOR_WORSE + 1) / (PRIOR_WORSE + k * SAID))


def test_a_bucket_is_judged_once_however_often_it_is_solved() -> None:
    once, often, k = Record(), Record(), len(PAIRS)
    for bucket in range(6):
        bad = [bucket % 2 == 0] * k
        say(once, bucket, bad)
        for _ in range(5):
            say(often, bucket, bad)
    assert corrected(once) == corrected(often) > SAID


def test_many_candidates_are_followed_up_by_a_sample() -> None:
    record, k = Record(), 3 * JUDGED
    many = Paths(0, np.zeros(k, np.int64), np.full(k, 3), np.tile(OVER_ONE[:1], (k, 1)))
    for bucket in range(2):
        record.follow_up(outcome(bucket, [True] * len(PAIRS)), many, np.full(k, SAID))
    assert corrected(record) == pytest.approx(SAID * (PRIOR_WORSE + JUDGED) / (PRIOR_WORSE + JUDGED * SAID))


def test_what_cannot_be_measured_any_more_is_not_judged() -> None:
    record, k = Record(), len(PAIRS)
    for bucket in range(30):
        shot = outcome(bucket, [True] * k)
        cost = shot.cost.copy()
        cost[0][tuple(np.array(PAIRS).T)] = NO_COST
        record.follow_up(replace(shot, cost=cost), ENDS, np.full(k, SAID))
    assert corrected(record) == SAID


def test_paths_of_another_numbering_are_not_judged() -> None:
    record, k = Record(), len(PAIRS)
    say(record, 0, [True] * k)
    record.renumber()
    say(record, 1, [True] * k)
    assert corrected(record) == SAID


# --- what is worth it -------------------------------------------------------------------------------------------------


def test_more_to_gain_is_worth_more_risk() -> None:
    few, some, much = risk_accepted(np.array([0.02, 0.1, 0.5]))
    assert 0.04 < few < 0.06 < some < 0.13 < much < 0.3
    assert risk_accepted(np.array([-0.2, 0.0])).tolist() == [0.0, 0.0]


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.lists(st.integers(-500 * MS, 500 * MS), min_size=4, max_size=4))
def test_the_share_of_a_gain_is_the_same_however_wrong_the_clocks_are(offsets: list[int]) -> None:
    delay = np.array([[0, 30, 40, 90], [30, 0, 20, 40], [40, 20, 0, 30], [110, 40, 30, 0]], np.int64) * MS
    clock = np.array(offsets)
    seen = delay + clock[None, :] - clock[:, None]
    path = seen[0, 1] + seen[1, 3]
    share = gain_share(snapshot(seen), over(1), np.array([path]))
    assert share[0] == pytest.approx((90 - 70) / 100)


def test_a_share_is_never_more_than_everything_and_needs_no_way_back() -> None:
    delay = np.full((4, 4), 50 * MS, np.int64)
    delay[0, 3], delay[3, 0] = 5 * MS, 1 * MS
    assert gain_share(snapshot(delay), over(1), np.array([-90 * MS]))[0] == 1.0
    delay[0, 3], delay[3, 0] = 80 * MS, NO_COST
    assert gain_share(snapshot(delay), over(1), np.array([60 * MS]))[0] == pytest.approx(0.25)
