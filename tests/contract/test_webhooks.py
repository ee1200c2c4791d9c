"""The outbox on both databases: messages with their events, one deliverer at a time, order, rest, end."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from router.core.errors import InputRejected
from router.core.model import Event, Webhook, WebhookId
from router.store import Store
from router.store.webhooks import MAX_WEBHOOKS, OLD_SECRET_US, REST_AFTER, Claim, Sent, Turn

NOW = 1_700_000_000_000_000
SECOND = 1_000_000
HOUR = 3600 * SECOND
MINE = Claim("me", 20 * SECOND, 16, 48 * HOUR)


def put(store: Store, id: str = "crm", *events: str, **more: Any) -> Webhook:
    wanted = Webhook(WebhookId(id), "https://example.org/x", "whsec_AAAA", events, **more)
    return store.webhooks.put(wanted, if_match=None, actor="test", now=NOW).result[0]


def tell(store: Store, kind: str = "session.ended", subject: str = "s-1", at: int = NOW) -> None:
    store.record([Event(at, kind, subject)])


def turn(store: Store, *sent: Sent, claim: Claim = MINE, now: int = NOW, id: str = "crm") -> Turn | None:
    return store.webhooks.turn(WebhookId(id), sent, claim, now).result


def subjects(found: Turn | None) -> list[tuple[str, str]]:
    assert found is not None
    return [(m.event.kind, m.event.subject) for m in found.messages if m.event is not None]


def waiting(store: Store, id: str = "crm") -> int:
    return len(store.webhooks.waiting(WebhookId(id), 100))


def failed(found: Turn | None, at: int | None = None, **more: Any) -> list[Sent]:
    assert found is not None
    return [Sent(message, "answered 500", at, **more) for message in found.messages]


def test_a_webhook_hears_the_kinds_it_wants(store: Store) -> None:
    for id, kinds in {"all": (), "ends": ("session.ended",), "tree": ("session", "drain"), "none": ("sess",)}.items():
        put(store, id, *kinds)
    put(store, "off", enabled=False)
    before = waiting(store, "all")
    for kind in ("session.ended", "session.leg_ended", "drain.opened", "sessions.odd", "session_ended"):
        tell(store, kind)
    heard = {id: waiting(store, id) for id in ("ends", "tree", "none", "off")}
    assert heard == {"ends": 1, "tree": 3, "none": 0, "off": 0}
    assert waiting(store, "all") - before == 5


def test_messages_are_there_with_their_transaction_or_not_at_all(store: Store, world: Any) -> None:
    world.seed()
    put(store, "crm", "session")
    world.start(world.session("s-1"), key="k")
    with pytest.raises(InputRejected):
        world.start(world.session("s-2", pool=None), key="k")  # the key is another request's
    with pytest.raises(InputRejected):
        world.start(world.session("s-3", edge="nowhere", edge_node=None))
    world.store.end_session("s-1", reason="over", now=NOW)
    assert subjects(turn(store)) == [("session.started", "s-1")]
    assert waiting(store) == 2


def test_messages_of_one_subject_keep_their_order_and_others_pass(store: Store) -> None:
    put(store)
    for subject in ("a", "b", "a", "c", "a"):
        tell(store, "session.moved", subject)
    found = turn(store)
    assert subjects(found) == [("session.moved", subject) for subject in "abc"]
    assert found is not None
    stuck, *taken = found.messages
    found = turn(store, Sent(stuck, "answered 500", NOW + HOUR), *map(Sent, taken))
    assert found is None  # both others of a wait behind the one that is stuck
    assert waiting(store) == 3
    assert store.webhooks.due(NOW) == ()
    tell(store, "session.moved", "a")  # due, but behind the others: asked for once, then no more
    assert store.webhooks.due(NOW) == ("crm",)
    assert turn(store) is None
    assert store.webhooks.due(NOW) == ()
    found = turn(store, now=NOW + HOUR)
    assert found is not None
    (again,) = found.messages
    assert (again.number, again.attempts, again.last_error) == (stuck.number, 1, "answered 500")
    assert subjects(turn(store, Sent(again), now=NOW + HOUR)) == [("session.moved", "a")]


def test_one_deliverer_at_a_time_until_its_claim_runs_out(store: Store) -> None:
    put(store)
    tell(store)
    other = Claim("other", 20 * SECOND, 16, 48 * HOUR)
    mine = turn(store)
    assert mine is not None
    assert turn(store, claim=other) is None
    assert turn(store, claim=other, now=NOW + 19 * SECOND) is None
    theirs = turn(store, claim=other, now=NOW + 20 * SECOND)
    assert theirs == mine
    # What I sent meanwhile was taken, whoever has the claim.
    assert turn(store, Sent(mine.messages[0]), now=NOW + 21 * SECOND) is None
    assert waiting(store) == 0
    assert turn(store, *failed(theirs, NOW), claim=other, now=NOW + 21 * SECOND) is None


def test_claims_can_be_let_go(store: Store) -> None:
    put(store)
    tell(store)
    other = Claim("other", 20 * SECOND, 16, 48 * HOUR)
    assert turn(store) is not None
    store.webhooks.let_go("somebody")
    assert turn(store, claim=other) is None
    store.webhooks.let_go("me")
    assert turn(store, claim=other) is not None
    store.webhooks.let_go(None)
    assert turn(store) is not None


def test_racing_deliverers_never_hold_the_same_message_at_once(store: Store) -> None:
    put(store)
    for number in range(60):
        tell(store, "session.ended", f"s-{number}")
    out: set[int] = set()
    taken: list[int] = []
    twice: list[int] = []
    lock = threading.Lock()

    def deliver(holder: str) -> None:
        sent: list[Sent] = []
        while waiting(store):
            found = turn(store, *sent, claim=Claim(holder, 3600 * SECOND, 4, 48 * HOUR))
            sent = []
            if found is None:
                continue
            numbers = [message.number for message in found.messages]
            with lock:
                twice.extend(out & set(numbers))
                out.update(numbers)
            with lock:
                out.difference_update(numbers)
                taken.extend(numbers)
            sent = [Sent(message) for message in found.messages]
            if len(taken) % 3 == 0:
                turn(store, *sent, claim=Claim(holder, 3600 * SECOND, 4, 48 * HOUR))
                store.webhooks.let_go(holder)
                sent = []
        if sent:
            turn(store, *sent, claim=Claim(holder, 3600 * SECOND, 4, 48 * HOUR))

    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(deliver, f"h-{n}") for n in range(4)]:
            done.result()
    assert twice == []
    assert len(set(taken)) == 60


def test_a_receiver_that_fails_rests_longer_and_longer_and_is_tried_with_one(store: Store) -> None:
    put(store)
    for number in range(40):
        tell(store, "session.ended", f"s-{number:02}")
    found = turn(store)
    assert len(found.messages) == 16 if found else False
    now, rests = NOW, []
    for _ in range(REST_AFTER + 3):
        found = turn(store, *failed(found, now + 1000 * HOUR), now=now)
        if found is None:
            (_, state), *_ = store.webhooks.all()
            rests.append((state.rests_until - now) // SECOND)
            assert store.webhooks.due(state.rests_until - 1) == ()
            assert store.webhooks.due(state.rests_until) == ("crm",)
            now = state.rests_until
            found = turn(store, now=now)
        assert found is not None
        assert len(found.messages) == 1
    assert rests == [1, 2, 4, 8]
    (_, state), *_ = store.webhooks.all()
    assert (state.failures, state.failing_since, state.last_error) == (REST_AFTER + 3, NOW, "answered 500")
    found = turn(store, Sent(found.messages[0]), now=now) if found else None
    (_, state), *_ = store.webhooks.all()
    assert (state.failures, state.failing_since, state.delivered) == (0, None, 1)
    assert found is not None
    assert len(found.messages) == 16


def test_a_message_that_is_given_up_is_told_of_but_not_to_the_one_it_concerns(store: Store) -> None:
    put(store, "crm", "session", "webhook.gave_up")
    put(store, "ops", "webhook")
    tell(store)
    found = turn(store)
    assert found is not None
    assert turn(store, *failed(found), now=NOW) is None
    assert waiting(store) == 0
    (_, state), *_ = store.webhooks.all()
    assert (state.given_up, state.delivered) == (1, 0)
    assert ("webhook.gave_up", "crm") in subjects(turn(store, id="ops"))
    (_, event), *_ = store.events(kind="webhook.gave_up")
    assert (event.subject, event.reason, event.detail["event"]) == ("crm", "answered 500", found.messages[0].number)


@pytest.mark.parametrize("how", ["too long", "gone"])
def test_who_fails_for_long_or_is_gone_is_disabled(store: Store, how: str) -> None:
    put(store)
    for number in range(20):
        tell(store, "session.ended", f"s-{number}")
    found = turn(store)
    if how == "gone":
        assert turn(store, *failed(found, NOW + HOUR, gone=True)) is None
    else:
        turn(store, *failed(found, NOW + 1))
        found = turn(store, now=NOW + 48 * HOUR)
        assert turn(store, *failed(found, NOW + 50 * HOUR), now=NOW + 48 * HOUR) is None
    ((webhook, state),) = store.webhooks.all()
    assert not webhook.enabled
    assert (state.pending, state.given_up) == (0, 20)
    (_, event), *_ = store.events(kind="webhook.disabled")
    assert (event.subject, event.detail["dropped"]) == ("crm", 20)
    assert store.webhooks.due(NOW + 1000 * HOUR) == ()
    tell(store)
    assert waiting(store) == 0
    put(store)  # mended
    tell(store)
    assert subjects(turn(store, now=NOW + 50 * HOUR)) == [("session.ended", "s-1")]


def test_an_event_that_was_forgotten_is_handed_out_without_it(store: Store) -> None:
    put(store)
    tell(store, "session.ended", "s-1", at=NOW)
    store.forget_ended(NOW + 1)
    found = turn(store)
    assert found is not None
    assert [message.event for message in found.messages] == [None]


def test_definitions_follow_their_revision(store: Store, rows: Callable[[str], list[Any]]) -> None:
    first = put(store)
    assert first.revision == 1
    assert put(store) == first
    with pytest.raises(InputRejected, match="revision 1, not 7"):
        store.webhooks.put(first, if_match=7, actor="test", now=NOW)
    with pytest.raises(InputRejected, match="revision 1, not 7"):
        store.webhooks.delete(WebhookId("crm"), if_match=7, actor="test", now=NOW)
    changed = put(store, "crm", "drain")
    assert (changed.revision, changed.secret) == (2, "whsec_AAAA")
    tell(store, "drain.opened", "d-1")
    store.webhooks.delete(WebhookId("crm"), if_match=2, actor="test", now=NOW)
    assert rows("SELECT * FROM outbox") == rows("SELECT * FROM webhook_states") == []
    for ask in (store.webhooks.get, lambda id: store.webhooks.waiting(id, 1)):
        with pytest.raises(InputRejected) as refused:
            ask(WebhookId("crm"))
        assert refused.value.code == "unknown_webhook"
    assert turn(store) is None
    kinds = [event.kind for _, event in store.events(kind="webhook")]
    assert kinds == ["webhook.deleted", "webhook.updated", "webhook.created"]
    assert "AAAA" not in repr(store.events())


def test_there_is_a_limit(store: Store) -> None:
    for number in range(MAX_WEBHOOKS):
        put(store, f"w-{number}", "drain")
    with pytest.raises(InputRejected) as refused:
        put(store, "one-more")
    assert (refused.value.code, refused.value.limit) == ("too_many_webhooks", MAX_WEBHOOKS)
    put(store, "w-0", "session")  # replacing is no more


def test_an_old_secret_signs_for_a_day(store: Store) -> None:
    put(store)
    store.webhooks.renew_secret(WebhookId("crm"), "whsec_BBBB", actor="test", now=NOW)
    tell(store)
    found = turn(store)
    assert found is not None
    assert found.secrets == ("whsec_BBBB", "whsec_AAAA")
    later = NOW + OLD_SECRET_US
    found = turn(store, *failed(found, NOW), now=later)
    assert found is not None
    assert found.secrets == ("whsec_BBBB",)
