"""Buffers grow with what they guard against, nothing that holds a session is let go, surplus waits for quiet."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from router.core.capacity import RULES, BufferRule, Quiet, Stock, to_release
from router.core.model import Agent, AgentId, AgentState, DataCenterId, NodeId, PoolId

S = 1_000_000
counts = st.lists(st.integers(0, 500), min_size=3, max_size=3).map(lambda x: np.array(x, np.int64))
ZERO = np.zeros(3, np.int64)
REACH = np.ones((3, 3), bool)
RULE = BufferRule(survive_ppm=300_000)


def stock(busy: np.ndarray, idle: np.ndarray = ZERO) -> Stock:
    return Stock(busy, idle, ZERO, ZERO)


@given(counts, counts, counts)
def test_more_to_come_or_more_busy_never_means_a_smaller_buffer(
    busy: np.ndarray, came: np.ndarray, more: np.ndarray
) -> None:
    before = Quiet(3).wanted(RULE, stock(busy), came, 0, REACH)
    assert (Quiet(3).wanted(RULE, stock(busy), came + more, 0, REACH).buffer >= before.buffer).all()
    assert (Quiet(3).wanted(BufferRule(), stock(busy + more), came, 0).buffer >= Quiet(3).wanted(
        BufferRule(), stock(busy), came, 0).buffer).all()  # fmt: skip


@given(counts, counts, counts)
def test_the_buffer_is_the_largest_that_a_rule_asks_for_and_names_it(
    busy: np.ndarray, idle: np.ndarray, came: np.ndarray
) -> None:
    want = Quiet(3).wanted(RULE, stock(busy, idle), came, 0, REACH)
    assert want.parts.shape == (len(RULES), 3)
    assert (want.buffer == want.parts.max(0)).all()
    assert (want.parts[want.rule, np.arange(3)] == want.buffer).all()
    assert (want.up == np.maximum(0, busy + want.buffer - busy - idle)).all()


@given(st.lists(st.tuples(counts, counts, counts), min_size=1, max_size=30), st.integers(1, 300))
def test_no_more_goes_than_is_idle_beyond_the_buffer(
    steps: list[tuple[np.ndarray, np.ndarray, np.ndarray]], step_s: int
) -> None:
    quiet = Quiet(3)
    for k, (busy, idle, came) in enumerate(steps):
        want = quiet.wanted(RULE, stock(busy, idle), came, k * step_s * S, REACH)
        assert (want.down >= 0).all()
        assert (want.down <= np.maximum(0, idle - want.buffer)).all()
        assert not ((want.down > 0) & (want.up > 0)).any()
        if k * step_s < 600:
            assert not want.down.any()


def test_surplus_goes_after_ten_quiet_minutes_and_no_earlier() -> None:
    quiet, rule = Quiet(3), BufferRule(absolute=5)
    many, few = np.full(3, 100, np.int64), np.full(3, 10, np.int64)
    for second in range(0, 900, 10):
        assert not quiet.wanted(rule, stock(many, few), few, second * S).down.any()
    for second in range(900, 1_500, 10):
        assert not quiet.wanted(rule, stock(few, many), few, second * S).down.any()
    went = quiet.wanted(rule, stock(few, many), few, 1_560 * S)
    assert (went.down == 90).all()
    assert (quiet.wanted(rule, stock(many, few), few * 5, 1_570 * S).up == 40).all()  # up at once


def test_the_loss_of_the_largest_place_fits_into_the_others() -> None:
    busy = np.array([900, 50, 10], np.int64)
    want = Quiet(3).wanted(BufferRule(survive_ppm=1_000_000), stock(busy), ZERO, 0, REACH)
    for lost in range(3):
        assert want.buffer.sum() - want.buffer[lost] >= busy[lost]


def test_the_most_of_a_pool_is_never_passed_and_never_cuts_into_the_busy() -> None:
    want = Quiet(3).wanted(BufferRule(most=100), stock(np.array([95, 300, 0])), np.full(3, 50, np.int64), 0)
    assert want.desired.tolist() == [100, 300, 50]


agents = st.lists(
    st.builds(
        lambda n, node, state, held, cordoned: Agent(
            AgentId(f"a{n}"), PoolId("p"), DataCenterId("d"), NodeId(f"n{node}"), state, held=held, cordoned=cordoned
        ),
        st.integers(0, 10_000), st.integers(0, 5), st.sampled_from(list(AgentState)), st.integers(0, 2), st.booleans(),
    ),
    max_size=40, unique_by=lambda agent: agent.id,
)  # fmt: skip


@given(agents, st.integers(-1, 50))
def test_only_ready_agents_that_hold_nothing_are_let_go(some: list[Agent], count: int) -> None:
    gone = to_release(some, count)
    assert len(gone) <= max(0, count) and len(set(gone)) == len(gone)
    for agent in some:
        if agent.id in gone:
            assert agent.state is AgentState.READY and agent.held == 0 and not agent.cordoned


def test_the_emptiest_host_is_emptied_first() -> None:
    def agent(id: str, node: str, held: int) -> Agent:
        return Agent(AgentId(id), PoolId("p"), DataCenterId("d"), NodeId(node), capacity=2, held=held)

    some = [agent("a", "full", 0), agent("b", "full", 1), agent("c", "empty", 0), agent("d", "empty", 0)]
    assert to_release(some, 2) == ("c", "d")
    assert to_release(some, 9) == ("c", "d", "a")
