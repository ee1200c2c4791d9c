"""Strict YAML for scenario files: what readers accept silently and people do not mean is refused."""

from __future__ import annotations

from collections.abc import Iterator

import yaml
from yaml.nodes import MappingNode, Node, SequenceNode

from router.core.errors import InputRejected
from router.sim.faults import rejected

MAX_BYTES = 1_000_000


def read_document(text: bytes) -> object:
    """Parse YAML. Raises ``bad_scenario`` for what is no YAML, a key given twice, an alias, or too long a file."""
    if len(text) > MAX_BYTES:
        raise rejected("file", "is too long for a scenario", MAX_BYTES)
    try:
        loader = yaml.SafeLoader(text.decode("utf-8"))
        root = loader.get_single_node()
        if root is None:
            raise rejected("file", "is empty")
        for place in _repeated(root, "", {}):
            raise rejected(place, "is given twice", 1)
        return loader.construct_document(root)
    except UnicodeDecodeError as error:
        raise rejected("file", "must be UTF-8") from error
    except RecursionError as error:
        raise rejected("file", "is nested too deeply") from error
    except yaml.YAMLError as error:
        raise rejected("file", f"must be YAML: {' '.join(str(error).split())[:300]}") from error


def _repeated(node: Node, place: str, met: dict[int, None]) -> Iterator[str]:
    """Places of keys that stand twice in a mapping: YAML readers keep the last one silently."""
    if id(node) in met:  # a short file could name billions of places by them
        raise rejected(place or "file", "must not be an alias (*name)")
    met[id(node)] = None
    if isinstance(node, MappingNode):
        seen: dict[str, None] = {}
        for key, value in node.value:
            name = f"{place}.{key.value}" if place else str(key.value)
            if str(key.value) in seen:
                yield name
            seen[str(key.value)] = None
            yield from _repeated(value, name, met)
    elif isinstance(node, SequenceNode):
        for i, value in enumerate(node.value):
            yield from _repeated(value, f"{place}[{i}]", met)


def with_line(error: InputRejected, text: bytes) -> InputRejected:
    """The same refusal with the line of its field in front, or of the nearest thing around a field that is missing."""
    root = yaml.SafeLoader(text.decode("utf-8")).get_single_node()
    if root is None or error.field is None:
        return error
    lines = dict(_lines(root, ""))
    place = error.field
    while place and place not in lines:
        place = place[: max(place.rfind("."), place.rfind("["), 0)]
    message = f"line {lines.get(place, 1)}: {error.message}"
    return InputRejected(error.code, message, field=error.field, rule=error.rule, limit=error.limit)


def _lines(node: Node, place: str) -> Iterator[tuple[str, int]]:
    """Places of all values with the number of the line that their key or item stands on."""
    yield place, node.start_mark.line + 1
    if isinstance(node, MappingNode):
        for key, value in node.value:
            name = f"{place}.{key.value}" if place else str(key.value)
            yield from _lines(value, name)
            yield name, key.start_mark.line + 1
    elif isinstance(node, SequenceNode):
        for i, value in enumerate(node.value):
            yield from _lines(value, f"{place}[{i}]")
