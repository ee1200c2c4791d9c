"""Heartbeats of media nodes on the hot path, heard as :mod:`router.api.heartbeats` hears them."""

from __future__ import annotations

import json
from json import JSONDecodeError

from pydantic import ValidationError

from router.access import AGENT_PREFIX
from router.api.gate import NODE_OR_MEDIA
from router.api.heartbeats import listen
from router.api.hot import Answered, Asked, HotTable
from router.api.reply import dump
from router.api.sessions import Desk
from router.schemas.sessions import HeartbeatBody


async def heartbeat(asked: Asked) -> Answered | None:
    """``POST /v1/sessions/heartbeat``."""
    if asked.query or not asked.admitted(NODE_OR_MEDIA):
        return None
    body = _body(await asked.body())
    assert asked.key is not None  # it was admitted
    scope = asked.key.scope
    if body is None or (scope.startswith(AGENT_PREFIX) and scope != AGENT_PREFIX + body.node):
        return None
    answer = await listen(Desk(asked.runtime, asked.settings), asked.pulses, asked.tallies, body)
    return Answered(dump(answer).encode())


def _body(text: bytes | None) -> HeartbeatBody | None:
    if text is None:
        return None
    try:
        return HeartbeatBody.model_validate(json.loads(text))
    except (JSONDecodeError, UnicodeDecodeError, ValidationError, RecursionError):
        return None


def add_paths(table: HotTable) -> None:
    """Add the hot path of heartbeats."""
    table.exact["POST", "/v1/sessions/heartbeat"] = heartbeat
