"""Measured series: a CSV file of round trips per time slice becomes one array.

The form is ``slice, src, <one column per destination>``, milliseconds, an empty cell is missing, ``.gz`` loads too.
Rows may come in any order; a source that has no row in a slice measured nothing in it. Slice numbers are labels: they
need not begin at 0 or be contiguous, they are only sorted. Half of a cell is the one-way delay of that directed link,
as in every file of which only round trips are known. The cell from a node to itself is not a link and becomes missing.
"""

from __future__ import annotations

import csv
import gzip
import math
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import numpy as np
from numpy.typing import NDArray

from router.core.errors import InputRejected

F64 = NDArray[np.float64]

MAX_RTT_MS = 3_600_000.0  # an hour; beyond it a cell is a unit error, not a round trip
MAX_NODES = 2_000
MAX_CELLS = 1 << 28  # 2 GiB of float64
CODE = "bad_series"


@dataclass(frozen=True, eq=False)
class Series:
    """Round trips over time; ``rtt_ms`` float64 ``[slice, from, to]`` in milliseconds, NaN where missing."""

    nodes: tuple[str, ...]
    slices: tuple[int, ...]  # label of each slice as the file writes it, ascending
    rtt_ms: F64

    @property
    def one_way_ms(self) -> F64:
        """Half of each round trip: the delay of a directed link, float64 ``[slice, from, to]``."""
        half: F64 = self.rtt_ms / 2
        return half


def load_series(path: str | Path) -> Series:
    """Load a series from a file.

    Raises ``InputRejected("bad_series")`` with the line and the broken rule, also for a file that cannot be read.
    """
    path = Path(path)
    try:
        with _open(path) as file:
            return parse_series(csv.reader(file), path.name)
    except (OSError, EOFError, UnicodeDecodeError, csv.Error, zlib.error) as error:
        raise InputRejected(CODE, f"{path.name}: {error}", field="file", rule="must be readable UTF-8 CSV") from error


def parse_series(rows: Iterator[Sequence[str]], name: str) -> Series:
    """Build a series from rows of text, header first; ``name`` appears in errors."""
    header = next(rows, None)
    nodes = _nodes(header, name)
    index = {node: i for i, node in enumerate(nodes)}
    by_slice: dict[int, F64] = {}
    present: set[tuple[int, int]] = set()
    for line, cells in enumerate(rows, 2):
        if not cells:
            continue
        label, source = _place(cells, index, name, line)
        if (label, source) in present:
            raise _rejected(name, line, "slice, src", f"{cells[0]}, {cells[1]} must appear once")
        present.add((label, source))
        if label not in by_slice:
            _check_size(len(by_slice) + 1, len(nodes), name, line)
            by_slice[label] = np.full((len(nodes), len(nodes)), np.nan)
        by_slice[label][source] = _values(cells[2:], nodes, name, line)
    if not by_slice:
        raise _rejected(name, 2, "row", "a series needs at least one slice", 1)
    labels = tuple(sorted(by_slice))
    rtt_ms = np.stack([by_slice.pop(label) for label in labels])
    diagonal = np.arange(len(nodes))
    rtt_ms[:, diagonal, diagonal] = np.nan
    return Series(nodes, labels, rtt_ms)


def _open(path: Path) -> TextIO:
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    return (
        gzip.open(path, "rt", encoding="utf-8-sig", newline="")
        if packed
        else path.open(encoding="utf-8-sig", newline="")
    )


def _rejected(name: str, line: int, field: str, rule: str, limit: int | float | None = None) -> InputRejected:
    text = f"{name}, line {line}: {field}: {rule}"
    return InputRejected(CODE, text, field=f"line {line}: {field}", rule=rule, limit=limit)


def _nodes(header: Sequence[str] | None, name: str) -> tuple[str, ...]:
    cells = [] if header is None else [cell.strip() for cell in header]
    if [cell.lower() for cell in cells[:2]] != ["slice", "src"]:
        raise _rejected(name, 1, "header", "must begin with slice,src and then name one column per destination")
    nodes = tuple(cells[2:])
    if not 2 <= len(nodes) <= MAX_NODES:
        raise _rejected(name, 1, "header", f"must name 2 to {MAX_NODES} destinations, not {len(nodes)}", MAX_NODES)
    if "" in nodes:
        raise _rejected(name, 1, "header", "a destination must have a name")
    twice = sorted({node for node in nodes if nodes.count(node) > 1}) if len(set(nodes)) < len(nodes) else []
    if twice:
        raise _rejected(name, 1, "header", f"destination {twice[0]!r} must be named once")
    return nodes


def _place(cells: Sequence[str], index: dict[str, int], name: str, line: int) -> tuple[int, int]:
    if len(cells) != len(index) + 2:
        raise _rejected(name, line, "row", f"must have {len(index) + 2} cells, not {len(cells)}", len(index) + 2)
    text = cells[0].strip()
    if not (text.isascii() and text.isdigit() and len(text) <= 15):
        raise _rejected(name, line, "slice", f"{text[:40]!r} must be a whole number that is not negative")
    source = index.get(cells[1].strip())
    if source is None:
        raise _rejected(name, line, "src", f"{cells[1].strip()[:40]!r} must be one of the destination columns")
    return int(text), source


def _values(cells: Sequence[str], nodes: tuple[str, ...], name: str, line: int) -> list[float]:
    try:
        values = [float(cell) if cell and not cell.isspace() else math.nan for cell in cells]
    except ValueError:
        values = [math.inf]
    if len(values) == len(cells) and all(
        0 <= v <= MAX_RTT_MS or not c.strip() for v, c in zip(values, cells, strict=True)
    ):
        return values
    for node, cell in zip(nodes, cells, strict=True):
        if cell.strip() and not _is_delay(cell):
            rule = f"{cell.strip()[:40]!r} must be empty or a number of milliseconds from 0 to {MAX_RTT_MS:.0f}"
            raise _rejected(name, line, node, rule, MAX_RTT_MS)
    raise AssertionError("a row was refused and no cell is to blame")


def _is_delay(cell: str) -> bool:
    try:
        return 0 <= float(cell) <= MAX_RTT_MS
    except ValueError:
        return False


def _check_size(slices: int, nodes: int, name: str, line: int) -> None:
    if slices * nodes * nodes > MAX_CELLS:
        rule = f"slices x nodes x nodes may be at most {MAX_CELLS}"
        raise _rejected(name, line, "slice", rule, MAX_CELLS)
