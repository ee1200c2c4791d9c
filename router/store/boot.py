"""What a control plane needs to know when it starts, read in the one transaction that raises its epoch.

The epoch is the high half of every generation, so it must never repeat: it is committed before anything else happens,
and a start that fails later only skips a number.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, delete, insert, select, update

from router.access import Key
from router.core.capacity import Launch
from router.core.model import Counters, Drain, Flow, Inventory, Ramp
from router.store import drains, keys, launches, ramps, resources, session_queries
from router.store.commit import count_all
from router.store.tables import control_plane, saved_table

_ONLY = 1  # id of a table's one row
_SECRET_BYTES = 32


@dataclass(frozen=True, slots=True)
class BootState:
    """Hard state at start; ``table`` is the last saved route table, as it was given to ``save_table``."""

    epoch: int
    inventory: Inventory
    counters: Counters
    drains: tuple[Drain, ...]
    keys: tuple[Key, ...]
    secret: bytes
    table: bytes | None
    flows: Mapping[Flow, int]
    ramps: tuple[Ramp, ...] = ()
    launches: tuple[Launch, ...] = ()


def boot(connection: Connection) -> BootState:
    """Raise the epoch, make the signing secret if there is none, and read everything."""
    raised = update(control_plane).values(epoch=control_plane.c.epoch + 1)
    row = connection.execute(raised.returning(control_plane.c.epoch, control_plane.c.secret)).first()
    epoch, secret = (1, secrets.token_bytes(_SECRET_BYTES)) if row is None else (row.epoch, row.secret)
    if row is None:
        connection.execute(insert(control_plane).values(id=_ONLY, epoch=epoch, secret=secret))
    return BootState(
        epoch=epoch,
        inventory=resources.inventory(connection),
        counters=count_all(connection),
        drains=drains.every(connection),
        keys=keys.every(connection),
        secret=secret,
        table=connection.execute(select(saved_table.c.body)).scalar(),
        flows=session_queries.flows(connection),
        ramps=ramps.every(connection),
        launches=launches.every(connection),
    )


def save_table(connection: Connection, body: bytes) -> None:
    """Keep the newest route table for the next start."""
    connection.execute(delete(saved_table))
    connection.execute(insert(saved_table).values(id=_ONLY, body=body))
