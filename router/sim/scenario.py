"""Scenario files: a world, a seed, faults with times and targets, and what is expected of the control plane. YAML.

Reading is strict: a field that is not known, missing, given twice, of the wrong type or beyond its limit is refused,
and the error names the field, the rule and the limit (``bad_scenario``). The tables ``faults.KINDS``, ``EXPECTATIONS``,
``WORLD_NUMBERS`` and ``WORLD_KINDS`` are the format.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

from router.core.errors import InputRejected
from router.core.model import ID_PATTERN, ID_REGEX
from router.sim.document import read_document
from router.sim.faults import (
    BUSIEST,
    DAY_S,
    KINDS,
    SELECTOR_KEYS,
    Direction,
    Fault,
    Hits,
    Kind,
    Number,
    rejected,
)

MAX_FAULTS = 1_000
MAX_SEED = (1 << 63) - 1
MAX_TEXT = 500
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
WHOLE = ("data_centers", "nodes", "seed", "clock_drift_ppm", "at_least", "at_most", "moves_at_most")
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
        text = path.read_bytes()
    except OSError as error:
        raise rejected("file", f"{path} cannot be read: {error.strerror or error}") from error
    return parse(read_document(text), path.parent)


def parse(document: object, folder: Path | None) -> Scenario:
    """Check a document; file names in it are relative to ``folder``. Raises ``bad_scenario``."""
    top = _mapping(document, "scenario", ("name", "about", "seed", "duration_s", "world", "faults", "expect"))
    faults = tuple(_fault(item, f"faults[{i}]") for i, item in enumerate(_list(top, "faults", MAX_FAULTS)))
    ids = [fault.id for fault in faults]
    for i, id in enumerate(ids):
        if id in ids[:i]:
            raise rejected(f"faults[{i}].id", f"{id} names another fault already")
    duration_us = _micros(_required(top, "duration_s"), "duration_s", Number(1, DAY_S))
    for i, fault in enumerate(faults):
        if fault.at_us >= duration_us:
            raise rejected(f"faults[{i}].at_s", "must be before the end of the run", duration_us / 1e6)
    expect = tuple(_expectation(item, f"expect[{i}]", ids) for i, item in enumerate(_list(top, "expect", MAX_FAULTS)))
    name = _text(_required(top, "name"), "name")
    if not ID_REGEX.match(name):
        raise rejected("name", f"{name!r} must match {ID_PATTERN}", 63)
    return Scenario(
        name=name,
        about=_text(_required(top, "about"), "about"),
        duration_us=duration_us,
        seed=int(_number(top.get("seed", 1), "seed", Number(0, MAX_SEED), whole=True)),
        world=_world(top.get("world", {}), folder),
        faults=faults,
        expect=expect,
        source=dict(top),
    )


# --- parts -----------------------------------------------------------------------------------------------------------


def _world(data: object, folder: Path | None) -> WorldSpec:
    record = _mapping(data, "world", ("kind", "file", *WORLD_NUMBERS))
    kind = _word(record.get("kind", "model"), "world.kind", WORLD_KINDS)
    measured = kind in ("matrix", "series")
    if measured != ("file" in record):
        rule = f"is required for a {kind}" if measured else f"must not be given for the {kind} world"
        raise rejected("world.file", rule)
    numbers = {
        name: _number(record[name], f"world.{name}", bounds, whole=name in WHOLE)
        for name, bounds in WORLD_NUMBERS.items()
        if name in record
    }
    file = None
    if measured:
        file = Path(_text(record["file"], "world.file"))
        file = file if file.is_absolute() or folder is None else folder / file
    return WorldSpec(kind, file, numbers)


def _fault(data: object, place: str) -> Fault:
    if not isinstance(data, Mapping):
        raise rejected(place, "must be a mapping")
    kind = Kind(_word(data.get("kind"), f"{place}.kind", tuple(k.value for k in Kind)))
    rule = KINDS[kind]
    aim = {
        Hits.LINKS: ("target", "direction") if kind is Kind.PARTITION else ("target", "link", "direction"),
        Hits.NODES: ("target",),
        Hits.TARGETS: ("target",),
        Hits.NOTHING: (),
    }[rule.hits]
    known = ("id", "kind", "at_s", "for_s", *aim, *rule.numbers, *(("what",) if rule.what else ()))
    record = _mapping(data, place, known)
    if aim and ("target" in record) == ("link" in record):
        raise rejected(
            f"{place}.target", "exactly one of target and link is required" if "link" in aim else "is required"
        )
    numbers = {}
    for name, bounds in rule.numbers.items():
        if name in record or bounds.default is None:
            numbers[name] = _number(_required(record, name, place), f"{place}.{name}", bounds)
    link = _link(record["link"], f"{place}.link") if "link" in record else None
    fallback = Direction.BOTH if link is None or kind is Kind.ASYMMETRY else Direction.OUT
    return Fault(
        id=_text(record.get("id", kind.value), f"{place}.id"),
        kind=kind,
        at_us=_micros(_required(record, "at_s", place), f"{place}.at_s", Number(0, DAY_S)),
        for_us=_micros(record["for_s"], f"{place}.for_s", Number(0.001, DAY_S)) if "for_s" in record else None,
        target=_target(record["target"], f"{place}.target", rule.hits) if "target" in record else None,
        link=link,
        direction=Direction(_word(record.get("direction", fallback.value), f"{place}.direction", tuple(Direction))),
        numbers=numbers,
        what=_word(record.get("what", rule.what[0]), f"{place}.what", rule.what) if rule.what else "",
    )


def _target(value: object, place: str, hits: Hits) -> Mapping[str, str] | str:
    text = _text(value, place)
    if text == BUSIEST:
        return text
    parts = selector(text, place)
    if "node" in parts and hits is not Hits.NODES:
        raise rejected(place, "node= is for faults of clocks and reports; links join data centers")
    return parts


def selector(text: str, place: str) -> Mapping[str, str]:
    """Parts of a SELECTOR such as ``provider=gcp,region=fra``. Raises ``bad_scenario``."""
    parts: dict[str, str] = {}
    for part in text.split(","):
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals or key not in SELECTOR_KEYS or not value:
            raise rejected(
                place, f"{part[:80]!r} must be KEY=ID with KEY one of {', '.join(SELECTOR_KEYS)}, or {BUSIEST}"
            )
        if key in parts:
            raise rejected(place, f"names {key} twice", 1)
        parts[key] = value
    return parts


def _link(value: object, place: str) -> tuple[str, str]:
    if not isinstance(value, list) or len(value) != 2:
        raise rejected(place, "must be a list [from, to] of two data centers", 2)
    source, target = (_text(end, f"{place}[{i}]") for i, end in enumerate(value))
    if source == target:
        raise rejected(place, "must join two different data centers")
    return source, target


def _expectation(data: object, place: str, faults: list[str]) -> Expectation:
    if not isinstance(data, Mapping):
        raise rejected(place, "must be a mapping")
    named = [name for name in EXPECTATIONS if name in data]
    if len(named) != 1:
        raise rejected(place, f"must have exactly one of {', '.join(EXPECTATIONS)}", 1)
    name = named[0]
    rule = EXPECTATIONS[name]
    record = _mapping(data, place, (name, *rule.numbers, *rule.words, *rule.texts))
    value: float | str | bool = True
    if rule.number is not None:
        value = _number(record[name], f"{place}.{name}", rule.number, whole=name in WHOLE)
    elif rule.text:
        value = _text(record[name], f"{place}.{name}")
    elif record[name] is not True:
        raise rejected(f"{place}.{name}", "must be true")
    options: dict[str, float | str] = {}
    for key, bounds in rule.numbers.items():
        if key in record:
            options[key] = _number(record[key], f"{place}.{key}", bounds, whole=key in WHOLE)
    for key, words in rule.words.items():
        options[key] = _word(record.get(key, words[0]), f"{place}.{key}", words)
    for key in rule.texts:
        if key in record:
            options[key] = _text(record[key], f"{place}.{key}")
    if "without" in options:
        selector(str(options["without"]), f"{place}.without")
    _check_fault(name, options, place, faults)
    return Expectation(name, value, options, place)


def _check_fault(name: str, options: Mapping[str, float | str], place: str, faults: list[str]) -> None:
    if "fault" in options and options["fault"] not in faults:
        raise rejected(f"{place}.fault", f"{options['fault']} is not the id of a fault of this scenario")
    if (name == "left_within_s" or "within_s" in options) and "fault" not in options:
        raise rejected(f"{place}.fault", "is required: whose start is time counted from?")


# --- values ----------------------------------------------------------------------------------------------------------


def _mapping(data: object, place: str, known: tuple[str, ...]) -> Mapping[str, Any]:
    if not isinstance(data, Mapping):
        raise rejected(place, "must be a mapping")
    for key in data:
        if key not in known:
            raise rejected(f"{place}.{str(key)[:80]}", f"is not a known field (known: {', '.join(known)})")
    return data


def _list(record: Mapping[str, Any], name: str, limit: int) -> list[object]:
    value = record.get(name, [])
    if not isinstance(value, list) or len(value) > limit:
        raise rejected(name, "must be a list", limit)
    return value


def _required(record: Mapping[str, Any], name: str, place: str = "") -> object:
    if name not in record:
        raise rejected(f"{place}.{name}" if place else name, "is required")
    return record[name]


def _text(value: object, place: str) -> str:
    if not isinstance(value, str) or not 0 < len(value.strip()) <= MAX_TEXT:
        raise rejected(place, "must be a text (in YAML, quote what looks like a number or a truth value)", MAX_TEXT)
    return value.strip()


def _word(value: object, place: str, words: tuple[str, ...]) -> str:
    if value not in words:
        raise rejected(place, f"{str(value)[:80]!r} must be one of {', '.join(words)}")
    return str(value)


def _number(value: object, place: str, bounds: Number, whole: bool = False) -> float:
    kind = int if whole else (int, float)
    if isinstance(value, bool) or not isinstance(value, kind) or not math.isfinite(value):
        raise rejected(place, "must be a whole number" if whole else "must be a number")
    if not bounds.low <= value <= bounds.high:
        over = value > bounds.high
        raise rejected(
            place, f"must be between {bounds.low:g} and {bounds.high:g}", bounds.high if over else bounds.low
        )
    return value if place == "seed" else float(value)


def _micros(value: object, place: str, bounds: Number) -> int:
    return round(_number(value, place, bounds) * 1e6)
