"""What a user concludes from its packets: round trip, loss, gaps, and whether agent and memory stayed the same."""

from __future__ import annotations

from router.demo.conversation import LATE_US, WINDOW_US, Conversation
from router.demo.packets import Audio, answered

TICK_US = 50_000
RTT_US = 30_000


def question(sequence: int, at_us: int, session: str = "s-1") -> Audio:
    return Audio(session, "agent-1", sequence, at_us)


def talk(conversation: Conversation, first: int, count: int, *, agent: str = "agent-1", memory: int = 9) -> int:
    """Send and hear ``count`` packets; return the time of the last answer."""
    at_us = 0
    for sequence in range(first, first + count):
        sent_us = sequence * TICK_US
        at_us = sent_us + RTT_US
        conversation.on_sent(sequence, sent_us)
        asked = Audio("s-1", agent, sequence, sent_us)
        assert conversation.on_answer(answered(asked, heard=sequence, memory=memory), at_us)
    return at_us


def fresh() -> Conversation:
    conversation = Conversation()
    conversation.begin("s-1", "agent-1")
    return conversation


def test_a_quiet_call_has_the_round_trip_and_gaps_of_one_tick() -> None:
    conversation = fresh()
    now_us = talk(conversation, 1, 100)
    summary = conversation.summary(now_us)
    assert summary["rtt_ms"] == 30.0
    assert summary["loss_pct"] == 0.0
    assert summary["longest_gap_ms"] == {"last_minute": 50.0, "since_start": 50.0}
    assert (summary["agent"], summary["agent_heard"]) == ("agent-1", 100)
    assert (summary["agent_changes"], summary["memory_breaks"]) == (0, 0)


def test_missing_answers_are_a_gap_at_once_and_a_loss_when_overdue() -> None:
    conversation = fresh()
    talk(conversation, 1, 20)
    for sequence in range(21, 31):  # ten packets nobody answers
        conversation.on_sent(sequence, sequence * TICK_US)
    assert conversation.gap_since(0, 30 * TICK_US + RTT_US) == 10 * TICK_US  # still open
    end_us = talk(conversation, 31, 60)
    summary = conversation.summary(end_us)
    assert summary["longest_gap_ms"] == {"last_minute": 550.0, "since_start": 550.0}
    assert summary["lost"] == 10
    assert summary["loss_pct"] == round(100 * 10 / 90, 2)


def test_a_gap_leaves_the_minute_but_not_the_record_since_the_start() -> None:
    conversation = fresh()
    talk(conversation, 1, 2)
    talk(conversation, 42, 1)  # 2 s of silence
    end_us = talk(conversation, 43, WINDOW_US // TICK_US + 5)
    assert conversation.summary(end_us)["longest_gap_ms"] == {"last_minute": 50.0, "since_start": 2_000.0}


def test_another_agent_and_a_memory_that_began_anew_are_both_noticed() -> None:
    conversation = fresh()
    talk(conversation, 1, 5)
    talk(conversation, 6, 5, agent="agent-2", memory=10)
    assert (conversation.agent_changes, conversation.memory_breaks) == (1, 1)
    talk(conversation, 11, 5, agent="agent-2", memory=11)
    assert (conversation.agent_changes, conversation.memory_breaks) == (1, 2)


def test_strays_change_nothing() -> None:
    conversation = fresh()
    now_us = talk(conversation, 1, 10)
    before = conversation.summary(now_us)
    assert not conversation.on_answer(answered(question(3, 3 * TICK_US), 3, 9), now_us)  # a second time
    assert not conversation.on_answer(answered(question(4, 0, session="s-0"), 4, 1), now_us)  # of another session
    assert conversation.summary(now_us) == {**before, "strays": 1}


def test_an_answer_later_than_the_limit_is_lost_not_heard() -> None:
    conversation = fresh()
    conversation.on_sent(1, 0)
    conversation.on_sent(2, LATE_US)
    assert conversation.lost == 1
    assert not conversation.on_answer(answered(question(1, 0), 1, 9), LATE_US + 1)
    assert conversation.answers == 0


def test_a_new_session_starts_its_own_continuity() -> None:
    conversation = fresh()
    now_us = talk(conversation, 1, 5)
    conversation.begin("s-2", "agent-7")
    conversation.on_sent(6, now_us + 10_000_000)
    asked = Audio("s-2", "agent-7", 6, now_us + 10_000_000)
    assert conversation.on_answer(answered(asked, 1, 55), now_us + 10_030_000)
    assert (conversation.agent_changes, conversation.memory_breaks) == (0, 0)
    assert conversation.longest_gap_us == TICK_US  # the pause between two calls is no gap
