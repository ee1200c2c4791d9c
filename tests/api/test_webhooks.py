"""Webhooks end to end: defined over HTTP, delivered to a real receiver that takes, fails, hangs, redirects."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import standardwebhooks

from tests.api.conftest import World, listening, running
from tests.api.receiver import Delivery, Receiver, receiving
from tests.api.test_cli_live import Terminal

LOOPBACK = {"webhook_allow_networks": "127.0.0.0/8"}


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as found:
        yield found


@pytest.fixture
async def hooked(tmp_path: Path) -> AsyncIterator[World]:
    async with running(tmp_path, **LOOPBACK, webhook_timeout_s=1) as world:
        yield world


async def state_of(world: World, id: str = "crm") -> Any:
    return (await world.get(f"/v1/webhooks/{id}"))["deliveries"]


async def settled(world: World, wanted: dict[str, Any], id: str = "crm") -> Any:
    """Wait until deliveries are in some state."""
    while True:
        state = await state_of(world, id)
        if all(state[name] == value for name, value in wanted.items()):
            return state
        await asyncio.sleep(0.02)


async def region(world: World, id: str, **more: Any) -> None:
    """Make something happen: an event ``region.created``."""
    await world.put(f"/v1/regions/{id}", {"id": id, **more})


async def test_a_session_s_life_is_told_in_order_and_signed(hooked: World, receiver: Receiver) -> None:
    await hooked.furnish()
    await hooked.measured()
    made = await hooked.call("PUT", "/v1/webhooks/crm", 201, json={"url": receiver.url, "events": ["session"]})
    await hooked.agent()
    session = await hooked.session()
    node = session["edge"]["node"]
    beat = {"node": node, "epoch": 1, "changed": [{"id": session["id"], "event": "attached"}]}
    await hooked.post("/v1/sessions/heartbeat", beat, headers=hooked.node_headers(node))
    await hooked.call("DELETE", f"/v1/sessions/{session['id']}")
    await receiver.until(lambda: len(receiver.got) >= 3)
    assert receiver.kinds() == ["session.started", "session.attached", "session.ended"]
    verify = standardwebhooks.Webhook(made["secret"]).verify
    told = [verify(one.body, one.headers) for one in receiver.got]
    assert {one["data"]["subject"] for one in told} == {session["id"]}
    assert told[0]["data"]["detail"]["edge"] == session["edge"]["data_center"]
    numbers = [one["data"]["number"] for one in told]
    assert [one.headers["webhook-id"] for one in receiver.got] == [f"msg_{number}" for number in numbers]
    assert numbers == sorted(numbers)
    assert (await settled(hooked, {"delivered": 3, "pending": 0}))["state"] == "ok"
    assert receiver.got[0].headers["host"] == f"127.0.0.1:{receiver.port}"
    metrics = (await hooked.http.get("/metrics")).text
    assert "tendril_webhooks_delivered_total 3.0" in metrics


async def test_secrets_are_shown_once_and_the_old_one_signs_too(hooked: World, receiver: Receiver) -> None:
    body = {"url": receiver.url, "events": ["region"]}
    made = await hooked.put("/v1/webhooks/crm", body)
    again = await hooked.call("PUT", "/v1/webhooks/crm", 200, json=body)
    assert "secret" not in again
    assert again["revision"] == made["revision"]
    everything = [await hooked.get(path) for path in ("/v1/webhooks", "/v1/webhooks/crm", "/v1/events")]
    assert made["secret"][6:] not in repr(everything)
    renewed = await hooked.call("POST", "/v1/webhooks/crm/secret")
    await region(hooked, "paris")
    await receiver.until(lambda: bool(receiver.got))
    for secret in (made["secret"], renewed["secret"]):
        assert standardwebhooks.Webhook(secret).verify(receiver.got[0].body, receiver.got[0].headers)


async def test_what_fails_is_tried_again_under_the_same_id(hooked: World, receiver: Receiver) -> None:
    seen: Counter[str] = Counter()

    def answer(delivery: Delivery) -> int:
        seen[delivery.headers["webhook-id"]] += 1
        return 500 if seen[delivery.headers["webhook-id"]] == 1 else 204

    receiver.answer = answer
    await hooked.put("/v1/webhooks/crm", {"url": receiver.url, "events": ["region"]})
    await region(hooked, "paris")
    await receiver.until(lambda: len(receiver.got) >= 2)
    assert list(seen.values()) == [2]
    state = await settled(hooked, {"delivered": 1, "pending": 0})
    assert (state["state"], state["last_error"]) == ("ok", "answered 500")


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (503, "answered 503"),
        (None, "no answer within 1 s"),
        (b"HTTP/1.1 302 Found\r\nlocation: /elsewhere\r\ncontent-length: 0\r\n\r\n", "redirects are not followed"),
        (b"nonsense\r\n\r\n", "RemoteProtocolError"),
    ],
)
async def test_why_a_message_waits_can_be_read(
    hooked: World, receiver: Receiver, answer: int | bytes | None, error: str
) -> None:
    receiver.answer = lambda _: answer
    await hooked.put("/v1/webhooks/crm", {"url": receiver.url, "events": ["region"]})
    await region(hooked, "paris")
    state = await settled(hooked, {"state": "failing"})
    assert error in state["last_error"]
    (waits,) = (await hooked.get("/v1/webhooks/crm/deliveries"))["items"]
    assert (waits["kind"], waits["subject"]) == ("region.created", "paris")
    assert waits["attempts"] >= 1
    assert error in waits["last_error"]
    assert {one.path for one in receiver.got} == {"/hooks"}
    receiver.answer = lambda _: 200
    await settled(hooked, {"state": "ok", "pending": 0, "delivered": 1})


async def test_a_receiver_that_streams_for_ever_is_let_go(hooked: World, receiver: Receiver) -> None:
    endless = b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\n" + b"x" * 100_000
    receiver.answer = lambda _: endless
    await hooked.put("/v1/webhooks/crm", {"url": receiver.url, "events": ["region"]})
    await region(hooked, "paris")
    await settled(hooked, {"delivered": 1, "pending": 0})


async def test_one_that_hangs_does_not_hold_up_another(hooked: World, receiver: Receiver) -> None:
    receiver.answer = lambda _: None
    async with receiving() as quick:
        await hooked.put("/v1/webhooks/slow", {"url": receiver.url, "events": ["region"]})
        await hooked.put("/v1/webhooks/quick", {"url": quick.url, "events": ["region"]})
        for number in range(5):
            await region(hooked, f"r-{number}")
        await quick.until(lambda: len(quick.got) == 5)
    assert (await state_of(hooked, "slow"))["delivered"] == 0


async def test_gone_means_gone(hooked: World, receiver: Receiver) -> None:
    receiver.answer = lambda _: 410
    await hooked.put("/v1/webhooks/crm", {"url": receiver.url, "events": ["region"]})
    await region(hooked, "paris")
    await settled(hooked, {"state": "disabled", "pending": 0})
    (event,) = (await hooked.get("/v1/events", params={"kind": "webhook.disabled"}))["items"]
    assert (event["subject"], event["reason"]) == ("crm", "it answered 410 Gone")


async def test_a_test_message_answers_with_what_came_of_it(hooked: World, receiver: Receiver) -> None:
    made = await hooked.put("/v1/webhooks/crm", {"url": receiver.url, "enabled": False})
    answer = await hooked.call("POST", "/v1/webhooks/crm/test")
    assert (answer["delivered"], answer["status"], answer["error"]) == (True, 200, None)
    told = standardwebhooks.Webhook(made["secret"]).verify(receiver.got[0].body, receiver.got[0].headers)
    assert (told["type"], told["data"]["subject"]) == ("webhook.test", "crm")
    receiver.answer = lambda _: 401
    answer = await hooked.call("POST", "/v1/webhooks/crm/test")
    assert (answer["delivered"], answer["status"], answer["error"]) == (False, 401, "answered 401")


async def test_names_that_lead_inside_are_not_called(tmp_path: Path, receiver: Receiver) -> None:
    async with running(tmp_path) as world:
        inside = f"http://localhost:{receiver.port}/hooks"
        await world.put("/v1/webhooks/crm", {"url": inside})
        answer = await world.call("POST", "/v1/webhooks/crm/test")
        assert not answer["delivered"]
        assert "private" in answer["error"]
        wrong = await world.call("PUT", "/v1/webhooks/crm", 422, json={"url": "https://169.254.169.254/latest"})
        assert wrong["code"] == "webhook_address"
        assert "TENDRIL_WEBHOOK_ALLOW_NETWORKS" in wrong["rule"]
        await region(world, "paris")
        await settled(world, {"state": "failing"})
    assert receiver.got == []


async def test_a_database_that_comes_back_tells_what_it_could_not(tmp_path: Path, receiver: Receiver) -> None:
    """What was committed before a stop is told after the next start."""
    receiver.answer = lambda _: None
    async with running(tmp_path, **LOOPBACK, webhook_timeout_s=1) as world:
        await world.put("/v1/webhooks/crm", {"url": receiver.url, "events": ["region"]})
        await region(world, "paris")
        await receiver.until(lambda: bool(receiver.got))
    receiver.got.clear()
    receiver.answer = lambda _: 200
    async with running(tmp_path, **LOOPBACK, webhook_timeout_s=1) as world:
        await receiver.until(lambda: bool(receiver.got))
        assert receiver.kinds() == ["region.created"]
        await settled(world, {"delivered": 1, "pending": 0})


async def test_who_may_do_what(hooked: World) -> None:
    body = {"url": "https://example.org/hooks", "events": ["session"]}
    await hooked.put("/v1/webhooks/crm", body)
    for scope, read, write in (("viewer", 403, 403), ("media", 403, 403), ("operator", 200, 403)):
        headers = await hooked.key(scope)
        for path in ("", "/crm", "/crm/deliveries"):
            await hooked.call("GET", f"/v1/webhooks{path}", read, headers=headers)
        await hooked.call("PUT", "/v1/webhooks/crm", write, json=body, headers=headers)
        for path in ("test", "secret"):
            await hooked.call("POST", f"/v1/webhooks/crm/{path}", write, headers=headers)
        await hooked.call("DELETE", "/v1/webhooks/crm", write, headers=headers)


async def test_refusals_say_what_is_wrong(hooked: World) -> None:
    for path in ("", "/deliveries"):
        assert (await hooked.call("GET", f"/v1/webhooks/x{path}", 404))["code"] == "unknown_webhook"
    for path in ("test", "secret"):
        assert (await hooked.call("POST", f"/v1/webhooks/x/{path}", 404))["code"] == "unknown_webhook"
    assert (await hooked.call("DELETE", "/v1/webhooks/x", 404))["code"] == "unknown_webhook"
    good = {"url": "https://example.org/hooks"}
    for more in ({"events": ["Session"]}, {"events": ["a", "a"]}, {"url": "example.org"}, {"id": "y"}, {"secret": "s"}):
        assert (await hooked.http.put("/v1/webhooks/x", json=good | more)).status_code == 422, more
    made = await hooked.put("/v1/webhooks/x", good)
    conflict = await hooked.call("PUT", "/v1/webhooks/x", 412, json=good, headers={"If-Match": '"9"'})
    assert (conflict["code"], conflict["limit"]) == ("revision_conflict", made["revision"])
    await hooked.call("DELETE", "/v1/webhooks/x", 204, headers={"If-Match": '"1"'})


async def test_operators_see_it_all_on_the_command_line(hooked: World, receiver: Receiver) -> None:
    async with listening(hooked.app) as url:
        tendril = Terminal(url)
        secret = (await tendril("webhooks", "put", "crm", receiver.url, "--event", "region")).strip()
        assert secret.startswith("whsec_")
        assert await tendril("webhooks", "put", "crm", receiver.url, "--event", "region") == ""
        assert (await tendril("webhooks", "test", "crm")).startswith("taken: 200 after")
        receiver.answer = lambda _: 500
        assert "answered 500" in await tendril.refused("webhooks", "test", "crm")
        await region(hooked, "paris")
        await settled(hooked, {"state": "failing"})
        listed = await tendril("webhooks", "list")
        assert "failing" in listed
        assert "answered 500" in listed
        assert "region.created" in await tendril("webhooks", "deliveries", "crm")
        assert (await tendril("webhooks", "secret", "crm")).strip() not in ("", secret)
        assert "deleted crm" in await tendril("webhooks", "delete", "crm")
        assert "no webhook called crm" in await tendril.refused("webhooks", "delete", "crm")
