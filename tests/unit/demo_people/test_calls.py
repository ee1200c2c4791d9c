"""Calls over real UDP: set-up, moves without a gap, resume after silence, endings, and packets that make no sense."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import pytest

from router.demo.packets import Audio, Hello, Refused, decode, encode

if TYPE_CHECKING:
    from tests.unit.demo_people.conftest import Town


@contextlib.asynccontextmanager
async def calling(town: Town) -> AsyncIterator[None]:
    """The user is in a call and has heard its agent."""
    call = asyncio.ensure_future(town.user.call())
    try:
        await town.until(lambda: town.user.conversation.answers >= 3)
        yield
    finally:
        call.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await call


async def test_a_call_reaches_its_agent_and_the_edge_reports_it(town: Town) -> None:
    async with calling(town):
        await town.heartbeats()
        summary = town.user.summary()
        assert (summary["edge"], summary["agent"], summary["state"]) == ("edge-a", "agent-1", "talking")
        assert isinstance(summary["rtt_ms"], float) and summary["rtt_ms"] < 1_000
        assert ("edge-a-n1", "s-1", "attached") in town.control_plane.events


@pytest.mark.slow
async def test_a_move_is_make_before_break_and_keeps_agent_and_memory(town: Town) -> None:
    async with calling(town):
        memory, heard = town.user.conversation.memory, town.user.conversation.heard
        town.control_plane.move("s-1", "edge-a", "edge-b")
        await town.until(lambda: town.user.moves == 1 and not town.edges["edge-a"].legs, beating=True)
        await town.until(lambda: town.user.changes[0].gap_ms is not None)
        summary = town.user.summary()
        assert summary["edge"] == "edge-b"
        assert (summary["agent_changes"], summary["memory_breaks"], town.user.conversation.memory) == (0, 0, memory)
        assert town.user.conversation.heard > heard
        assert town.user.conversation.strays == 0
        assert ("edge-b-n1", "s-1", "attached") in town.control_plane.events
        assert ("edge-a-n1", "s-1", "detached") not in town.control_plane.events
        gap_ms = town.user.changes[0].gap_ms
        assert gap_ms is not None and gap_ms < 400  # 50 ms is silence-free; never long enough to be noticed as silence


@pytest.mark.slow
async def test_a_user_stays_when_the_new_edge_is_silent(town: Town) -> None:
    async with calling(town):
        town.edges["edge-b"].close()
        town.control_plane.move("s-1", "edge-a", "edge-b")
        await town.heartbeats()
        await town.until(lambda: "edge-b" in town.user.problem)
        answers = town.user.conversation.answers
        await town.until(lambda: town.user.conversation.answers > answers + 5)
        assert (town.user.moves, town.user.summary()["edge"]) == (0, "edge-a")


@pytest.mark.slow
async def test_a_silent_edge_makes_the_user_resume_elsewhere_with_the_same_agent(town: Town) -> None:
    async with calling(town):
        memory = town.user.conversation.memory
        town.control_plane.edge = "edge-b"
        town.edges["edge-a"].close()
        await town.until(lambda: town.user.resumes == 1)
        await town.until(lambda: town.user.changes[0].gap_ms is not None)
        assert town.user.summary()["edge"] == "edge-b"
        assert (town.user.conversation.memory, town.user.conversation.agent_changes) == (memory, 0)
        gap_ms = town.user.changes[0].gap_ms
        assert gap_ms is not None and gap_ms >= 400  # the silence is part of the stated gap


@pytest.mark.slow
async def test_a_user_says_which_edge_was_silent_and_repeats_a_resume_whose_answer_was_lost(town: Town) -> None:
    async with calling(town):
        town.control_plane.lost_answers = 2
        token = town.user.placement["token"]
        town.edges["edge-a"].close()  # nobody has told the control plane: it would place the session there again
        await town.until(lambda: town.user.resumes == 1)
        assert town.user.summary()["edge"] == "edge-b"
        asked = [(body["token"], body["unreachable"]) for body in town.control_plane.resumes]
        assert asked == [(token, ["edge-a"])] * 3


@pytest.mark.slow
async def test_a_user_whom_no_edge_answers_tries_all_of_them_again(town: Town) -> None:
    async with calling(town):
        for edge in town.edges.values():
            edge.close()
        plane = town.control_plane
        await town.until(lambda: [] in [body["unreachable"] for body in plane.resumes], within_s=40)
        asked = [set(body["unreachable"]) for body in plane.resumes]
        assert asked.index({"edge-a", "edge-b"}) < asked.index(set())


async def test_an_edge_that_has_emptied_says_so_before_it_falls_silent(town: Town) -> None:
    async with calling(town):
        await town.heartbeats()
        edge = town.edges["edge-a"]
        assert edge.period_s == 1.0
        edge.legs.clear()
        assert edge.period_s == 1.0, "a node that was last heard with sessions must not fall silent"
        await town.heartbeats()
        assert edge.period_s == 30.0


async def test_silence_behind_a_living_edge_is_waited_out_without_a_resume(town: Town) -> None:
    async with calling(town):
        agent = town.hub.agents.pop("agent-1")
        await town.until(lambda: town.user.state == "recovering")
        assert not any("resume" in call for call in town.control_plane.asked)
        town.hub.agents["agent-1"] = agent
        await town.until(lambda: town.user.state == "talking")
        assert (town.user.resumes, town.user.conversation.memory_breaks) == (0, 0)


async def test_a_call_goes_on_while_the_control_plane_is_dead(town: Town) -> None:
    async with calling(town):
        town.control_plane.dead = True
        answers = town.user.conversation.answers
        await town.until(lambda: town.user.conversation.answers > answers + 20, beating=True)
        assert town.user.state == "talking"
        town.control_plane.dead = False
        await town.heartbeats()
        assert ("edge-a-n1", "s-1", "attached") in town.control_plane.events  # said when somebody listens again


async def test_an_ended_session_ends_the_call_and_frees_the_edge(town: Town) -> None:
    call = asyncio.ensure_future(town.user.call())
    await town.until(lambda: town.user.conversation.answers >= 3)
    town.control_plane.ends["edge-a-n1"] = [{"id": "s-1", "reason": "operator"}]
    await town.heartbeats()
    assert await asyncio.wait_for(call, 20)
    assert town.edges["edge-a"].legs == {}
    assert town.user.summary()["state"] == "idle"


async def test_no_call_without_a_control_plane_and_the_reason_is_said(town: Town) -> None:
    town.control_plane.dead = True
    assert not await town.user.call()
    assert "unreachable" in town.user.problem


async def test_a_session_of_another_edge_is_refused(town: Town) -> None:
    town.control_plane.start("s-9")
    edge_b = town.edges["edge-b"]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as caller:
        caller.setblocking(False)
        caller.bind(("127.0.0.1", 0))
        edge_b.on_datagram(encode(Hello("s-9", "s-9.1")), caller.getsockname())
        answer = await asyncio.wait_for(asyncio.get_running_loop().sock_recv(caller, 2_048), 20)
    assert decode(answer) == Refused("s-9", "another_edge")
    assert edge_b.legs == {}


async def test_an_old_token_is_fenced_and_the_session_stays_with_its_user(town: Town) -> None:
    async with calling(town):
        edge = town.edges["edge-a"]
        leg = edge.legs["s-1"]
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            stranger.setblocking(False)
            stranger.bind(("127.0.0.1", 0))
            edge.on_datagram(encode(Hello("s-1", "s-1.0")), stranger.getsockname())
            answer = await asyncio.wait_for(asyncio.get_running_loop().sock_recv(stranger, 2_048), 20)
        assert decode(answer) == Refused("s-1", "fenced")
        assert edge.legs["s-1"] is leg and leg.user == town.user._port.address


async def test_broken_and_foreign_packets_are_counted_and_change_nothing(town: Town) -> None:
    async with calling(town):
        edge, hub, user = town.edges["edge-a"], town.hub, town.user
        stranger = ("127.0.0.1", 9)
        for handler in (edge.on_datagram, hub.on_datagram, user.on_datagram):
            for junk in (b"", b"\x00" * 50, b"TM\x01\x01" + bytes(20), encode(Hello("s-1", "x"))[:-1]):
                handler(junk, stranger)
        edge.on_datagram(encode(Audio("s-1", "agent-1", 1, 1)), stranger)  # right session, wrong sender
        edge.on_datagram(encode(Audio("s-77", "agent-1", 1, 1)), stranger)
        hub.on_datagram(encode(Audio("s-77", "agent-1", 1, 1, reply_to=edge._reply_to)), stranger)
        assert (edge.broken, hub.broken, user.broken) == (4, 4, 4)
        assert edge.strangers == 2
        assert hub.strangers == 1  # an agent in a conversation does not hear anybody else
        answers = user.conversation.answers
        await town.until(lambda: user.conversation.answers > answers + 3)
        assert user.conversation.memory_breaks == 0


async def test_packets_take_the_answered_relay_path(town: Town) -> None:
    relay = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    middle = town.overlay.places["edge-b"]
    relay.bind((middle.stand_in, 7422))
    async with calling(town):
        town.overlay.learn("edge-a", "hub", ["edge-a", "edge-b", "hub"])
        loop = asyncio.get_running_loop()
        packet = await asyncio.wait_for(loop.sock_recv(relay, 2_048), 20)
        assert packet[:2] == b"TR" and b"s-1" in packet
        town.overlay.learn("edge-a", "hub", None)  # no answer keeps the path
        town.overlay.learn("edge-a", "hub", ["edge-a", "nowhere", "hub"])  # an unknown hop is not taken over
        assert town.overlay.path("edge-a", "hub") == ("edge-a", "edge-b", "hub")
    relay.close()
