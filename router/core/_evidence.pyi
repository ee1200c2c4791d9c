"""The compiled forms of what every report goes through; `router.core.compiled` says what each answers."""

from collections.abc import Mapping
from typing import Any

from router.core.compiled import Arrays, Columns, Rules

def links(
    columns: Columns,
    vertex: Mapping[Any, int],
    transport: Mapping[Any, int],
    offsets: Mapping[Any, float],
    own_offset: float,
    place: tuple[int, int, int, int, int],
    rules: Rules,
    heed_siblings: bool,
    arrays: Arrays,
    /,
) -> tuple[int, ...] | None: ...
def health(source: int, data_centers: int, now: int, rows: int, arrays: Arrays, /) -> bool: ...
def cells(
    columns: Columns,
    numbers: Mapping[Any, int],
    source: int,
    nodes: int,
    now: int,
    room: int,
    rules: tuple[int, int, float],
    arrays: Arrays,
    /,
) -> bool: ...
def noted(
    columns: Columns,
    homes: Mapping[Any, int],
    transports: Mapping[Any, int],
    own: int,
    rows: int,
    room: int,
    arrays: Arrays,
    /,
) -> tuple[int, int] | None: ...
def history(
    links: int,
    rules: tuple[int, int, int, int, float, float, float, float, float],
    arrays: Arrays,
    /,
) -> int | None: ...
