"""The single-use tokens by which nodes join.

Redeeming a token is one conditional update: of two nodes (or one node twice) that come with the same token, exactly one
finds it unused. Everything else about joining hangs on that update in the same transaction, so a token is never used up
by a join that failed.

A token's text is made from a random seed and the control plane's secret. The seed is kept only for a token that was
asked for with an idempotency key, and only until it is used or revoked: until then the same question gets the same
token, afterwards another one.

Errors: ``token_unknown``, ``token_used``, ``token_revoked``, ``token_expired``, ``wrong_data_center``,
``unknown_data_center``, ``unknown_join_token``.
"""

from __future__ import annotations

from dataclasses import replace

from sqlalchemy import Connection, RowMapping, insert, select, update

from router.access import JoinToken, Key
from router.core.errors import InputRejected
from router.core.model import DataCenterId, Event, Intent, Micros, Node, NodeId
from router.store import events, resources
from router.store import keys as keys_of
from router.store.commit import Commit
from router.store.rows import read_resource
from router.store.tables import data_centers, join_tokens, keys, nodes

_ID_BYTES = 12
MANAGED_BY = "managed_by"  # the label by which Terraform or a fleet file says that a resource is its own


def _read(row: RowMapping) -> JoinToken:
    used_by = row["used_by"]
    return JoinToken(
        row["hash"],
        DataCenterId(row["data_center"]),
        row["created_at"],
        row["expires_at"],
        row["used_at"],
        None if used_by is None else NodeId(used_by),
        row["seed"],
    )


def add(connection: Connection, token: JoinToken, name: str | None, *, actor: str) -> Commit[JoinToken]:
    """Let one node join a data center; an unused token that was made under the same ``name`` is given again."""
    query = select(data_centers.c.id).where(data_centers.c.id == token.data_center)
    if connection.execute(query.with_for_update(read=name is None, key_share=True)).first() is None:
        raise resources.unknown("data-centers", token.data_center)
    if name is not None:
        same = (join_tokens.c.name == name, join_tokens.c.data_center == token.data_center)
        usable = (join_tokens.c.used_at.is_(None), join_tokens.c.expires_at > token.created_at)
        row = connection.execute(select(join_tokens).where(*same, *usable)).mappings().first()
        if row is not None:
            return Commit(_read(row))
    connection.execute(
        insert(join_tokens),
        {
            "hash": token.hash,
            "data_center": token.data_center,
            "created_at": token.created_at,
            "created_by": actor,
            "expires_at": token.expires_at,
            "name": name,
            "seed": None if name is None else token.seed,
        },
    )
    detail: dict[str, events.Scalar] = {"expires_at": token.expires_at, "token": token.id}
    events.append(connection, [Event(token.created_at, "join_token.created", token.data_center, actor, detail=detail)])
    return Commit(token)


def of_data_center(connection: Connection, data_center: DataCenterId) -> tuple[JoinToken, ...]:
    """Return the tokens of a data center, oldest first, spent ones too."""
    query = select(join_tokens).where(join_tokens.c.data_center == data_center)
    rows = connection.execute(query.order_by(join_tokens.c.created_at, join_tokens.c.hash)).mappings()
    return tuple(_read(row) for row in rows)


def find(connection: Connection, id: str) -> JoinToken:
    """Return a token by its public name. Raises ``unknown_join_token``."""
    try:
        first = bytes.fromhex(id.removeprefix("jt-"))
    except ValueError:
        first = b""
    if id.startswith("jt-") and len(first) == _ID_BYTES:
        rest = 32 - _ID_BYTES
        mine = (join_tokens.c.hash >= first + bytes(rest), join_tokens.c.hash <= first + b"\xff" * rest)
        row = connection.execute(select(join_tokens).where(*mine)).mappings().first()
        if row is not None:
            return _read(row)
    raise InputRejected("unknown_join_token", f"there is no join token {id}", field="id")


def revoke(connection: Connection, id: str, *, actor: str, now: Micros) -> Commit[JoinToken]:
    """Make a token worthless; one that is used already stays so, and revoking again changes nothing."""
    old = find(connection, id)
    mine = (join_tokens.c.hash == old.hash, join_tokens.c.used_at.is_(None))
    if connection.execute(update(join_tokens).where(*mine).values(used_at=now, seed=None)).rowcount == 0:
        return Commit(find(connection, id))
    events.append(connection, [Event(now, "join_token.revoked", old.data_center, actor, detail={"token": id})])
    return Commit(replace(old, used_at=now, seed=None))


def redeem(connection: Connection, token_hash: bytes, node: Node, key: Key, now: Micros) -> Commit[Node]:
    """Use up a token, write the node with its new key, and revoke the keys it had before."""
    actor = f"node:{node.id}"
    _use_token(connection, token_hash, node, now)
    place = connection.execute(select(nodes).where(nodes.c.id == node.id)).mappings().first()
    if place is not None and place["data_center"] != node.data_center:
        message = f"node {node.id} is already in {place['data_center']}; delete it there, or join under another id"
        raise InputRejected("wrong_data_center", message, field="node.id", rule="a node keeps its data center")
    if place is not None:
        node = _as_declared(node, place)
    done = resources.put(connection, node, if_match=None, actor=actor, now=now, reason="joined")
    old = select(keys).where(keys.c.scope == key.scope, keys.c.revoked_at.is_(None))
    for row in connection.execute(old).mappings().all():
        keys_of.revoke(connection, row["id"], actor=actor, now=now)
    keys_of.add(connection, key, actor=actor, now=now)
    events.append(connection, [Event(now, "node.joined", node.id, actor, detail={"data_center": node.data_center})])
    stored = connection.execute(select(nodes).where(nodes.c.id == node.id)).mappings().one()
    joined = read_resource("nodes", stored)
    assert isinstance(joined, Node)
    return Commit(joined, done.changes)


def _as_declared(node: Node, place: RowMapping) -> Node:
    """Who joins again does not end a drain, and keeps the labels it was given; a managed node also its addresses.

    A machine behind its cloud's address translation does not know the address that others reach it at.
    """
    labels = dict(sorted({**node.labels, **place["labels"]}.items()))
    known = place["addresses"] if MANAGED_BY in place["labels"] else {}
    addresses = dict(sorted({**node.addresses, **known}.items()))
    return replace(node, intent=Intent(place["intent"]), labels=labels, addresses=addresses)


def _use_token(connection: Connection, token_hash: bytes, node: Node, now: Micros) -> None:
    mine = join_tokens.c.hash == token_hash
    usable = (mine, join_tokens.c.used_at.is_(None), join_tokens.c.expires_at > now)
    spent = (
        update(join_tokens)
        .where(*usable)
        .values(used_at=now, used_by=node.id, seed=None)
        .returning(join_tokens.c.data_center)
    )
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
    if row.used_at is not None and row.used_by is None:
        return InputRejected("token_revoked", "this join token was revoked; ask for another", field="token")
    if row.used_at is not None:
        message = f"this join token was used by {row.used_by}; tokens are for one node, ask for another"
        return InputRejected("token_used", message, field="token", rule="single use")
    message = "this join token has expired; ask for another"
    return InputRejected("token_expired", message, field="token", limit=row.expires_at)
