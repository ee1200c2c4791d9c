"""Strict YAML for scenario files: what readers accept silently and people do not mean is refused."""

from __future__ import annotations

from collections.abc import Iterator

import yaml
from yaml.nodes import MappingNode, Node, SequenceNode

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
