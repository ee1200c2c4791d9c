"""The compiled engine; see `router.core.kernel.engine.Engine` for what each function does."""

from typing import Any

from numpy.typing import NDArray

from router.core.tables import I16, I64, U8, Bool

def product(
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
) -> int: ...
def compose(first: I16, last: I16, max_relays: int, threads: int, relays: I16, /) -> None: ...
def transpose(table: NDArray[Any], result: NDArray[Any], /) -> None: ...
def relax(cost: I64, limit: int, potential: I64, before: I64, /) -> bool: ...
def shift(table: I64, limit: int, potential: I64, new_limit: int, threads: int, result: I64, /) -> int: ...
def alternatives(
    cost: I64, may_relay: Bool, group: I16, relay_cost_us: int, limit: int, threads: int, best: I64, relay: I16, /
) -> bool: ...
def place(links: I64, links_t: I64, source: I64, target: I64, cost: I64, limit: int, changed: I64, /) -> int: ...
def update(
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
) -> int: ...
def use(name: str, /) -> str: ...
