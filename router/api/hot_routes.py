"""Hot route queries: one pair, many pairs, one ingress' table, put together from fragments made once per generation.

The bytes are those that ``routes.py`` answers at the same instant. What is cached are the fragments (see
``schemas.fragments``), the parsed form of query strings and of batches, since whoever polls asks the same again, and,
for batches alone, each route's text for ``GRAIN_US``: a batch is of an instant at most so long ago. A single answer is
always of this instant.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from pydantic import ValidationError

from router.api.gate import VIEWER
from router.api.hot import Answered, Asked, HotTable
from router.api.repeats import Repeats
from router.core.errors import InputRejected
from router.core.model import ID_PATTERN, Micros, PolicyId, TrafficClass
from router.core.tables import Context, View
from router.schemas.fragments import Fragment, Fragments, Moment, moment_of
from router.schemas.routes import BatchBody

GRAIN_US = 20_000  # a fiftieth of what a probing second can tell; ten times the time a large batch is on its way
MAX_QUERIES = 1_024  # query strings remembered: classes x policies x their spellings
MAX_BATCHES = 256  # bodies of batches remembered,
MAX_BATCH_BYTES = 65_536  # none larger than this
_ID = ID_PATTERN[1:-1]
_QUERY = re.compile(rf"(class|policy|from)=({_ID})")
_CLASSES = {traffic_class.value: traffic_class for traffic_class in TrafficClass}


@dataclass(frozen=True, slots=True)
class Question:
    """The usual parameters of a route query."""

    context: Context
    source: str | None


@dataclass(slots=True)
class Batch:
    """A batch that was checked before: its context and its pairs, and their fragments while those stand."""

    context: Context
    pairs: tuple[tuple[str, str], ...]
    found: tuple[Fragment, ...] = ()
    found_in: object = None  # edition of the fragments


def question_of(query: bytes) -> Question | None:
    """Read a query string; ``None`` for anything but known parameters, each once, with plain values."""
    given: dict[str, str] = {}
    for part in query.decode("latin-1").split("&") if query else ():
        found = _QUERY.fullmatch(part)
        if found is None or found[1] in given:
            return None
        given[found[1]] = found[2]
    traffic_class = _CLASSES.get(given.get("class", TrafficClass.VOICE.value))
    if traffic_class is None:
        return None
    policy = given.get("policy")
    return Question(Context(traffic_class, None if policy is None else PolicyId(policy)), given.get("from"))


class HotRoutes:
    """The hot route queries of one app, and what they remember."""

    def __init__(self) -> None:
        self.fragments = Fragments()
        self._questions: dict[bytes, Question | None] = {}
        self._batches: dict[bytes, Batch] = {}
        self._grain: Moment | None = None
        self._edition: object = None  # of the fragments that batches remember

    def add_paths(self, table: HotTable) -> None:
        """Put the queries into the table."""
        table.under["GET", "/v1/routes/"] = self.one
        table.exact["GET", "/v1/routes"] = self.table
        table.plain["POST", "/v1/routes/batch"] = self.many
        table.repeats = Repeats(self)

    async def one(self, asked: Asked) -> Answered | None:
        """``GET /v1/routes/{from}/{to}``."""
        question = self.question(asked.query)
        if question is None or question.source is not None or not asked.admitted(VIEWER):
            return None
        pair = asked.path.split("/")
        if len(pair) != 5:
            return None
        view, now = asked.runtime.view, asked.runtime.now()
        found = self.find(view, question.context, pair[3], pair[4])
        if found is None or view.routes is None:
            return None
        return Answered(found.at(moment_of(view.routes, now)).encode())

    async def table(self, asked: Asked) -> Answered | None:
        """``GET /v1/routes?from=``; whoever waits for another generation does so in FastAPI."""
        question = self.question(asked.query)
        if question is None or question.source is None or b"if-none-match" in asked.headers:
            return None
        if not asked.admitted(VIEWER):
            return None
        view, now, source = asked.runtime.view, asked.runtime.now(), question.source
        if view.routes is None or source not in view.inventory.data_centers:
            return None
        moment, routes = moment_of(view.routes, now), []
        for target in view.inventory.data_centers:
            if target != source:
                found = self.find(view, question.context, source, target)
                if found is None:
                    return None
                routes.append(found.at(moment))
        context = question.context
        policy = "null" if context.policy is None else f'"{context.policy}"'
        head = f'{{"from":"{source}","class":"{context.traffic_class.value}","policy":{policy},'
        stale = moment.stale if routes else "false"
        text = f'{head}"generation":{view.generation},"stale":{stale},"routes":[{",".join(routes)}]}}'
        return Answered(text.encode(), headers=((b"etag", b'"%d"' % view.generation),))

    def many(self, asked: Asked, body: bytes) -> Answered | None:
        """``POST /v1/routes/batch``: a head and fragments, copied once, into the answer."""
        if asked.query or not asked.admitted(VIEWER):
            return None
        batch = self._batch(body)
        view, now = asked.runtime.view, asked.runtime.now()
        if batch is None or view.routes is None:
            return None
        moment = self._moment(view, now)
        found = self._found(view, batch)
        if found is None:
            return None
        texts = [fragment.again_at(moment) for fragment in found]
        texts[0] = b'{"generation":%d,"routes":[%b' % (view.generation, texts[0])
        texts[-1] += b"]}"
        return Answered(b",".join(texts))

    def question(self, query: bytes) -> Question | None:
        """What a query string asks, as :func:`question_of` reads it; remembered."""
        try:
            return self._questions[query]
        except KeyError:
            if len(self._questions) >= MAX_QUERIES:
                self._questions.clear()
            self._questions[query] = question = question_of(query)
            return question

    def find(self, view: View, context: Context, source: str, target: str) -> Fragment | None:
        """The fragment of a pair; ``None`` where FastAPI must answer: unknown names, a pair newer than the table."""
        self.fragments.look(view)
        found = self.fragments.of(context).get((source, target))
        if found is not None:
            return found
        try:
            return self.fragments.make(view, context, source, target)
        except InputRejected:
            return None

    def _batch(self, body: bytes) -> Batch | None:
        known = self._batches.get(body)
        if known is not None:
            return known
        try:
            asked = BatchBody.model_validate_json(body)
        except ValidationError:
            return None
        context = Context(asked.traffic_class, asked.policy_id)
        batch = Batch(context, tuple((pair.source, pair.target) for pair in asked.pairs))
        if len(body) <= MAX_BATCH_BYTES:
            if len(self._batches) >= MAX_BATCHES:
                self._batches.clear()
            self._batches[body] = batch
        return batch

    def _moment(self, view: View, now: Micros) -> Moment:
        """The instant of a batch: that of an earlier one if that is recent and of the same fragments."""
        assert view.routes is not None
        changed = self.fragments.look(view)
        grain = self._grain
        if grain is None or changed or not 0 <= now - grain.now < GRAIN_US:
            self._grain = grain = moment_of(view.routes, now)
        return grain

    def _found(self, view: View, batch: Batch) -> tuple[Fragment, ...] | None:
        """The fragments of a batch, looked for again when any were forgotten."""
        fragments = self.fragments
        if self._edition is not fragments.edition:
            self._edition = fragments.edition
            for other in self._batches.values():
                other.found, other.found_in = (), None  # else they would hold texts that nobody counts
        if batch.found_in is fragments.edition:
            return batch.found
        found: list[Fragment] = []
        for pair in batch.pairs:
            fragment = self.find(view, batch.context, *pair)
            if fragment is None:
                return None
            found.append(fragment)
        batch.found, batch.found_in = tuple(found), fragments.edition  # after: making one may cost others their place
        return batch.found


def add_paths(table: HotTable) -> None:
    """Put this app's hot route queries into its table."""
    HotRoutes().add_paths(table)
