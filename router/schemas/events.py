"""Audit and decision events."""

from __future__ import annotations

from router.core.model import Event
from router.schemas.fields import Answer
from router.schemas.units import rfc3339


class EventAnswer(Answer):
    """One line of audit or decision."""

    id: int | None = None
    at: str
    kind: str
    subject: str
    actor: str
    reason: str
    detail: dict[str, str | int | float | bool | None]


class EventList(Answer):
    """One page of events, newest first."""

    items: list[EventAnswer]
    next: str | None


def event_json(event: Event, id: int | None = None) -> dict[str, object]:
    """Return the JSON form of an event."""
    return {
        "id": id,
        "at": rfc3339(event.at),
        "kind": event.kind,
        "subject": event.subject,
        "actor": event.actor,
        "reason": event.reason,
        "detail": dict(event.detail),
    }
