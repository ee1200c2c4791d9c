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
from router.core.solve.risk import LEAST, PRIOR_COUNT, Paths, Record, worse_than_direct
from router.core.solve.switching import ENTER, LEAVE
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

SAID, SHARE = 0.02, 0.15
PAIRS = [(u, v) for u in range(4) for v in range(4) if u != v and 1 not in (u, v)]


def paths_over(relays: list[int]) -> Paths:
    """One path per pair of ``PAIRS``, over that relay."""
    slots = np.full((len(PAIRS), MAX_RELAYS), DIRECT, np.int16)
    slots[:, 0] = relays
    return Paths(0, np.array([u for u, _ in PAIRS]), np.array([v for _, v in PAIRS]), slots)


def outcome(bucket: int, is_bad: list[bool]) -> GraphSnapshot:
    """The measurements of a bucket in which these of ``PAIRS`` were worse off over vertex 1 than direct."""
    delay = np.full((4, 4), 40 * MS, np.int64)
    for (u, v), bad in zip(PAIRS, is_bad, strict=True):
        delay[u, v] = (70 if bad else 90) * MS
    return replace(snapshot(delay), evidence=replace(evidence([delay]), bucket=bucket))


def say(record: Record, bucket: int, is_bad: list[bool], said: float = SAID) -> None:
    shot = outcome(bucket, is_bad)
    k = len(PAIRS)
    record.follow_up(shot, paths_over([1] * k), np.full(k, said), np.full(k, SHARE))


def corrected(record: Record, said: float = SAID, share: float = SHARE, relay: int = 3) -> float:
    """What the record makes of a statement about a relay that it knows nothing of."""
    slots = np.array([[relay] + [DIRECT] * (MAX_RELAYS - 1)], np.int16)
    return float(record.correct(np.array([said]), np.array([share]), slots)[0])


def test_a_new_record_believes_what_is_said_but_never_that_something_is_certain() -> None:
    record = Record(4)
    assert corrected(record) == pytest.approx(SAID)
    assert corrected(record, said=0.0) == pytest.approx(LEAST) and LEAST < ENTER
    assert corrected(record, said=1.0) == 1.0
    assert Record(0).correct(np.zeros(0), np.zeros(0), np.zeros((0, MAX_RELAYS), np.int16)).shape == (0,)


def test_who_is_too_sure_is_believed_less_and_after_better_times_again() -> None:
    record, k = Record(4), len(PAIRS)
    for bucket in range(60):
        say(record, bucket, [(i + bucket) % 2 == 0 for i in range(k)])  # half of it comes out wrong
    assert 0.3 < corrected(record) < 0.5 and corrected(record) > LEAVE
    assert corrected(record, said=0.5) == pytest.approx(0.5), "statements that are less sure were not tried"
    assert corrected(record, share=0.5) == pytest.approx(SAID), "nor were larger gains"
    for bucket in range(60, 400):
        say(record, bucket, [False] * k)
    assert corrected(record) < ENTER


def test_one_mistake_is_an_anecdote() -> None:
    record, k = Record(4), len(PAIRS)
    say(record, 0, [False] * k)
    say(record, 1, [True] + [False] * (k - 1))
    assert corrected(record) == pytest.approx((1 + PRIOR_COUNT * SAID) / (k + PRIOR_COUNT))


def test_a_bucket_is_judged_once_however_often_it_is_solved() -> None:
    once, often, k = Record(4), Record(4), len(PAIRS)
    for bucket in range(6):
        bad = [bucket % 2 == 0] * k
        say(once, bucket, bad)
        for _ in range(5):
            say(often, bucket, bad)
    assert corrected(once) == corrected(often)


def test_a_relay_that_disappoints_more_often_than_the_others_is_believed_less() -> None:
    record = Record(5)
    ends, relays = [(0, 1), (1, 0)], [2, 3]
    slots = np.full((2, MAX_RELAYS), DIRECT, np.int16)
    slots[:, 0] = relays
    paths = Paths(0, np.array([u for u, _ in ends]), np.array([v for _, v in ends]), slots)
    delay = np.full((5, 5), 40 * MS, np.int64)
    delay[0, 1] = delay[1, 0] = 90 * MS
    delay[2, 1] = 60 * MS  # over 2 it always takes longer than direct
    for bucket in range(40):
        shot = replace(snapshot(delay), evidence=replace(evidence([delay]), bucket=bucket))
        record.follow_up(shot, paths, np.full(2, 0.3), np.full(2, SHARE))
    bad, good, unknown = (corrected(record, 0.3, relay=k) for k in (2, 3, 4))
    assert good < unknown < bad
    both = np.array([[3, 2] + [DIRECT] * (MAX_RELAYS - 2)], np.int16)
    assert float(record.correct(np.array([0.3]), np.array([SHARE]), both)[0]) == bad, "the worst relay of a path counts"


def test_what_cannot_be_measured_any_more_is_not_judged() -> None:
    record, k = Record(4), len(PAIRS)
    for bucket in range(30):
        shot = outcome(bucket, [True] * k)
        cost = shot.cost.copy()
        cost[0][tuple(np.array(PAIRS).T)] = NO_COST
        record.follow_up(replace(shot, cost=cost), paths_over([1] * k), np.full(k, SAID), np.full(k, SHARE))
    assert corrected(record) == pytest.approx(SAID)
