"""Route answers serialised ahead of time: all of a route's JSON except what depends on the instant of the question.

Of an answer (``routes.route_json``) only its ages, ``stale``, ``valid_until`` and how long its paths have been held
depend on the clock; the rest follows from the route table, the estimates, the inventory and the health that one View
holds. A :class:`Fragment` is the rest, with a gap for each of those, and the times to count from. It is made by asking
for the answer of an instant so far ahead that no age is cut off at zero, and is exact: filled in for an instant it has
the bytes that dumping the answer of that instant would have.

:class:`Fragments` keeps them while the View says the same, made when first asked for, within a bound of memory. It
holds no table alive: a table of a thousand data centers is large, and an idle control plane should not keep an old one.
"""

from __future__ import annotations

import json
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from operator import itemgetter

from router.core.model import Inventory, Micros, PolicyId, TrafficClass
from router.core.solve import RouteAnswer, route
from router.core.solve.answer import VALID_US, is_stale
from router.core.tables import Context, DataCenterHealth, RouteTable, View
from router.schemas.routes import route_json
from router.schemas.units import rfc3339

AHEAD_US = 10**15  # 32 years: later than any evidence, however wrong a clock
MAX_CHARS = 64 << 20  # of all fragments together; 300 data centers ask for 90,000 pairs of 2 KB in each context
OVERHEAD_CHARS = 600  # what a fragment and its place take beside the text
_GAP = "\ue000"  # stands for a gap while the rest is dumped; private use, in no id and no reason of ours

_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), check_circular=False).encode


@dataclass(frozen=True, slots=True)
class Moment:
    """What all routes of one table have in common at one instant, as JSON."""

    now: Micros
    age: str
    stale: str
    valid_until: str


def moment_of(table: RouteTable, now: Micros) -> Moment:
    """The instant ``now`` as routes of this table show it."""
    return Moment(
        now,
        repr(round(max(0, now - table.computed_at) / 1000, 3)),
        "true" if is_stale(table, now) else "false",
        f'"{rfc3339(max(now, table.computed_at) + VALID_US)}"',
    )


class Fragment:
    """A route's JSON with gaps, and the times that its paths' ages and their holding times count from."""

    __slots__ = ("_ages", "_fill", "_held", "_shown", "_shown_at", "frail", "text")

    def __init__(self, text: str, oldest: tuple[Micros, ...], since: tuple[Micros, ...]) -> None:
        self.text = text
        self.frail = len(since) < 2  # a direction without a path
        self._ages = tuple(dict.fromkeys(oldest))  # one report brings the evidence for many hops
        self._held = since
        ages = [3 + self._ages.index(at) for at in oldest]
        held = range(3 + len(self._ages), 3 + len(self._ages) + len(since))
        # From the values in the order in which they are made to the gaps in theirs.
        self._fill: Callable[[list[str]], tuple[str, ...]] = itemgetter(*(0, 1, *ages, 2, *held))
        self._shown = b""
        self._shown_at: Moment | None = None

    def at(self, moment: Moment) -> str:
        """The JSON of the route at an instant."""
        now = moment.now
        values = [moment.age, moment.stale, moment.valid_until]
        values += [repr((now - at) / 1000) if now > at else "0.0" for at in self._ages]  # whole us: three decimals
        values += [f"{(now - at) / 1e6:.0f}" for at in self._held]
        return self.text % self._fill(values)

    def again_at(self, moment: Moment) -> bytes:
        """The same in UTF-8, remembered while the very same moment is asked for."""
        if self._shown_at is not moment:
            self._shown, self._shown_at = self.at(moment).encode(), moment
        return self._shown


def fragment_of(
    view: View, source: str, target: str, traffic_class: TrafficClass, policy: PolicyId | None
) -> Fragment | None:
    """Make the fragment of a route; ``None`` if the table does not know the pair yet.

    Raises as :func:`router.core.solve.route` does.
    """
    table = view.routes
    ahead = AHEAD_US if table is None else table.computed_at + AHEAD_US
    answer = route(view, source, target, traffic_class, policy, ahead)
    if table is None or answer.valid_until != ahead + VALID_US:
        return None
    ways = [way for way in (answer.forward, answer.back) if way is not None]
    ways += [backup.path for backup in (*answer.backups_forward, *answer.backups_return)]
    document = route_json(answer)
    since = _with_gaps(document, answer, table, ahead)
    text = _encode(document).replace("%", "%%").replace(f'"{_GAP}"', "%s").replace(_GAP, "%s")
    return Fragment(text, tuple(ahead - way.age_us for way in ways), since)


def _with_gaps(document: dict[str, object], answer: RouteAnswer, table: RouteTable, ahead: Micros) -> tuple[int, ...]:
    """Put gaps where the instant shows; returns since when each path has been held, in the order of the reasons."""
    ids, c = table.snapshot.data_centers, table.snapshot.contexts.index(answer.context)
    u, v = ids.index(answer.source), ids.index(answer.target)
    document |= {"age_ms": _GAP, "stale": _GAP, "valid_until": _GAP}
    for way in _ways_of(document):
        way["age_ms"] = _GAP
    reasons, since = [], []
    for reason, at in zip(answer.reasons, (int(table.since[c, u, v]), int(table.since[c, v, u])), strict=True):
        tail = f"held for {(ahead - at) / 1e6:.0f} s"
        if reason.endswith(tail):
            since.append(at)
            reason = f"{reason.removesuffix(tail)}held for {_GAP} s"
        reasons.append(reason)
    document["reasons"] = reasons
    return tuple(since)


def _ways_of(document: dict[str, object]) -> list[dict[str, object]]:
    backups = document["backups"]
    assert isinstance(backups, dict)
    ways = [document["forward"], document["return"], *backups["forward"], *backups["return"]]
    return [way for way in ways if isinstance(way, dict)]


class Fragments:
    """The fragments of the newest View that was asked about, by (context, from, to)."""

    def __init__(self, max_chars: int = MAX_CHARS) -> None:
        self._max_chars = max_chars
        self._chars = 0
        self._made: dict[Context, dict[tuple[str, str], Fragment]] = {}
        self._view: weakref.ref[View] | None = None
        self._arrays: tuple[weakref.ref[object], ...] = ()
        self._inventory: Inventory | None = None
        self._health: tuple[DataCenterHealth, ...] = ()
        self._frail: list[tuple[Context, tuple[str, str]]] = []  # without a path: their reasons tell of health
        self.count = 0
        self.edition = object()  # another one whenever a fragment was forgotten

    def look(self, view: View) -> bool:
        """From now on answer from this View; whether everything was forgotten, as it says other things of routes."""
        if self._view is not None and self._view() is view:
            return False
        told = (view.routes, view.links)
        same = self._inventory is view.inventory and len(self._arrays) == len(told)
        same = same and all(a() is b for a, b in zip(self._arrays, told, strict=True))
        if not same:
            self.forget()
            self._arrays = tuple(weakref.ref(array) for array in told if array is not None)
            self._inventory = view.inventory
        elif self._health is not view.health:
            self._forget_frail()
        self._health = view.health
        self._view = weakref.ref(view)
        return not same

    def of(self, context: Context) -> dict[tuple[str, str], Fragment]:
        """What is made already of one context, by (from, to); to be read only."""
        return self._made.get(context, {})

    def make(self, view: View, context: Context, source: str, target: str) -> Fragment | None:
        """Make a fragment and keep it. Raises as :func:`router.core.solve.route`."""
        made = fragment_of(view, source, target, context.traffic_class, context.policy)
        if made is None:
            return None
        chars = 2 * len(made.text) + OVERHEAD_CHARS  # twice: what it remembers of the last moment
        if self._chars + chars > self._max_chars:
            self.forget()
        self._chars += chars
        self._made.setdefault(context, {})[source, target] = made
        if made.frail:
            self._frail.append((context, (source, target)))
        self.count += 1
        return made

    def _forget_frail(self) -> None:
        if self._frail:
            self.edition = object()
        for context, pair in self._frail:
            del self._made[context][pair]
        self._frail = []

    def forget(self) -> None:
        """Drop all fragments; the dicts that :meth:`of` gave out stay with whoever still reads them."""
        self._made = {}
        self._frail = []
        self._chars = self.count = 0
        self.edition = object()
