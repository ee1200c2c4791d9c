"""New versions of agents climb by the same rungs: who gets one, how a bad one goes back, and after how many users."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from router.core import ramp as ramps
from router.core.dial import CONTROL_SPAN_PPM
from router.core.messages import AdvanceRamp, Climbed, Sample
from router.core.model import DataCenterId, Inventory, Pool, PoolId, Ramp, RampId, RampState
from router.core.ramp import NOBODY, RUNGS_PPM, RampBook, turn
from router.core.ramp.judge import ALLOWED, AT_ONCE, FIRST_VERDICT
from router.core.tables import Lane
from tests.unit.core.test_ramp import MINUTE, world

POOL, ID, OLD, NEW = PoolId("main"), RampId("r-1"), "1.0", "2.0"
NAME = "main@2.0"


class Rollout:
    """A pool with agents of two versions, users who come one after the other, and the shell's part."""

    def __init__(self) -> None:
        self.book, self.now, self.users = RampBook(), 0, 0
        self.view = replace(world(), inventory=Inventory(pools={POOL: Pool(POOL)}))
        self.book.put(ramps.begin_version(POOL, NEW, ID, "test", "ann", 0), 0)
        self.met: Counter[str] = Counter()

    @property
    def ramp(self) -> Ramp:
        return self.book.ramps[ID]

    @property
    def state(self) -> RampState:
        return self.ramp.state

    def user(self, failed: bool = False, lost: bool = False) -> None:
        """One session of a user of its own: of the version that its turn says, which is free."""
        self.users += 1
        mine = turn(self.book.lanes(), POOL, f"user {self.users}")
        version = mine.version or OLD
        self.met[version] += 1
        bad = version == NEW
        for subject, canary in mine.arms(version):
            ok = not (failed and bad)
            shown = [{"begun": True}, {"set_up": ok, "setup_us": 200_000, "settled": not ok}]
            if ok:
                shown += [{"settled": True, "rtt_us": 40_000, "loss_ppm": 100}, {"dropped": lost and bad}]
            samples = [Sample(DataCenterId(""), canary, "as1/de", version=subject, **one) for one in shown]  # type: ignore[arg-type]
            self.book.observe(Climbed(tuple(samples)), self.now)

    def tick(self, passed_us: int) -> None:
        self.now += passed_us
        self.view = replace(self.view, now=self.now, ramps=dict(self.book.ramps))
        for effect in self.book.drive(self.view, self.now):
            if isinstance(effect, AdvanceRamp):
                after, intents = ramps.step(self.view, ID, effect.step, effect.reason, self.now, effect.exposed)
                assert not intents
                self.book.put(replace(after, revision=self.ramp.revision + 1), self.now)


def test_a_new_version_climbs_all_rungs_by_its_users_and_then_serves() -> None:
    rollout, rungs = Rollout(), [RUNGS_PPM[0]]
    assert rollout.state is RampState.CANARY
    while rollout.ramp.open:
        for _ in range(2_000):
            rollout.user()
        rollout.tick(MINUTE)
        if rollout.ramp.share_ppm != rungs[-1]:
            rungs.append(rollout.ramp.share_ppm)
        assert rollout.users < 200_000
    assert tuple(rungs) == RUNGS_PPM and rollout.state is RampState.SERVING
    assert not rollout.book.lanes(), "who has passed is a lane no more"
    assert turn(rollout.book.lanes(), POOL, "user 1") is NOBODY


@pytest.mark.parametrize("fault", ["failed", "lost"])
def test_a_bad_version_goes_back_by_itself_within_few_users(fault: str) -> None:
    rollout = Rollout()
    while rollout.state is RampState.CANARY:
        for _ in range(100):
            rollout.user(**{fault: True})
        rollout.tick(MINUTE // 10)
        assert rollout.users < 20_000
    assert rollout.state is RampState.ROLLED_BACK and rollout.met[NEW] <= 50
    assert rollout.met[NEW] <= max(AT_ONCE, 0.01 * rollout.users) and ALLOWED < 0.01 and FIRST_VERDICT <= 50
    assert rollout.ramp.exposed == rollout.met[NEW]
    before = rollout.met[NEW]
    for _ in range(2_000):
        rollout.user()
    assert rollout.met[NEW] == before, "it takes nobody"


def test_the_next_attempt_comes_after_two_to_the_k_hours_and_begins_at_the_first_rung() -> None:
    rollout, pauses = Rollout(), []
    for _ in range(3):
        rollout.view = replace(rollout.view, ramps=dict(rollout.book.ramps))
        after, _ = ramps.step(rollout.view, ID, "bad", "by hand", rollout.now)
        rollout.book.put(replace(after, revision=rollout.ramp.revision + 1), rollout.now)
        begun = rollout.now
        while rollout.state is RampState.ROLLED_BACK:
            assert rollout.book.lanes()[POOL] == (Lane(NEW, 0, 0),)
            rollout.tick(MINUTE)
        pauses.append((rollout.now - begun) // (60 * MINUTE))
        assert (rollout.state, rollout.ramp.share_ppm) == (RampState.CANARY, RUNGS_PPM[0])
    assert pauses == [1, 2, 4]


def test_who_gets_which_version_is_a_matter_of_the_user_and_never_changes_while_the_share_grows() -> None:
    small, large = ({POOL: (Lane(NEW, share, share),)} for share in (100_000, 250_000))
    users = [f"u{i}" for i in range(2_000)]
    inside = {user for user in users if turn(small, POOL, user).version == NEW}
    assert 140 <= len(inside) <= 260
    assert inside <= {user for user in users if turn(large, POOL, user).version == NEW}
    beside = [user for user in users if turn(small, POOL, user).beside]
    assert abs(len(beside) / len(users) - CONTROL_SPAN_PPM / 1e6) < 0.04 and not inside & set(beside)
    assert turn(small, PoolId("other"), users[0]) is NOBODY and turn(small, None, users[0]) is NOBODY


def test_arms_are_told_by_the_agent_that_was_taken() -> None:
    lanes = {POOL: (Lane("1.9", 0, 0), Lane(NEW, 1_000_000, 1_000_000))}
    mine = turn(lanes, POOL, "ann")
    assert mine.version == NEW and mine.arms(NEW) == ((NAME, True),)
    assert mine.arms(OLD) == (), "none of it was free: the session shows nothing of it"
    held = turn({POOL: (Lane("1.9", 0, 0), Lane(NEW, 0, 10_000))}, POOL, "u1")
    assert held.version == ""
    others = [turn({POOL: (Lane(NEW, 0, 10_000),)}, POOL, f"u{i}") for i in range(50)]
    control = next(one for one in others if one.beside)
    assert control.arms(OLD) == ((NAME, False),) and control.arms(NEW) == ()


def test_a_version_that_nobody_brings_waits_and_one_of_a_pool_that_is_gone_is_withdrawn() -> None:
    rollout = Rollout()
    for _ in range(5):
        rollout.tick(24 * 60 * MINUTE)
    assert rollout.state is RampState.CANARY and rollout.ramp.share_ppm == RUNGS_PPM[0]
    assert "none with an agent of this version" in rollout.book.climbs()[ID].waits[0]
    rollout.view = replace(rollout.view, inventory=Inventory())
    rollout.tick(MINUTE)
    assert rollout.state is RampState.WITHDRAWN and "the pool is no longer" in rollout.ramp.reason
