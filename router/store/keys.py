"""Keys: written once, revoked for good.

Errors: ``unknown_key``, ``key_exists``.
"""

from __future__ import annotations

from sqlalchemy import Connection, insert, select, update

from router.access import Key, revoked
from router.core.errors import InputRejected
from router.core.model import Event, KeyId, Micros
from router.store import events
from router.store.commit import Commit
from router.store.rows import read_key, row_of
from router.store.tables import keys


def every(connection: Connection) -> tuple[Key, ...]:
    """Return all keys, revoked ones too, oldest first."""
    rows = connection.execute(select(keys).order_by(keys.c.created_at, keys.c.id)).mappings()
    return tuple(read_key(row) for row in rows)


def add(connection: Connection, key: Key, *, actor: str, now: Micros) -> Commit[Key]:
    """Write a new key; the same key again changes nothing."""
    row = connection.execute(select(keys).where(keys.c.id == key.id)).mappings().first()
    if row is not None:
        old = read_key(row)
        if old.hash == key.hash and old.scope == key.scope and old.revoked_at is None:
            return Commit(old)
        raise InputRejected("key_exists", f"there is another or a revoked key {key.id}", field="id", rule="a new id")
    connection.execute(insert(keys), row_of(key))
    events.append(connection, [_audit(key, "created", actor, now)])
    return Commit(key)


def revoke(connection: Connection, id: KeyId, *, actor: str, now: Micros) -> Commit[Key]:
    """Make a key worthless; revoking it again changes nothing."""
    row = connection.execute(select(keys).where(keys.c.id == id).with_for_update()).mappings().first()
    if row is None:
        raise InputRejected("unknown_key", f"there is no key {id}", field="id")
    old = read_key(row)
    new = revoked(old, now)
    if new != old:
        connection.execute(update(keys).where(keys.c.id == id).values(revoked_at=now))
        events.append(connection, [_audit(new, "revoked", actor, now)])
    return Commit(new)


def _audit(key: Key, verb: str, actor: str, now: Micros) -> Event:
    return Event(now, f"key.{verb}", key.id, actor, detail={"scope": key.scope, "name": key.name})
