"""A copy of the core's state that later inputs do not reach, so that a worker can write it down while the core goes on.

What is immutable by contract is shared: values, tuples, frozen dataclasses and read-only arrays. Copied are arrays that
may be written to, containers, and the core's own mutable objects, attribute by attribute. Containers are copied whole
first, since tens of thousands of immutable values in one are usual, and only what must be is put in anew.
"""

from __future__ import annotations

import copy
from collections import deque
from dataclasses import is_dataclass
from enum import Enum
from typing import Any

import numpy as np

CORE = "router.core."


def copied(value: Any) -> Any:
    """The copy."""
    return _copied(value, {})


def _copied(value: Any, shared: dict[type, bool]) -> Any:
    """``shared``: of each type that was met, whether its values are shared."""
    match value:
        case np.ndarray():
            return value.copy() if value.flags.writeable else value
        case dict():
            table = value.copy()
            for key, held in value.items():
                if not _is_shared(type(held), shared):
                    table[key] = _copied(held, shared)
            return table
        case list() | deque():
            row = value.copy()
            for place, held in enumerate(value):
                if not _is_shared(type(held), shared):
                    row[place] = _copied(held, shared)
            return row
        case _ if _is_shared(type(value), shared):
            return value
        case _:
            twin = copy.copy(value)
            for name, held in vars(twin).items():
                setattr(twin, name, _copied(held, shared))
            return twin


def _is_shared(kind: type, shared: dict[type, bool]) -> bool:
    found = shared.get(kind)
    if found is None:
        found = shared[kind] = not (issubclass(kind, (np.ndarray, dict, list, deque)) or _is_mutable(kind))
    return found


def _is_mutable(kind: type) -> bool:
    return kind.__module__.startswith(CORE) and not is_dataclass(kind) and not issubclass(kind, Enum)
