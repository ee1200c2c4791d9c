"""The fleet file: a whole fleet as YAML, checked here so that a mistake is named by file and line.

Three kinds of mistakes get a line number: what is no YAML, a key given twice (YAML readers keep the last one silently),
and whatever breaks the contract's models. What only the control plane can know (references, limits across resources)
comes back as a field name, which :meth:`FleetFile.line_of` turns into a line again.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from router.core.errors import InputRejected
from router.schemas.resources import BODIES

SECTIONS = {kind.replace("-", "_"): model for kind, model in BODIES.items()}
_KNOWN = (*SECTIONS, "managed_by")
_MAX_PLACES = 1_000_000  # aliases let a short file name billions of places
_SHOWN = 20  # mistakes printed at once
_RULES = {"missing": "is required", "extra_forbidden": "is not a known field"}
_QUOTES = "; YAML reads a bare NO, yes, on or off as true or false: put it in quotes"

Place = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Mistake:
    """One broken rule and where it stands."""

    line: int
    field: str
    rule: str


@dataclass(frozen=True, slots=True)
class FleetFile:
    """A checked fleet file: the body for the API, and the line of every place in it."""

    path: Path
    body: dict[str, Any]
    lines: Mapping[Place, int]

    def line_of(self, field: str) -> int | None:
        """Return the line of a field (``regions[3].latitude``, ``data_centers.oracle-sin1.roles``) or what holds it."""
        section, *rest = re.findall(r"\[\d+\]|[^.\[\]]+", field) or [""]
        place: Place = (section,)
        for part in rest:
            place = (*place, self._step(place, part))
        known = (place[:length] for length in range(len(place), 0, -1))
        return next((self.lines[part] for part in known if part in self.lines), None)

    def _step(self, place: Place, part: str) -> str | int:
        if part.startswith("["):
            return int(part[1:-1])
        entries = self.body.get(str(place[0])) if len(place) == 1 else None
        if isinstance(entries, list):
            by_id = next((i for i, entry in enumerate(entries) if entry.get("id") == part), None)
            if by_id is not None:
                return by_id
        return int(part) if part.isdigit() else part


def read(path: Path) -> FleetFile:
    """Read and check a fleet file. Raises ``InputRejected`` that names file, line, field and rule."""
    document, lines = _document(path)
    mistakes = sorted(_mistakes(document, lines), key=lambda m: (m.line, m.field))
    if mistakes:
        raise _rejected(path, mistakes)
    assert isinstance(document, dict)
    return FleetFile(path, document, lines)


def _rejected(path: Path, mistakes: list[Mistake]) -> InputRejected:
    shown = [f"{path}:{m.line}: {m.field} {m.rule}" for m in mistakes[:_SHOWN]]
    if len(mistakes) > _SHOWN:
        shown.append(f"and {len(mistakes) - _SHOWN} more")
    first = mistakes[0]
    return InputRejected("fleet_file_invalid", "\n".join(shown), field=first.field, rule=first.rule)


# --- YAML ------------------------------------------------------------------------------------------------------------


def _document(path: Path) -> tuple[object, dict[Place, int]]:
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        line = path.read_bytes()[: error.start].count(b"\n") + 1
        raise _rejected(path, [Mistake(line, "file", "must be UTF-8")]) from error
    except OSError as error:
        raise InputRejected("fleet_file_unreadable", f"{path}: {error.strerror}", field="FILE") from error
    try:
        loader = yaml.SafeLoader(text)
        root = loader.get_single_node()
        if root is None:
            raise _rejected(path, [Mistake(1, "file", "is empty")])
        lines: dict[Place, int] = {}
        repeated = list(_walk(root, (), lines, []))
        if len(lines) > _MAX_PLACES:
            raise _rejected(path, [Mistake(1, "file", f"must not have more than {_MAX_PLACES} values")])
        if repeated:
            raise _rejected(path, repeated)
        return loader.construct_document(root), lines
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        what = " ".join(part for part in (error.context, error.problem) if part)
        raise _rejected(path, [Mistake(mark.line + 1 if mark else 1, "YAML", what)]) from error
    except yaml.YAMLError as error:  # a character that YAML does not allow
        line = text[: getattr(error, "position", 0)].count("\n") + 1
        raise _rejected(path, [Mistake(line, "YAML", str(error).splitlines()[0])]) from error
    except RecursionError as error:
        raise _rejected(path, [Mistake(1, "YAML", "is nested too deep")]) from error


def _walk(node: Node, place: Place, lines: dict[Place, int], above: list[Node]) -> Iterator[Mistake]:
    if len(lines) > _MAX_PLACES:
        return
    lines[place] = node.start_mark.line + 1
    if any(node is outer for outer in above):
        yield Mistake(lines[place], _field(place), "must not contain itself")
        return
    if isinstance(node, SequenceNode):
        for i, child in enumerate(node.value):
            yield from _walk(child, (*place, i), lines, [*above, node])
    elif isinstance(node, MappingNode):
        seen: set[str] = set()
        for key, child in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, ScalarNode):
                yield Mistake(line, _field(place), "has a key that is no text")
                continue
            if key.value in seen:
                yield Mistake(line, _field((*place, key.value)), "is given twice")
            seen.add(key.value)
            yield from _walk(child, (*place, key.value), lines, [*above, node])
            lines[*place, key.value] = line


# --- rules -----------------------------------------------------------------------------------------------------------


def _mistakes(document: object, lines: Mapping[Place, int]) -> Iterator[Mistake]:
    if not isinstance(document, dict):
        yield Mistake(1, "file", f"must be a mapping with the sections {', '.join(_KNOWN)}")
        return
    for name, section in document.items():
        if name not in _KNOWN:
            line = lines.get((str(name),), 1)
            yield Mistake(line, str(name), f"is not a known section; known are {', '.join(_KNOWN)}")
        elif name == "managed_by":
            if not isinstance(section, str):
                yield Mistake(lines[name,], name, "must be an id")
        elif not isinstance(section, list):
            yield Mistake(lines[name,], name, "must be a list")
        else:
            yield from _section(name, section, lines)


def _section(name: str, section: list[object], lines: Mapping[Place, int]) -> Iterator[Mistake]:
    first: dict[str, int] = {}
    for i, entry in enumerate(section):
        place: Place = (name, i)
        try:
            id = SECTIONS[name].model_validate(entry).id
        except ValidationError as error:
            yield from _broken(error, place, lines)
            continue
        if id is None:
            yield Mistake(lines[place], _field((*place, "id")), "is required")
        elif id in first:
            yield Mistake(lines[place], _field((*place, "id")), f"repeats {id} of line {first[id]}")
        else:
            first[id] = lines[place]


def _broken(error: ValidationError, place: Place, lines: Mapping[Place, int]) -> Iterator[Mistake]:
    told: set[Place] = set()
    for one in error.errors(include_url=False):
        where = (*place, *one["loc"])
        known = next(where[:n] for n in range(len(where), 0, -1) if where[:n] in lines)
        # Beyond what is written stands the field that is missing, or pydantic's name of an alternative it tried.
        named = where if one["type"] == "missing" else known
        if named in told:
            continue
        told.add(named)
        rule = _RULES.get(one["type"]) or one["msg"][:1].lower() + one["msg"][1:]
        if one["type"] == "string_type" and isinstance(one["input"], bool):
            rule += _QUOTES
        yield Mistake(lines[known], _field(named), rule)


def _field(place: Place) -> str:
    text = ""
    for part in place:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text.removeprefix(".") or "file"
