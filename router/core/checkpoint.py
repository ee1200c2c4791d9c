"""A copy of the core's state that later inputs do not reach, so that a worker can write it down while the core goes on.

What is immutable by contract is shared: values, tuples, frozen dataclasses and read-only arrays. Copied are arrays that
may be written to, containers, and the core's own mutable objects, attribute by attribute.
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
    match value:
        case np.ndarray():
            return value.copy() if value.flags.writeable else value
        case dict():
            return {key: copied(held) for key, held in value.items()}
        case list():
            return [copied(held) for held in value]
        case deque():
            return deque((copied(held) for held in value), value.maxlen)
        case _ if _is_mutable(value):
            twin = copy.copy(value)
            for name, held in vars(twin).items():
                setattr(twin, name, copied(held))
            return twin
        case _:
            return value


def _is_mutable(value: object) -> bool:
    kind = type(value)
    return kind.__module__.startswith(CORE) and not is_dataclass(value) and not isinstance(value, Enum)
