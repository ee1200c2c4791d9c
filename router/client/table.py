"""One ingress' routes as a media server holds them: looked up locally, filled from a stream, honest about their age.

The table is a dict from (target, class) to a frozen :class:`HeldRoute`; a lookup is one dict hit. Whoever fills it
replaces values and never changes one, so readers in other threads need no lock. Ages are counted on the local monotonic
clock from the moment an answer came in, so that they are right when this machine's wall clock is not.

A route is *stale* when the control plane said so, when nothing has been heard for ``SILENT_S``, or when it has been
said to be gone by an ended stream. A stale route is still the best there is: use it, and its backups in their order.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from router.client.answers import Json, ServerEvent

SILENT_S = 30.0  # three heartbeats of the stream: what was heard before is no longer vouched for


@dataclass(frozen=True, slots=True)
class HeldPath:
    """One way: data centers with both ends, the transport of each hop, and what to expect in ms."""

    path: tuple[str, ...]
    transports: tuple[str, ...]
    delay_ms: float | None  # None from a probe agent: its plan has no figures
    loss_pct: float | None
    protects: str | None = None  # of a backup: what it survives


@dataclass(frozen=True, slots=True)
class HeldRoute:
    """A route as it was last told: the path in force each way, ordered backups, and how old that was by then."""

    source: str
    target: str
    traffic_class: str
    generation: int
    forward: HeldPath | None
    back: HeldPath | None
    backups_forward: tuple[HeldPath, ...]
    backups_return: tuple[HeldPath, ...]
    rtt_ms: float | None
    told_stale: bool
    age_ms: float  # when it came in
    heard_s: float  # monotonic seconds of this machine when it came in
    reasons: tuple[str, ...] = ()
    told: Json = field(default_factory=dict, repr=False, compare=False)  # all of the answer


def held(document: Json, heard_s: float) -> HeldRoute:
    """Read a route of the contract, or of the probe agent's local API. Raises ``KeyError``, ``TypeError``."""
    backups = document.get("backups") or {}
    return HeldRoute(
        source=str(document["from"]),
        target=str(document["to"]),
        traffic_class=str(document["class"]),
        generation=int(document["generation"]),
        forward=_path(document["forward"]),
        back=_path(document["return"]),
        backups_forward=_paths(backups.get("forward")),
        backups_return=_paths(backups.get("return")),
        rtt_ms=document.get("rtt_ms"),
        told_stale=bool(document["stale"]),
        age_ms=float(document.get("age_ms") or 0.0),
        heard_s=heard_s,
        reasons=tuple(document.get("reasons") or ()),
        told=document,
    )


def _path(told: Mapping[str, Any] | None) -> HeldPath | None:
    if told is None:
        return None
    path, transports = tuple(told["path"]), tuple(told["transports"])
    return HeldPath(path, transports, told.get("delay_ms"), told.get("loss_pct"), told.get("protects"))


def _paths(told: list[Mapping[str, Any]] | None) -> tuple[HeldPath, ...]:
    return tuple(path for path in map(_path, told or ()) if path is not None)


class RouteTable:
    """The rows of one ingress, for any number of classes."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.generations: dict[str, int] = {}
        self.heard_s: dict[str, float] = {}
        self._rows: dict[tuple[str, str], HeldRoute] = {}
        self.find = self._rows.get
        """``find((target, traffic_class))`` -> the route or ``None``: the fastest call, a bare dict lookup."""

    def route(self, target: str, traffic_class: str = "voice") -> HeldRoute | None:
        """The route to a data center now, stale or not; ``None`` if there has never been one."""
        return self.find((target, traffic_class))

    def __len__(self) -> int:
        return len(self._rows)

    def routes(self) -> list[HeldRoute]:
        """All routes, by target and class."""
        return [self._rows[key] for key in sorted(self._rows.copy())]

    def age_ms(self, route: HeldRoute, now_s: float) -> float:
        """How old what a route says is: a quiet stream vouches for it, so it ages from the last word heard."""
        return route.age_ms + (now_s - max(route.heard_s, self.heard_s.get(route.traffic_class, 0.0))) * 1_000

    def stale(self, route: HeldRoute, now_s: float) -> bool:
        """Whether nobody vouches for a route any more."""
        return route.told_stale or now_s - self.heard_s.get(route.traffic_class, route.heard_s) > SILENT_S

    def heard(self, traffic_class: str, now_s: float) -> None:
        """Note that the stream of a class is alive, which vouches for what it has told."""
        self.heard_s[traffic_class] = now_s

    def take(self, traffic_class: str, event: ServerEvent, now_s: float) -> None:
        """Take in a ``table`` or ``delta`` of a class. Raises ``KeyError``, ``TypeError`` if it is neither.

        A probe agent's events have routes and nothing else.
        """
        data = event.data
        rows = [held(document, now_s) for document in data["routes"]]
        names = {row.target for row in rows}
        for row in rows:
            self._rows[row.target, traffic_class] = row
        gone = data.get("gone", ())
        if event.kind == "table":
            gone = [target for target, of in self._rows.copy() if of == traffic_class and target not in names]
        for target in gone:
            self._rows.pop((target, traffic_class), None)
        self.generations[traffic_class] = int(data.get("generation", max((row.generation for row in rows), default=0)))
        self.heard(traffic_class, now_s)
