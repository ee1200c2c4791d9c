"""Exact repair of best paths when a few links have changed.

In a product ``min(head, left * right)`` the operand ``left[a, b]`` can matter only to row a (over relay b), and
``right[a, b]`` only to column b (over relay a). So a changed link is offered to one row and one column, O(n) each, read
contiguously because every table is kept beside its transpose. Entries that used the link and have become dearer are
computed afresh, O(n) each. The entries that changed are in turn the changed operands of the second product. The result
equals a full solve bit for bit, relays on ties included.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from router.core.kernel.engine import ENGINE, Engine
from router.core.kernel.fallback import compose_some
from router.core.kernel.paths import check
from router.core.kernel.potentials import REDUCED_LIMIT, UNREACHABLE, johnson, reduce, restore
from router.core.model import MAX_RELAYS
from router.core.tables import DIRECT, I16, I64, NO_COST, Bool

# How many changed links, and how many entries changed by them in the first product, are still quicker to repair than to
# solve anew: a repair is O(n) each and a product O(n^3), so these are shares of n^2 (measured at n = 300 and 1,000).
MOST_LINKS, MOST_ENTRIES = 1 / 250, 1 / 100


def worth_repairing(count: int, n: int, share: float) -> bool:
    """Is it likely quicker to repair ``count`` changes than to compute a product anew?"""
    return count <= max(n, n * n * share)


@dataclass(slots=True)
class Mirrored:
    """A table ``[from, to]`` and, once somebody asks, its transpose; who writes into one writes into both."""

    value: NDArray[Any]
    _transpose: NDArray[Any] | None = None

    def transpose(self, engine: Engine) -> NDArray[Any]:
        """The transpose, laid out by rows."""
        if self._transpose is None:
            self._transpose = np.empty_like(self.value)
            engine.transpose(self.value, self._transpose)
        return self._transpose


@dataclass(slots=True)
class Product:
    """``best = min(head, left * right)`` with its relays, and the operands it came from."""

    head: Mirrored
    left: Mirrored
    right: Mirrored
    best: Mirrored
    relay: Mirrored


class Incremental:
    """Best paths that follow changes of single links.

    ``total`` int64 ``[from, to]`` and ``relays`` int16 ``[from, to, MAX_RELAYS]`` are what `solve_context` would return
    for the costs as changed. They are written in place by `update`: copy what must outlive it.
    """

    def __init__(
        self,
        cost: I64,
        may_relay: Bool,
        max_relays: int,
        relay_cost_us: int,
        threads: int = 1,
        *,
        engine: Engine = ENGINE,
    ) -> None:
        check(cost, may_relay, max_relays, relay_cost_us)
        n = len(may_relay)
        self._cost = np.where(cost < UNREACHABLE, cost, NO_COST)
        np.fill_diagonal(self._cost, NO_COST)
        self._may_relay = may_relay.copy() if max_relays else np.zeros(n, np.bool_)
        self._max_relays, self._relay_cost_us = max_relays, relay_cost_us
        self._threads, self._engine = threads, engine
        self._mark = np.zeros((n, n), np.uint8)
        self._touched = np.empty(n * n, np.int64)
        self.relays: I16 = np.empty((n, n, MAX_RELAYS), np.int16)
        self._solve()

    def update(self, source: I64, target: I64, new_cost: I64) -> bool:
        """Take new costs int64 ``[change]`` of the links ``source -> target`` (the last of equals wins).

        True if the answer was repaired, False if it was solved anew, which is quicker for many changes. Raises what
        `johnson` raises; after that only an update that mends the costs makes the answer meaningful again.
        """
        source, target, new_cost = (np.ascontiguousarray(each, np.int64) for each in (source, target, new_cost))
        if not source.shape == target.shape == new_cost.shape or source.ndim != 1:
            raise ValueError(
                f"shapes {source.shape}, {target.shape}, {new_cost.shape} must be one and the same [change]"
            )
        count = -1
        if not self._broken and worth_repairing(source.size, len(self._cost), MOST_LINKS):
            changed = np.empty(source.size, np.int64)
            count = self._place(source, target, new_cost, changed)
        if count >= 0 and self._repair(changed[:count]):
            return True
        self._overwrite(source, target, new_cost)
        self._solve()
        return False

    def _place(self, source: I64, target: I64, new_cost: I64, changed: I64) -> int:
        """New costs into the links that products see; -1 if the potentials do not keep them from being negative."""
        links, transpose = self._links.value, self._links.transpose(self._engine)
        if self._potential is None:
            return self._engine.place(links, transpose, source, target, new_cost, self._limit, changed)
        self._overwrite(source, target, new_cost)
        shifted = new_cost + self._potential[source] - self._potential[target]
        shifted[new_cost >= UNREACHABLE] = 2 * self._limit
        return self._engine.place(links, transpose, source, target, shifted, self._limit, changed)

    def _overwrite(self, source: I64, target: I64, new_cost: I64) -> None:
        n = len(self._cost)
        if source.size and not 0 <= min(source.min(), target.min()) <= max(source.max(), target.max()) < n:
            raise ValueError(f"a changed link joins vertices outside 0..{n - 1}")
        self._cost[source, target] = np.minimum(new_cost, NO_COST)
        np.fill_diagonal(self._cost, NO_COST)

    def _solve(self) -> None:
        """Everything from the costs alone."""
        self._potential: I64 | None = None
        self._limit = int(UNREACHABLE)
        links = self._cost
        if links.min(initial=0) < 0:
            self._broken = True
            self._potential, self._limit = johnson(self._cost, engine=self._engine), REDUCED_LIMIT
            links = reduce(self._cost, self._potential, self._threads, engine=self._engine)
        self._broken = False
        self._links = Mirrored(links)
        self._products = [self._product(self._links, self._links, self._links)]
        if self._max_relays >= 2:
            self._products.append(self._second())
        self._publish()

    def _product(self, head: Mirrored, left: Mirrored, right: Mirrored) -> Product:
        best, relay = np.empty_like(head.value), np.empty(head.value.shape, np.int16)
        operands = (head.value, left.value, right.value)
        self._engine.product(*operands, self._may_relay, self._relay_cost_us, self._limit, self._threads, best, relay)
        return Product(head, left, right, Mirrored(best), Mirrored(relay))

    def _second(self) -> Product:
        once = self._products[0].best
        return self._product(once, once, self._links if self._max_relays == 2 else once)

    def _publish(self) -> None:
        first, last = self._products[0], self._products[-1]
        if first is last:
            self.relays[:, :, 0] = first.relay.value
            self.relays[:, :, 1:] = DIRECT
        else:
            self._engine.compose(first.relay.value, last.relay.value, self._max_relays, self._threads, self.relays)
        self.total: I64 = last.best.value
        if self._potential is not None:
            self.total = restore(self.total, self._potential, self.relays, self._threads, engine=self._engine)

    def _repair(self, changed: I64) -> bool:
        """Carry changed links through one product or two; False if there is no room for that."""
        touched = self._repair_product(self._products[0], changed, changed, changed)
        if touched is None:
            return False
        if self._max_relays >= 2:
            once = touched.copy()
            right = changed if self._max_relays == 2 else once
            few = worth_repairing(len(once), len(self._cost), MOST_ENTRIES)
            touched = self._repair_product(self._products[1], once, once, right) if few else None
            if touched is None:
                self._products[1] = self._second()
                self._publish()
                return True
        self._publish_some(touched)
        return True

    def _repair_product(self, product: Product, head: I64, left: I64, right: I64) -> I64 | None:
        engine = self._engine
        count = engine.update(
            product.head.value,
            product.left.value,
            product.left.transpose(engine),
            product.right.value,
            product.right.transpose(engine),
            product.best.value,
            product.best.transpose(engine),
            product.relay.value,
            product.relay.transpose(engine),
            self._may_relay,
            self._relay_cost_us,
            self._limit,
            head,
            left,
            right,
            self._mark,
            self._touched,
        )
        return None if count < 0 else self._touched[:count]

    def _publish_some(self, entries: I64) -> None:
        """Bring ``total`` and ``relays`` up to date at these flat indexes."""
        n = len(self._cost)
        first, last = self._products[0], self._products[-1]
        if first is last:
            self.relays.reshape(-1, MAX_RELAYS)[entries, 0] = last.relay.value.ravel()[entries]
        else:
            source, target = np.divmod(entries, n)
            compose_some(first.relay.value, last.relay.value, self._max_relays, self.relays, source, target)
        if self._potential is not None:
            source, target = np.divmod(entries, n)
            total = last.best.value[source, target]
            actual = total + self._potential[target] - self._potential[source]
            reachable = (total < self._limit) & (actual < UNREACHABLE)
            self.total[source, target] = np.where(reachable, actual, NO_COST)
            self.relays[source[~reachable], target[~reachable]] = DIRECT
