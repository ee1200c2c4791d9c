"""Keys, and the single-use tokens by which nodes join.

Redeeming a token is one conditional update: of two nodes (or one node twice) that come with the same token, exactly one
finds it unused. Everything else about joining hangs on that update in the same transaction, so a token is never used up
by a join that failed.

Errors: ``unknown_key``, ``key_exists``, ``token_unknown``, ``token_used``, ``token_expired``, ``wrong_data_center``,
``unknown_data_center``.
"""

from __future__ import annotations

from dataclasses import replace

from sqlalchemy import Connection, insert, select, update

from router.access import Key, revoked
from router.core.errors import InputRejected
from router.core.model import DataCenterId, Event, Intent, KeyId, Micros, Node
from router.store import events, resources
from router.store.commit import Commit
from router.store.rows import read_key, read_resource, row_of
from router.store.tables import data_centers, join_tokens, keys, nodes


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


def add_join_token(
    connection: Connection,
    token_hash: bytes,
    data_center: DataCenterId,
    expires_at: Micros,
    *,
    actor: str,
    now: Micros,
) -> Commit[None]:
    """Let one node join a data center until ``expires_at``."""
    query = select(data_centers.c.id).where(data_centers.c.id == data_center)
    if connection.execute(query.with_for_update(read=True, key_share=True)).first() is None:
        raise resources.unknown("data-centers", data_center)
    row = {"hash": token_hash, "data_center": data_center, "expires_at": expires_at}
    connection.execute(insert(join_tokens), row | {"created_at": now, "created_by": actor})
    detail: dict[str, events.Scalar] = {"expires_at": expires_at}
    events.append(connection, [Event(now, "join_token.created", data_center, actor, detail=detail)])
    return Commit(None)


def redeem_join_token(connection: Connection, token_hash: bytes, node: Node, key: Key, now: Micros) -> Commit[Node]:
    """Use up a token, write the node with its new key, and revoke the keys it had before."""
    actor = f"node:{node.id}"
    _use_token(connection, token_hash, node, now)
    place = connection.execute(select(nodes).where(nodes.c.id == node.id)).mappings().first()
    if place is not None and place["data_center"] != node.data_center:
        message = f"node {node.id} is already in {place['data_center']}; delete it there, or join under another id"
        raise InputRejected("wrong_data_center", message, field="node.id", rule="a node keeps its data center")
    if place is not None:  # who joins again does not end a drain
        node = replace(node, intent=Intent(place["intent"]))
    done = resources.put(connection, node, if_match=None, actor=actor, now=now, reason="joined")
    old = select(keys).where(keys.c.scope == key.scope, keys.c.revoked_at.is_(None))
    for row in connection.execute(old).mappings().all():
        revoke(connection, row["id"], actor=actor, now=now)
    add(connection, key, actor=actor, now=now)
    events.append(connection, [Event(now, "node.joined", node.id, actor, detail={"data_center": node.data_center})])
    stored = connection.execute(select(nodes).where(nodes.c.id == node.id)).mappings().one()
    joined = read_resource("nodes", stored)
    assert isinstance(joined, Node)
    return Commit(joined, done.changes)


def _use_token(connection: Connection, token_hash: bytes, node: Node, now: Micros) -> None:
    mine = join_tokens.c.hash == token_hash
    usable = (mine, join_tokens.c.used_at.is_(None), join_tokens.c.expires_at > now)
    spent = update(join_tokens).where(*usable).values(used_at=now, used_by=node.id).returning(join_tokens.c.data_center)
    data_center = connection.execute(spent).scalar()
    if data_center is None:
        raise _refusal(connection, token_hash)
    if data_center != node.data_center:
        message = f"this token is for {data_center}, not for {node.data_center}"
        raise InputRejected("wrong_data_center", message, field="node.data_center", rule=str(data_center))


def _refusal(connection: Connection, token_hash: bytes) -> InputRejected:
    row = connection.execute(select(join_tokens).where(join_tokens.c.hash == token_hash)).first()
    if row is None:
        return InputRejected("token_unknown", "there is no such join token; ask an operator for one", field="token")
    if row.used_at is not None:
        message = f"this join token was used by {row.used_by}; tokens are for one node, ask for another"
        return InputRejected("token_used", message, field="token", rule="single use")
    message = "this join token has expired; ask for another"
    return InputRejected("token_expired", message, field="token", limit=row.expires_at)


def _audit(key: Key, verb: str, actor: str, now: Micros) -> Event:
    return Event(now, f"key.{verb}", key.id, actor, detail={"scope": key.scope, "name": key.name})
