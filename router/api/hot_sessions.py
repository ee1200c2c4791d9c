"""Sessions on the hot path: started, resumed, shown and ended without the framework, with the same answers.

What is decided and written is the endpoints' own (:func:`router.api.sessions.started`); only the way in and out
differs.
The paths in force make up most of an answer and are the same for all sessions between two data centers, but for the
age of their evidence: their text is made once per state of the routes, with gaps where the ages go.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from pydantic import BaseModel, ValidationError
from starlette.responses import Response

from router.api.gate import MEDIA, VIEWER
from router.api.hot import Answered, Asked, HotTable
from router.api.reply import dump
from router.api.resumes import of_token
from router.api.sessions import Desk, path_of, refusal, started, unknown_session
from router.core.model import ID_PATTERN, Leg, Session, SessionId
from router.core.solve import RouteAnswer
from router.core.steering import RankedEdge, Refused
from router.core.tables import View
from router.schemas.session_text import EdgeTexts, tail
from router.schemas.sessions import PlaceBody, ResumeBody, summary_json, ways_json
from router.schemas.units import known_ms

SESSION = re.compile(rf"/v1/sessions/({ID_PATTERN[1:-1]})")
RESUME = re.compile(rf"/v1/sessions/({ID_PATTERN[1:-1]})/resume")
KEY = re.compile(r"[!-~]{1,128}")
Form = TypeVar("Form", bound=BaseModel)
MOST_TEXTS = 10_000  # pairs of data centers whose text is kept
_GAP = '"age_ms":-1.0'  # no age is negative


@dataclass(frozen=True, slots=True)
class _Text:
    """Text around ages, and when the evidence that each age tells of was gathered."""

    parts: tuple[str, ...]
    born_at: tuple[int, ...]

    def at(self, now: int) -> str:
        """The text with the ages of this moment."""
        out = [self.parts[0]]
        for part, born_at in zip(self.parts[1:], self.born_at, strict=True):
            out += (f'"age_ms":{known_ms(max(0, now - born_at))!r}', part)
        return "".join(out)


class WayTexts:
    """The paths in force as JSON text, kept while inventory, estimates and routes are the very same objects."""

    def __init__(self) -> None:
        self._view: View | None = None
        self._texts: dict[tuple[object, ...], _Text] = {}

    def text(self, view: View, session: Session, now: int) -> str:
        """What stands between ``generation`` and ``epoch`` in a session's JSON form."""
        last = self._view
        if last is None or not (
            last.links is view.links and last.routes is view.routes and last.inventory is view.inventory
        ):
            self._texts, self._view = {}, view
        labels = tuple(session.metadata.items()) if view.inventory.policies else ()
        key = (session.edge, session.agent_data_center, session.traffic_class, session.pool, labels)
        known = self._texts.get(key)
        if known is not None:
            return known.at(now)
        route = path_of(view, session, now)
        ages = _ages(route)
        if len(self._texts) < MOST_TEXTS and all(age > 0 for age in ages):  # 0 may stand for less
            self._texts[key] = _text(route, tuple(now - age for age in ages))
        return dump(ways_json(route))[1:-1]


def _ages(route: RouteAnswer | None) -> list[int]:
    """Ages in microseconds in the order in which the JSON form names them."""
    if route is None or route.source == route.target:
        return []
    ways = [way for way in (route.forward, route.back) if way is not None]
    return [way.age_us for way in ways] + [b.path.age_us for b in (*route.backups_forward, *route.backups_return)]


def _text(route: RouteAnswer | None, born_at: tuple[int, ...]) -> _Text:
    if not born_at:
        return _Text((dump(ways_json(route))[1:-1],), ())
    blank = json.loads(dump(ways_json(route)))
    for way in (blank["forward"], blank["return"], *blank["backups"]["forward"], *blank["backups"]["return"]):
        if way is not None:
            way["age_ms"] = -1.0
    return _Text(tuple(dump(blank)[1:-1].split(_GAP)), born_at)


class HotSessions:
    """The hot paths of sessions, and the texts that they share."""

    def __init__(self) -> None:
        self._texts = WayTexts()
        self._edges = EdgeTexts()

    async def start(self, asked: Asked) -> Answered | Response | None:
        """``POST /v1/sessions``."""
        name = asked.headers.get(b"idempotency-key", b"-").decode("latin-1")
        if asked.query or not KEY.fullmatch(name) or not asked.admitted(MEDIA):
            return None
        body = _body(await asked.body(), PlaceBody)
        if body is None:
            return None
        desk = Desk(asked.runtime, asked.settings)
        assert asked.key is not None  # it was admitted
        found = await started(desk, asked.key, body, name if b"idempotency-key" in asked.headers else None)
        if isinstance(found, Refused):
            return refusal(found)
        token, position = desk.token(found.session), await desk.position_of(found.session)
        return self._answer(desk, found.session, found.address, found.status, token, found.ranked, position)

    async def end(self, asked: Asked) -> Answered | None:
        """``DELETE /v1/sessions/{id}``."""
        name = SESSION.fullmatch(asked.path)
        if name is None or len(name[1]) > 63 or asked.query or not asked.admitted(MEDIA):
            return None
        desk = Desk(asked.runtime, asked.settings)
        ended = await desk.runtime.turnstile.end(SessionId(name[1]), "caller")
        desk.runtime.arms.ended(ended.session.id)
        return self._answer(desk, ended.session, ended.address, 200, legs=ended.legs)

    async def resume(self, asked: Asked) -> Answered | Response | None:
        """``POST /v1/sessions/{id}/resume``: when an edge dies, all its users ask at once."""
        name = RESUME.fullmatch(asked.path)
        if name is None or len(name[1]) > 63 or asked.query or not asked.admitted(MEDIA):
            return None
        body = _body(await asked.body(), ResumeBody)
        if body is None:
            return None
        desk = Desk(asked.runtime, asked.settings)
        done = await of_token(desk, asked.pulses, name[1], body)
        if isinstance(done, Refused):
            return refusal(done)
        return self._answer(desk, done.session, done.address, 200, desk.token(done.session), done.ranked)

    async def show(self, asked: Asked) -> Answered | None:
        """``GET /v1/sessions/{id}``: every edge asks it of every user who arrives."""
        name = SESSION.fullmatch(asked.path)
        if name is None or len(name[1]) > 63 or asked.query or not asked.admitted(VIEWER):
            return None
        desk = Desk(asked.runtime, asked.settings)
        seen = await desk.runtime.sightings.ask(SessionId(name[1]))
        if seen is None:
            raise unknown_session(name[1])
        position = await desk.position_of(seen.session)
        return self._answer(desk, seen.session, seen.address, 200, legs=seen.legs, position=position)

    def _answer(
        self, desk: Desk, session: Session, address: str, status: int, token: str | None = None,
        ranked: Sequence[RankedEdge] = (), position: int | None = None, legs: Sequence[Leg] = (),
    ) -> Answered:  # fmt: skip
        view = desk.runtime.view
        head = self._edges.head(
            session,
            view.inventory,
            agent_address=address,
            generation=view.generation,
            ranked=ranked,
        )
        ways = self._texts.text(view, session, desk.now)
        end = tail(
            session,
            grace_s=desk.settings.user_grace_s,
            token=token,
            legs=[summary_json(leg) for leg in legs],
            position=position,
        )
        return Answered(f"{{{head},{ways},{end}}}".encode(), status)


def _body(text: bytes | None, form: type[Form]) -> Form | None:
    """A body that is as it should be; the framework says what is wrong with any other."""
    if text is None:
        return None
    try:
        return form.model_validate_json(text)
    except ValidationError:
        return None


def add_paths(table: HotTable) -> None:
    """Add the hot paths of sessions."""
    sessions = HotSessions()
    table.exact["POST", "/v1/sessions"] = sessions.start
    table.under["DELETE", "/v1/sessions/"] = sessions.end
    table.under["GET", "/v1/sessions/"] = sessions.show
    table.under["POST", "/v1/sessions/"] = sessions.resume
