"""What every report goes through, and what ends a bucket of theirs, compiled if there was a compiler at installation.

The numpy forms stand where their arrays are, and say what is done and why; these leave the same arrays, bit for bit,
or change nothing and say so: then the numpy form does it. So it is with reports that are not as decoding makes them,
and always where nothing was compiled.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

Columns = tuple[tuple[object, ...], ...]
Arrays = tuple[np.ndarray, ...]
Rules = tuple[int, int, int, int, int, int, int, float, float, float, float]

DONE, STEPPED, MISPLACED, SIBLINGS = range(4)
"""How far ``put_links`` came: to the end; to a clock that stepped, or that is not where it was placed; not even to the
beginning, as there are rows about nodes of the reporter's own data center."""


def links_each(
    columns: Columns, vertex: Mapping[Any, int], transport: Mapping[Any, int], offsets: Mapping[Any, float],
    own_offset: float, place: tuple[int, int, int, int, int], rules: Rules, heed_siblings: bool, arrays: Arrays, /,
) -> tuple[int, ...] | None:  # fmt: skip
    """Put a report into the estimates of links (``estimate.py``); ``place`` is source, sizes, time and slot.

    Answers how far it came, how many rows are about other data centers, how many of those are believed, how many cells
    the loss tests must look at, and how many rows were left out: unknown peers, faster than light, contradictions,
    clocks. The last of the arrays gets what each row is about and what to expect of its link. ``None``: nothing done.
    """
    return None


def health_each(source: int, data_centers: int, now: int, rows: int, arrays: Arrays, /) -> bool:
    """Count a report's evidence about data centers (``health.py``); whether that was done."""
    return False


def cells_each(
    columns: Columns, numbers: Mapping[Any, int], source: int, nodes: int, now: int, room: int,
    rules: tuple[int, int, float], arrays: Arrays, /,
) -> bool:  # fmt: skip
    """Count a report's probes in the cells of blame (``blame/book.py``); whether that was done."""
    return False


def noted_each(
    columns: Columns, homes: Mapping[Any, int], transports: Mapping[Any, int], own: int, rows: int, room: int,
    arrays: Arrays, /,
) -> tuple[int, int] | None:  # fmt: skip
    """Note a report for the roll-up (``rollup.py``): how many rows, and values of sketches; ``None``: nothing done."""
    return None


def history_each(
    links: int, rules: tuple[int, int, int, int, float, float, float, float, float], arrays: Arrays, /
) -> int | None:
    """End a bucket of the history of delays (``history.py``): how many levels changed; ``None``: nothing done."""
    return None


try:
    from router.core import _evidence

    put_links, count_health = _evidence.links, _evidence.health
    count_cells, note_rows, close_bucket = _evidence.cells, _evidence.noted, _evidence.history
except ImportError:  # no compiler when it was installed
    put_links, count_health, count_cells, note_rows = links_each, health_each, cells_each, noted_each
    close_bucket = history_each
