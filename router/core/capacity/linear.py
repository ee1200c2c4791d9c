"""Linear programmes as data: built here, solved by a worker."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from router.core.tables import F64, I64


@dataclass(frozen=True, eq=False)
class Linear:
    """``min cost x`` with ``a x <= bound`` and ``0 <= x <= most``; ``a`` as triples."""

    cost: F64
    most: F64
    rows: I64
    columns: I64
    values: F64
    bound: F64
    names: tuple[str, ...]  # of the rows


@dataclass(frozen=True, eq=False)
class Solution:
    """What a worker found; ``price[row]`` is what one more of a bound would save."""

    x: F64
    price: F64


class Builder:
    """Rows and columns as they come."""

    def __init__(self) -> None:
        self.cost: list[float] = []
        self._most: list[float] = []
        self._bound: list[float] = []
        self._names: list[str] = []
        self._triples: list[tuple[int, int, float]] = []

    def column(self, cost: float, most: float = np.inf) -> int:
        """A further variable; its number."""
        self.cost.append(cost)
        self._most.append(most)
        return len(self.cost) - 1

    def row(self, name: str, bound: float, entries: Iterable[tuple[int, float]]) -> None:
        """A further rule: the sum of the entries, ``(column, value)``, is at most the bound."""
        self._triples += [(len(self._bound), column, value) for column, value in entries]
        self._bound.append(bound)
        self._names.append(name)

    def built(self) -> Linear:
        """What came together."""
        row, column, value = zip(*self._triples, strict=True) if self._triples else ((), (), ())
        return Linear(
            np.array(self.cost), np.array(self._most), np.array(row, np.int64), np.array(column, np.int64),
            np.array(value, float), np.array(self._bound), tuple(self._names),
        )  # fmt: skip


def binding(asked: Linear, solution: Solution) -> list[tuple[str, float]]:
    """The rules that cost something, dearest first, and what one more would save."""
    found = [(name, float(price)) for name, price in zip(asked.names, solution.price, strict=True) if price > 1e-9]
    return sorted(found, key=lambda one: (-one[1], one[0]))
