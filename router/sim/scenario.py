"""Scenario files: a world, a seed, faults with times and targets, and what is expected of the control plane. YAML.

Reading is strict: a field that is not known, missing, given twice, of the wrong type or beyond its limit is refused,
and the error names the field, the rule and the limit (``bad_scenario``). The tables ``faults.KINDS``, ``EXPECTATIONS``,
``WORLD_NUMBERS`` and ``WORLD_KINDS`` are the format.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

from router.core.errors import InputRejected
from router.core.model import ID_PATTERN, ID_REGEX
from router.sim.actions import ACTIONS, Action, Do
from router.sim.document import read_document, with_line
from router.sim.faults import (
    BUSIEST,
    DAY_S,
    KINDS,
    Direction,
    Fault,
    Hits,
    Kind,
    Number,
    rejected,
)
from router.sim.reading import WHOLE, items, mapping, micros, number, required, selector, text, word
from router.sim.users import Crowd

MAX_FAULTS = 1_000
MAX_SEED = (1 << 63) - 1
USERS_NUMBERS: Mapping[str, Number] = {
    "sessions": Number(1, 20_000),
    "length_s": Number(2, DAY_S, 60),
    "agents_per_hub": Number(0, 10_000, 100),
    "cold_start_s": Number(0, 3_600, 0),
}
WORLD_KINDS = ("model", "asymmetric", "matrix", "series")
WORLD_NUMBERS: Mapping[str, Number] = {
    "data_centers": Number(2, 1_000, 6),  # of a measured world: at most so many, evenly chosen; all if not given
    "nodes": Number(1, 16, 2),
    "slice_s": Number(1, 86_400, 60),
    "asymmetry_percent": Number(0, 90, 0),
    "clock_offset_ms": Number(0, 86_400_000, 500),
    "clock_drift_ppm": Number(0, 500, 20),
    "jitter_ms": Number(0, 1_000, 0.2),
    "loss_percent": Number(0, 50, 0.05),
}
SHIPPED = files("router.sim") / "scenarios"


@dataclass(frozen=True, slots=True)
class Rule:
    """An expectation: its own value (a number within limits, a text, or true) and the options beside it."""

    about: str
    number: Number | None = None
    text: bool = False
    numbers: Mapping[str, Number] = field(default_factory=dict)
    words: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    texts: tuple[str, ...] = ()


WAITS_FOR = "waits_for"  # of any expectation: what must be built before it can be met
COUNTS = {"at_least": Number(0, 1e9), "at_most": Number(0, 1e9)}
EXPECTATIONS: Mapping[str, Rule] = {
    "left_within_s": Rule(
        "paths in force that a fault makes truly worse than another path have left it so long after its start",
        Number(0, DAY_S),
        numbers={"share_percent": Number(0, 100, 100)},
        texts=("fault",),
    ),
    "moves_at_most": Rule(
        "so often does the path in force change, for each ordered pair or over all of them",
        Number(0, 1e9),
        numbers={"after_s": Number(0, DAY_S, 0)},
        words={"per": ("pair", "run")},
    ),
    "right_percent": Rule(
        "at the end, or at a time, at least so many pairs have a path in force that none truly beats by the margin",
        Number(0, 100),
        numbers={"at_s": Number(0, DAY_S)},
        words={"ways": ("both", "each")},
        texts=("without",),
    ),
    "event": Rule(
        "events of a kind happen (at least once, unless said otherwise)",
        text=True,
        numbers=COUNTS | {"within_s": Number(0, DAY_S)},
        texts=("subject", "fault"),
    ),
    "count": Rule("a counter of the run ends within bounds", text=True, numbers=COUNTS),
    "placed_percent": Rule(
        "of the users who ask, at least so many are given a place at once; from the fault's start if one is named",
        Number(0, 100),
        numbers={"after_s": Number(0, DAY_S, 0), "for_s": Number(0.001, DAY_S)},
        texts=("fault",),
    ),
    "no_new_within_s": Rule(
        "so long after the start of an action or a fault, and until it is over, nobody new is placed on its targets",
        Number(0, DAY_S),
        texts=("fault", "action"),
    ),
    "vacated_within_s": Rule(
        "so long after the start of an action or a fault no live session is left on its targets",
        Number(0, DAY_S),
        texts=("fault", "action"),
    ),
    "talking_percent": Rule(
        "in every second at least so many of the users who are in a session hear and are heard; the first half minute "
        "is not counted",
        Number(0, 100),
        numbers={"after_s": Number(0, DAY_S, 0), "for_s": Number(0.001, DAY_S)},
        texts=("fault",),
    ),
    "placed_again_within_s": Rule(
        "so long after the end of a fault new sessions are placed on its targets again",
        Number(0, DAY_S),
        texts=("fault",),
    ),
    "healed_within_s": Rule(
        "so long after the end of a fault, and until the next one begins, at most a share of the users hears nothing",
        Number(0, DAY_S),
        numbers={"share_percent": Number(0, 100, 0)},
        texts=("fault",),
    ),
    "action": Rule(
        "an action is done, or refused with this error code",
        text=True,
        texts=("refused",),
    ),
    "digest_stable": Rule("a second run decides the same, bit for bit"),
}


@dataclass(frozen=True, slots=True)
class WorldSpec:
    """Which world to build; ``numbers`` holds what the file gives of ``WORLD_NUMBERS``."""

    kind: str = "model"
    file: Path | None = None
    numbers: Mapping[str, float] = field(default_factory=dict)

    def number(self, name: str) -> float:
        """One of the numbers, or its default."""
        given = self.numbers.get(name)
        return given if given is not None else WORLD_NUMBERS[name].default or 0.0


@dataclass(frozen=True, slots=True)
class Expectation:
    """One thing that is expected, by the name that it has in ``EXPECTATIONS``."""

    name: str
    value: float | str | bool
    options: Mapping[str, float | str]
    place: str  # in the file, such as ``expect[2]``

    @property
    def text(self) -> str:
        """How it stands in the file, on one line."""
        value = f"{self.value:g}" if isinstance(self.value, float) else str(self.value).lower()
        rest = "".join(f", {k}: {v:g}" if isinstance(v, float) else f", {k}: {v}" for k, v in self.options.items())
        return f"{self.name}: {value}{rest}"


@dataclass(frozen=True, slots=True)
class Scenario:
    """A checked scenario; ``source`` is the document that it was read from, ready for JSON."""

    name: str
    about: str
    duration_us: int
    seed: int = 1
    world: WorldSpec = field(default_factory=WorldSpec)
    faults: tuple[Fault, ...] = ()
    actions: tuple[Action, ...] = ()
    crowd: Crowd | None = None
    expect: tuple[Expectation, ...] = ()
    source: Mapping[str, Any] = field(default_factory=dict)


def shipped() -> tuple[str, ...]:
    """Names of the scenarios that come with the program."""
    return tuple(
        sorted(entry.name.removesuffix(".yaml") for entry in SHIPPED.iterdir() if entry.name.endswith(".yaml"))
    )


def load(name: str) -> Scenario:
    """A shipped scenario by its name, or one from a file. Raises ``unknown_scenario`` and ``bad_scenario``."""
    if name in shipped():
        return parse(read_document((SHIPPED / f"{name}.yaml").read_bytes()), None)
    path = Path(name)
    if path.suffix not in (".yaml", ".yml") and not path.exists():
        rule = "a file, or one of " + ", ".join(shipped())
        raise InputRejected("unknown_scenario", f"there is no scenario {name}", field="scenario", rule=rule)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise rejected("file", f"{path} cannot be read: {error.strerror or error}") from error
    document = read_document(data)
    try:
        return parse(document, path.parent)
    except InputRejected as error:
        raise with_line(error, data) from error


def parse(document: object, folder: Path | None) -> Scenario:
    """Check a document; file names in it are relative to ``folder``. Raises ``bad_scenario``."""
    top = mapping(
        document, "scenario", ("name", "about", "seed", "duration_s", "world", "users", "faults", "actions", "expect")
    )
    faults = tuple(_fault(item, f"faults[{i}]") for i, item in enumerate(items(top, "faults", MAX_FAULTS)))
    actions = tuple(_action(item, f"actions[{i}]") for i, item in enumerate(items(top, "actions", MAX_FAULTS)))
    ids = _unique("faults", faults)
    acts = _unique("actions", actions)
    duration_us = micros(required(top, "duration_s"), "duration_s", Number(1, DAY_S))
    for i, fault in enumerate(faults):
        if fault.at_us >= duration_us:
            raise rejected(f"faults[{i}].at_s", "must be before the end of the run", duration_us / 1e6)
    for i, action in enumerate(actions):
        if action.at_us >= duration_us:
            raise rejected(f"actions[{i}].at_s", "must be before the end of the run", duration_us / 1e6)
        opened = [a.id for a in actions if a.do is Do.DRAIN and a.at_us <= action.at_us]
        if ACTIONS[action.do].of_drain and action.drain not in opened:
            raise rejected(f"actions[{i}].drain", f"{action.drain} is not the id of an earlier action that drains")
    expect = tuple(
        _expectation(item, f"expect[{i}]", ids, acts) for i, item in enumerate(items(top, "expect", MAX_FAULTS))
    )
    name = text(required(top, "name"), "name")
    if not ID_REGEX.match(name):
        raise rejected("name", f"{name!r} must match {ID_PATTERN}", 63)
    return Scenario(
        name=name,
        about=text(required(top, "about"), "about"),
        duration_us=duration_us,
        seed=int(number(top.get("seed", 1), "seed", Number(0, MAX_SEED), whole=True)),
        world=_world(top.get("world", {}), folder),
        faults=faults,
        actions=actions,
        crowd=_crowd(top["users"]) if "users" in top else None,
        expect=expect,
        source=dict(top),
    )


# --- parts -----------------------------------------------------------------------------------------------------------


def _unique(place: str, found: tuple[Fault, ...] | tuple[Action, ...]) -> list[str]:
    ids = [item.id for item in found]
    for i, id in enumerate(ids):
        if id in ids[:i]:
            raise rejected(f"{place}[{i}].id", f"{id} names another one already")
    return ids


def _crowd(data: object) -> Crowd:
    record = mapping(data, "users", tuple(USERS_NUMBERS))
    found = {}
    for name, bounds in USERS_NUMBERS.items():
        if name in record or bounds.default is None:
            found[name] = number(required(record, name, "users"), f"users.{name}", bounds, whole=name in WHOLE)
        else:
            found[name] = bounds.default
    return Crowd(int(found["sessions"]), found["length_s"], int(found["agents_per_hub"]), found["cold_start_s"])


def _action(data: object, place: str) -> Action:
    if not isinstance(data, Mapping):
        raise rejected(place, "must be a mapping")
    do = Do(word(data.get("do"), f"{place}.do", tuple(d.value for d in Do)))
    rule = ACTIONS[do]
    aim = "drain" if rule.of_drain else "target"
    record = mapping(data, place, ("id", "do", "at_s", aim, *rule.numbers, *rule.words, *rule.flags))
    for flag in rule.flags:
        if record.get(flag, False) not in (True, False):
            raise rejected(f"{place}.{flag}", "must be true or false")
    return Action(
        id=text(record.get("id", do.value), f"{place}.id"),
        do=do,
        at_us=micros(required(record, "at_s", place), f"{place}.at_s", Number(0, DAY_S)),
        target={} if rule.of_drain else selector(text(required(record, "target", place), f"{place}.target"), place),
        drain=text(required(record, "drain", place), f"{place}.drain") if rule.of_drain else "",
        numbers={
            n: number(record[n], f"{place}.{n}", b, whole=n in WHOLE) for n, b in rule.numbers.items() if n in record
        },
        words={n: word(record[n], f"{place}.{n}", words) for n, words in rule.words.items() if n in record},
        flags=tuple(flag for flag in rule.flags if record.get(flag)),
    )


def _world(data: object, folder: Path | None) -> WorldSpec:
    record = mapping(data, "world", ("kind", "file", *WORLD_NUMBERS))
    kind = word(record.get("kind", "model"), "world.kind", WORLD_KINDS)
    measured = kind in ("matrix", "series")
    if measured != ("file" in record):
        rule = f"is required for a {kind}" if measured else f"must not be given for the {kind} world"
        raise rejected("world.file", rule)
    numbers = {
        name: number(record[name], f"world.{name}", bounds, whole=name in WHOLE)
        for name, bounds in WORLD_NUMBERS.items()
        if name in record
    }
    file = None
    if measured:
        file = Path(text(record["file"], "world.file"))
        file = file if file.is_absolute() or folder is None else folder / file
    return WorldSpec(kind, file, numbers)


def _fault(data: object, place: str) -> Fault:
    if not isinstance(data, Mapping):
        raise rejected(place, "must be a mapping")
    kind = Kind(word(data.get("kind"), f"{place}.kind", tuple(k.value for k in Kind)))
    rule = KINDS[kind]
    aim = {
        Hits.LINKS: ("target", "peer", "direction")
        if kind is Kind.PARTITION
        else ("target", "peer", "link", "direction"),
        Hits.NODES: ("target",),
        Hits.TARGETS: ("target",),
        Hits.NOTHING: (),
    }[rule.hits]
    known = ("id", "kind", "at_s", "for_s", *aim, *rule.numbers, *(("what",) if rule.what else ()))
    record = mapping(data, place, known)
    if aim and ("target" in record) == ("link" in record):
        raise rejected(
            f"{place}.target", "exactly one of target and link is required" if "link" in aim else "is required"
        )
    if "peer" in record and "target" not in record:
        raise rejected(f"{place}.peer", "needs a target: the links between both are hit")
    numbers = {}
    for name, bounds in rule.numbers.items():
        if name in record or bounds.default is None:
            numbers[name] = number(required(record, name, place), f"{place}.{name}", bounds)
    link = _link(record["link"], f"{place}.link") if "link" in record else None
    fallback = Direction.BOTH if link is None or kind is Kind.ASYMMETRY else Direction.OUT
    return Fault(
        id=text(record.get("id", kind.value), f"{place}.id"),
        kind=kind,
        at_us=micros(required(record, "at_s", place), f"{place}.at_s", Number(0, DAY_S)),
        for_us=micros(record["for_s"], f"{place}.for_s", Number(0.001, DAY_S)) if "for_s" in record else None,
        target=_target(record["target"], f"{place}.target", rule.hits) if "target" in record else None,
        link=link,
        peer=selector(text(record["peer"], f"{place}.peer"), f"{place}.peer") if "peer" in record else None,
        direction=Direction(word(record.get("direction", fallback.value), f"{place}.direction", tuple(Direction))),
        numbers=numbers,
        what=word(record.get("what", rule.what[0]), f"{place}.what", rule.what) if rule.what else "",
    )


def _target(value: object, place: str, hits: Hits) -> Mapping[str, str] | str:
    named = text(value, place)
    if named == BUSIEST:
        return named
    parts = selector(named, place)
    if "node" in parts and hits is not Hits.NODES:
        raise rejected(place, "node= is for faults of clocks and reports; links join data centers")
    return parts


def _link(value: object, place: str) -> tuple[str, str]:
    if not isinstance(value, list) or len(value) != 2:
        raise rejected(place, "must be a list [from, to] of two data centers", 2)
    source, target = (text(end, f"{place}[{i}]") for i, end in enumerate(value))
    if source == target:
        raise rejected(place, "must join two different data centers")
    return source, target


def _expectation(data: object, place: str, faults: list[str], actions: list[str]) -> Expectation:
    if not isinstance(data, Mapping):
        raise rejected(place, "must be a mapping")
    named = [name for name in EXPECTATIONS if name in data]
    if len(named) > 1 and "action" in named:
        named.remove("action")  # there it says whose targets are meant
    if len(named) != 1:
        raise rejected(place, f"must have exactly one of {', '.join(EXPECTATIONS)}", 1)
    name = named[0]
    rule = EXPECTATIONS[name]
    record = mapping(data, place, (name, *rule.numbers, *rule.words, *rule.texts, WAITS_FOR))
    value: float | str | bool = True
    if rule.number is not None:
        value = number(record[name], f"{place}.{name}", rule.number, whole=name in WHOLE)
    elif rule.text:
        value = text(record[name], f"{place}.{name}")
    elif record[name] is not True:
        raise rejected(f"{place}.{name}", "must be true")
    options = _options(rule, record, place)
    _check_names(name, value, options, place, faults, actions)
    return Expectation(name, value, options, place)


def _options(rule: Rule, record: Mapping[str, Any], place: str) -> dict[str, float | str]:
    options: dict[str, float | str] = {}
    for key, bounds in rule.numbers.items():
        if key in record:
            options[key] = number(record[key], f"{place}.{key}", bounds, whole=key in WHOLE)
    for key, words in rule.words.items():
        options[key] = word(record.get(key, words[0]), f"{place}.{key}", words)
    for key in (*rule.texts, WAITS_FOR):
        if key in record:
            options[key] = text(record[key], f"{place}.{key}")
    if "without" in options:
        selector(str(options["without"]), f"{place}.without")
    return options


def _check_names(
    name: str,
    value: float | str | bool,
    options: Mapping[str, float | str],
    place: str,
    faults: list[str],
    actions: list[str],
) -> None:
    if "fault" in options and options["fault"] not in faults:
        raise rejected(f"{place}.fault", f"{options['fault']} is not the id of a fault of this scenario")
    if (
        name in ("left_within_s", "healed_within_s", "placed_again_within_s") or "within_s" in options
    ) and "fault" not in options:
        raise rejected(f"{place}.fault", "is required: whose start is time counted from?")
    act = value if name == "action" else options.get("action")
    if act is not None and act not in actions:
        raise rejected(f"{place}.action", f"{act} is not the id of an action of this scenario")
    if name in ("no_new_within_s", "vacated_within_s") and ("fault" in options) == (act is not None):
        raise rejected(f"{place}.action", "exactly one of action and fault is required: whose targets?")
