"""One history: rows, and the View that follows them by differences; see ``acts`` for what happens in it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random

from bench.histories import place
from bench.histories.place import START
from bench.histories.rules import Rules
from router.core import drain as drains
from router.core import steering
from router.core.dial import composed
from router.core.errors import Unavailable
from router.core.messages import (
    Change,
    DrainChanged,
    RampChanged,
    ResourcesChanged,
    SessionsChanged,
)
from router.core.model import (
    Agent,
    Counters,
    DataCenter,
    DataCenterId,
    Drain,
    DrainState,
    Micros,
    Node,
    Session,
    SessionState,
)
from router.core.ramp import RampBook
from router.core.tables import Dial, View
from router.sim.rows import Rows


@dataclass(frozen=True, slots=True)
class Operation:
    """Something that can happen, and how often."""

    name: str
    weight: int
    do: Callable[[History], None]


class History:
    """A history goes on by ``play``; ``rules`` collects what was broken."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.now: Micros = START
        self.rows = Rows(place.inventory())
        self.rows.put_agents(place.agents())
        self.view = replace(place.first_view(), counters=self.rows.counters())
        self.clients = self.random.sample(place.CLIENTS, 2)
        self.count = 0
        self.sessions = 0
        self.moves = 0
        self.book = RampBook()
        self.dials: dict[DataCenterId, Dial] = {}
        self.rules = Rules()
        self.done: Counter[str] = Counter()

    def play(self, operation: Operation) -> None:
        """Do one thing; what is refused changes nothing."""
        self.now += self.random.randrange(1, 400_000)
        before, reachable = self._written(), self.rows.reachable
        try:
            operation.do(self)
        except Unavailable:
            self.rules.want(not reachable, "Unavailable while the database is there")
            self.rules.want(before == self._written(), "a refused write changed something")
        self.done[operation.name] += 1

    def _written(self) -> tuple[object, ...]:
        view = self.view
        return view.counters, view.drains, view.ramps, view.inventory, len(self.rows.sessions), len(self.rows.agents)

    # --- the View ----------------------------------------------------------------------------------------------------

    def commit(self, changes: Sequence[Change]) -> None:
        """Let the View follow what was written, as the core does: by differences."""
        counters, drained, inventory = self.view.counters, dict(self.view.drains), self.view.inventory
        ramped = dict(self.view.ramps)
        for change in changes:
            match change:
                case SessionsChanged():
                    counters = Counters(
                        _added(counters.sessions, change.sessions),
                        _added(counters.idle, change.idle),
                        _added(counters.busy, change.busy),
                        _added(counters.idle_on, change.idle_on),
                        _added(counters.held_on, change.held_on),
                    )
                case DrainChanged():
                    drained[change.drain.id] = change.drain
                case RampChanged():
                    ramped[change.ramp.id] = change.ramp
                    self.book.put(change.ramp, self.now)
                case ResourcesChanged():
                    centers = {r.id: r for r in change.upserts if isinstance(r, DataCenter)}
                    nodes = {r.id: r for r in change.upserts if isinstance(r, Node)}
                    inventory = replace(
                        inventory,
                        data_centers=dict(sorted({**inventory.data_centers, **centers}.items())),
                        nodes=dict(sorted({**inventory.nodes, **nodes}.items())),
                    )
        if changes:
            self.view = replace(
                self.view, now=self.now, counters=counters, drains=drained, ramps=ramped, inventory=inventory
            )
        if any(not isinstance(change, SessionsChanged) for change in changes):
            self.turn_dials()

    def turn_dials(self) -> None:
        """Dials follow drains and ramps, and so do the lanes of versions."""
        self.view = replace(self.view, dials=dials_of(self.view, self.dials, self.book), lanes=self.book.lanes())

    def again(self) -> View:
        """The View that a control plane would have that starts from the rows now; measurements as they are."""
        fresh = replace(
            self.view,
            inventory=replace(self.rows.inventory),
            counters=self.rows.counters(),
            drains=dict(self.rows.drains),
            ramps=dict(self.rows.ramps),
            health=tuple(self.view.health),
        )
        book = RampBook()
        for ramp in self.rows.ramps.values():
            book.put(ramp, self.now)
        return replace(fresh, dials=dials_of(fresh, self.dials, book), lanes=book.lanes())

    # --- choices -----------------------------------------------------------------------------------------------------

    def one_of(self, states: Sequence[SessionState] | None = None) -> Session | None:
        """A live session, in one of some states."""
        found = [s for s in self.rows.live() if states is None or s.state in states]
        return self.random.choice(found) if found else None

    def some_agent(self) -> Agent:
        """Any agent."""
        return self.rows.agents[self.random.choice(list(self.rows.agents))]

    def some_place(self) -> DataCenterId:
        """Any data center."""
        return self.random.choice(list(self.rows.inventory.data_centers))

    def some_drain(self) -> Drain | None:
        """Any drain that is not undone, or now and then one that is."""
        found = [d for d in self.rows.drains.values() if d.state is not DrainState.UNDONE or self.random.random() < 0.1]
        forcing = [d for d in found if d.state is DrainState.FORCING]  # for a moment only: look at these first
        return self.random.choice(forcing or found) if found else None

    def request(self, session: Session, **more: object) -> steering.PlaceRequest:
        """What is asked for a session."""
        asked = steering.PlaceRequest(
            session.client, session.traffic_class, session.pool, seed=session.id, labels=session.metadata
        )
        return replace(asked, **more)  # type: ignore[arg-type]

    def place(self, request: steering.PlaceRequest) -> steering.Placement | steering.Refused:
        """Ask for a place; now and then once more, on a View made anew from the rows."""
        decision = steering.place(self.view, request, self.now)
        self.rules.placed(self.view, request, decision)
        if self.random.random() < 0.1:
            self.rules.same(decision, steering.place(self.again(), request, self.now))
        return decision


def dials_of(view: View, more: Mapping[DataCenterId, Dial], book: RampBook) -> Mapping[DataCenterId, Dial]:
    """Dials of drains, of ramps, and those that histories turn by themselves, together."""
    return composed(drains.dials(view.drains.values()), book.claims(view.inventory), sorted(more.items()))


def _added(held: Mapping[object, int], difference: Mapping[object, int]) -> Mapping[object, int]:
    total = dict(held)
    for key, count in difference.items():
        total[key] = total.get(key, 0) + count
    return {key: count for key, count in total.items() if count}
