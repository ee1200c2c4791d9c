"""Data centers and versions of agents that earn their users: ``ramps`` and ``ramp``."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any

import typer

from router.cli import show
from router.cli.options import Format, Key, Output, Url, connect


class RampVerb(StrEnum):
    """What can be done with a ramp."""

    SHOW = "show"
    BEGIN = "begin"
    PAUSE = "pause"
    RESUME = "resume"
    ADVANCE = "advance"
    ROLL_BACK = "roll-back"


def attach(app: typer.Typer, panel: str) -> None:
    """Add the commands of this module."""
    for name, command in (("ramps", ramps), ("ramp", ramp)):
        app.command(name, rich_help_panel=panel)(command)


def ramps(output: Output = Format.TABLE, url: Url = None, key: Key = None) -> None:
    """Print how far each newcomer or version has come."""
    with connect(url, key) as client:
        found = client.ramps()
    show.rows(output, {"items": found}, _COLUMNS, (_line(one) for one in found))


def ramp(
    verb: Annotated[RampVerb, typer.Argument(help="What to do.")],
    name: Annotated[
        str,
        typer.Argument(
            metavar="ID|DATA_CENTER|POOL@VERSION", help="A ramp, a data center, or a version: POOL@VERSION."
        ),
    ],
    output: Output = Format.TABLE,
    url: Url = None,
    key: Key = None,
) -> None:
    """Show or begin a ramp; pause, advance, roll it back.

    ``advance`` vouches for what the ramp still waits for; of one that was rolled back it begins the next attempt.
    """
    with connect(url, key) as client:
        if verb is RampVerb.BEGIN:
            pool, at, version = name.partition("@")
            climbs = {"kind": "version", "pool": pool, "version": version} if at else {"data_center": name}
            found = client.begin_ramp(climbs)
        else:
            id = next((one["id"] for one in client.ramps() if _subject(one) == name and one["climb"]), name)
            found = client.ramp(id) if verb is RampVerb.SHOW else client.act_on_ramp(id, verb.value)
    if output is Format.JSON:
        show.as_json(found)
    else:
        show.facts(_facts(found))


def _subject(one: Mapping[str, Any]) -> str:
    return f"{one['pool']}@{one['version']}" if one["pool"] else str(one["data_center"])


_COLUMNS = ("id", "of", "kind", "state", ">share %", ">attempt", ">exposed", "since", "waits for", "reason")


def _line(one: Mapping[str, Any]) -> list[object]:
    climb = one["climb"] or {}
    return [
        one["id"], _subject(one), one["kind"], one["state"], show.number(one["share_pct"], 0), one["attempt"],
        one["exposed"], show.moment(one["since"]), "; ".join(climb.get("waits", ())), one["reason"],
    ]  # fmt: skip


def _facts(one: Mapping[str, Any]) -> list[tuple[str, object]]:
    climb = one["climb"] or {}
    told: list[tuple[str, object]] = [("of", _subject(one))]
    told += [(name, one[name]) for name in ("id", "kind", "state", "share_pct", "attempt", "exposed")]
    told += [("since", show.moment(one["since"])), ("reason", one["reason"])]
    told += [("retry_at", show.moment(one["retry_at"]) if one["retry_at"] else None)]
    for arm in ("canary", "control"):
        counts = climb.get(arm)
        if counts:
            told.append((arm, ", ".join(f"{name} {count}" for name, count in counts.items())))
    if climb:
        told.append(("e_value", f"{climb['e_value']:g} of {climb['limit']:g} ({climb['worst']})"))
        errands = climb["robots"].items()
        told.append(("robots", ", ".join(f"{name}: {c['failed']} of {c['tried']} failed" for name, c in errands)))
        told.append(("waits for", "; ".join(climb["waits"])))
    return told
