"""Configured resources: create-or-replace, delete, and whole fleets at once, all through one path.

A write loads every row it touches or names, works out in memory what must be written (and refuses what is wrong before
anything is), then writes kind by kind in the order of the foreign keys. A revision is compare-and-swapped: the row is
updated only ``WHERE revision = <the one we read>``. Rows to be replaced are locked while we look, and all writers of
intent queue on one advisory lock in PostgreSQL (SQLite has one writer anyway): operators write rarely, and a check
like "nothing refers to it" must still be true at commit.

Errors: ``unknown_<kind>``, ``unknown_reference``, ``revision_conflict`` (limit = the current revision),
``link_exists``, ``too_many_transports``, ``too_many_contexts``, ``conflicting_change``, ``in_use``, ``sessions_live``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

from sqlalchemy import Connection, bindparam, delete, insert, select, text, update

from router.core import policy as rules
from router.core.errors import InputRejected
from router.core.messages import Change, ResourcesChanged
from router.core.model import (
    DEFAULT_TRANSPORT,
    KINDS,
    MAX_TRANSPORTS,
    Event,
    Inventory,
    Link,
    Micros,
    Node,
    NodeId,
    Policy,
    Resource,
    kind_of,
)
from router.store import events
from router.store.commit import Closed, Commit, Tally, closed
from router.store.references import ORDER, SINGULAR, clear_dependants, references, refuse_if_needed
from router.store.rows import read_resource, row_of
from router.store.tables import RESOURCES, links

Ref = tuple[str, str]  # (kind, id)
Known = Mapping[Ref, Resource]

INTENT_LOCK = 0x7E4D_0001  # advisory lock number, the same in every replica
_CHUNK = 500  # ids per IN list; SQLite of Debian allows 32,766 parameters, PostgreSQL 65,535


@dataclass(frozen=True, slots=True)
class Write:
    """One row to insert (``old`` is None), replace, or remove (``new`` is None)."""

    kind: str
    id: str
    old: Resource | None
    new: Resource | None

    @property
    def event(self) -> tuple[str, dict[str, events.Scalar]]:
        """What the audit trail says: the kind of event, and the fields that changed."""
        verb = "created" if self.old is None else "deleted" if self.new is None else "updated"
        rows = (None if side is None else row_of(side) for side in (self.old, self.new))
        return f"{SINGULAR[self.kind]}.{verb}", events.differences(*rows)


def inventory(connection: Connection) -> Inventory:
    """Read all resources; on a snapshot, so that no reference dangles."""
    found = {}
    for kind, table in RESOURCES.items():
        rows = connection.execute(select(table)).mappings()
        found[kind.replace("-", "_")] = {row["id"]: read_resource(kind, row) for row in rows}
    # Sorted here and not by SQL: the collation of a PostgreSQL database is not Python's order.
    return Inventory(**{kind: {id: rows[id] for id in sorted(rows)} for kind, rows in found.items()})  # type: ignore[arg-type]


def lock_intent(connection: Connection) -> None:
    """Let one writer of intent in at a time, until its transaction ends."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": INTENT_LOCK})


def put(
    connection: Connection, resource: Resource, *, if_match: int | None, actor: str, now: Micros, reason: str = ""
) -> Commit[Resource]:
    """Create or replace one resource; an identical one changes nothing."""
    ref = (kind_of(resource), resource.id)
    done = change(
        connection,
        [resource],
        [],
        actor=actor,
        now=now,
        reason=reason,
        if_match={} if if_match is None else {ref: if_match},
    )
    return Commit(done.result[0], done.changes)


def remove(
    connection: Connection, kind: str, id: str, *, if_match: int | None, actor: str, now: Micros
) -> Commit[None]:
    """Delete one resource that nothing needs."""
    revisions = {} if if_match is None else {(kind, id): if_match}
    return Commit(None, change(connection, [], [(kind, id)], actor=actor, now=now, if_match=revisions).changes)


def change(
    connection: Connection,
    puts: Sequence[Resource],
    deletes: Sequence[Ref],
    *,
    actor: str,
    now: Micros,
    reason: str = "",
    if_match: Mapping[Ref, int] | None = None,
) -> Commit[tuple[Resource, ...]]:
    """Carry out all of it or none; the result is ``puts`` as they now are, in their order."""
    _refuse_contradictions(puts, deletes)
    lock_intent(connection)
    touched = {*deletes, *((kind_of(resource), resource.id) for resource in puts)}
    named = {(kind, id) for resource in puts for _, kind, id in references(resource)}
    known = _load(connection, named - touched) | _load(connection, touched, lock=True)
    _check_revisions(known, if_match or {})
    writes = [*_planned_puts(known, puts), *_planned_deletes(known, deletes)]
    _check_references(known, puts, deletes)
    machines = [NodeId(write.id) for write in writes if isinstance(write.new, Node) and write.old != write.new]
    before: Counter[Closed] = closed(connection, machines) if machines else Counter()
    _carry_out(connection, [write for write in writes if write.old != write.new], now)
    opened = _opened(before, closed(connection, machines)) if machines else ()
    if any(isinstance(resource, Policy) for resource in puts):
        rules.check_limit(inventory(connection))
    changed = [write for write in writes if write.old != write.new]
    events.append(connection, [_audit(write, actor, reason, now) for write in changed])
    stored = {(write.kind, write.id): write.new for write in writes}
    result = tuple(cast(Resource, stored[kind_of(resource), resource.id]) for resource in puts)
    return Commit(result, (*_changes(changed), *opened))


def _opened(before: Counter[Closed], after: Counter[Closed]) -> tuple[Change, ...]:
    """How the free places of agents change with the intents of their machines."""
    tally = Tally()
    for node, pool, data_center in dict.fromkeys((*before, *after)):
        place = node, pool, data_center
        tally.opened(node, pool, data_center, before[place] - after[place])
    return tally.changes()


def _refuse_contradictions(puts: Sequence[Resource], deletes: Sequence[Ref]) -> None:
    seen: set[Ref] = set()
    for kind, id in [*((kind_of(resource), resource.id) for resource in puts), *deletes]:
        if kind not in KINDS:
            raise InputRejected("unknown_kind", f"there is no kind of resource called {kind}", rule=", ".join(KINDS))
        if (kind, id) in seen:
            message = f"{SINGULAR[kind]} {id} is named twice in one change"
            raise InputRejected("conflicting_change", message, field="id", rule="once per change")
        seen.add((kind, id))


def _load(connection: Connection, refs: Iterable[Ref], *, lock: bool = False) -> dict[Ref, Resource]:
    by_kind: dict[str, list[str]] = {}
    for kind, id in sorted(refs):
        by_kind.setdefault(kind, []).append(id)
    found: dict[Ref, Resource] = {}
    for kind, ids in by_kind.items():
        for start in range(0, len(ids), _CHUNK):
            query = select(RESOURCES[kind]).where(RESOURCES[kind].c.id.in_(ids[start : start + _CHUNK]))
            rows = connection.execute(query.with_for_update() if lock else query).mappings()
            found.update({(kind, row["id"]): read_resource(kind, row) for row in rows})
    return found


def _check_revisions(known: Known, if_match: Mapping[Ref, int]) -> None:
    for (kind, id), expected in if_match.items():
        current = known[kind, id].revision if (kind, id) in known else 0
        if current != expected:
            message = f"{SINGULAR[kind]} {id} is at revision {current}, not {expected}; read it again"
            raise InputRejected("revision_conflict", message, field="If-Match", rule="current revision", limit=current)


def _planned_puts(known: Known, puts: Sequence[Resource]) -> Iterator[Write]:
    for resource in puts:
        kind = kind_of(resource)
        old = known.get((kind, resource.id))
        same = old is not None and replace(resource, revision=old.revision) == old
        new = old if same else replace(resource, revision=1 if old is None else old.revision + 1)
        yield Write(kind, resource.id, old, new)


def _planned_deletes(known: Known, deletes: Sequence[Ref]) -> Iterator[Write]:
    for kind, id in deletes:
        if (kind, id) not in known:
            raise unknown(kind, id)
        yield Write(kind, id, known[kind, id], None)


def unknown(kind: str, id: str) -> InputRejected:
    """Return the refusal for an id that is not there: ``unknown_data_center`` and its kind."""
    word = SINGULAR[kind]
    return InputRejected(f"unknown_{word}", f"there is no {word.replace('_', ' ')} called {id}", field="id")


def _check_references(known: Known, puts: Sequence[Resource], deletes: Sequence[Ref]) -> None:
    there = ({*known} | {(kind_of(resource), resource.id) for resource in puts}) - {*deletes}
    for resource in puts:
        for field, kind, id in references(resource):
            if (kind, id) not in there:
                subject = f"{SINGULAR[kind_of(resource)].replace('_', ' ')} {resource.id}"
                message = f"{subject} names the {SINGULAR[kind].replace('_', ' ')} {id}, which does not exist"
                raise InputRejected("unknown_reference", message, field=field, rule=f"an existing {SINGULAR[kind]}")


def _carry_out(connection: Connection, writes: Sequence[Write], now: Micros) -> None:
    for kind in ORDER:
        # Removed links make room first: a replaced fleet may give the same adjacency another id.
        if kind == "links":
            for write in (write for write in writes if write.kind == kind and write.new is None):
                _delete(connection, write, now)
        _write_rows(connection, kind, [write for write in writes if write.kind == kind])
    for kind in reversed(ORDER):
        for write in writes:
            if write.kind == kind != "links" and write.new is None:
                _delete(connection, write, now)


def _write_rows(connection: Connection, kind: str, writes: Sequence[Write]) -> None:
    table = RESOURCES[kind]
    fresh = [row_of(write.new) for write in writes if write.old is None and write.new is not None]
    if kind == "links" and any(write.new is not None for write in writes):
        _check_links(connection, [cast(Link, write.new) for write in writes if write.new is not None])
    if fresh:
        connection.execute(insert(table), fresh)
    replaced = [
        row_of(write.new) | {"expected_id": write.id, "expected_revision": write.old.revision}
        for write in writes
        if write.old is not None and write.new is not None
    ]
    if replaced:
        current = (table.c.id == bindparam("expected_id"), table.c.revision == bindparam("expected_revision"))
        done = connection.execute(update(table).where(*current), replaced)
        if done.rowcount != len(replaced):
            message = f"{kind} changed while they were being written; read them again"
            raise InputRejected("revision_conflict", message, rule="current revision")


def _check_links(connection: Connection, new: Sequence[Link]) -> None:
    mine = {link.id for link in new}
    taken = {
        (row.source, row.target, row.transport): row.id
        for row in connection.execute(select(links.c.id, links.c.source, links.c.target, links.c.transport))
        if row.id not in mine
    }
    for link in new:
        place = (link.source, link.target, link.transport)
        if place in taken:
            message = f"link {taken[place]} already goes from {link.source} to {link.target} over {link.transport}"
            raise InputRejected("link_exists", message, field="id", rule="one link per from, to and transport")
        taken[place] = link.id
    transports = {transport for _, _, transport in taken} | {DEFAULT_TRANSPORT}
    if len(transports) > MAX_TRANSPORTS:
        names = ", ".join(sorted(transports))
        message = f"there would be {len(transports)} transports ({names}), at most {MAX_TRANSPORTS} fit"
        raise InputRejected("too_many_transports", message, field="transport", limit=MAX_TRANSPORTS)


def _delete(connection: Connection, write: Write, now: Micros) -> None:
    refuse_if_needed(connection, write.kind, write.id)
    clear_dependants(connection, write.kind, write.id, now)
    table = RESOURCES[write.kind]
    connection.execute(delete(table).where(table.c.id == write.id))


def _audit(write: Write, actor: str, reason: str, now: Micros) -> Event:
    kind, detail = write.event
    return Event(now, kind, write.id, actor, reason, detail)


def _changes(writes: Sequence[Write]) -> tuple[Change, ...]:
    if not writes:
        return ()
    upserts = tuple(write.new for write in writes if write.new is not None)
    return (ResourcesChanged(upserts, tuple((write.kind, write.id) for write in writes if write.new is None)),)
