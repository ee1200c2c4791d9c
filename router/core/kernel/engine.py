"""Which engine does the arithmetic: the compiled extension if it was built, else numpy; answers are equal bit for bit.

An engine works on *reduced* costs: int64 microseconds, never negative, missing where ``>= limit`` (written back as
``2 * limit``). All arrays are C-contiguous; results go into arrays the caller brings. The functions say what they want
from an engine once, here; `fallback` is the readable form of each, `_kernel.c` the fast one.
"""

from __future__ import annotations

from typing import Any, Protocol

from numpy.typing import NDArray

from router.core.kernel import fallback
from router.core.tables import I16, I64, U8, Bool


class Engine(Protocol):
    """The operations that have a numpy and a compiled form. All raise ValueError on shapes that do not fit."""

    def product(
        self,
        head: I64,
        left: I64,
        right: I64,
        may_relay: Bool,
        relay_cost_us: int,
        limit: int,
        threads: int,
        best: I64,
        relay: I16,
        /,
    ) -> int:
        """``best = min(head, left * right)`` over the permitted relays ``k``, ties to the head, then the least ``k``.

        All ``[from, to]``; diagonals count as missing. ``relay`` int16 gets ``k`` or ``DIRECT``; it may have a third
        axis, whose first slot is used and whose others become ``DIRECT``. Returns how many entries are relayed, or -1
        if an operand is negative (then ``best`` and ``relay`` mean nothing).
        """

    def compose(self, first: I16, last: I16, max_relays: int, threads: int, relays: I16, /) -> None:
        """Relays ``[from, to, MAX_RELAYS]`` in order from two products' tables ``[from, to]``.

        ``first`` is the relay of every path with at most one. ``last`` joins such a path with one link
        (``max_relays`` 2) or with another such path (3).
        """

    def transpose(self, table: NDArray[Any], result: NDArray[Any], /) -> None:
        """``result[to, from] = table[from, to]``, int64 or int16."""

    def relax(self, cost: I64, limit: int, potential: I64, before: I64, /) -> bool:
        """A round of Bellman-Ford: lower ``potential[v]`` to the least ``potential[u] + cost[u, v]``, in place.

        ``before[v]`` gets the u that did it. False if nothing changed. Whether a round sees its own changes is up to
        the engine; where all rounds lead is not.
        """

    def shift(self, table: I64, limit: int, potential: I64, new_limit: int, threads: int, result: I64, /) -> int:
        """``result = table[u, v] + potential[u] - potential[v]``, missing from ``limit`` and ``new_limit`` up.

        The diagonal is missing too. Returns how many other entries are missing after but were not before.
        """

    def alternatives(
        self,
        cost: I64,
        may_relay: Bool,
        group: I16,
        relay_cost_us: int,
        limit: int,
        threads: int,
        best: I64,
        relay: I16,
        /,
    ) -> bool:
        """The three cheapest of: the direct link, and the best relay of each group; see `paths.alternatives`.

        False if a cost is negative.
        """

    def place(self, links: I64, links_t: I64, source: I64, target: I64, cost: I64, limit: int, changed: I64, /) -> int:
        """Write ``cost`` int64 ``[change]`` of ``source -> target`` into a table and its transpose, in this order.

        Changes on the diagonal are passed over; the flat indexes of the others go into ``changed`` int64 ``[change]``.
        Returns their number; -1, and nothing is written, if a cost is negative. ValueError for indexes out of range.
        """

    def update(
        self,
        head: I64,
        left: I64,
        left_t: I64,
        right: I64,
        right_t: I64,
        best: I64,
        best_t: I64,
        relay: I16,
        relay_t: I16,
        may_relay: Bool,
        relay_cost_us: int,
        limit: int,
        changed_head: I64,
        changed_left: I64,
        changed_right: I64,
        mark: U8,
        touched: I64,
        /,
    ) -> int:
        """Repair ``best`` and ``relay`` of a product (and their transposes) after some operands have changed.

        ``*_t`` are transposes; ``changed_*`` are flat indexes ``from * n + to`` into head, left and right, which hold
        the new values already. ``mark`` uint8 ``[from, to]`` is scratch, zero before and after. ``touched`` gets the
        flat indexes of all entries whose cost or relay changed or whose path uses a changed operand; returns their
        count, or -1 if there was no room for all (then redo the product).
        """


try:
    from router.core import _kernel
except ImportError:  # no compiler when it was installed
    COMPILED = False
    ENGINE: Engine = fallback
else:
    COMPILED = True
    ENGINE = _kernel
