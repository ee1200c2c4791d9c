"""A running fingerprint of decisions and their reasons, equal for equal runs on any machine and hash seed."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from router.core.messages import (
    Effect,
    FitClients,
    JudgeFault,
    KeepHistory,
    MakeSurvey,
    Optimise,
    Record,
    RoutesPublished,
    Solve,
)
from router.core.tables import View


def fold(digest: bytes, effects: Sequence[Effect], view: View) -> bytes:
    """Extend ``digest`` (32 bytes, or empty at the start) by what one input led to."""
    if not effects:
        return digest
    h = hashlib.blake2b(digest, digest_size=32)
    for effect in effects:
        h.update(type(effect).__name__.encode())
        match effect:
            case Solve() | MakeSurvey() | FitClients() | JudgeFault():
                h.update(_question(effect).encode())
            case RoutesPublished():
                h.update(f"{effect.generation} {effect.changed_pairs}".encode())
                if view.routes is not None:
                    shot = view.routes.snapshot
                    _arrays(h, shot.cost, shot.transport, shot.may_relay)
                    _arrays(h, view.routes.relays, view.routes.reachable, view.routes.cost, view.routes.since)
            case KeepHistory():
                for row in effect.bucket.rows():
                    for name in sorted(row.columns):
                        h.update(name.encode() + row.columns[name])
            case Optimise():
                h.update(f"{effect.shopping.number} {effect.shopping.pool}".encode())
                _arrays(h, effect.shopping.asked.linear.cost, effect.shopping.asked.linear.bound)
            case Record():
                event = effect.event
                h.update(f"{event.at} {event.kind} {event.subject} {event.reason}".encode())
            case _:
                h.update(repr(effect).encode())
    return h.digest()


def _question(effect: Solve | MakeSurvey | FitClients | JudgeFault) -> str:
    match effect:
        case Solve():
            return f"{effect.question.generation} {effect.question.at}"
        case MakeSurvey():
            return f"{effect.window.number} {effect.window.at}"
        case FitClients():
            return f"{effect.census.number} {effect.census.at} {len(effect.census.table.base)}"
        case JudgeFault():
            return f"{effect.case.number} {effect.case.at} {len(effect.case.names)}"


def _arrays(h: hashlib.blake2b, *arrays: np.ndarray) -> None:
    for array in arrays:
        h.update(str(array.shape).encode() + np.ascontiguousarray(array).tobytes())
