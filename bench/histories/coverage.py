"""Which transitions of the tables were taken: the tables themselves count while they are looked at."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from router.core import drain, pools
from router.core.drain import states
from router.core.ramp import life

TABLES: Mapping[str, tuple[Any, str]] = {
    "sessions": (pools, "SESSION_TRANSITIONS"),
    "agents": (pools, "AGENT_TRANSITIONS"),
    "drains": (states, "TRANSITIONS"),
    "ramps": (life, "TRANSITIONS"),
}
Taken = dict[str, Counter[tuple[str, str]]]


class _Counting(dict[Any, Any]):
    """A table that counts what is found in it."""

    def __init__(self, table: Mapping[Any, Any], taken: Counter[tuple[str, str]]) -> None:
        super().__init__(table)
        self._taken = taken

    def get(self, key: Any, default: Any = None) -> Any:
        found = super().get(key, default)
        if found is not default:
            self._taken[key[0].value, key[1]] += 1
        return found


@contextmanager
def counted() -> Iterator[Taken]:
    """Count the transitions that are taken meanwhile."""
    taken: Taken = {name: Counter() for name in TABLES}
    before = {name: getattr(module, table) for name, (module, table) in TABLES.items()}
    try:
        for name, (module, table) in TABLES.items():
            setattr(module, table, _Counting(before[name], taken[name]))
        yield taken
    finally:
        for name, (module, table) in TABLES.items():
            setattr(module, table, before[name])


def missing(taken: Taken) -> list[str]:
    """Transitions of the tables that nobody took."""
    tables: Mapping[str, Mapping[Any, Any]] = {
        "sessions": pools.SESSION_TRANSITIONS, "agents": pools.AGENT_TRANSITIONS, "drains": drain.TRANSITIONS,
        "ramps": life.TRANSITIONS,
    }  # fmt: skip
    return [
        f"{name}: {state.value} {event}"
        for name, table in tables.items()
        for state, event in table
        if not taken[name][state.value, event]
    ]
