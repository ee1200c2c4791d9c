"""Bought machines: ``launch``."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any

import typer

from router.cli import show
from router.cli.options import Format, Key, Output, Url, connect


class LaunchVerb(StrEnum):
    """What can be done with a bought machine."""

    SHOW = "show"
    VOUCH = "vouch"
    RETURN = "return"


def attach(app: typer.Typer, panel: str) -> None:
    """Add the commands of this module."""
    app.command("launch", rich_help_panel=panel)(launch)


def launch(
    verb: Annotated[LaunchVerb, typer.Argument(help="What to do.")],
    id: Annotated[str, typer.Argument(metavar="ID", help="A launch, as `tendril capacity` lists it.")],
    output: Output = Format.TABLE,
    url: Url = None,
    key: Key = None,
) -> None:
    """Show a bought machine, vouch for it, or return it.

    ``return`` lets its agents take nobody from now on; it is deleted when their last session has ended.
    """
    with connect(url, key) as client:
        found = client.launch(id) if verb is LaunchVerb.SHOW else client.act_on_launch(id, verb.value)
    if output is Format.JSON:
        show.as_json(found)
    else:
        show.facts(_facts(found))


_SHOWN = (
    "id", "state", "pool", "provider", "data_center", "size", "agents", "price_usd_per_hour", "node", "machine",
)  # fmt: skip


def _facts(one: Mapping[str, Any]) -> list[tuple[str, object]]:
    told = [(name, one[name]) for name in _SHOWN]
    told += [("since", show.moment(one["since"])), ("reason", one["reason"]), ("bought for", one["need"])]
    told += [("why", why) for why in one["why"]]
    proof = one["canary"]
    if proof is not None:
        told.append(("agents open", f"{proof['open']} of {proof['agents']}"))
        seen = f"{proof['begun']}, {proof['setup_failed']} not set up, {proof['dropped']} dropped"
        told.append(("sessions on it", seen))
        told.append(("e_value", f"{proof['e_value']:g} of {proof['limit']:g}"))
        told.append(("waits for", "; ".join(proof["waits"])))
    return told
