"""Boot, drains, keys and joining, events, history: the rest of what is durable."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from router.access import JoinToken, Key, mint_key
from router.core.errors import InputRejected, Unavailable
from router.core.messages import AppendHistory, DrainChanged, ResourcesChanged, RouteChange
from router.core.model import DataCenterId, Drain, DrainMode, DrainState, Event, Intent, Node, Selector, TrafficClass
from router.store import Store


def refusal(call: Any) -> InputRejected:
    """How a call is refused."""
    with pytest.raises(InputRejected) as caught:
        call()
    return caught.value


# --- boot ------------------------------------------------------------------------------------------------------------


def test_every_boot_has_a_higher_epoch_and_the_same_secret(url: str, world: Any) -> None:
    world.seed()
    world.start(world.session("s-1"))
    first = world.store.boot(1)
    assert (first.epoch, first.table, len(first.secret)) == (1, None, 32)
    world.store.save_table(b"old")
    world.store.save_table(b"\x00new")
    world.store.close()
    again = Store(url)
    second = again.boot(2)
    assert (second.epoch, second.secret, second.table) == (2, first.secret, b"\x00new")
    assert second.inventory == first.inventory == again.inventory()
    assert second.counters == again.counters()
    assert second.counters.busy == {("tutors", "oracle-iad"): 1}
    again.close()


def test_a_database_that_is_not_there_is_unavailable(tmp_path: Path) -> None:
    for url in (f"sqlite:///{tmp_path}/missing/tendril.db", f"postgresql+psycopg://x@/y?host={tmp_path}"):
        store = Store(url)
        with pytest.raises(Unavailable) as caught:
            store.inventory()
        assert caught.value.code == "database_unavailable"
        store.close()


def test_only_its_owner_may_read_a_new_sqlite_file(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path}/tendril.db")
    store.upgrade()
    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    assert set(modes.values()) == {0o600}
    assert "tendril.db" in modes
    store.close()


# --- drains ----------------------------------------------------------------------------------------------------------


def _drain(**changes: Any) -> Drain:
    known: dict[str, Any] = {
        "selector": Selector(provider="oracle", region="frankfurt"),
        "mode": DrainMode.HARD,
        "state": DrainState.MOVING,
        "targets": ("oracle-fra",),
        "previous": {"oracle-fra": Intent.SERVING},
        "reason": "kernel update",
        "created_at": 5,
        "created_by": "ada",
        "deadline_at": 99,
    }
    return Drain("d-1", **known | changes)


def test_a_drain_and_the_intents_of_its_targets_are_one_write(store: Store, world: Any) -> None:
    world.seed()
    commit = store.put_drain(_drain(), {"oracle-fra": Intent.DRAINING}, actor="ada", now=5)
    assert commit.result == _drain(revision=1)
    assert store.drains() == (commit.result,)
    target = store.inventory().data_centers["oracle-fra"]
    assert (target.intent, target.revision) == (Intent.DRAINING, 2)
    assert commit.changes == (DrainChanged(commit.result), ResourcesChanged((target,)))
    trail = [(event.kind, event.actor, event.reason) for _, event in store.events(since=5, until=6)]
    assert trail == [
        ("drain.opened", "ada", "kernel update"),
        ("data_center.updated", "ada", "drain d-1: kernel update"),
    ]


def test_a_drain_is_changed_only_from_the_revision_it_was_read_at(store: Store, world: Any) -> None:
    world.seed()
    opened = store.put_drain(_drain(), {"oracle-fra": Intent.DRAINING}, actor="ada", now=5).result
    paused = replace(opened, state=DrainState.PAUSED)
    assert store.put_drain(paused, {}, actor="ada", now=6).result.revision == 2
    error = refusal(lambda: store.put_drain(replace(opened, state=DrainState.DRAINED), {}, actor="bob", now=7))
    assert (error.code, error.limit) == ("revision_conflict", 2)
    assert refusal(lambda: store.put_drain(_drain(), {}, actor="bob", now=7)).code == "revision_conflict"
    same = store.put_drain(store.drains()[0], {}, actor="bob", now=8)
    assert (same.result.revision, same.changes) == (2, ())
    kinds = [event.kind for _, event in store.events(subject="d-1")]
    assert kinds == ["drain.paused", "drain.opened"]


def test_a_drain_of_an_unknown_target_writes_nothing(store: Store, world: Any) -> None:
    world.seed()
    intents = {"atlantis": Intent.DRAINING, "oracle-fra": Intent.DRAINING}
    assert refusal(lambda: store.put_drain(_drain(), intents, actor="a", now=5)).code == "unknown_data_center"
    assert store.drains() == ()
    assert store.inventory().data_centers["oracle-fra"].intent is Intent.SERVING


def test_a_target_of_an_open_drain_is_not_deleted(store: Store, world: Any) -> None:
    world.seed()
    drain = store.put_drain(_drain(), {}, actor="ada", now=5).result
    world.delete("nodes", "oracle-fra-1")
    error = refusal(lambda: world.delete("data-centers", "oracle-fra"))
    assert (error.code, "1 drain (d-1)" in error.message) == ("in_use", True)
    store.put_drain(replace(drain, state=DrainState.DRAINED), {}, actor="ada", now=6)
    world.delete("data-centers", "oracle-fra")
    assert "oracle-fra" not in store.inventory().data_centers


# --- keys and joining ------------------------------------------------------------------------------------------------


def test_of_two_operators_who_drain_the_same_place_at_once_one_is_refused(store: Store, world: Any) -> None:
    world.seed()
    intents = {"oracle-fra": Intent.DRAINING}
    first = store.put_drain(_drain(), intents, actor="ada", now=5).result
    second = replace(_drain(), id="d-2")
    error = refusal(lambda: store.put_drain(second, intents, actor="bob", now=6))
    assert (error.code, error.field) == ("drain_overlaps", "selector") and "d-1" in error.message
    assert store.drains() == (first,)
    store.put_drain(replace(first, state=DrainState.UNDONE), {"oracle-fra": Intent.SERVING}, actor="ada", now=7)
    assert store.put_drain(second, intents, actor="bob", now=8).result.revision == 1


def test_keys_are_kept_hashed_and_revoked_for_good(store: Store) -> None:
    key, text = mint_key("operator", "laptop", 5)
    store.add_key(key, actor="root", now=5)
    assert store.add_key(key, actor="root", now=6).result == key
    assert store.keys() == (key,)
    for now in (7, 8):
        gone = store.revoke_key(key.id, actor="root", now=now).result
    assert gone == replace(key, revoked_at=7)
    assert store.keys() == (gone,)
    assert refusal(lambda: store.add_key(key, actor="root", now=9)).code == "key_exists"
    assert refusal(lambda: store.revoke_key("nobody", actor="root", now=9)).code == "unknown_key"
    trail = store.events(subject=key.id)
    assert [event.kind for _, event in trail] == ["key.revoked", "key.created"]
    assert text.split("_", 2)[2] not in repr(trail)  # the secret may contain an underscore itself


def _token(store: Store, text: bytes, data_center: str = "oracle-fra", expires_at: int = 100) -> bytes:
    hash = hashlib.blake2b(text, digest_size=32).digest()
    store.add_join_token(JoinToken(hash, data_center, 1, expires_at), actor="ops")
    return hash


def _agent_key(node: str) -> Key:
    return mint_key(f"agent:{node}", node, 2)[0]


def test_a_token_is_traded_once_for_a_node_and_its_key(store: Store, world: Any) -> None:
    world.seed()
    node, key = Node("new-1", "oracle-fra", {"internet": "192.0.2.7"}), _agent_key("new-1")
    token = _token(store, b"t")
    commit = store.redeem_join_token(token, node, key, 50)
    assert commit.result == replace(node, revision=1)
    assert commit.changes == (ResourcesChanged((commit.result,)),)
    assert store.keys() == (key,)
    error = refusal(lambda: store.redeem_join_token(token, node, _agent_key("new-1"), 51))
    assert (error.code, "new-1" in error.message) == ("token_used", True)
    assert store.keys() == (key,)


def test_joining_again_replaces_the_key(store: Store, world: Any) -> None:
    world.seed()
    node, old, new = Node("new-1", "oracle-fra"), _agent_key("new-1"), _agent_key("new-1")
    store.redeem_join_token(_token(store, b"1"), node, old, 50)
    again = store.redeem_join_token(_token(store, b"2"), node, new, 60)
    assert (again.result.revision, again.changes) == (1, ())
    kept = store.keys()
    assert {key.id: key.revoked_at for key in kept} == {old.id: 60, new.id: None}


def test_bad_tokens_join_nobody(store: Store, world: Any) -> None:
    world.seed()
    here = _token(store, b"here")
    for token, node, now, code in (
        (b"guess", Node("n", "oracle-fra"), 50, "token_unknown"),
        (here, Node("n", "oracle-fra"), 100, "token_expired"),
        (here, Node("n", "oracle-iad"), 50, "wrong_data_center"),
        (here, Node("oracle-iad-1", "oracle-fra"), 50, "wrong_data_center"),
    ):
        call = lambda t=token, n=node, at=now: store.redeem_join_token(t, n, _agent_key(n.id), at)  # noqa: E731
        assert refusal(call).code == code
    assert store.keys() == ()
    store.redeem_join_token(here, Node("n", "oracle-fra"), _agent_key("n"), 99)  # still unused
    assert refusal(lambda: _token(store, b"x", "atlantis")).code == "unknown_data_center"


# --- events and history ----------------------------------------------------------------------------------------------


def test_events_are_numbered_and_found(store: Store) -> None:
    detail: dict[str, str | int | float | bool | None] = {"a": 1, "b": 2.5, "c": None, "d": True, "e": "ü"}
    told = [Event(at, kind, subject) for at, kind, subject in ((1, "x.up", "p"), (2, "x.down", "q"), (3, "xy.up", "p"))]
    store.record([replace(told[0], detail=detail, reason="r"), *told[1:]])
    store.record([])
    (third, second, first) = store.events()
    assert [event for _, event in (second, third)] == told[1:]
    assert first[1].detail == detail
    assert first[0] < second[0] < third[0]
    assert store.events(limit=1) == (third,)
    assert store.events(before_id=third[0], limit=1) == (second,)
    assert store.events(kind="x") == (second, first)
    assert store.events(kind="x.down") == store.events(subject="q") == (second,)
    assert store.events(since=2, until=3) == (second,)
    assert store.events(kind="%") == ()


def _roll_up(bucket_at: int, source: str = "oracle-fra", **columns: bytes) -> AppendHistory:
    known = {"rtt_us": bytes(range(16)), "samples": b"", "loss_ppm": b"\n\x00\xff"}
    return AppendHistory(bucket_at, 10, source, ("linode-fra", "oracle-fra"), ("internet",), known | columns)


def test_history_comes_back_byte_for_byte_and_is_thinned(store: Store) -> None:
    store.append_history([_roll_up(at) for at in (30, 10, 20)])
    store.append_history([_roll_up(20, "elsewhere"), _roll_up(20, rtt_us=b"replaced")])
    assert store.history("oracle-fra", since=10, until=30) == (_roll_up(10), _roll_up(20, rtt_us=b"replaced"))
    assert store.history("nowhere", since=0, until=99) == ()
    store.thin_history(20)
    assert [row.bucket_at for row in store.history("oracle-fra", since=0, until=99)] == [20, 30]


def _change(generation: int, source: str = "linode-fra", to_path: tuple[str, ...] | None = None) -> RouteChange:
    pair: Any = (source, "oracle-iad")
    old: Any = (source, "gcp-ams", "oracle-iad")
    new: Any = to_path
    return RouteChange(generation * 10, generation, TrafficClass.VOICE, *pair, from_path=old, to_path=new)


def test_route_changes_come_back_as_they_were_and_are_thinned(store: Store) -> None:
    fra, iad = DataCenterId("linode-fra"), DataCenterId("oracle-iad")
    high = (1 << 53) - 1
    story = [_change(1), replace(_change(2, to_path=("linode-fra", "oracle-iad")), from_path=None), _change(3)]
    store.append_route_changes([story[1], _change(2, "gcp-ams")])
    store.append_route_changes([story[0], story[2], replace(_change(high), at=30)])
    store.append_route_changes([])
    everything = store.route_changes(fra, iad, since=0, until=99)
    assert everything == (*story, replace(_change(high), at=30))
    assert store.route_changes(fra, iad, since=20, until=30) == (story[1],)
    assert store.route_changes(fra, iad, since=0, until=99, limit=2) == everything[-2:]
    assert store.route_changes(iad, fra, since=0, until=99) == ()
    store.thin_history(20)
    assert store.route_changes(fra, iad, since=0, until=99) == everything[1:]


def test_two_thousand_route_changes_are_one_write(store: Store) -> None:
    flood = [_change(1, f"dc-{i:04d}") for i in range(2_000)]
    store.append_route_changes(flood)
    assert store.route_changes(DataCenterId("dc-1999"), DataCenterId("oracle-iad"), since=0, until=99) == (flood[-1],)
