"""The JSON Schema of scenario files, made from the very tables that the reader checks against.

The reader is stricter where a schema cannot be: ids must be unique and refer to something, times must lie within the
run, and names must exist in the world.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from router.core.model import ID_PATTERN
from router.sim.actions import ACTIONS, ActionRule, Do
from router.sim.faults import DAY_S, KINDS, Direction, Hits, Kind, KindRule, Number
from router.sim.reading import MAX_TEXT, WHOLE
from router.sim.scenario import (
    EXPECTATIONS,
    MAX_FAULTS,
    MAX_SEED,
    USERS_NUMBERS,
    WAITS_FOR,
    WORLD_KINDS,
    WORLD_NUMBERS,
    Rule,
)

Json = dict[str, object]
TEXT: Json = {"type": "string", "minLength": 1, "maxLength": MAX_TEXT}
PARTS = "KEY=ID, joined by commas; KEY is provider, region or data_center"


def scenario_schema() -> Json:
    """The schema of a whole file (JSON Schema 2020-12)."""
    fields: Json = {
        "name": {"type": "string", "pattern": ID_PATTERN},
        "about": TEXT | {"description": "one sentence"},
        "duration_s": _number("duration_s", Number(1, DAY_S), "virtual time"),
        "seed": {"type": "integer", "minimum": 0, "maximum": MAX_SEED, "default": 1},
        "world": _world(),
        "users": _object(_numbers(USERS_NUMBERS), [n for n, b in USERS_NUMBERS.items() if b.default is None]),
        "faults": _list({"oneOf": [_fault(kind, rule) for kind, rule in KINDS.items()]}),
        "actions": _list({"oneOf": [_action(do, rule) for do, rule in ACTIONS.items()]}),
        "expect": _list({"oneOf": [_expectation(name, rule) for name, rule in EXPECTATIONS.items()]}),
    }
    top = _object(fields, ["name", "about", "duration_s"])
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Tendril scenario", **top}


def _world() -> Json:
    fields: Json = {"kind": {"enum": list(WORLD_KINDS), "default": WORLD_KINDS[0]}, "file": TEXT}
    return _object(fields | _numbers(WORLD_NUMBERS), [])


def _fault(kind: Kind, rule: KindRule) -> Json:
    fields: Json = {
        "kind": {"const": kind.value},
        "id": TEXT,
        "at_s": _number("at_s", Number(0, DAY_S), "when it starts"),
        "for_s": _number("for_s", Number(0.001, DAY_S), "how long it lasts; for the rest of the run if not given"),
    }
    aims: list[Json] = []
    if rule.hits is not Hits.NOTHING:
        fields["target"] = TEXT | {"description": f"{PARTS}; or busiest-relay"}
        aims.append({"required": ["target"]})
    if rule.hits is Hits.LINKS:
        fields["peer"] = TEXT | {"description": f"only links between the target and these: {PARTS}"}
        fields["direction"] = {"enum": [d.value for d in Direction]}
        if kind is not Kind.PARTITION:
            fields["link"] = {"type": "array", "items": TEXT, "minItems": 2, "maxItems": 2}
            aims.append({"required": ["link"]})
    if rule.what:
        fields["what"] = {"enum": list(rule.what), "default": rule.what[0]}
    required = ["kind", "at_s", *(n for n, b in rule.numbers.items() if b.default is None)]
    found = _object(fields | _numbers(rule.numbers), required) | {"description": rule.about}
    return found | ({"oneOf": aims} if aims else {})


def _action(do: Do, rule: ActionRule) -> Json:
    aim = "drain" if rule.of_drain else "target"
    about = "id of the action that opened the drain" if rule.of_drain else PARTS
    fields: Json = {
        "do": {"const": do.value},
        "id": TEXT,
        "at_s": _number("at_s", Number(0, DAY_S), "when"),
        aim: TEXT | {"description": about},
    }
    fields |= _numbers(rule.numbers) | {name: {"enum": list(words)} for name, words in rule.words.items()}
    fields |= {flag: {"type": "boolean", "default": False} for flag in rule.flags}
    return _object(fields, ["do", "at_s", aim]) | {"description": rule.about}


def _expectation(name: str, rule: Rule) -> Json:
    own: Json = TEXT if rule.text else {"const": True}
    if rule.number is not None:
        own = _number(name, rule.number, rule.about)
    fields: Json = {name: own, **_numbers(rule.numbers), **{n: {"enum": list(w)} for n, w in rule.words.items()}}
    fields |= dict.fromkeys((*rule.texts, WAITS_FOR), TEXT)
    return _object(fields, [name]) | {"description": rule.about}


def _object(fields: Json, required: Iterable[str]) -> Json:
    return {"type": "object", "properties": fields, "required": list(required), "additionalProperties": False}


def _list(items: Json) -> Json:
    return {"type": "array", "items": items, "maxItems": MAX_FAULTS}


def _numbers(bounds: Mapping[str, Number]) -> Json:
    return {name: _number(name, number, "") for name, number in bounds.items()}


def _number(name: str, bounds: Number, about: str) -> Json:
    found: Json = {
        "type": "integer" if name in WHOLE else "number",
        "minimum": int(bounds.low) if name in WHOLE else bounds.low,
        "maximum": int(bounds.high) if name in WHOLE else bounds.high,
    }
    if bounds.default is not None:
        found["default"] = bounds.default
    return found | ({"description": about} if about else {})
