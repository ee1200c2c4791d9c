"""The route in force now: the reaction plan, corrected by what this node itself sees. PURE: time is an argument.

The controller computes, the node reacts. A plan ranks the paths of each (context, destination); detectors say of each
path, probed end to end, and of each first hop whether it is up, suspect or down, and the worse of the two counts. The
rules, in order:

- *Up*: stay. *Suspect*: stay, and send a second copy along the best other path. *Down*: take the best other path that
  is not down, else stay: everything is down. Best is what is up, then what is suspect and answers, then what is only
  suspect; within these the plan's order. A copy costs little: it also goes to a path that is down but answers again.
- Back to a better path once it is up, has been so for the hold-down, and the last change is as long ago; the wait
  doubles with every change that follows soon after another. A plan with *another* first path is followed at once,
  unless that path is known to be down: the controller knows more, except about what fails right now.
- While the node doubts itself (most first hops failed together: it is probably the one that is cut off, or its uplink
  is full) it moves only onto a path that has answered since, and sends a second copy only along one that answers what
  it was asked after the first path fell silent: copies of everything would fill a full uplink twice.

Nothing here can loop: paths are source-routed, visit no data center twice (``probes.choice``), and nobody downstream
decides again. Plans are taken in the order of (generation, plan version); the epoch in the generation's high bits makes
a new leader's plans newer than everything before. A control plane that has lost its count (its database was restored
from a backup) begins again with lower numbers: such a plan is taken once the one in force is degraded, so nobody issues
its like any more, and if its routes were computed after that one was issued, so it is no copy from before.

Ages. A plan says how old its routes were when it was issued, by the control plane's own clock; from there on the node's
monotonic clock counts. So a wrong wall clock cannot make an old plan look fresh.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from probes.choice import Book, Choice, PathKey
from probes.detect import Verdict
from probes.wire import ReactionPlan, ReflexEvent

IN_USE_US = 30_000_000  # a route that somebody asked for within this time carries something
MEMORY_US = 60_000_000  # a path that is not probed any more stays down for so long
WARM_FACTOR = 10  # what may be needed next is probed so many times less often than what carries something
MAX_DOUBLINGS = 6  # of the wait before going back
_SILENT = 4  # the rank of a path that is down and has not answered since
CALM_US = 60_000_000  # after so long without a change the wait is the hold-down again


@dataclass(frozen=True, slots=True)
class Way:
    """What to do with packets of one context to one destination, until the next change."""

    context: str
    target: str
    primary: Choice | None  # None: there is no path
    duplicate: Choice | None  # send a second copy here
    state: Verdict  # of ``primary``
    place: int  # of ``primary`` among ``choices``: 0 is the controller's own choice
    choices: tuple[Choice, ...]
    states: tuple[Verdict, ...]
    generation: int
    why: str

    def paths(self) -> tuple[PathKey, ...]:
        """Where a packet goes: nowhere, along one path, or along two."""
        return tuple(choice.key for choice in (self.primary, self.duplicate) if choice is not None)


@dataclass(frozen=True, slots=True)
class Flip:
    """The route in force to a destination that carries something became another one."""

    context: str
    target: str
    before: Choice | None
    after: Choice | None
    by_plan: bool  # the controller's doing, not the node's
    cause: str

    def event(self, at_us: int) -> ReflexEvent:
        """As the controller is told, ``at_us`` by the node's clock."""
        return ReflexEvent(
            at_us=at_us,
            context=self.context,
            target=self.target,
            from_path=() if self.before is None else self.before.path,
            to_path=() if self.after is None else self.after.path,
            cause=self.cause,
        )


@dataclass(frozen=True, slots=True)
class Installed:
    """Whether a plan was taken, why not, and which routes in use it changed."""

    accepted: bool
    refusal: str = ""
    flips: tuple[Flip, ...] = ()


@dataclass(slots=True)
class _Route:
    choices: tuple[Choice, ...]
    used_us: int
    place: int = 0
    since_us: int = 0  # of the last change that this node made
    changes: int = 0  # in quick succession
    cause: str = ""
    way: Way | None = None


@dataclass(slots=True)
class _Seen:
    verdict: Verdict
    at_us: int
    cause: str = ""


_Name = tuple[str, str]  # (context, destination)


class Reflex:
    """Routes of one node."""

    def __init__(self, node: str) -> None:
        self.node = node
        self.changes = 0  # rises whenever a route, a duplicate or a path's state changed
        self.doubting_since_us: int | None = None
        self.on_change: Callable[[], None] = lambda: None
        self.answered: Callable[[Choice], int] = lambda choice: -1  # when the newest answered probe of a path was sent
        self.counters = {"plans_installed": 0, "plans_refused": 0, "flips": 0, "returns": 0, "nothing_left": 0}
        self._book: Book | None = None
        self._computed_us = 0  # monotonic time at which the plan's routes were computed
        self._routes: dict[_Name, _Route] = {}
        self._paths: dict[PathKey, _Seen] = {}
        self._links: dict[tuple[str, str], dict[str, _Seen]] = {}  # (data center, transport) -> peer -> what it says
        self._watched: dict[PathKey, Choice] = {}

    # --- plans -------------------------------------------------------------------------------------------------------

    @property
    def plan(self) -> ReactionPlan | None:
        """The plan that is followed."""
        return None if self._book is None else self._book.plan

    @property
    def book(self) -> Book | None:
        """What the plan offers."""
        return self._book

    def install(self, plan: ReactionPlan, now_us: int, lying_us: int = 0) -> Installed:
        """Follow a plan if it is this node's and not older than the present one; it lay on disk for ``lying_us``."""
        refusal = self._refusal(plan, now_us)
        if refusal:
            self.counters["plans_refused"] += 1
            return Installed(False, refusal)
        self.counters["plans_installed"] += 1
        old, self._book = self._routes, Book(plan)
        self._computed_us = now_us - max(0, plan.issued_at_us - plan.computed_at_us) - max(0, lying_us)
        self._routes = {}
        flips = []
        for name, route in old.items():
            if now_us - route.used_us <= IN_USE_US:
                flips += self._carry_over(name, route, now_us)
        self._changed()
        return Installed(True, "", tuple(flips))

    def forget_plan(self) -> None:
        """Take any plan next: the node belongs to another control plane now."""
        self._book, self._routes = None, {}
        self._changed()

    def _changed(self) -> None:
        self.changes += 1
        self.on_change()

    def _refusal(self, plan: ReactionPlan, now_us: int) -> str:
        if plan.node != self.node:
            return f"it is the plan of {plan.node}, not of {self.node}"
        if self._book is None:
            return ""
        current = self._book.plan
        if (plan.generation, plan.plan_version) < (current.generation, current.plan_version):
            if self.degraded(now_us) and plan.computed_at_us > current.issued_at_us:
                return ""
            return (
                f"generation {plan.generation} of plan {plan.plan_version} is older than "
                f"generation {current.generation} of plan {current.plan_version}"
            )
        return ""

    def _carry_over(self, name: _Name, old: _Route, now_us: int) -> list[Flip]:
        """Take a route in use into a new plan: where it was if the controller's own choice is still the same."""
        route = _Route(self._choices(name), old.used_us, 0, old.since_us, old.changes, old.cause)
        before = old.choices[old.place] if old.choices else None
        keys = [choice.key for choice in route.choices]
        if before is not None and old.place and keys and keys[0] == old.choices[0].key and before.key in keys:
            route.place = keys.index(before.key)
        self._routes[name] = route
        self._choose(route, now_us)
        self._describe(name, route, now_us)
        after = route.choices[route.place] if route.choices else None
        if (before and before.key) == (after and after.key):
            return []
        plan = self.plan
        number = 0 if plan is None else plan.generation
        return [Flip(*name, before, after, True, f"generation {number} of the routes")]

    def age_us(self, now_us: int) -> int | None:
        """How long ago the routes were computed, ``None`` without a plan."""
        return None if self._book is None else now_us - self._computed_us

    def degraded(self, now_us: int) -> bool:
        """Whether the routes are older than the control plane calls fresh; they are followed all the same."""
        if self._book is None:
            return True
        plan = self._book.plan
        return now_us - self._computed_us >= plan.degraded_at_us - plan.computed_at_us

    # --- what this node sees -----------------------------------------------------------------------------------------

    def verdict(self, key: PathKey, verdict: Verdict, now_us: int, cause: str = "") -> list[Flip]:
        """Take what the detector of a path, probed end to end, says."""
        self._paths[key] = _Seen(verdict, now_us, cause)
        return self._look_again(now_us)

    def peer_verdict(
        self, node: str, data_center: str, transport: str, verdict: Verdict, now_us: int, cause: str = ""
    ) -> list[Flip]:
        """Take what the detector of the probes to one peer says: of the first hop over that transport."""
        self._links.setdefault((data_center, transport), {})[node] = _Seen(verdict, now_us, cause)
        return self._look_again(now_us)

    def forget_peers(self, keep: set[tuple[str, str]]) -> None:
        """Drop verdicts about peers that are not probed any more; ``keep`` has (node, transport)."""
        for (center, transport), peers in self._links.items():
            kept = {node: seen for node, seen in peers.items() if (node, transport) in keep}
            self._links[center, transport] = kept

    @property
    def doubting(self) -> bool:
        """Whether the node believes that it is the one that is cut off."""
        return self.doubting_since_us is not None

    def doubt(self, since_us: int | None, now_us: int) -> list[Flip]:
        """Say since when the node doubts itself; ``None``: it does not."""
        if since_us == self.doubting_since_us:
            return []
        self.doubting_since_us = since_us
        return self._look_again(now_us)

    def tick(self, now_us: int) -> list[Flip]:
        """Go back where the waits are over, and leave what is down as soon as there is a way out.

        To be called about as often as probes are sent: no verdict changes when a backup answers a node in doubt.
        """
        return self._look_again(now_us, only_away=True)

    # --- routes ------------------------------------------------------------------------------------------------------

    def way(self, context: str, target: str, now_us: int) -> Way:
        """Where to send now; asking says that the route is used. Cheap enough to ask for every packet."""
        route = self._routes.get((context, target))
        if route is not None and route.way is not None and now_us - route.used_us <= IN_USE_US:
            route.used_us = now_us
            return route.way
        return self._start(context, target, now_us)

    def look(self, context: str, target: str, now_us: int) -> Way:
        """As :meth:`way`, for onlookers: the route does not count as used."""
        name = (context, target)
        route = self._routes.get(name)
        if route is None or now_us - route.used_us > IN_USE_US:
            route = _Route(self._choices(name), now_us)
            self._choose(route, now_us)
            return self._way(name, route, now_us)
        return route.way or self._way(name, route, now_us)

    def in_use(self, now_us: int) -> dict[tuple[str, str], Way]:
        """Routes that carry something, by (context, destination)."""
        return {name: route.way for name, route in self._used(now_us) if route.way is not None}

    def hot(self, now_us: int) -> dict[PathKey, int]:
        """Paths to probe end to end, with the interval in microseconds.

        At the plan's pace what carries something; more slowly what would be next, and what to go back to.
        """
        if self._book is None:
            return {}
        keepalive_us = self._book.plan.triggers.keepalive_us
        found: dict[PathKey, int] = {}
        choice_of: dict[PathKey, Choice] = {}
        for _, route in self._used(now_us):
            for place, interval_us in self._places_to_probe(route, keepalive_us):
                choice = route.choices[place]
                if choice.relayed:
                    choice_of[choice.key] = choice
                    found[choice.key] = min(interval_us, found.get(choice.key, interval_us))
        for key in self._watched.keys() - choice_of.keys():
            if key in self._paths and self._paths[key].verdict is not Verdict.DOWN:
                del self._paths[key]  # nobody looks any more; only what was down is remembered for a while
        self._watched = choice_of
        return found

    def choice(self, key: PathKey) -> Choice | None:
        """A path that :meth:`hot` named last."""
        return self._watched.get(key)

    # --- rules -------------------------------------------------------------------------------------------------------

    def _start(self, context: str, target: str, now_us: int) -> Way:
        name = (context, target)
        route = self._routes[name] = _Route(self._choices(name), now_us)
        self._choose(route, now_us)
        return self._describe(name, route, now_us)

    def _choices(self, name: _Name) -> tuple[Choice, ...]:
        return () if self._book is None else self._book.choices(*name)

    def _used(self, now_us: int) -> Iterator[tuple[_Name, _Route]]:
        return (item for item in self._routes.items() if now_us - item[1].used_us <= IN_USE_US)

    def _look_again(self, now_us: int, *, only_away: bool = False) -> list[Flip]:
        """Decide again about every route in use; forget those that are not."""
        flips = []
        for name, route in list(self._routes.items()):
            if only_away and not route.place and route.way and route.way.state is Verdict.UP:
                continue
            if now_us - route.used_us > IN_USE_US:
                del self._routes[name]
                continue
            before = route.place
            if self._choose(route, now_us):
                flips.append(Flip(*name, route.choices[before], route.choices[route.place], False, route.cause))
            self._describe(name, route, now_us)
        return flips

    def _seen(self, choice: Choice, now_us: int) -> _Seen | None:
        """The worse of what is known about a path and about its first hop."""
        path = self._paths.get(choice.key)
        if path is not None and choice.key not in self._watched and now_us - path.at_us > MEMORY_US:
            del self._paths[choice.key]
            path = None
        hop = self._first_hop(choice)
        known = [seen for seen in (path, hop) if seen is not None]
        return max(known, key=lambda seen: seen.verdict) if known else None

    def _first_hop(self, choice: Choice) -> _Seen | None:
        peers = self._links.get((choice.path[1], choice.transports[0]))
        if not peers:
            return None
        own = peers.get(choice.nodes[0])
        return own if own is not None else min(peers.values(), key=lambda seen: seen.verdict)

    def _state(self, choice: Choice, now_us: int) -> Verdict:
        seen = self._seen(choice, now_us)
        return Verdict.UP if seen is None else seen.verdict

    def _choose(self, route: _Route, now_us: int) -> bool:
        """Apply the rules to one route; whether it moved."""
        if not route.choices:
            return False
        place = self._better_place(route, now_us)
        if place == route.place:
            return False
        seen = self._seen(route.choices[route.place], now_us)
        back = seen is None or seen.verdict is not Verdict.DOWN
        route.cause = "a better path is up again" if back else ((seen and seen.cause) or "no answers")
        route.changes = route.changes + 1 if now_us - route.since_us < CALM_US else 1
        route.place, route.since_us = place, now_us
        self.counters["returns" if back else "flips"] += 1
        return True

    def _better_place(self, route: _Route, now_us: int) -> int:
        states = [self._state(choice, now_us) for choice in route.choices]
        if states[route.place] is Verdict.DOWN:
            return next(
                (place for place in self._ranked(route, now_us)
                 if states[place] is not Verdict.DOWN and self._may_enter(route.choices[place])),
                route.place,
            )  # fmt: skip
        for place in range(route.place):
            if states[place] is Verdict.UP and self._proven(route, place, now_us):
                return place
        return route.place

    def _ranked(self, route: _Route, now_us: int) -> list[int]:
        """The other places, the most believable first; one that was silent ever since it is down is not believed."""
        ranks = {
            place: rank
            for place, choice in enumerate(route.choices)
            if place != route.place and (rank := self._rank(choice, now_us)) < _SILENT
        }
        return sorted(ranks, key=lambda place: (ranks[place], place))

    def _rank(self, choice: Choice, now_us: int) -> int:
        seen = self._seen(choice, now_us)
        if seen is None or seen.verdict is Verdict.UP:
            return 0
        answers = self.answered(choice) > seen.at_us
        if seen.verdict is Verdict.SUSPECT:
            return 1 if answers else 2
        return 3 if answers else _SILENT

    def _may_enter(self, choice: Choice) -> bool:
        """In doubt, silence elsewhere proves nothing: only a path that answers since then is worth a move."""
        return self.doubting_since_us is None or self.answered(choice) > self.doubting_since_us

    def _proven(self, route: _Route, place: int, now_us: int) -> bool:
        if self.doubting or self._book is None:
            return False
        wait_us = self._book.plan.triggers.hold_down_us << min(max(0, route.changes - 1), MAX_DOUBLINGS)
        seen = self._seen(route.choices[place], now_us)
        up_since_us = route.since_us if seen is None else max(route.since_us, seen.at_us)
        return now_us - up_since_us >= wait_us

    def _places_to_probe(self, route: _Route, keepalive_us: int) -> Iterator[tuple[int, int]]:
        way = route.way
        if way is None or way.primary is None:
            return
        enough = False  # one good path after the present one is
        for place, (_choice, state) in enumerate(zip(way.choices, way.states, strict=True)):
            if place == way.place or (way.state is not Verdict.UP and not enough):
                yield place, keepalive_us  # what may save the call is to be known now
            elif not enough or state is not Verdict.UP:  # unasked, what is down would stay so long after it was healed
                yield place, keepalive_us * WARM_FACTOR
            enough |= place > way.place and state is Verdict.UP

    # --- words -------------------------------------------------------------------------------------------------------

    def _describe(self, name: _Name, route: _Route, now_us: int) -> Way:
        way = self._way(name, route, now_us)
        if way != route.way:
            down_before = route.way is not None and route.way.state is Verdict.DOWN
            route.way = way
            self._changed()
            if way.state is Verdict.DOWN and not down_before:
                self.counters["nothing_left"] += 1
        return way

    def _way(self, name: _Name, route: _Route, now_us: int) -> Way:
        plan = self.plan
        generation = 0 if plan is None else plan.generation
        if not route.choices:
            why = "there is no reaction plan yet" if plan is None or not generation else "the plan has no path there"
            return Way(*name, None, None, Verdict.DOWN, 0, (), (), generation, why)
        states = tuple(self._state(choice, now_us) for choice in route.choices)
        state, place = states[route.place], route.place
        duplicate = None if state is Verdict.UP else self._duplicate(route, now_us)
        return Way(
            *name, route.choices[place], duplicate, state, place, route.choices, states, generation,
            _why(route, state, duplicate, self.doubting),
        )  # fmt: skip

    def _duplicate(self, route: _Route, now_us: int) -> Choice | None:
        seen = self._seen(route.choices[route.place], now_us)
        others = (route.choices[place] for place in self._ranked(route, now_us))
        if self.doubting:
            others = (choice for choice in others if self.answered(choice) > (seen.at_us if seen else 0))
        return next(others, None)


def _why(route: _Route, state: Verdict, duplicate: Choice | None, doubting: bool) -> str:
    path = " > ".join(route.choices[route.place].path)
    copy = "" if duplicate is None else f"; a second copy goes along {' > '.join(duplicate.path)}"
    if state is Verdict.DOWN:
        return f"every path is down; staying on {path}{copy}"
    if state is Verdict.SUSPECT and (doubting or copy):
        itself = ", like most of what this node sees: it may be the node itself" if doubting else ""
        return f"{path} is suspect{itself}{copy}"
    if route.place:
        return f"{path} instead of {' > '.join(route.choices[0].path)}: {route.cause or 'no answers'}"
    return f"{path} is the controller's choice"
