"""The paths that a reaction plan offers, looked up by routing context and destination. PURE.

A path is known by its hops' addresses (:data:`PathKey`), because they mean the same in every plan; numbers in a plan do
not. Rows are unpacked when somebody asks for them: a plan has thousands, a node uses a few.

What is not offered, whatever a plan says: a path that visits a data center twice, starts at home again or ends
elsewhere (packets would loop), and one through a data center that operators have drained.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from probes.wire import ReactionPlan

PathKey = tuple[tuple[str, int], ...]
"""Host and port of each hop's relay. Where nobody relays: ``("data center/transport", 0)``."""

PROTECTS: Final[Mapping[str, str]] = {"p": "provider", "d": "data_center", "l": "link"}


@dataclass(frozen=True, slots=True)
class Choice:
    """One path of a row."""

    key: PathKey
    path: tuple[str, ...]  # data centers, the node's own first, the destination last
    transports: tuple[str, ...]  # one per hop
    nodes: tuple[str, ...]  # whose relay each hop is; "" where nobody relays
    reflector_port: int  # of the last hop's node; 0 if unknown
    protects: str  # what of the path in force it does without: provider, data_center, link; "" for that path itself
    overdue_us: int  # an answer later than this is missing; 0: the plan does not say

    @property
    def relayed(self) -> bool:
        """Whether every hop has a relay, so that packets can be sent along it and probed end to end."""
        return all(port for _, port in self.key) and self.reflector_port > 0


class Book:
    """One plan's rows by (context, destination)."""

    def __init__(self, plan: ReactionPlan) -> None:
        self.plan = plan
        self.refused = 0  # paths of rows asked for so far that were not offered
        self._tables = dict(zip(plan.contexts, plan.tables, strict=True))
        self._targets = {name: number for number, name in enumerate(plan.data_centers)}
        places = zip(plan.rows.table, plan.rows.target, strict=True)
        self._rows = {place: number for number, place in enumerate(places)}
        self._drained = frozenset(plan.drained)

    @property
    def contexts(self) -> tuple[str, ...]:
        """Routing contexts of the plan."""
        return self.plan.contexts

    @property
    def targets(self) -> tuple[str, ...]:
        """Destinations that the plan may have paths to."""
        return tuple(name for name in self.plan.data_centers if name != self.plan.data_center)

    def knows(self, target: str) -> bool:
        """Whether there is a data center of that name."""
        return target in self._targets

    def choices(self, context: str, target: str) -> tuple[Choice, ...]:
        """What to try, in order; the first is in force. Empty: there is no path."""
        row = self._rows.get((self._tables.get(context, -1), self._targets.get(target, -1)))
        if row is None:
            return ()
        rows = self.plan.rows
        letters = ["", *(PROTECTS[letter] for letter in rows.protects[row])]
        offered = []
        for place, number in enumerate(rows.choices[row]):
            hops = self.plan.paths[number]
            if self._allowed(hops, rows.target[row]):
                offered.append(self._choice(hops, letters[place], 0 if place else rows.overdue_us[row]))
            else:
                self.refused += 1
        return tuple(offered)

    def _allowed(self, hops: tuple[int, ...], target: int) -> bool:
        centers = [self.plan.hops.data_center[hop] for hop in hops]
        home = self._targets.get(self.plan.data_center)
        return (
            centers[-1] == target
            and len({home, *centers}) == len(centers) + 1
            and not any(center in self._drained for center in centers[:-1])
        )

    def _choice(self, hops: tuple[int, ...], protects: str, overdue_us: int) -> Choice:
        columns, names = self.plan.hops, self.plan.data_centers
        centers = tuple(names[columns.data_center[hop]] for hop in hops)
        transports = tuple(columns.transport[hop] for hop in hops)
        key = tuple(
            (columns.host[hop], columns.port[hop])
            if columns.host[hop] and columns.port[hop]
            else (f"{center}/{transport}", 0)
            for hop, center, transport in zip(hops, centers, transports, strict=True)
        )
        return Choice(
            key=key,
            path=(self.plan.data_center, *centers),
            transports=transports,
            nodes=tuple(columns.node[hop] for hop in hops),
            reflector_port=columns.reflector_port[hops[-1]],
            protects=protects,
            overdue_us=overdue_us,
        )
