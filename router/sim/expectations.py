"""What a scenario expects of the control plane, judged while and after it runs.

``left_within_s`` counts the *victims* of a fault: pairs whose path in force at its start crosses a link that it hits,
and is truly beaten, by the switching margin, by another path once the fault has grown to its full strength. A victim
has left when it has another path in force that no longer crosses any link that the fault hits, or is not beaten so.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from router.core.kernel import solve_context
from router.core.model import Micros
from router.core.solve.switching import margin_us
from router.core.tables import I64, NO_COST
from router.sim import session_expectations
from router.sim.engine import START
from router.sim.faults import KINDS, Fault, Hits, Kind, members
from router.sim.reading import selector
from router.sim.scenario import Expectation
from router.sim.simulation import JUDGED, Simulation
from router.sim.truth import judge_in_force

Path = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether an expectation was met, and what was measured."""

    expectation: str
    met: bool
    measured: str


@dataclass(frozen=True, eq=False)
class _Truth:
    """True costs int64 ``[from, to]`` of links and of the best paths under a fault."""

    link_us: I64
    best_us: I64
    relay_cost_us: int

    def beats(self, path: Path) -> bool:
        """Whether another path is truly better than this one by the switching margin."""
        cost = sum(int(self.link_us[a, b]) for a, b in pairwise(path)) + self.relay_cost_us * (len(path) - 2)
        cost = min(cost, int(NO_COST))
        return cost - int(self.best_us[path[0], path[-1]]) >= int(margin_us(np.array([cost], np.int64))[0])


@dataclass(slots=True)
class _Flight:
    """One fault and the pairs that fly from it."""

    began: Micros
    hit: frozenset[tuple[int, int]]
    before: dict[tuple[int, int], Path]
    truth: _Truth | None = None  # once the fault has grown
    victims: dict[tuple[int, int], None] = field(default_factory=dict)
    left_at: dict[tuple[int, int], Micros] = field(default_factory=dict)

    def is_out(self, pair: tuple[int, int], path: Path) -> bool:
        """Whether this path of a pair is out of the fault's reach."""
        fine = self.truth is not None and not self.truth.beats(path)
        return path != self.before[pair] and (fine or self.hit.isdisjoint(pairwise(path)))


class Watch:
    """Looks on while a simulation runs; make it before the first ``run``."""

    def __init__(self, sim: Simulation, expect: tuple[Expectation, ...] = ()) -> None:
        self._sim = sim
        self._at: dict[str, tuple[bool, str]] = {}  # what had to be judged before the end, by its place
        for expectation in expect:
            at_s = expectation.options.get("at_s")
            if at_s is not None:
                sim.engine.at(START + round(float(at_s) * 1e6), lambda e=expectation: self._note(e))  # type: ignore[misc]
        self._flights: dict[str, _Flight] = {}
        sim.on_fault.append(self._fault)
        sim.on_published.append(self._published)

    def _fault(self, fault: Fault) -> None:
        if KINDS[fault.kind].hits is not Hits.LINKS:
            return
        index = self._sim.world.inventory.index
        hit = frozenset((index[a], index[b]) for a, b in self._sim.faults.hit[fault.id])
        before = {pair: path for pair, path in self._sim.paths().items() if not hit.isdisjoint(pairwise(path))}
        now = self._sim.engine.now
        flight = self._flights[fault.id] = _Flight(now, hit, before)
        ramp_us = round(fault.number("ramp_s") * 1e6) if fault.kind is Kind.BROWNOUT else 0
        self._sim.engine.at(now + ramp_us, lambda: self._find_victims(flight))

    def _find_victims(self, flight: _Flight) -> None:
        table = self._sim.plane.view.routes
        if table is None or table.snapshot.data_centers != tuple(self._sim.world.inventory.data_centers):
            return
        c = table.snapshot.contexts.index(JUDGED)
        true_us, relay_cost = self._sim.world.true_cost_us(JUDGED.traffic_class), int(table.snapshot.relay_cost_us[c])
        best, _ = solve_context(true_us, table.snapshot.may_relay[c], int(table.snapshot.max_relays[c]), relay_cost)
        truth = flight.truth = _Truth(true_us, best, relay_cost)
        flight.victims.update((pair, None) for pair, path in flight.before.items() if truth.beats(path))

    def _published(self) -> None:
        waiting = [flight for flight in self._flights.values() if len(flight.left_at) < len(flight.before)]
        if not waiting:
            return
        paths = self._sim.paths()
        for flight in waiting:
            for pair in flight.before:
                path = paths.get(pair)
                if pair not in flight.left_at and path is not None and flight.is_out(pair, path):
                    flight.left_at[pair] = self._sim.engine.now

    def _note(self, expectation: Expectation) -> None:
        self._at[expectation.place] = self._right(expectation)

    # --- verdicts ----------------------------------------------------------------------------------------------------

    def judge(self, expectation: Expectation) -> Verdict:
        """Judge one expectation at the end of the run; ``digest_stable`` is not for us, but for who can run twice."""
        match expectation.name:
            case "left_within_s":
                met, measured = self._left(expectation)
            case "moves_at_most":
                met, measured = self._moves(expectation)
            case "right_percent":
                met, measured = self._at.get(expectation.place) or self._right(expectation)
            case "event":
                met, measured = self._event(expectation)
            case "count":
                met, measured = _within(expectation, self._sim.counts[str(expectation.value)], 1)
            case _:
                met, measured = session_expectations.judge(self._sim, expectation)
        return Verdict(expectation.text, met, measured)

    def _left(self, expectation: Expectation) -> tuple[bool, str]:
        flight = self._flights.get(str(expectation.options["fault"]))
        if flight is None or not flight.victims:
            return True, "no path in force was made worse"
        took = sorted(
            (flight.left_at[p] - flight.began) / 1e6 if p in flight.left_at else math.inf for p in flight.victims
        )
        share = float(expectation.options.get("share_percent", 100.0)) / 100
        needed = max(1, math.ceil(share * len(took)))
        last = took[needed - 1]
        said = "never left" if math.isinf(last) else f"left after {last:.2f} s"
        return last <= float(expectation.value), f"{needed} of {len(took)} paths {said}"

    def _moves(self, expectation: Expectation) -> tuple[bool, str]:
        after = START + round(float(expectation.options.get("after_s", 0.0)) * 1e6)
        moves = [(move.source, move.target) for move in self._sim.moves if move.at >= after]
        if expectation.options["per"] == "run":
            return len(moves) <= float(expectation.value), f"{len(moves)} moves"
        if not moves:
            return True, "no moves"
        pair, count = max(Counter(moves).items(), key=lambda item: (item[1], item[0]))
        ids = tuple(self._sim.world.inventory.data_centers)
        return count <= float(expectation.value), f"{count} moves of {ids[pair[0]]} to {ids[pair[1]]}"

    def _right(self, expectation: Expectation) -> tuple[bool, str]:
        table = self._sim.plane.view.routes
        if table is None or table.snapshot.data_centers != tuple(self._sim.world.inventory.data_centers):
            return False, "no routes of the present inventory"
        found = judge_in_force(self._sim.world, table, table.snapshot.contexts.index(JUDGED))
        both = expectation.options["ways"] == "both"
        if "without" in expectation.options:
            inventory = self._sim.world.inventory
            for dc in members(inventory, selector(str(expectation.options["without"]), "without")):
                found.judged[inventory.index[dc], :] = found.judged[:, inventory.index[dc]] = False
        share = 100 * found.share(found.within, both_ways=both)
        return share >= float(expectation.value), f"{share:.2f} % of {int(found.judged.sum())} pairs"

    def _event(self, expectation: Expectation) -> tuple[bool, str]:
        subject, fault = expectation.options.get("subject"), expectation.options.get("fault")
        began = self._sim.faults.since.get(str(fault), START) if fault is not None else START
        within = expectation.options.get("within_s")
        end = began + float(within) * 1e6 if within is not None else math.inf
        found = [
            event
            for event in self._sim.events
            if event.kind == expectation.value and began <= event.at <= end and subject in (None, event.subject)
        ]
        met, said = _within(expectation, len(found), 1)
        first = f", first after {(found[0].at - began) / 1e6:.2f} s" if found else ""
        return met, said + first


def _within(expectation: Expectation, count: int, default_least: int) -> tuple[bool, str]:
    most = expectation.options.get("at_most")
    least = expectation.options.get("at_least", 0.0 if most is not None else float(default_least))
    return float(least) <= count and (most is None or count <= float(most)), str(count)
