"""Webhooks: who is told of which events, how it goes, a test, another secret. Delivery itself is ``router.outbox``."""

from __future__ import annotations

import time
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import Response

from router.api.gate import ADMIN, OPERATOR, Endpoint, actor_of, runtime_of
from router.api.reply import After, IfMatch, Limit, PathId, empty, etag, listing, page, reply, revision_of
from router.core.errors import InputRejected
from router.core.model import Webhook, WebhookId
from router.outbox import mint_secret, refuse_url
from router.schemas.fields import Answer
from router.schemas.units import known_rfc3339, rfc3339
from router.schemas.webhooks import (
    PendingAnswer,
    SecretAnswer,
    TestAnswer,
    WebhookAnswer,
    WebhookBody,
)
from router.store.webhooks import OLD_SECRET_US, Message, State

endpoints = APIRouter(prefix="/v1/webhooks", route_class=Endpoint, tags=["webhooks"])


class WebhookList(Answer):
    """One page of webhooks."""

    items: list[WebhookAnswer]
    next: str | None


class PendingList(Answer):
    """Messages that wait, oldest first."""

    items: list[PendingAnswer]
    next: str | None


def webhook_json(webhook: Webhook, state: State | None = None) -> dict[str, object]:
    """Return the JSON form of a webhook; its secret is nowhere to be found."""
    shown: dict[str, object] = {
        "id": webhook.id, "url": webhook.url, "events": list(webhook.events), "enabled": webhook.enabled,
        "revision": webhook.revision,
    }  # fmt: skip
    return shown if state is None else shown | {"deliveries": _state_json(webhook, state)}


def _state_json(webhook: Webhook, state: State) -> dict[str, object]:
    return {
        "state": "disabled" if not webhook.enabled else "failing" if state.failures else "ok",
        "pending": state.pending,
        "oldest_pending_at": known_rfc3339(state.oldest_at),
        "delivered": state.delivered,
        "given_up": state.given_up,
        "last_delivered_at": known_rfc3339(state.delivered_at),
        "failing_since": known_rfc3339(state.failing_since),
        "rests_until": known_rfc3339(state.rests_until) if state.failures else None,
        "last_error": state.last_error,
    }


def message_json(message: Message) -> dict[str, object]:
    """Return the JSON form of a message that waits."""
    event = message.event
    return {
        "id": f"msg_{message.number}",
        "kind": None if event is None else event.kind,
        "subject": None if event is None else event.subject,
        "created_at": rfc3339(message.created_at),
        "attempts": message.attempts,
        "next_at": rfc3339(message.next_at),
        "last_error": message.last_error or None,
    }


@endpoints.put(
    "/{id}", response_model=WebhookAnswer, dependencies=[Depends(ADMIN)], responses={201: {"model": WebhookAnswer}}
)
async def put_webhook(request: Request, id: PathId, body: WebhookBody, if_match: IfMatch = None) -> Response:
    """Create or replace a webhook; the secret is in the answer that creates it and nowhere else."""
    runtime, actor = runtime_of(request), actor_of(request)
    if body.id is not None and body.id != id:
        raise InputRejected("id_mismatch", f"the body names {body.id}, the path {id}", field="id", rule="the same id")
    refuse_url(body.url, runtime.options.webhooks.allowed)
    wanted, revision = body.core(id, mint_secret()), revision_of(if_match)
    stored, fresh = await runtime.commit(
        lambda store: store.webhooks.put(wanted, if_match=revision, actor=actor, now=runtime.now())
    )
    shown = webhook_json(stored) | ({"secret": stored.secret} if fresh else {})
    return reply(shown, 201 if fresh else 200, {"ETag": etag(stored.revision)})


@endpoints.get("", response_model=WebhookList, dependencies=[Depends(OPERATOR)])
async def list_webhooks(request: Request, limit: Limit = 1_000, after: After = None) -> Response:
    """List the webhooks and how deliveries to them go."""
    found = await runtime_of(request).read(lambda store: store.webhooks.all())
    cut, next = page(found, limit, after, lambda one: one[0].id)
    return listing([webhook_json(webhook, state) for webhook, state in cut], next)


@endpoints.get("/{id}", response_model=WebhookAnswer, dependencies=[Depends(OPERATOR)])
async def get_webhook(request: Request, id: PathId) -> Response:
    """Return one webhook and how deliveries to it go."""
    for webhook, state in await runtime_of(request).read(lambda store: store.webhooks.all()):
        if webhook.id == id:
            return reply(webhook_json(webhook, state), headers={"ETag": etag(webhook.revision)})
    raise InputRejected("unknown_webhook", f"there is no webhook called {id}", field="id")


@endpoints.delete("/{id}", status_code=204, dependencies=[Depends(ADMIN)])
async def delete_webhook(request: Request, id: PathId, if_match: IfMatch = None) -> Response:
    """Delete a webhook and the messages that wait for it."""
    runtime, actor, revision = runtime_of(request), actor_of(request), revision_of(if_match)
    await runtime.commit(
        lambda store: store.webhooks.delete(WebhookId(id), if_match=revision, actor=actor, now=runtime.now())
    )
    return empty()


@endpoints.post("/{id}/test", response_model=TestAnswer, dependencies=[Depends(ADMIN)])
async def test_webhook(request: Request, id: PathId) -> Response:
    """Post one test message now and answer with what came of it; it is tried once, and also while disabled."""
    runtime = runtime_of(request)
    webhook = await runtime.read(lambda store: store.webhooks.get(WebhookId(id)))
    began = time.perf_counter()
    answer = await runtime.outbox.test(webhook)
    took_ms = round((time.perf_counter() - began) * 1000, 3)
    shown = {"delivered": not answer.error, "status": answer.status, "error": answer.error or None, "took_ms": took_ms}
    return reply(shown)


@endpoints.post("/{id}/secret", response_model=SecretAnswer, dependencies=[Depends(ADMIN)])
async def renew_webhook_secret(request: Request, id: PathId) -> Response:
    """Make another secret; messages carry the signatures of both for a day."""
    runtime, actor, now = runtime_of(request), actor_of(request), runtime_of(request).now()
    secret = mint_secret()
    await runtime.commit(lambda store: store.webhooks.renew_secret(WebhookId(id), secret, actor=actor, now=now))
    return reply({"secret": secret, "old_secret_until": rfc3339(now + OLD_SECRET_US)})


@endpoints.get("/{id}/deliveries", response_model=PendingList, dependencies=[Depends(OPERATOR)])
async def list_deliveries(request: Request, id: PathId, limit: Annotated[int, Query(ge=1, le=1_000)] = 100) -> Response:
    """List the oldest messages that wait for a webhook, how often they were tried, and why they still wait."""
    found = await runtime_of(request).read(lambda store: store.webhooks.waiting(WebhookId(id), limit))
    return listing([message_json(message) for message in found], None)
