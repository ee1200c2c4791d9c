"""How the CLI prints: JSON as the API gave it, tables with ages and dashes, problems on stderr.

Unknown is a dash and never 0; every number says its unit in the column head; a state is a word, and colour only adds to
it. Colour appears on terminals alone, and tables are never cut when the output is a pipe.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import typer

from router.cli.options import Format
from router.core.errors import TendrilError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

DASH = "—"
_PIPE_WIDTH = 400  # a pipe has no edge; wide enough that no table of ours is cut
_LONG = 100  # characters of a detail in a table
_REJECTED = 10  # data centers named of those that a placement could not use
_STYLES = {
    "up": "green", "serving": "green", "active": "green", "ready": "green", "good": "green", "in force": "green",
    "degraded": "yellow", "canary": "yellow", "cordoned": "yellow", "draining": "yellow", "moving": "yellow",
    "bleeding": "yellow", "detached": "yellow", "stale": "yellow", "candidate": "yellow",
    "down": "red", "lost": "red", "drained": "magenta", "retired": "magenta", "unknown": "dim", "ended": "dim",
}  # fmt: skip


def as_json(document: object) -> None:
    """Print JSON."""
    typer.echo(json.dumps(document, indent=2, ensure_ascii=False))


def console(*, stderr: bool = False) -> Console:
    """Return a console that prints text as it is: names from the API are never taken for markup."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else _PIPE_WIDTH
    return Console(file=stream, width=width, markup=False, highlight=False, emoji=False, soft_wrap=False)


def rows(output: Format, document: object, columns: Sequence[str], lines: Iterable[Sequence[object]]) -> None:
    """Print an answer as JSON, or as a table of the given columns; a column head starting with ``>`` is for numbers."""
    if output is Format.JSON:
        as_json(document)
        return
    built = table(columns, lines)
    if built.row_count:
        console().print(built)
    else:
        typer.echo("none")


def table(columns: Sequence[str], lines: Iterable[Sequence[object]], title: str | None = None) -> Table:
    """Build a plain table."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    built = Table(
        box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, title=title, title_justify="left", header_style="bold"
    )
    for column in columns:
        built.add_column(column.removeprefix(">"), justify="right" if column.startswith(">") else "left")
    for line in lines:
        cells = [text(cell) for cell in line]
        built.add_row(*(Text(cell, style=_STYLES.get(cell, "")) for cell in cells))
    return built


def facts(pairs: Iterable[tuple[str, object]]) -> None:
    """Print names and values, one per line; what is unknown or empty is left out."""
    known = [(name, text(value)) for name, value in pairs if text(value) != DASH]
    width = max((len(name) for name, _ in known), default=0)
    for name, value in known:
        typer.echo(f"{name:{width}}  {value}")


def text(value: object) -> str:
    """Return a cell: a dash for what is unknown or empty."""
    if value is None or value == "" or value == []:
        return DASH
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return str(value)


def number(value: float | int | None, digits: int = 1) -> str:
    """Return a number with a fixed number of digits, or a dash."""
    return DASH if value is None else f"{value:.{digits}f}"


def age(value_ms: float | None) -> str:
    """Return an age in the largest unit that leaves it readable."""
    if value_ms is None:
        return DASH
    seconds = value_ms / 1000
    for limit, divisor, unit, digits in ((1, 0.001, "ms", 0), (100, 1, "s", 1), (6_000, 60, "min", 0)):
        if seconds < limit:
            return f"{seconds / divisor:.{digits}f} {unit}"
    return f"{seconds / 3600:.0f} h" if seconds < 172_800 else f"{seconds / 86_400:.0f} d"


def moment(value: str | None) -> str:
    """Return an RFC 3339 time to the second."""
    if not value:
        return DASH
    day, _, clock = value.rstrip("Z").partition("T")
    return f"{day} {clock.partition('.')[0]}Z"


def path(way: Mapping[str, Any] | None) -> str:
    """Return a path with the transport of every hop that is not the presumed one."""
    if way is None:
        return "no path"
    stops = list(way["path"])
    shown = str(stops[0])
    for stop, transport in zip(stops[1:], way["transports"], strict=True):
        arrow = "→" if transport == "internet" else f"→[{transport}]→"
        shown += f" {arrow} {stop}"
    return shown


def short(value: str) -> str:
    """Cut a text that would make a table unreadable; the JSON has all of it."""
    return value if len(value) <= _LONG else value[: _LONG - 1] + "…"


def labels(value: Mapping[str, object] | None) -> str:
    """Return labels or metadata as ``key=value`` words."""
    return " ".join(f"{name}={text(value[name])}" for name in sorted(value)) if value else ""


def problem(error: TendrilError) -> None:
    """Print an expected failure on stderr: what, field, rule, limit, how to insist, and what else the answer told."""
    facts = {"code": error.code, "field": error.field, "rule": error.rule, "limit": error.limit}
    lines = [f"tendril: {error.message}"]
    lines += [f"  {name}: {value}" for name, value in facts.items() if value is not None]
    if error.override is not None:
        lines.append(f"  override: {error.override}")
    lines += [f"  {line}" for line in _further(getattr(error, "document", {}))]
    typer.echo("\n".join(lines), err=True)


def _further(document: Mapping[str, Any]) -> Iterator[str]:
    for other in (document.get("errors") or ())[1:]:
        yield f"also: {other.get('field')}: {other.get('rule')}"
    for refused in document.get("refusals") or ():
        yield f"refused: {refusal(refused)}"
    rejected = document.get("rejected") or ()
    for one in rejected[:_REJECTED]:
        yield f"not {one['data_center']}: {one['rule']}: {one['detail']}"
    if len(rejected) > _REJECTED:
        yield f"not {len(rejected) - _REJECTED} others"


def refusal(refused: Mapping[str, Any]) -> str:
    """Return why something would hurt, with the rule, the number, the limit and how to insist."""
    numbers = f"rule {refused['rule']}, value {refused['value']:g}, limit {refused['limit']:g}"
    cure = f"; cure: {refused['cure']}" if refused.get("cure") else ""
    return f"{refused['message']} ({numbers}; override: {refused['override']}){cure}"
