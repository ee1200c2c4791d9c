"""Bought machines earn their sessions: few agents at first, more as sessions go well, back when they go badly."""

from __future__ import annotations

from dataclasses import replace

import pytest

from router.core.capacity import Launch, LaunchId, LaunchState, NodeStock
from router.core.capacity.board import PlaceBoard
from router.core.capacity.machines import step
from router.core.messages import OpenAgents, Sample, StepLaunch, StockTaken
from router.core.model import (
    AgentId,
    AgentState,
    Client,
    DataCenterId,
    NodeId,
    PoolId,
    RegionId,
    Session,
    SessionId,
    SessionState,
    TrafficClass,
)
from router.core.pools import Places
from router.core.ramp import MachineBook
from router.core.ramp.machines import arms_of, rungs
from router.core.verdicts import Blame, Component, ComponentKind, Evidence, Verdict

SECOND = 1_000_000
POOL, FRA, DC, NODE, ID = PoolId("p"), RegionId("fra"), DataCenterId("own-fra"), NodeId("n-1"), LaunchId("l-1")
LAUNCH = Launch(
    ID, LaunchState.CANARY, POOL, FRA, "own", DC, FRA, "cellar", "r1", None, 20, 100_000, NODE, "tried", (), 0, 0,
    revision=7,
)  # fmt: skip
PLACE = PlaceBoard(POOL, FRA, 10, 30, 0, 0, 0, 90.0, 5.0, 12, 1.0, False, 12, "arrivals", 22, 0, 0)


class Floor:
    """A machine with twenty agents, counted every five seconds."""

    def __init__(self) -> None:
        self.book = MachineBook()
        self.now = 0
        self.open, self.lost, self.elsewhere_lost = 0, 0, 0
        self.place, self.blame = PLACE, Blame()
        self.launch = LAUNCH
        self.book.put(LAUNCH, 0)

    def restart(self) -> None:
        """The control plane starts again, and knows what is in rows."""
        self.book = MachineBook()
        self.book.put(self.launch, self.now)

    def count(self, seconds: int = 5) -> StepLaunch | None:
        """Let time pass; the step it ends with, if any."""
        for _ in range(seconds // 5):
            self.now += 5 * SECOND
            here = NodeStock(20, 0, 0, 20 - self.open, 20 - self.lost, self.open, self.lost)
            beside = Places(POOL, DC, AgentState.READY, False, 60 - self.lost - self.elsewhere_lost, 60, 10)
            gone = Places(POOL, DC, AgentState.LOST, False, self.lost + self.elsewhere_lost, 0, 0)
            effects = self.book.drive(
                {ID: self.launch}, (self.place,), StockTaken((beside, gone), nodes={NODE: here}), self.blame, self.now
            )
            for effect in effects:
                if isinstance(effect, StepLaunch) and effect.step != "climbed":
                    return effect
                assert effect.launch == ID and effect.revision in (self.launch.revision, self.launch.revision - 1)
                if isinstance(effect, StepLaunch):
                    after = step(self.launch, effect.step, effect.reason, self.now)
                    self.launch = replace(after, revision=after.revision + 1)
                    self.book.put(self.launch, self.now)
                    continue
                assert isinstance(effect, OpenAgents)
                self.open = effect.agents
        return None

    def sessions(self, count: int, canary: bool = True, **shown: bool) -> None:
        """So many sessions begin, and show something."""
        for _ in range(count):
            self.book.observe([Sample(DC, canary, "", begun=True, machine=ID)], self.now)
            if shown:
                self.book.observe([Sample(DC, canary, "", settled=True, machine=ID, **shown)], self.now)


def test_more_agents_are_opened_as_sessions_go_well_and_then_it_serves() -> None:
    floor = Floor()
    assert floor.count() is None and floor.open == 2  # a tenth
    floor.sessions(3, set_up=True)
    assert floor.count(50) is None and floor.open == 2  # not before a minute is over
    assert floor.count(10) is None and floor.open == 10
    proof = floor.book.proofs[ID]
    assert (proof.open, proof.agents, proof.begun, proof.settled) == (10, 20, 3, 3)
    assert "60 s on this rung" in proof.waits[0]
    floor.sessions(3, set_up=True)
    ended = floor.count(70)
    assert ended is not None and (ended.step, ended.revision) == ("proven", 8)
    assert ended.reason.startswith("6 sessions in ")
    assert floor.launch.rung == 1 and floor.launch.reason.startswith("rung 2 of 2: 3 sessions in 60 s")


def test_a_restart_keeps_the_rung_and_looks_anew_at_what_is_on_it() -> None:
    floor = Floor()
    floor.count()
    floor.sessions(3, set_up=True)
    floor.count(60)
    assert floor.open == 10
    floor.restart()
    assert floor.count() is None and floor.open == 10
    assert "60 s on this rung, 5 are over" in floor.book.proofs[ID].waits[0]
    assert floor.count(60) is None
    assert "3 sessions, 0 were there" in floor.book.proofs[ID].waits[0]
    floor.sessions(3, set_up=True)
    ended = floor.count()
    assert ended is not None and ended.step == "proven"


def test_a_rung_is_taken_once_however_long_its_row_takes() -> None:
    floor = Floor()
    floor.count()
    floor.sessions(3, set_up=True)
    floor.count(50)
    here = StockTaken((), nodes={NODE: NodeStock(20, 0, 0, 18, 20, 2, 0)})
    asked = [floor.book.drive({ID: LAUNCH}, (PLACE,), here, Blame(), (60 + k) * SECOND) for k in (1, 2)]
    first, again = (effects[0] for effects in asked)
    assert isinstance(first, StepLaunch) and isinstance(again, StepLaunch)
    assert (first.step, first.revision) == (again.step, again.revision) == ("climbed", 7)  # who is second is refused
    assert [type(effect) for effect in asked[0]] == [StepLaunch, OpenAgents]


def test_where_nobody_comes_time_passes_it() -> None:
    floor = Floor()
    assert floor.count(175) is None and floor.open == 2
    assert floor.count(10) is None and floor.open == 10
    ended = floor.count(300)
    assert ended is not None and ended.step == "proven" and ended.reason.startswith("0 sessions")


def test_three_set_ups_that_fail_send_it_back_and_no_more_than_that_met_it() -> None:
    floor = Floor()
    floor.count()
    floor.sessions(20, canary=False, set_up=True)
    floor.sessions(2, set_up=False)
    assert floor.count() is None
    floor.sessions(1, set_up=False)
    ended = floor.count()
    assert ended is not None and ended.step == "bad"
    assert "3 of 3 set-ups failed" in ended.reason and "beside it 0 of 20" in ended.reason


def test_failures_that_all_machines_have_are_not_this_machine_s() -> None:
    floor = Floor()
    floor.count()
    for _ in range(10):
        floor.sessions(2, canary=False, set_up=False)
        floor.sessions(4, canary=False, set_up=True)
        floor.sessions(1, set_up=True)
    floor.sessions(3, set_up=False)
    assert floor.count() is None
    assert "doubt" in floor.book.proofs[ID].waits[0] or floor.book.proofs[ID].e_value < 333


def test_users_who_are_lost_send_it_back() -> None:
    floor = Floor()
    floor.count()
    for _ in range(4):
        floor.sessions(1, set_up=True)
        floor.book.observe([Sample(DC, True, "", dropped=True, machine=ID)], floor.now)
    ended = floor.count()
    assert ended is not None and ended.step == "bad" and "4 of 4 sessions dropped" in ended.reason


def test_an_agent_that_is_lost_sends_it_back_unless_many_are_lost_beside_it() -> None:
    floor = Floor()
    floor.count()
    floor.lost, floor.elsewhere_lost = 1, 20
    assert floor.count() is None  # something else is going on
    floor.elsewhere_lost = 1
    ended = floor.count()
    assert ended is not None and ended.step == "bad"
    assert ended.reason.startswith("1 of its 20 agents were lost, of ")


def test_a_machine_that_is_surely_to_blame_goes_back() -> None:
    floor = Floor()
    floor.count()
    floor.blame = Blame((Verdict(Component(ComponentKind.NODE, NODE), 950_000, 0, 3, Evidence()),))
    ended = floor.count()
    assert ended is not None and ended.step == "bad" and "to blame" in ended.reason


def test_all_agents_are_opened_before_users_wait_and_stay_open() -> None:
    floor = Floor()
    floor.place = replace(PLACE, idle=1)  # twelve may come in 90 s: two in the next fifteen
    floor.count()
    assert floor.open == 20
    assert "users would have waited" in floor.book.proofs[ID].waits[-1]
    floor.place = PLACE
    floor.count(20)
    assert floor.open == 20
    floor.sessions(6)
    floor.sessions(3, set_up=False)
    ended = floor.count()
    assert ended is not None and ended.step == "bad"  # it is judged all the same


@pytest.mark.parametrize("queued", [0, 1])
def test_people_who_wait_open_it(queued: int) -> None:
    floor = Floor()
    floor.place = replace(PLACE, queued=queued)
    floor.count()
    assert floor.open == (20 if queued else 2)


def test_twenty_sessions_that_have_shown_nothing_are_enough() -> None:
    floor = Floor()
    floor.count()
    floor.sessions(20)
    floor.count()
    assert floor.open == 0
    floor.book.observe([Sample(DC, True, "", set_up=True, settled=True, machine=ID)] * 3, floor.now)
    floor.count()
    assert floor.open == 2


def test_small_machines_have_fewer_rungs() -> None:
    assert [rungs(n) for n in (0, 1, 2, 4, 20)] == [(1,), (1,), (1,), (1, 2), (2, 10)]


def test_a_machine_that_serves_or_leaves_is_forgotten() -> None:
    floor = Floor()
    floor.count()
    floor.book.put(replace(LAUNCH, state=LaunchState.SERVING), floor.now)
    assert floor.count() is None and dict(floor.book.proofs) == {}


def test_who_is_on_a_canary_and_who_is_beside_it() -> None:
    def session(agent: str | None, hub: str | None = DC, pool: str = POOL) -> Session:
        return Session(
            SessionId("s"), SessionState.ATTACHING, TrafficClass.AGENT, Client(), DC, None, (DC,), 1, 0, 0,
            PoolId(pool), None if agent is None else AgentId(agent), None if hub is None else DataCenterId(hub),
        )  # fmt: skip

    agents = {AgentId("new"): ID}
    assert arms_of({ID: LAUNCH}, agents, session("new")) == ((ID, DC, True),)
    assert arms_of({ID: LAUNCH}, agents, session("old")) == ((ID, DC, False),)
    assert arms_of({ID: LAUNCH}, agents, session("old", pool="q")) == ()
    assert arms_of({ID: LAUNCH}, agents, session("old", "elsewhere")) == ()
    assert arms_of({ID: LAUNCH}, agents, session(None, None)) == ()
