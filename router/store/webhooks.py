"""Webhooks: what they are, and the outbox of messages that wait to be delivered to them.

A message is written by the transaction of its event (:mod:`router.store.events`), so neither is there without the
other. It goes when the receiver has taken it, when it was tried often enough, or with its webhook.

One control plane at a time delivers to a webhook: it holds a claim, renewed with every turn, that others may take once
it has run out. A turn settles what was sent, and hands out what is due: of each subject only the oldest message, so
that messages about one subject are delivered in the order of their events while others pass a message that is stuck. A
receiver that fails several times in a row rests, and is then tried with one message at a time.

Errors: ``unknown_webhook``, ``revision_conflict``, ``too_many_webhooks``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from sqlalchemy import LABEL_STYLE_TABLENAME_PLUS_COL, Connection, delete, exists, func, insert, select, update

from router.core.errors import InputRejected
from router.core.model import Event, Micros, Webhook, WebhookId
from router.store import events
from router.store.commit import Commit
from router.store.rows import read_event
from router.store.tables import events as trail
from router.store.tables import outbox, webhook_states, webhooks

MAX_WEBHOOKS = 64  # each adds a row per event that it wants, to the transaction of the event
REST_AFTER = 3  # turns in a row in which nothing was taken, after which a receiver rests
LONGEST_REST_US = 300 * 1_000_000
OLD_SECRET_US = 24 * 3600 * 1_000_000  # how long the secret before signs too
_EVENT = tuple(field.name for field in fields(Event))


@dataclass(frozen=True, slots=True)
class State:
    """How deliveries to a webhook go."""

    failures: int = 0  # turns in a row in which nothing was taken
    failing_since: Micros | None = None
    rests_until: Micros = 0
    delivered: int = 0
    given_up: int = 0
    delivered_at: Micros | None = None
    last_error: str = ""
    pending: int = 0
    oldest_at: Micros | None = None


@dataclass(frozen=True, slots=True)
class Message:
    """A message that waits; ``event`` is None when it was forgotten before it could be told."""

    id: int
    number: int  # of the event
    event: Event | None
    created_at: Micros
    attempts: int
    next_at: Micros
    last_error: str


@dataclass(frozen=True, slots=True)
class Sent:
    """What became of a message: taken, to be tried again at ``next_at``, or given up (None)."""

    message: Message
    error: str = ""  # empty: taken
    next_at: Micros | None = None
    gone: bool = False  # the receiver wants no more


@dataclass(frozen=True, slots=True)
class Turn:
    """What to send next, and with which secrets it is signed."""

    webhook: Webhook
    secrets: tuple[str, ...]
    messages: tuple[Message, ...]


@dataclass(frozen=True, slots=True)
class Claim:
    """Who delivers, until when, at most how much per turn, and how long a receiver may fail before it is disabled."""

    holder: str
    lease_us: int
    limit: int
    disable_after_us: int
    spread_ppm: int = 1_000_000  # what a rest is multiplied by, drawn anew for each turn


_STATE = tuple(field.name for field in fields(State) if field.name in webhook_states.c)


class Webhooks:
    """Webhooks of one database; ``read`` and ``write`` are those of :class:`router.store.engine.Database`."""

    def __init__(
        self, read: Callable[[Callable[[Connection], Any]], Any], write: Callable[[Callable[[Connection], Any]], Any]
    ) -> None:
        self._read = read
        self._write = write

    def put(self, webhook: Webhook, *, if_match: int | None, actor: str, now: Micros) -> Commit[tuple[Webhook, bool]]:
        """Create or replace a webhook, and whether it is new; its secret is used when it is, else the old one stays."""
        return self._write(lambda c: _put(c, webhook, if_match, actor, now))  # type: ignore[no-any-return]

    def delete(self, id: WebhookId, *, if_match: int | None, actor: str, now: Micros) -> Commit[None]:
        """Delete a webhook and what waits for it."""
        return self._write(lambda c: _remove(c, id, if_match, actor, now))  # type: ignore[no-any-return]

    def renew_secret(self, id: WebhookId, secret: str, *, actor: str, now: Micros) -> Commit[Webhook]:
        """Sign with another secret from now on, and for a day with the old one too."""
        return self._write(lambda c: _renew(c, id, secret, actor, now))  # type: ignore[no-any-return]

    def all(self) -> tuple[tuple[Webhook, State], ...]:
        """Return every webhook with how it goes, in id order."""
        return self._read(_all)  # type: ignore[no-any-return]

    def get(self, id: WebhookId) -> Webhook:
        """Return one webhook. Raises ``unknown_webhook``."""
        return self._read(lambda c: _existing(c, id))  # type: ignore[no-any-return]

    def waiting(self, id: WebhookId, limit: int) -> tuple[Message, ...]:
        """Return the oldest messages that wait for a webhook. Raises ``unknown_webhook``."""

        def find(connection: Connection) -> tuple[Message, ...]:
            _existing(connection, id)
            return _messages(connection, id, limit)

        return self._read(find)  # type: ignore[no-any-return]

    def due(self, now: Micros) -> tuple[WebhookId, ...]:
        """Return the webhooks that have something to deliver and do not rest."""
        return self._read(lambda c: _due(c, now))  # type: ignore[no-any-return]

    def turn(self, id: WebhookId, sent: Sequence[Sent], claim: Claim, now: Micros) -> Commit[Turn | None]:
        """Settle what was sent and take the next; None if there is nothing to do, or somebody else does it."""
        return self._write(lambda c: _turn(c, id, sent, claim, now))  # type: ignore[no-any-return]

    def let_go(self, holder: str | None) -> Commit[None]:
        """Give up the claims of one holder, or, when nobody else can be there, of all."""

        def free(connection: Connection) -> Commit[None]:
            mine = () if holder is None else (webhook_states.c.claimed_by == holder,)
            connection.execute(update(webhook_states).where(*mine).values(claimed_by="", claimed_until=0))
            return Commit(None)

        return self._write(free)  # type: ignore[no-any-return]


# --- what they are ---------------------------------------------------------------------------------------------------


def _find(connection: Connection, id: WebhookId, *, lock: bool = False) -> Webhook | None:
    query = select(webhooks).where(webhooks.c.id == id)
    # Not the key: events refer to it all the time, and must not wait for us.
    row = connection.execute(query.with_for_update(key_share=True) if lock else query).mappings().first()
    return None if row is None else _webhook(row)


def _existing(connection: Connection, id: WebhookId, *, lock: bool = False) -> Webhook:
    found = _find(connection, id, lock=lock)
    if found is None:
        raise InputRejected("unknown_webhook", f"there is no webhook called {id}", field="id")
    return found


def _webhook(row: Mapping[Any, Any]) -> Webhook:
    named = {"events": tuple(row["events"]), "enabled": bool(row["enabled"]), "revision": row["revision"]}
    return Webhook(WebhookId(row["id"]), row["url"], row["secret"], **named)


def _row(webhook: Webhook) -> dict[str, Any]:
    return {
        "id": webhook.id, "url": webhook.url, "secret": webhook.secret, "events": list(webhook.events),
        "enabled": webhook.enabled, "revision": webhook.revision,
    }  # fmt: skip


def _check_revision(id: WebhookId, old: Webhook | None, if_match: int | None) -> None:
    current = 0 if old is None else old.revision
    if if_match is not None and if_match != current:
        message = f"webhook {id} is at revision {current}, not {if_match}; read it again"
        raise InputRejected("revision_conflict", message, field="If-Match", rule="current revision", limit=current)


def _put(
    connection: Connection, webhook: Webhook, if_match: int | None, actor: str, now: Micros
) -> Commit[tuple[Webhook, bool]]:
    old = _find(connection, webhook.id, lock=True)
    _check_revision(webhook.id, old, if_match)
    if old is None:
        if connection.execute(select(func.count()).select_from(webhooks)).scalar_one() >= MAX_WEBHOOKS:
            message = f"there are {MAX_WEBHOOKS} webhooks already; delete one, or let one receiver pass messages on"
            raise InputRejected("too_many_webhooks", message, rule="webhooks", limit=MAX_WEBHOOKS)
        new = replace(webhook, revision=1)
        connection.execute(insert(webhooks), _row(new))
        connection.execute(insert(webhook_states), {"webhook": new.id})
        _tell(connection, "created", None, new, actor, now)
        return Commit((new, True))
    new = replace(webhook, secret=old.secret, revision=old.revision)
    if new == old:
        return Commit((old, False))
    new = replace(new, revision=old.revision + 1)
    connection.execute(update(webhooks).where(webhooks.c.id == new.id).values(_row(new)))
    if new.enabled and (not old.enabled or new.url != old.url):  # somebody has mended it: begin afresh
        fresh = {"failures": 0, "failing_since": None, "rests_until": 0, "last_error": ""}
        connection.execute(update(webhook_states).where(webhook_states.c.webhook == new.id).values(fresh))
        connection.execute(update(outbox).where(outbox.c.webhook == new.id).values(next_at=now))
    _tell(connection, "updated", old, new, actor, now)
    return Commit((new, False))


def _remove(connection: Connection, id: WebhookId, if_match: int | None, actor: str, now: Micros) -> Commit[None]:
    old = _existing(connection, id, lock=True)
    _check_revision(id, old, if_match)
    connection.execute(delete(webhooks).where(webhooks.c.id == id))
    _tell(connection, "deleted", old, None, actor, now)
    return Commit(None)


def _renew(connection: Connection, id: WebhookId, secret: str, actor: str, now: Micros) -> Commit[Webhook]:
    old = _existing(connection, id, lock=True)
    new = replace(old, secret=secret, revision=old.revision + 1)
    connection.execute(update(webhooks).where(webhooks.c.id == id).values(_row(new)))
    kept = {"old_secret": old.secret, "old_secret_until": now + OLD_SECRET_US}
    connection.execute(update(webhook_states).where(webhook_states.c.webhook == id).values(kept))
    events.append(connection, [Event(now, "webhook.secret_renewed", id, actor)])
    return Commit(new)


def _tell(
    connection: Connection, verb: str, old: Webhook | None, new: Webhook | None, actor: str, now: Micros, why: str = ""
) -> None:
    rows = [None if side is None else {**_row(side), "secret": ""} for side in (old, new)]
    id = next(side.id for side in (new, old) if side is not None)
    events.append(connection, [Event(now, f"webhook.{verb}", id, actor, why, events.differences(*rows))])


# --- how they go -----------------------------------------------------------------------------------------------------


def _all(connection: Connection) -> tuple[tuple[Webhook, State], ...]:
    rows = connection.execute(select(webhooks, webhook_states).join(webhook_states)).mappings()
    found = sorted(rows, key=lambda row: str(row["id"]))
    count = select(outbox.c.webhook, func.count(), func.min(outbox.c.created_at)).group_by(outbox.c.webhook)
    waiting = {id: (n, oldest) for id, n, oldest in connection.execute(count)}
    return tuple((_webhook(row), _state(row, *waiting.get(row["id"], (0, None)))) for row in found)


def _state(row: Mapping[Any, Any], pending: int, oldest_at: Micros | None) -> State:
    own: dict[str, Any] = {name: row[name] for name in _STATE}
    return State(pending=pending, oldest_at=oldest_at, **own)


def _messages(connection: Connection, id: WebhookId, limit: int, due: Micros | None = None) -> tuple[Message, ...]:
    query = select(outbox, trail).outerjoin(trail, trail.c.id == outbox.c.event).where(outbox.c.webhook == id)
    if due is not None:
        earlier = outbox.alias()
        same = (earlier.c.webhook == id, earlier.c.subject == outbox.c.subject, earlier.c.event < outbox.c.event)
        query = query.where(outbox.c.next_at <= due, ~exists().where(*same))
    query = query.order_by(outbox.c.event).limit(limit).set_label_style(LABEL_STYLE_TABLENAME_PLUS_COL)
    return tuple(_message(row) for row in connection.execute(query).mappings())


def _message(row: Mapping[Any, Any]) -> Message:
    known = row["events_id"] is not None
    event = read_event({name: row[f"events_{name}"] for name in _EVENT}) if known else None
    own = {name: row[f"outbox_{name}"] for name in ("id", "created_at", "attempts", "next_at", "last_error")}
    return Message(number=row["outbox_event"], event=event, **own)


def _due(connection: Connection, now: Micros) -> tuple[WebhookId, ...]:
    late = exists().where(outbox.c.webhook == webhook_states.c.webhook, outbox.c.next_at <= now)
    query = select(webhook_states.c.webhook).join(webhooks).where(webhooks.c.enabled)
    query = query.where(webhook_states.c.rests_until <= now, late)
    return tuple(WebhookId(id) for id in sorted(connection.execute(query).scalars()))


def _turn(
    connection: Connection, id: WebhookId, sent: Sequence[Sent], claim: Claim, now: Micros
) -> Commit[Turn | None]:
    state = webhook_states.c
    free = (state.claimed_by == claim.holder) | (state.claimed_until <= now)
    mine = {"claimed_by": claim.holder, "claimed_until": now + claim.lease_us}
    took = update(webhook_states).where(state.webhook == id, free).values(mine).returning(webhook_states)
    row = connection.execute(took).mappings().first()
    if row is None:  # deleted, or somebody else's; what was taken was taken all the same
        _forget(connection, [one.message.id for one in sent if not one.error])
        return Commit(None)
    failures = _settle(connection, _existing(connection, id), row, sent, claim, now)
    rests = row["rests_until"] if not sent else _rest(connection, id, failures, claim, now)
    webhook = _existing(connection, id)
    if rests <= now and webhook.enabled:
        messages = _messages(connection, id, 1 if failures else claim.limit, now)
        if messages:
            old = row["old_secret"] if row["old_secret_until"] > now else None
            secrets = (webhook.secret,) if old is None else (webhook.secret, old)
            return Commit(Turn(webhook, secrets, messages))
        _postpone(connection, id, now)
    connection.execute(update(webhook_states).where(state.webhook == id).values(claimed_by="", claimed_until=0))
    return Commit(None)


def _postpone(connection: Connection, id: WebhookId, now: Micros) -> None:
    """What is due and not handed out waits behind an earlier message of its subject: it is due when that one is."""
    first = outbox.alias()
    of_subject = select(first.c.next_at).where(first.c.webhook == id, first.c.subject == outbox.c.subject)
    head = of_subject.order_by(first.c.event).limit(1).scalar_subquery()
    late = (outbox.c.webhook == id, outbox.c.next_at <= now)
    connection.execute(update(outbox).where(*late).values(next_at=head))


def _forget(connection: Connection, ids: Sequence[int]) -> int:
    return connection.execute(delete(outbox).where(outbox.c.id.in_(ids))).rowcount if ids else 0


def _settle(
    connection: Connection, webhook: Webhook, row: Mapping[Any, Any], sent: Sequence[Sent], claim: Claim, now: Micros
) -> int:
    """Write down what became of the messages; how many failures in a row there are now."""
    if not sent:
        return int(row["failures"])
    taken = [one for one in sent if not one.error]
    failed = [one for one in sent if one.error]
    lost = [one for one in failed if one.next_at is None]
    for one in failed:
        if one.next_at is not None:
            again = {"attempts": one.message.attempts + 1, "next_at": one.next_at, "last_error": one.error}
            connection.execute(update(outbox).where(outbox.c.id == one.message.id).values(again))
    _forget(connection, [one.message.id for one in (*taken, *lost)])
    values: dict[str, Any] = {
        "delivered": row["delivered"] + len(taken),
        "given_up": row["given_up"] + len(lost),
        "failures": 0 if taken else row["failures"] + 1,
        "failing_since": None if taken else row["failing_since"] or now,
        "delivered_at": now if taken else row["delivered_at"],
        "last_error": failed[-1].error if failed else row["last_error"],
    }
    connection.execute(update(webhook_states).where(webhook_states.c.webhook == webhook.id).values(values))
    _tell_of_loss(connection, webhook, lost, now)
    too_long = not taken and now - values["failing_since"] >= claim.disable_after_us
    if webhook.enabled and (too_long or any(one.gone for one in sent)):
        _disable(connection, webhook, values, "it answered 410 Gone" if not too_long else failed[-1].error, now)
    return int(values["failures"])


def _tell_of_loss(connection: Connection, webhook: Webhook, lost: Sequence[Sent], now: Micros) -> None:
    told = [
        Event(now, "webhook.gave_up", webhook.id, reason=one.error, detail={"event": one.message.number})
        for one in lost
    ]
    events.append(connection, told)


def _disable(connection: Connection, webhook: Webhook, state: Mapping[str, Any], why: str, now: Micros) -> None:
    off = replace(webhook, enabled=False, revision=webhook.revision + 1)
    same = (webhooks.c.id == webhook.id, webhooks.c.revision == webhook.revision)
    if not connection.execute(update(webhooks).where(*same).values(_row(off))).rowcount:
        return  # somebody is mending it
    dropped = connection.execute(delete(outbox).where(outbox.c.webhook == webhook.id)).rowcount
    lost = {"given_up": state["given_up"] + dropped}
    connection.execute(update(webhook_states).where(webhook_states.c.webhook == webhook.id).values(lost))
    detail: dict[str, events.Scalar] = {"failing_since": state["failing_since"], "dropped": dropped}
    events.append(connection, [Event(now, "webhook.disabled", webhook.id, reason=why, detail=detail)])


def _rest(connection: Connection, id: WebhookId, failures: int, claim: Claim, now: Micros) -> Micros:
    """Let a receiver rest that fails again and again; until when."""
    if failures < REST_AFTER:
        return 0
    least = min(LONGEST_REST_US, 1_000_000 << min(failures - REST_AFTER, 20))
    rests = now + least * claim.spread_ppm // 1_000_000
    connection.execute(update(webhook_states).where(webhook_states.c.webhook == id).values(rests_until=rests))
    return rests
