"""Following drains: a live view on a terminal, a line per change anywhere else."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import typer

from router.cli import show

if TYPE_CHECKING:
    from rich.console import RenderableType

    from router.client import Client

LOOK_S = 1.0  # the control plane measures drains once a second
ENDED = ("drained", "undone")
_BAR = 24


def follow(client: Client, id: str | None = None) -> None:
    """Show a drain, or all that are under way, until they have ended; Ctrl-C stops looking and changes nothing."""
    try:
        _live(client, id) if sys.stdout.isatty() else _lines(client, id)
    except KeyboardInterrupt:
        typer.echo("the drain goes on; `tendril drains --watch` shows it again")


def _found(client: Client, id: str | None) -> list[Mapping[str, Any]]:
    return [drain for drain in client.drains() if (drain["id"] == id if id else drain["state"] not in ENDED)]


def _over(found: Sequence[Mapping[str, Any]]) -> bool:
    return all(drain["state"] in ENDED for drain in found)


def _live(client: Client, id: str | None) -> None:
    from rich.live import Live

    with Live(console=show.console(), refresh_per_second=4) as view:
        while True:
            found = _found(client, id)
            view.update(_table(found))
            if _over(found):
                return
            time.sleep(LOOK_S)


def _lines(client: Client, id: str | None) -> None:
    told: dict[str, str] = {}
    while True:
        found = _found(client, id)
        for drain in found:
            text = line(drain)
            if told.get(drain["id"]) != text:
                told[drain["id"]] = text
                typer.echo(text)
        if _over(found):
            return
        time.sleep(LOOK_S)


def line(drain: Mapping[str, Any]) -> str:
    """A drain's progress in one line."""
    parts = [
        f"{drain['id']} {drain['state']}",
        f"{drain['share_pct']:.0f} % of new sessions" if drain["share_pct"] else "no new sessions",
        f"{drain['sessions_left']} of {drain['sessions_at_start']} sessions left",
    ]
    parts += [f"agents hold {drain['agents_left']}"] if drain["agents_left"] else []
    if drain["sessions_left"] and drain["rate_per_s"]:
        parts.append(f"{drain['rate_per_s']:.1f}/s, done in {_eta(drain)}")
    return " · ".join([*parts, *drain["blocked_by"]])


def _eta(drain: Mapping[str, Any]) -> str:
    return show.DASH if drain["eta_s"] is None else show.age(1000 * drain["eta_s"])


def _table(found: Sequence[Mapping[str, Any]]) -> RenderableType:
    columns = ("drain", "state", "", ">left", ">of", ">agents hold", ">per s", ">done in", "waits for")
    return show.table(
        columns,
        (
            [
                drain["id"], drain["state"], _bar(drain), drain["sessions_left"], drain["sessions_at_start"],
                drain["agents_left"], show.number(drain["rate_per_s"]), _eta(drain), "; ".join(drain["blocked_by"]),
            ]
            for drain in found
        ),
    )  # fmt: skip


def _bar(drain: Mapping[str, Any]) -> str:
    start = drain["sessions_at_start"]
    done = _BAR if not start else _BAR * max(0, start - drain["sessions_left"]) // start
    return "█" * done + "░" * (_BAR - done)
