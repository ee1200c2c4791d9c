"""Faults of the emulated network: what can be asked for, whom it hits, and what several of them make of a link.

A fault has a target (a SELECTOR: every packet that leaves, ``out``, or enters, ``in``, one of the matching data centers
or nodes) or a link (``[from, to]``: packets from the one data center to the other; ``out`` is that direction, ``in``
the reverse). Without a direction a target is hit in both, a link, being directed, in its own. Users' packets to and
from a hit data center are hit too. Packets between two nodes of one data center never leave the building: only a
selector that names a ``node`` reaches them.

Composition on one link: any blackhole swallows everything; delays add; jitters (means of independent extra delays) add;
losses are independent, so that a packet must survive each of them: ``1 - (1 - p1)(1 - p2)…``; shares of gray failures
are joined in the same way.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from router.core.errors import InputRejected
from router.core.model import ID_PATTERN, ID_REGEX

PPM = 1_000_000
MAX_FOR_S = 86_400.0  # a demo fault that outlives the day was forgotten
MAX_DELAY_MS = 30_000.0
MAX_JITTER_MS = 5_000.0
SELECTOR_KEYS = ("provider", "region", "data_center", "node")
FIELDS = ("target", "link", "kind", "value", "direction", "for_s")
Choice = TypeVar("Choice", bound=StrEnum)


class FaultKind(StrEnum):
    """What a fault does to a packet."""

    BLACKHOLE = "blackhole"
    GRAY = "gray"  # value: per cent of the flows (addresses and ports), always the same ones, that are swallowed
    LOSS = "loss"  # value: per cent
    DELAY = "delay"  # value: milliseconds added
    JITTER = "jitter"  # value: mean of the extra delay, milliseconds


class Direction(StrEnum):
    """Which way packets must go to be hit; see the module docstring."""

    IN = "in"
    OUT = "out"
    BOTH = "both"


VALUE_LIMIT: Mapping[FaultKind, tuple[float, str]] = {
    FaultKind.GRAY: (100.0, "per cent of the flows"),
    FaultKind.LOSS: (100.0, "per cent"),
    FaultKind.DELAY: (MAX_DELAY_MS, "ms"),
    FaultKind.JITTER: (MAX_JITTER_MS, "ms"),
}


@dataclass(frozen=True, slots=True)
class LinkParameters:
    """What happens to packets of one leg: one-way delay, mean extra delay, share lost, or everything swallowed.

    ``gray_ppm`` is the share of the flows that are swallowed.
    """

    delay_us: int
    jitter_us: int = 0
    loss_ppm: int = 0
    blackhole: bool = False
    gray_ppm: int = 0


@dataclass(frozen=True, slots=True)
class FaultRequest:
    """A checked request for a fault; exactly one of ``target`` and ``link`` is given."""

    kind: FaultKind
    direction: Direction
    target: Mapping[str, str] | None = None
    link: tuple[str, str] | None = None
    value: float = 0.0
    for_s: float | None = None


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One end of a leg as faults see it: a node, or a user (who is in no data center, and whom no selector names)."""

    node: str
    data_center: str = ""
    provider: str = ""
    region: str = ""


@dataclass(frozen=True, slots=True)
class Scope:
    """Which legs a fault hits, by endpoint number: ``pairs`` of sets, a leg is hit when its ends are in one pair.

    ``None`` in a pair stands for everybody; ``inside`` says whether legs within one data center are hit as well.
    """

    pairs: tuple[tuple[frozenset[int] | None, frozenset[int] | None], ...]
    inside: bool

    def hits(self, source: int, target: int) -> bool:
        """Whether the leg between these endpoint numbers is hit (legs within a data center are asked elsewhere)."""
        return any(
            (sources is None or source in sources) and (targets is None or target in targets)
            for sources, targets in self.pairs
        )


def compose(base: LinkParameters, faults: Iterable[FaultRequest]) -> LinkParameters:
    """Parameters of a leg under several faults at once; the order of the faults does not matter."""
    delay_us, jitter_us, blackhole = base.delay_us, base.jitter_us, base.blackhole
    survive, healthy = 1.0 - base.loss_ppm / PPM, 1.0 - base.gray_ppm / PPM
    for fault in faults:
        if fault.kind is FaultKind.BLACKHOLE:
            blackhole = True
        elif fault.kind is FaultKind.DELAY:
            delay_us += round(fault.value * 1_000)
        elif fault.kind is FaultKind.JITTER:
            jitter_us += round(fault.value * 1_000)
        elif fault.kind is FaultKind.GRAY:
            healthy *= 1.0 - fault.value / 100.0
        else:
            survive *= 1.0 - fault.value / 100.0
    return LinkParameters(delay_us, jitter_us, round((1.0 - survive) * PPM), blackhole, round((1.0 - healthy) * PPM))


def scope_of(fault: FaultRequest, endpoints: Sequence[Endpoint | None]) -> Scope:
    """Whom a fault hits among the endpoints. Raises :class:`InputRejected` if that is nobody."""
    if fault.link is not None:
        source, target = (_members(endpoints, {"data_center": end}, f"link[{i}]") for i, end in enumerate(fault.link))
        there, back = (source, target), (target, source)
        pairs = {Direction.OUT: (there,), Direction.IN: (back,), Direction.BOTH: (there, back)}[fault.direction]
        return Scope(pairs, inside=False)
    selector = fault.target or {}
    members = _members(endpoints, selector, "target")
    out, into = (members, None), (None, members)
    sides: Mapping[Direction, tuple[tuple[frozenset[int] | None, frozenset[int] | None], ...]] = {
        Direction.OUT: (out,),
        Direction.IN: (into,),
        Direction.BOTH: (out, into),
    }
    return Scope(sides[fault.direction], inside="node" in selector)


def _members(endpoints: Sequence[Endpoint | None], selector: Mapping[str, str], field: str) -> frozenset[int]:
    found = frozenset(
        i
        for i, end in enumerate(endpoints)
        if end is not None and end.data_center and all(getattr(end, key) == value for key, value in selector.items())
    )
    if not found:
        text = ",".join(f"{key}={value}" for key, value in selector.items())
        rule = f"{text} matches nothing in this world"
        raise InputRejected("selector_matches_nothing", f"{field}: {rule}", field=field, rule=rule)
    return found


# --- checking a request ----------------------------------------------------------------------------------------------


def parse_fault(data: object) -> FaultRequest:
    """Check the body of ``POST /faults``. Raises :class:`InputRejected` (``bad_fault``)."""
    if not isinstance(data, dict):
        raise _rejected("body", "must be a JSON object")
    for key in data:
        if key not in FIELDS:
            raise _rejected(str(key)[:80], f"is not a known field (known: {', '.join(FIELDS)})")
    target, link = data.get("target"), data.get("link")
    if (target is None) == (link is None):
        raise _rejected("target", "exactly one of target and link must be given")
    kind = _choice(data, "kind", FaultKind)
    default = Direction.BOTH if link is None else Direction.OUT
    return FaultRequest(
        kind=kind,
        direction=default if data.get("direction") is None else _choice(data, "direction", Direction),
        target=None if target is None else parse_selector(target),
        link=None if link is None else _link(link),
        value=_value(kind, data.get("value")),
        for_s=None if data.get("for_s") is None else _number("for_s", data["for_s"], MAX_FOR_S, "s"),
    )


def parse_selector(text: object, field: str = "target") -> dict[str, str]:
    """Parts of a SELECTOR such as ``provider=oracle,region=singapore``, each key at most once."""
    if not isinstance(text, str):
        raise _rejected(field, "must be a string such as provider=oracle")
    parts: dict[str, str] = {}
    for part in text.split(","):
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if key not in SELECTOR_KEYS or not equals:
            raise _rejected(field, f"{part[:80]!r} must be KEY=ID with KEY one of {', '.join(SELECTOR_KEYS)}")
        if key in parts:
            raise _rejected(field, f"names {key} twice", 1)
        parts[key] = _identifier(value, field)
    return parts


def _link(link: object) -> tuple[str, str]:
    if not isinstance(link, list) or len(link) != 2:
        raise _rejected("link", "must be a list [from, to] of two data centers", 2)
    source, target = (_identifier(end, f"link[{i}]") for i, end in enumerate(link))
    if source == target:
        raise _rejected("link", "must join two different data centers")
    return source, target


def _identifier(value: object, field: str) -> str:
    if not isinstance(value, str) or not ID_REGEX.match(value):
        raise _rejected(field, f"{str(value)[:80]!r} must match {ID_PATTERN}", 63)
    return value


def _value(kind: FaultKind, value: object) -> float:
    if kind is FaultKind.BLACKHOLE:
        if value is not None:
            raise _rejected("value", "must not be given for a blackhole")
        return 0.0
    limit, unit = VALUE_LIMIT[kind]
    if value is None:
        raise _rejected("value", f"is required for {kind.value} ({unit})", limit)
    return _number("value", value, limit, unit)


def _number(field: str, value: object, limit: float, unit: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise _rejected(field, f"must be a number ({unit})", limit)
    if not 0 < value <= limit:
        raise _rejected(field, f"must be above 0 and at most {limit:g} {unit}", limit)
    return float(value)


def _choice(data: Mapping[str, object], field: str, choices: type[Choice]) -> Choice:
    value = data.get(field)
    names = [choice.value for choice in choices]
    if value not in names:
        raise _rejected(field, f"must be one of {', '.join(names)}")
    return choices(value)


def _rejected(field: str, rule: str, limit: float | None = None) -> InputRejected:
    return InputRejected("bad_fault", f"{field}: {rule}", field=field, rule=rule, limit=limit)
