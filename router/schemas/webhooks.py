"""Webhooks: what is told to whom, and how it goes."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StringConstraints

from router.core.model import Webhook, WebhookId
from router.schemas.fields import Answer, Body, Flag, Id, no_repeats

Kind = Annotated[str, StringConstraints(pattern=r"^[a-z_]+(\.[a-z_]+)*$", max_length=64)]
ReceiverUrl = Annotated[str, StringConstraints(pattern=r"^https?://[!-~]+$", max_length=1_000)]


class WebhookBody(Body):
    """A receiver, and the kinds of events it wants: ``session`` is every ``session.…``, none is everything."""

    id: Id | None = None
    url: ReceiverUrl
    events: Annotated[list[Kind], Field(max_length=64), AfterValidator(no_repeats)] = Field(default_factory=list)
    enabled: Flag = True

    def core(self, id: str, secret: str) -> Webhook:
        """Map to the core type."""
        return Webhook(WebhookId(id), self.url, secret, tuple(sorted(self.events)), self.enabled)


class DeliveryState(Answer):
    """How deliveries to a webhook go."""

    state: Literal["ok", "failing", "disabled"]
    pending: int
    oldest_pending_at: str | None
    delivered: int
    given_up: int
    last_delivered_at: str | None
    failing_since: str | None
    rests_until: str | None
    last_error: str


class WebhookAnswer(Answer):
    """A webhook as it is kept; ``secret`` is shown once, when it is made."""

    id: str
    url: str
    events: list[str]
    enabled: bool
    revision: int
    deliveries: DeliveryState | None = None
    secret: str | None = None


class SecretAnswer(Answer):
    """A new secret; the one before signs too for a day."""

    secret: str
    old_secret_until: str


class TestAnswer(Answer):
    """What came of a test message."""

    delivered: bool
    status: int | None
    error: str | None
    took_ms: float


class PendingAnswer(Answer):
    """A message that waits."""

    id: str
    kind: str | None
    subject: str | None
    created_at: str
    attempts: int
    next_at: str
    last_error: str | None
