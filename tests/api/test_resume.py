"""Resuming: what the user could not reach is not offered again, a lost answer can be asked for again, tokens fence."""

from __future__ import annotations

import asyncio

import pytest

from router.access import sign_session_token
from router.api.pulses import Pulses
from router.core.model import NodeId, SessionId, SessionState
from router.store.rebinds import Rebind
from tests.api.conftest import PLACES, Json, World

FRANKFURT = {"latitude": 50.0, "longitude": 8.0}


async def resume(world: World, session: Json, *, status: int = 200, **more: object) -> Json:
    """Resume with a session's token."""
    body = {"token": session["token"], "client": FRANKFURT} | more
    return dict(await world.call("POST", f"/v1/sessions/{session['id']}/resume", status=status, json=body))


async def beat(world: World, session: Json, *, sessions: int = 1, event: str | None = "attached") -> None:
    """The edge's node says how many sessions it has, and what became of this one."""
    node = session["edge"]["node"]
    changed = [] if event is None else [{"id": session["id"], "event": event}]
    body = {"node": node, "epoch": 1, "changed": changed, "totals": {"sessions": sessions}}
    await world.post("/v1/sessions/heartbeat", body, headers=world.node_headers(node))


async def test_an_edge_that_the_user_could_not_reach_is_not_given_again(world: World) -> None:
    await world.agent()
    session = await world.session()
    await beat(world, session)
    edge = session["edge"]["data_center"]
    resumed = await resume(world, session, unreachable=[edge, "retired-long-ago"])
    assert resumed["edge"]["data_center"] != edge and resumed["agent"] == session["agent"]
    assert edge not in [ranked["data_center"] for ranked in resumed["edges"]]
    assert f"its user could not reach {edge}" in resumed["reasons"]
    again = await resume(world, resumed, unreachable=[resumed["edge"]["data_center"]])
    assert again["edge"]["data_center"] == edge, "what was unreachable once is not so for ever"


async def test_a_user_that_reaches_its_edge_keeps_it(world: World) -> None:
    await world.agent()
    session = await world.session()
    await beat(world, session)
    assert (await resume(world, session))["edge"] == session["edge"]


async def test_nothing_reachable_is_a_refusal_that_names_the_rule_and_takes_nothing(world: World) -> None:
    await world.agent()
    session = await world.session()
    refused = await resume(world, session, status=409, unreachable=sorted(PLACES))
    assert refused["code"] == "no_edge" and refused["retry_after_s"] == 1
    assert {rejected["rule"] for rejected in refused["rejected"]} == {"exclude"}
    assert (await world.get(f"/v1/sessions/{session['id']}"))["epoch"] == 1
    assert (await resume(world, session))["epoch"] == 2


async def test_a_wrong_list_of_unreachable_edges_is_refused_and_changes_nothing(world: World) -> None:
    session = await world.session(pool=None)
    wrong: list[tuple[object, str]] = [
        ([f"dc-{i}" for i in range(17)], "unreachable"),
        (["gcp-ams", "gcp-ams"], "unreachable"),
        (["gcp-ams", "GCP"], "unreachable.1"),
        ("gcp-ams", "unreachable"),
        (None, "unreachable"),
    ]
    for unreachable, field in wrong:
        refused = await resume(world, session, status=422, unreachable=unreachable)
        assert (refused["field"], bool(refused["rule"])) == (field, True)
    assert (await world.get(f"/v1/sessions/{session['id']}"))["epoch"] == 1


async def test_an_edge_whose_node_fell_silent_with_sessions_comes_last(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.agent()
    session = await world.session()
    await beat(world, session)
    edge, runtime = session["edge"]["data_center"], world.app.runtime
    now = runtime.now()
    monkeypatch.setattr(runtime, "_clock", lambda: now + 1_400_000)
    kept = await resume(world, session)
    assert kept["edge"]["data_center"] == edge, "one late heartbeat proves nothing"
    monkeypatch.setattr(runtime, "_clock", lambda: now + 1_700_000)
    moved = await resume(world, kept)
    assert moved["edge"]["data_center"] != edge
    assert any(reason.startswith(f"{session['edge']['node']} has been silent for 1.") for reason in moved["reasons"])
    elsewhere = [other for other in PLACES if other != edge]
    back = await resume(world, moved, unreachable=elsewhere)
    assert back["edge"]["data_center"] == edge, "rather a silent edge than none"


async def test_a_node_without_sessions_may_be_silent(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await world.agent()
    session = await world.session()
    await beat(world, session)
    await beat(world, session, sessions=0, event="detached")
    now = world.app.runtime.now()
    monkeypatch.setattr(world.app.runtime, "_clock", lambda: now + 25_000_000)
    assert (await resume(world, session))["edge"] == session["edge"]


def test_a_node_is_silent_by_its_own_measure() -> None:
    pulses, node = Pulses(), NodeId("n")
    assert pulses.silent_us(node, 0) is None, "never heard is not fallen silent"
    for second in (0, 10, 20):
        pulses.heard(node, 3, second * 1_000_000)
    assert pulses.silent_us(node, 30_000_000) is None, "it speaks every ten seconds"
    assert pulses.silent_us(node, 36_000_000) == 16_000_000
    for tenth in range(300, 350, 10):
        pulses.heard(node, 3, tenth * 100_000)
    assert pulses.silent_us(node, 36_000_000) == 2_000_000, "and every second by now"
    pulses.heard(node, 0, 36_000_000)
    assert pulses.silent_us(node, 99_000_000) is None


async def test_a_lost_answer_can_be_asked_for_again(world: World) -> None:
    await world.agent()
    session = await world.session()
    await beat(world, session)
    edge = session["edge"]["data_center"]
    first = await resume(world, session, unreachable=[edge])
    again = await resume(world, session, unreachable=[edge])
    assert (again["epoch"], again["edge"], again["agent"]) == (2, first["edge"], first["agent"])
    kinds = [e["kind"] for e in (await world.get(f"/v1/sessions/{session['id']}/events"))["items"]]
    assert kinds.count("session.resumed") == 1
    newest = await resume(world, again)
    assert newest["epoch"] == 3, "the token of the repeated answer is the newest one"
    assert (await resume(world, first))["epoch"] == 3, "and so was that of the lost answer, of the same epoch"
    assert (await resume(world, session, status=409))["code"] == "fenced", "the new token has been used"


async def test_many_identical_resumes_at_once_are_one(world: World) -> None:
    await world.agent()
    session = await world.session()
    answers = await asyncio.gather(*(resume(world, session) for _ in range(6)))
    assert {(answer["epoch"], answer["edge"]["data_center"]) for answer in answers} == {
        (2, answers[0]["edge"]["data_center"])
    }


async def test_a_repeated_resume_that_cannot_reach_the_answer_either_gets_another(world: World) -> None:
    await world.agent()
    session = await world.session()
    first = await resume(world, session)
    other = await resume(world, session, unreachable=[first["edge"]["data_center"]])
    assert other["epoch"] == 3 and other["edge"]["data_center"] != first["edge"]["data_center"]
    assert (await resume(world, first, status=409))["code"] == "fenced"


async def test_an_old_token_is_fenced_once_the_new_one_was_used_at_an_edge(world: World) -> None:
    await world.agent()
    session = await world.session()
    resumed = await resume(world, session)
    await beat(world, resumed)
    fenced = await resume(world, session, status=409)
    assert (fenced["code"], fenced["limit"]) == ("fenced", 2)
    assert (await resume(world, resumed))["epoch"] == 3


async def test_a_lost_answer_cannot_be_asked_for_for_ever(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await world.agent()
    session = await world.session()
    await resume(world, session)
    now = world.app.runtime.now()
    monkeypatch.setattr(world.app.runtime, "_clock", lambda: now + 29_000_000)
    assert (await resume(world, session))["epoch"] == 2
    monkeypatch.setattr(world.app.runtime, "_clock", lambda: now + 31_000_000)
    assert (await resume(world, session, status=409))["code"] == "fenced"


async def test_only_the_token_that_resumed_gets_its_answer_again(world: World) -> None:
    """While a move is under way two tokens may resume; the other one is fenced by it all the same."""
    await world.agent()
    session = await world.session()
    await beat(world, session)
    edge = session["edge"]["data_center"]
    runtime = world.app.runtime
    other = next(name for name in PLACES if name != edge)
    moving = await runtime.commit(
        lambda store: store.rebind_session(
            Rebind(SessionId(session["id"]), expect_epoch=1, state=SessionState.MOVING, edge=other, edge_node=None,
            edges=(other,), moved_from=edge, reasons=("test",), lease_expires_at=runtime.now() + 60_000_000,
            event_kind="session.moved"), runtime.now(),
        )
    )  # fmt: skip
    assert moving.epoch == 2
    resumed = await resume(world, session)
    assert resumed["epoch"] == 3
    assert (await resume(world, session))["epoch"] == 3
    never_arrived = sign_session_token(runtime.secret, session["id"], 2, runtime.now() + 60_000_000)
    assert (await resume(world, session | {"token": never_arrived}, status=409))["code"] == "fenced"
